"""What an export of a large network in all formats costs: time by stage, and memory.

    python -m benchmarks.exporting DATA [--run RUN] [--network inception_resnet_v2] [--json]

DATA is a folder of photographs, `split/class/image`. Exports what `export RUN --formats
saved_model,tflite,onnx,openvino --quantize int8` does, proof included, from a finished run on DATA; without one, from a
network with random weights whose normalisations have the statistics of its pictures (see `calm`). Of that int8 may lose
what it likes, since it has learnt nothing; all else costs what it does with a trained one. The extra `runtimes` has
what it needs.

Memory is that of the process and of all that it starts, sampled ten times a second; what they share counts in each.
`median_ms` is the time of one run, `ratio` its share of the whole, `gigabytes` the most memory during that stage, and
the limit the time for the whole. What the stages are says `exporting_process`.
"""

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import psutil
from rich.console import Console

from app.program import progress
from app.run_folder import Run
from benchmarks import calm
from benchmarks.batch_normalization import printed, verdict
from benchmarks.machine import machine

NETWORK, FORMATS, QUANTIZE = "inception_resnet_v2", "saved_model,tflite,onnx,openvino", "int8"
TRAINED, ANY = 0.5, 100.0  # points that int8 may lose
MINUTES, GIGABYTES = 10.0, 5.0  # at most
EVERY = 0.1  # seconds between two looks at the memory


class Event(NamedTuple):
    """Something begins: `time` in seconds of the clock."""

    stage: str
    time: float


class Sample(NamedTuple):
    time: float
    bytes: int


def measure(run: Run, to: Path, max_drop: float) -> tuple[list[Event], list[Sample]]:
    """Exports the run; the last event is the end."""
    events, started = [], time.time()
    command = [sys.executable, "-m", "benchmarks.exporting_process", str(run.folder), str(to), FORMATS, QUANTIZE]
    command.append(str(max_drop))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sampling(process.pid) as samples:
        assert process.stdout
        for line in process.stdout:
            events.append(Event(**json.loads(line)))
    if process.returncode:
        raise SystemExit("The export failed, see above.")
    return [events[0]._replace(time=started), *events[1:], Event("end", time.time())], samples


@contextlib.contextmanager
def sampling(pid: int) -> Iterator[list[Sample]]:
    """The memory of a process and all below it, as long as this lasts."""
    found: list[Sample] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(EVERY):
            found.append(Sample(time.time(), memory(pid)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def memory(pid: int) -> int:
    """In bytes; of processes that have just ended, nothing."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def rows(events: list[Event], samples: list[Sample]) -> list[dict[str, Any]]:
    """Of each stage, in the order in which they began first; one that comes several times is one. The last is the
    whole."""
    seconds: dict[str, float] = {}
    most: dict[str, int] = {}
    for event, after in itertools.pairwise(events):
        seconds[event.stage] = seconds.get(event.stage, 0.0) + after.time - event.time
        inside = [sample.bytes for sample in samples if event.time <= sample.time < after.time]
        most[event.stage] = max(most.get(event.stage, 0), *inside, 0)
    whole = "the whole"
    seconds[whole], most[whole] = sum(seconds.values()), max(most.values())
    return [
        {
            "name": stage,
            "median_ms": round(1000 * seconds[stage]),
            "spread": 0,
            "ratio": round(seconds[stage] / seconds[whole], 3),
            "against": whole,
            "limit": round(60_000 * MINUTES),
            "gigabytes": round(most[stage] / 1e9, 2),
        }
        for stage in seconds
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of photographs")
    parser.add_argument("--run", type=Path, help="a finished run on it")
    parser.add_argument("--network", default=NETWORK, help="without a run: a name from `networks`")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.run:
            run = Run(arguments.run)
        else:
            progress.console.print(f"Making a run of {arguments.network}")
            run = calm.run_apart(folder / "run", arguments.network, arguments.data)
        network = run.read_classifier().network  # the run may be gone with the folder
        made = rows(*measure(run, folder / "exports", TRAINED if arguments.run else ANY))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": made}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    title = f"Export of {network}: {FORMATS}, {QUANTIZE}"
    console.print(printed(made, title, machine()))
    console.print(verdict("minutes", made[-1]["median_ms"] / 60_000, MINUTES))
    console.print(verdict("gigabytes", made[-1]["gigabytes"], GIGABYTES))


if __name__ == "__main__":
    main()
