"""What the server of an export bears, beside the bare artefact.

    python -m benchmarks.serving [--network bn_inception --side 64] [--artefact tflite] [--seconds 5] [--json]
    python -m benchmarks.serving --export EXPORT
    python -m benchmarks.serving --export EXPORT --sweep 50 --to batching_parameters.txt

Without an export one is made of the network, with random weights (see `calm`). `serve` runs as a process of its own on
the loopback address; `wrk` asks it with the raw bytes of JPEGs of the network's size, and looks whether the answer is
200 and names the right class. It is installed with `apt-get install wrk` or `brew install wrk`.

    ready          seconds from the start until it can be asked, and the memory after one request
    throughput     in every round the bare artefact, called in a loop with pixels that are decoded already, and served,
                   32 pictures at once; pictures a second, and the ratio within a round
    one by one     over one connection: what the server adds to a call
    closed loop    over 1, 2, 8 and 32 connections; open loop: at half and four fifths of the largest rate, from when
                   a request was due
    overload       ten times that rate, over 400 connections; and how long until it answers as before
    slow clients   8 connections, without and with 200 others that say nothing or a byte a second
    swaps          a newer version again and again under 8 connections
    ends           SIGTERM with 50 requests in flight

`--sweep` finds the largest batch with which most are answered over 32 connections, while 99 of 100 answers take at most
so many milliseconds, and writes it as TensorFlow Serving reads it. Our server waits for no batch to fill: the timeout
in the file is that of every export.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np
from PIL import Image
from rich.console import Console

from app.artefacts import choosing, loading
from app.artefacts.version_folders import newest
from app.exporting import exporting
from app.networks.cards import CARDS
from app.program import progress
from benchmarks import calm
from benchmarks.batch_normalization import printed, verdict
from benchmarks.machine import machine
from benchmarks.serving_load import MISSING, Load, by_wrk
from benchmarks.serving_trials import (
    MANY,
    Served,
    closed,
    ends,
    one_by_one,
    opened,
    overload,
    ready,
    slow,
    swaps,
    throughput,
)
from export import picture_files, serving
from models import NETWORKS

ARTEFACTS = ("tflite", "onnx", "openvino", "saved_model")
BATCHES = (1, 8)
ROUNDS = 3
SIZES = (1, 2, 4, 8, 16, 32)


class Figure(NamedTuple):
    """`least` and `most` are what is wanted."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        if self.most is not None:
            return verdict(self.name, self.value, self.most)
        if self.least is None:
            return f"{self.name} = {self.value:.3f}"
        outcome = "reached" if self.value >= self.least else "missed"
        return f"{self.name} = {self.value:.3f}, wanted: at least {self.least:.3f}: {outcome}"


@contextlib.contextmanager
def exported(network: str, side: int, artefact: str) -> Iterator[Path]:
    """The version folder of a new export."""
    with tempfile.TemporaryDirectory() as name:
        progress.console.print(f"Exporting {network} at {side} pixels")
        run = calm.run_apart(Path(name) / network, network, side=side)
        formats = sorted({"saved_model", artefact})
        yield exporting.export(run.folder, Path(name) / "exports", formats, watch=progress.watch)[0]


def subject(version: Path, artefact: str, side: int, folder: Path) -> Served:
    """What is asked, and what the bare artefact is called with."""
    files = []
    for picture in calm.pictures(max(BATCHES), side):
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "JPEG", quality=90)
        files.append(content.getvalue())
    pixels = np.stack([picture_files.decode(file) for file in files])
    path = choosing.meant(version, artefact)
    network = loading.load(path)
    expected = network.labels[int(np.argmax(network.answer(pixels[:1])[0]))]
    bodies, inputs = {}, {}
    for batch in BATCHES:
        rows = [{"b64": base64.b64encode(file).decode()} for file in files[:batch]]
        bodies[batch] = json.dumps({"instances": rows}).encode()
        inputs[batch] = folder / f"pixels-{batch}.npy"
        np.save(inputs[batch], pixels[:batch])
    kind = "predict_pixels" if path.is_dir() else "artefact"
    return Served(version, artefact, path, kind, bodies, inputs, f'"classes": [{json.dumps(expected)}')


def measure(served: Served, seconds: float, rounds: int, times: int) -> tuple[list[dict[str, Any]], list[Figure]]:
    """A row for each load, and the figures."""
    figures: list[Figure] = []
    is_file = not served.path.is_dir()
    found = ready(served, rounds)
    size = sum(file.stat().st_size for file in (served.path, served.path.with_suffix(".bin")) if file.is_file())
    figures.append(Figure("seconds until it is ready", found.seconds, most=2.0 if is_file else None))
    most = (150e6 + 3 * size) / 1e6 if is_file else None
    figures.append(Figure("MB after one request", found.megabytes, most=most))
    rows = []
    for batch in BATCHES:
        rates = throughput(served, batch, seconds, rounds)
        rows.append({"name": f"bare, batch {batch}", **quartiles(rates.bare)})
        rows.append({"name": f"served, batch {batch}", **quartiles(rates.served)})
        ratio = statistics.median(a / b for a, b in zip(rates.served, rates.bare, strict=True))
        figures.append(Figure(f"served / bare, batch {batch}", ratio, least=0.85))
    figures.append(Figure("ms more, one by one", one_by_one(served, seconds, rounds), most=3.0))
    with served.running() as server:
        asked = server.asked(1)
        peak = 0.0
        for connections in (1, 2, 8, MANY):
            load = closed(asked, connections, seconds)
            peak = max(peak, load.per_second)
            rows.append({"name": f"closed, {connections} connections", **percentiles(load)})
        for share in (0.5, 0.8):
            rows.append(
                {"name": f"open, {share} of the largest rate", **percentiles(opened(asked, share * peak, seconds))}
            )
        over = overload(server, asked, peak, seconds)
        rows.append({"name": "overload", **percentiles(over.load)})
        figures.append(Figure("overload / largest rate", over.load.offered / peak))
        figures.append(Figure("answered under overload / largest rate", over.load.per_second / peak, least=0.9))
        figures.append(Figure("refused of those", over.load.refused / max(1, over.load.offered * over.load.seconds)))
        figures.append(Figure("MB more after overload", over.megabytes, most=50.0))
        figures.append(Figure("seconds until it answers as before", over.recovery, most=2.0))
        without, beside = slow(server, asked, seconds, rounds)
        ratio = statistics.median(a / b for a, b in zip(beside, without, strict=True))
        figures.append(Figure("p99 beside slow clients / without", ratio, most=1.2))
    swapped = swaps(served, times)
    figures.append(Figure(f"swaps seen, of {times}", swapped.seen, least=times))
    figures.append(Figure("requests that failed or were lost in swaps", swapped.failed, most=0))
    figures.append(Figure(f"requests lost in {times} ends with 50 in flight", ends(served, times), most=0))
    return rows, figures


def quartiles(rates: list[float]) -> dict[str, float | None]:
    low, _, high = statistics.quantiles(rates, n=4)
    return {
        "per_second": statistics.median(rates),
        "spread": high - low,
        "p50_ms": None,
        "p90_ms": None,
        "p99_ms": None,
    }


def percentiles(load: Load) -> dict[str, float | None]:
    if load.wrong or load.lost:
        raise SystemExit(f"{load.wrong} answers were wrong, and {load.lost} requests were lost.")
    shares = {"p50_ms": load.p50, "p90_ms": load.p90, "p99_ms": load.p99}
    return {"per_second": load.per_second, "spread": None, **shares}


def sweep(served: Served, bound: float, seconds: float, rounds: int) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """A row for each largest batch, and the sizes with which most are answered within the bound, in milliseconds; the
    smallest where none is."""
    rows: list[dict[str, Any]] = []
    best: tuple[int, ...] = SIZES[:1]
    most = 0.0
    for count in range(1, len(SIZES) + 1):
        sizes = SIZES[:count]
        with served.running(serving.batching_parameters(sizes)) as server:
            loads = [by_wrk(server.asked(1), MANY, seconds) for _ in range(rounds)]
        rate = statistics.median(load.per_second for load in loads)
        late = statistics.median(load.p99 for load in loads)
        rows.append({"name": f"batches up to {sizes[-1]}", "per_second": rate, "p99_ms": late, "within": late <= bound})
        if late <= bound and rate > most:
            best, most = sizes, rate
    return rows, best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="bn_inception", metavar="NAME", help="from `networks`")
    parser.add_argument("--export", type=Path, help="an export, instead of a new one")
    parser.add_argument("--side", type=int, metavar="PIXELS", help="of the pictures; that of the network's publication")
    parser.add_argument("--artefact", choices=ARTEFACTS, default="tflite", help="what answers")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every load; one at least")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="two at least")
    parser.add_argument("--times", type=int, default=20, help="swaps and ends")
    parser.add_argument(
        "--sweep", type=float, metavar="MILLISECONDS", help="find the batches that answer most in these"
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="where --sweep writes them")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    if arguments.seconds < 1:
        parser.error("--seconds must be at least 1.")
    if arguments.to and not arguments.sweep:
        parser.error("--to needs --sweep.")
    if not shutil.which("wrk"):
        parser.error(MISSING)
    side = arguments.side or CARDS[arguments.network].side
    with contextlib.ExitStack() as stack:
        if arguments.export:
            version = newest(arguments.export)
        else:
            version = stack.enter_context(exported(arguments.network, side, arguments.artefact))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = subject(version, arguments.artefact, side, folder)
        if arguments.sweep:
            rows, sizes = sweep(served, arguments.sweep, arguments.seconds, arguments.rounds)
            figures = [Figure("largest batch", sizes[-1])]
            if arguments.to:
                arguments.to.write_text(serving.batching_parameters(sizes))
        else:
            rows, figures = measure(served, arguments.seconds, arguments.rounds, arguments.times)
        title = f"{version.parent.name} served from {served.path.name}, pictures of {side} pixels"
    if arguments.json:
        said = [figure._asdict() for figure in figures]
        print(json.dumps({"machine": machine(), "subject": title, "rows": rows, "figures": said}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    shown = [{key: "" if value is None else value for key, value in row.items()} for row in rows]
    console.print(printed(shown, title, f"{machine()}; {arguments.rounds} rounds of {arguments.seconds:g} s"))
    for figure in figures:
        console.print(str(figure))


if __name__ == "__main__":
    main()
