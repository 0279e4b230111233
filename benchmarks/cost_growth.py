"""How cost grows: seconds and memory over batch, picture size, width, classes, and number of files.

    python -m benchmarks.cost_growth [--network bn_inception] [--only batch side width classes files] [--json]

Of a training step as the program runs it (see `training_worker`), at 112 pixels and batches of 8 unless these grow; of
files, what the first look at a folder takes and every one after it (see `scanning`). Cost goes with a power of what
grows: the exponent is fitted on the longest row of neighbours among which none departs from it by more than `APART`;
the table says from where to where that is, and what the exponent is from each point to the next. What is fixed makes
the exponents of small points smaller. `MB more` is the peak of the steps above what the process has when the network is
built, or of files what it grows by.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import scanning
from benchmarks.machine import machine
from benchmarks.training_step import CORES, of_process

POINTS: dict[str, tuple[float, ...]] = {
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "side": (48, 64, 96, 128, 192, 256, 384),
    "width": (0.25, 0.5, 1, 2, 4),
    "classes": (10, 100, 1_000, 10_000, 100_000),
    "files": (500, 2_000, 8_000, 32_000),
}
SIDE, BATCH, STEPS = 112, 8, 5
APART = 0.2
FEWEST = 3  # points that a row has


def exponents(points: Sequence[tuple[float, float]]) -> list[float]:
    """From each point (x, y) to the next: that of the power of x with which y grows; both are above 0."""
    return [math.log(there[1] / here[1]) / math.log(there[0] / here[0]) for here, there in itertools.pairwise(points)]


def fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float, float] | None:
    """The exponent, and the x from which and to which it holds; of rows of one length the last one. None where no
    `FEWEST` neighbours agree."""
    for length in range(len(points), FEWEST - 1, -1):
        for first in range(len(points) - length, -1, -1):
            row = points[first : first + length]
            x, y = zip(*((math.log(x), math.log(y)) for x, y in row), strict=True)
            exponent = statistics.linear_regression(x, y).slope
            if all(abs(of_two - exponent) <= APART for of_two in exponents(row)):
                return exponent, row[0][0], row[-1][0]
    return None


def of_step(network: str, grows: str, value: float) -> dict[str, float]:
    side, batch = (int(value) if grows == "side" else SIDE), (int(value) if grows == "batch" else BATCH)
    settings = [f"{grows}={value}"] if grows in ("width", "classes") else []
    asked = [network, *map(str, (side, batch, STEPS))]
    told = of_process([sys.executable, "-m", "benchmarks.training_worker", "program", *asked, *settings])
    more = told["bytes_of_steps"] - told["bytes_before"]
    return {"s a step": told["step"], "s of the first step": told["first"], "MB more": more / 1e6}


def of_files(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="cost_growth_") as name:
        root, remembered = Path(name) / "pictures", Path(name) / "remembered"
        scanning.write(root, "small", count)
        first, grown = scanning.start(root, "train", CORES, remembered)
        later, grown_later = scanning.start(root, "train", CORES, remembered)
    return {"s of the first look": first, "s of the next": later, "MB more": 1.048576 * max(grown, grown_later)}


def measured(network: str, only: Sequence[str]) -> Iterator[dict[str, Any]]:
    for grows in only:
        found = []
        for value in POINTS[grows]:
            print(f"Measuring {grows} {value:g}", file=sys.stderr)
            found.append(of_files(int(value)) if grows == "files" else of_step(network, grows, value))
        for cost in found[0]:
            yield row(grows, cost, [(x, figures[cost]) for x, figures in zip(POINTS[grows], found, strict=True)])


def row(grows: str, cost: str, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    fit = fitted(points)
    return {
        "over": grows,
        "name": cost,
        "measured": {f"{x:g}": round(y, 4) for x, y in points},
        "from each to the next": [round(exponent, 2) for exponent in exponents(points)],
        "exponent": round(fit[0], 2) if fit else None,
        "holds": f"{fit[1]:g} to {fit[2]:g}" if fit else "nowhere",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="bn_inception")
    parser.add_argument("--only", nargs="+", choices=POINTS, default=[*POINTS])
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    made = []
    if not arguments.json:
        print(f"{machine()}; {arguments.network}")
    for line in measured(arguments.network, arguments.only):
        made.append(line)
        if arguments.json:
            continue
        points = ", ".join(f"{x}: {y:.3g}" for x, y in line["measured"].items())
        print(f"{line['name']} over {line['over']}: {points}; exponents {line['from each to the next']}")
        said = f"{line['exponent']} from {line['holds']}" if line["exponent"] is not None else "no one exponent"
        print(f"    {said}", flush=True)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": made}, indent=1))


if __name__ == "__main__":
    main()
