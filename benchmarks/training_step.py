"""A training step of whole networks: ours, `keras.applications` and timm on the same machine.

    python -m benchmarks.training_step [--networks NAME ...] [--rounds 5] [--peers PYTHON] [--json]
    python -m benchmarks.training_step --memory [--networks NAME ...] [--rounds 3]

Contestants, each in a process of its own, one after the other in every round:

    ours, program       as `app` builds, compiles and fits it (oneDNN is on)
    ours, models alone  by `import models`, compiled and fitted by Keras
    keras.applications  the same way, with oneDNN on; it has three of the networks
    timm eager          PyTorch's own loop; bn_inception is not in timm
    timm compiled       `torch.compile` takes the network

All see the same batch again and again, in float32, with cross-entropy and SGD with momentum, on the first two cores, no
dropout. timm has its channels where it is faster with them, which is tried before the rounds. `ms` is a picture's share
of a step, `first` the seconds of the first step, in which a graph is traced or compiled (what PyTorch has compiled
before, it finds in its cache), `MB` the peak of the process. `share` is of the rate of the machine's fastest
convolution (see `convolutions`), when training takes three times the multiply-adds of an answer.

With --memory instead the slope of the peak over batches of 8, 16 and 32: megabytes that one more picture takes. It is
of the steps after the first: of small batches the peak of the whole process can be that of tracing.

The peers come with the extra `peers`, or into an environment of their own, where they were measured:

    python -m venv .peers && .peers/bin/python -m pip install -c constraints.txt torch torchvision timm
    python -m benchmarks.training_step --peers .peers/bin/python

PyTorch's file for the CPU is enough, which its own index has. Without --peers they are looked for in `.peers`, which
`make bench` makes, and else beside ours.

On a GPU, see `training_gpu`:

    python -m benchmarks.training_step --backend jax --device gpu [--data FOLDER]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import training_gpu

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".peers" / "bin" / "python"
CORES = 2
STEPS, STEPS_OF_MEMORY = 4, 3
BATCHES = (8, 16, 32)  # of the slope


class Subject(NamedTuple):
    network: str
    side: int
    batch: int


SUBJECTS = {
    "inception_v3_149": Subject("inception_v3", 149, 16),
    "inception_v3_299": Subject("inception_v3", 299, 8),
    "bn_inception": Subject("bn_inception", 224, 16),
    "inception_v4": Subject("inception_v4", 149, 16),
    "inception_resnet_v2": Subject("inception_resnet_v2", 149, 16),
    "resnet18": Subject("resnet18", 224, 16),
    "densenet121": Subject("densenet121", 224, 8),
}
PROGRAM, MODELS, KERAS = "ours, program", "ours, models alone", "keras.applications"
EAGER, COMPILED, REMAT = "timm eager", "timm compiled", "ours, remat"
TIMM = (EAGER, COMPILED)
# Name -> the worker's kind. That of timm is completed by where the channels are.
KINDS = {
    PROGRAM: "program",
    MODELS: "networks",
    KERAS: "applications",
    EAGER: "eager",
    COMPILED: "compiled",
    REMAT: "program",
}
FIRST, LAST = "first", "last"
IN_KERAS = ("inception_v3", "inception_resnet_v2", "densenet121")
IN_TIMM = (*IN_KERAS, "inception_v4", "resnet18")
LARGEST_OF_V3 = {KERAS: 0.90, "timm": 0.95}
LARGEST_OF_OTHERS, LARGEST_OF_ANY, LARGEST_APART, LARGEST_FIRST = 0.95, 1.0, 0.02, 0.6
LARGEST_SLOPE = {PROGRAM: 1.0, REMAT: 0.5}
Told = dict[str, float]


def contestants(network: str, chosen: Sequence[str]) -> list[str]:
    has = {KERAS: IN_KERAS, EAGER: IN_TIMM, COMPILED: IN_TIMM}
    return [name for name in chosen if network in has.get(name, (network,))]


def run(
    name: str, subject: Subject, steps: int, peers: Path, channels: str = LAST, settings: Sequence[str] = ()
) -> Told:
    """What the worker told."""
    asked = [subject.network, *map(str, (subject.side, subject.batch, steps))]
    environment = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    if name in TIMM:
        command = [str(peers), "-m", "benchmarks.training_peer", f"{KINDS[name]}-{channels}", *asked]
    else:
        command = [sys.executable, "-m", "benchmarks.training_worker", KINDS[name], *asked]
        command += ["remat=true"] if name == REMAT else []
    if name == KERAS:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    return of_process(command, environment)


def of_process(command: list[str], environment: dict[str, str] | None = None) -> Any:
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{' '.join(command[1:])} ended with {done.returncode}.")
    return json.loads(done.stdout.splitlines()[-1])


def faster_channels(names: Sequence[str], subject: Subject, peers: Path) -> dict[str, str]:
    """Where each has its channels: by one run each way."""
    chosen = {}
    for name in names:
        if name in TIMM:
            took = {channels: run(name, subject, STEPS, peers, channels)["step"] for channels in (FIRST, LAST)}
            chosen[name] = min(took, key=lambda channels: took[channels])
    return chosen


def convolution_rate() -> float:
    return float(of_process([sys.executable, "-m", "benchmarks.convolutions"])["flops"])


def measure(subject: Subject, names: Sequence[str], rounds: int, peers: Path) -> tuple[dict[str, list[Told]], dict]:
    """What was told by contestant and round, and by whom the channels were put where. Every round begins with another
    contestant, and the rate of the convolutions is part of it, under "convolutions"."""
    channels = faster_channels(names, subject, peers)
    found: dict[str, list[Told]] = {name: [] for name in names}
    found["convolutions"] = []
    for i in range(rounds):
        found["convolutions"].append({"flops": convolution_rate()})
        turn = i % len(names)
        for name in [*names[turn:], *names[:turn]]:
            found[name].append(run(name, subject, STEPS, peers, channels.get(name, LAST)))
    return found, channels


def paired(found: dict[str, list[Told]], above: str, below: str, figure: str = "step") -> float:
    """The median of the ratios within a round."""
    pairs = zip(found[above], found[below], strict=True)
    return statistics.median(one[figure] / other[figure] for one, other in pairs)


def rows(label: str, subject: Subject, found: dict[str, list[Told]], channels: dict[str, str]) -> list[dict[str, Any]]:
    """`program / it` is the ratio of our step to this one's, `spread` the distance between the quartiles."""
    made = []
    adds = next(told[0]["multiply_adds"] for told in found.values() if "multiply_adds" in told[0])
    for name, told in found.items():
        if name == "convolutions":
            continue
        times = [1000 * one["step"] / subject.batch for one in told]
        low, _, high = statistics.quantiles(times, n=4)
        shares = [
            3 * 2 * adds * subject.batch / one["step"] / rate["flops"]
            for one, rate in zip(told, found["convolutions"], strict=True)
        ]
        made.append(
            {
                "name": label,
                "by": f"{name}, channels {channels[name]}" if name in channels else name,
                "ms": round(statistics.median(times), 2),
                "spread": round(high - low, 2),
                "program / it": round(paired(found, PROGRAM, name), 3) if PROGRAM in found else None,
                "models / it": round(paired(found, MODELS, name), 3) if MODELS in found else None,
                "share": round(statistics.median(shares), 3),
                "first": round(statistics.median(one["first"] for one in told), 2),
                "MB": round(statistics.median(one["bytes"] for one in told) / 1e6),
            }
        )
    return made


def better(found: dict[str, list[Told]]) -> str | None:
    """That of timm which is faster."""
    there = [name for name in TIMM if name in found]
    return min(there, key=lambda name: statistics.median(one["step"] for one in found[name]), default=None)


def verdicts(everything: dict[str, dict[str, list[Told]]]) -> list[tuple[str, float, float]]:
    """What was wanted: its name, its figure, the largest wanted."""
    said, worst = [], []
    for label, found in everything.items():
        peers = {KERAS: KERAS if KERAS in found else None, "timm": better(found)}
        for which, peer in peers.items():
            for ours in (PROGRAM, MODELS):
                if peer is None or ours not in found:
                    continue
                ratio = paired(found, ours, peer)
                if ours == PROGRAM:
                    wanted = LARGEST_OF_V3[which] if label == "inception_v3_149" else LARGEST_OF_OTHERS
                    if label == "inception_v3_149" or which == "timm":
                        said.append((f"{label}: {ours} / {peer}", ratio, wanted))
                    if which == "timm":
                        worst.append(ratio)
                elif PROGRAM in found:
                    apart = ratio - paired(found, PROGRAM, peer)
                    said.append((f"{label}: {MODELS} / {peer} less that of {PROGRAM}", apart, LARGEST_APART))
        if label == "inception_v3_149" and KERAS in found and PROGRAM in found:
            first = paired(found, PROGRAM, KERAS, "first")
            said.append((f"{label}: first step, {PROGRAM} / {KERAS}", first, LARGEST_FIRST))
    if worst:
        said.append((f"the largest of {PROGRAM} / timm", max(worst), LARGEST_OF_ANY))
    return said


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through the points (x, y) by least squares."""
    line = statistics.linear_regression(*zip(*points, strict=True))
    return line.slope


def measure_memory(
    subject: Subject, names: Sequence[str], rounds: int, peers: Path
) -> tuple[dict[str, list[dict[int, Told]]], dict[str, str]]:
    """What was told by contestant, round and batch, and where the channels were put."""
    channels = faster_channels(names, subject, peers)
    found: dict[str, list[dict[int, Told]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, told in found.items():
            where = channels.get(name, LAST)
            sizes = [subject._replace(batch=batch) for batch in BATCHES]
            told.append({size.batch: run(name, size, STEPS_OF_MEMORY, peers, where) for size in sizes})
    return found, channels


def slopes(rounds: Sequence[dict[int, Told]]) -> list[float]:
    """Bytes that a picture takes, by the peaks of each round."""
    return [slope([(batch, told["bytes_of_steps"]) for batch, told in one.items()]) for one in rounds]


def rows_of_memory(
    label: str, found: dict[str, list[dict[int, Told]]], channels: dict[str, str]
) -> list[dict[str, Any]]:
    made = []
    for name, rounds in found.items():
        by = f"{name}, channels {channels[name]}" if name in channels else name
        line = {"name": label, "by": by, "MB a picture": round(statistics.median(slopes(rounds)) / 1e6, 2)}
        line["spread"] = round((max(slopes(rounds)) - min(slopes(rounds))) / 1e6, 2)
        for batch in BATCHES:
            line[f"MB of {batch}"] = round(statistics.median(one[batch]["bytes_of_steps"] for one in rounds) / 1e6)
        made.append(line)
    return made


def verdicts_of_memory(everything: dict[str, dict[str, list[dict[int, Told]]]]) -> list[tuple[str, float, float]]:
    return [
        (
            f"{label}: memory of a picture, {name} / {EAGER}",
            statistics.median(slopes(found[name])) / statistics.median(slopes(found[EAGER])),
            largest,
        )
        for label, found in everything.items()
        for name, largest in LARGEST_SLOPE.items()
        if name in found and EAGER in found
    ]


def can_recompute() -> bool:
    from app.recipe import Recipe

    return "remat" in Recipe.model_fields


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SUBJECTS, metavar="NAME", help=", ".join(SUBJECTS))
    parser.add_argument("--contestants", nargs="+", choices=KINDS, metavar="NAME", help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, help="two at least; 5, or 3 with --memory, if left out")
    parser.add_argument(
        "--memory", action="store_true", help="megabytes a picture, of inception_v3_149 if none is named"
    )
    parser.add_argument("--peers", type=Path, help="the Python that has torch and timm")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    jax = parser.add_argument_group("of --backend jax, see training_gpu")
    jax.add_argument("--backend", choices=("tensorflow", "jax"), default="tensorflow")
    jax.add_argument("--device", choices=("cpu", "gpu"), default="gpu")
    jax.add_argument("--batches", type=int, nargs="+", default=[256, 512, 128])
    jax.add_argument("--side", type=int, default=299)
    jax.add_argument("--data", type=Path, help="a folder of pictures to learn from")
    jax.add_argument("--seconds", type=float, default=360)
    arguments = parser.parse_args()
    if arguments.backend == "jax":
        on_jax(arguments)
        return
    rounds = arguments.rounds or (3 if arguments.memory else 5)
    if rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    peers = arguments.peers or (PEERS if PEERS.exists() else Path(sys.executable))
    chosen = arguments.contestants or [*KINDS][: None if arguments.memory and can_recompute() else -1]
    if set(chosen) & set(TIMM) and subprocess.run([peers, "-c", "import torch"], check=False).returncode:
        print(f"timm is left out, since {peers} has no torch; --peers names one that has.", file=sys.stderr)
        chosen = [name for name in chosen if name not in TIMM]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    labels = arguments.networks or (["inception_v3_149"] if arguments.memory else [*SUBJECTS])
    everything: dict[str, Any] = {}
    made: list[dict[str, Any]] = []
    for label in labels:
        subject = SUBJECTS[label]
        names = contestants(subject.network, chosen)
        print(f"Measuring {label}: {', '.join(names)}", file=sys.stderr)
        if arguments.memory:
            everything[label], channels = measure_memory(subject, names, rounds, peers)
            made += rows_of_memory(label, everything[label], channels)
        else:
            everything[label], channels = measure(subject, names, rounds, peers)
            made += rows(label, subject, everything[label], channels)
    said = verdicts_of_memory(everything) if arguments.memory else verdicts(everything)
    report(made, said, everything, rounds, arguments.json)


def on_jax(arguments: argparse.Namespace) -> None:
    found = training_gpu.measure(
        arguments.device,
        arguments.batches,
        arguments.side,
        arguments.data,
        arguments.seconds,
        arguments.peers or Path(sys.executable),
        sys.executable,
    )
    print(json.dumps(found, indent=1))
    if not arguments.json:
        print("\n".join(training_gpu.verdicts(found)))


def report(
    made: list[dict[str, Any]], said: list[tuple[str, float, float]], everything: Any, rounds: int, as_json: bool
) -> None:
    # Both import TensorFlow, which has no place beside what is measured.
    from rich.console import Console

    from benchmarks.batch_normalization import printed, verdict
    from benchmarks.machine import machine

    if as_json:
        print(json.dumps({"machine": machine(), "rows": made, "wanted": said, "told": everything}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(printed(made, "A training step", f"{machine()}; {rounds} rounds"))
    for name, figure, largest in said:
        console.print(verdict(name, figure, largest))


if __name__ == "__main__":
    main()
