"""What a dream costs: seconds against a bare loop of gradients, and memory by the size of the picture.

    python -m benchmarks.deep_dream [--network inception_v3] [--rounds 3] [--json]

Four octaves of 20 steps at 512 pixels, ours and the bare loop in turn; then the peak of memory above the loaded network
at 256 and 1024 pixels, for each form. Every measurement is a fresh process, on Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from benchmarks.batch_normalization import printed, verdict
from benchmarks.machine import machine

LONGEST, SLOWEST, LARGEST = 60.0, 1.1, 1.3  # seconds; times the bare loop; times the memory at 256 pixels
FORMS = ("plain", "laplacian", "fourier")


def dreamt(network: str, form: str, side: int, octaves: int, steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.dream_process", network, form, *map(str, (side, octaves, steps))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def seconds(network: str, rounds: int) -> dict[str, Any]:
    pairs = [[dreamt(network, form, 512, 4, 20)["seconds"] for form in ("plain", "bare")] for _ in range(rounds)]
    ours = [pair[0] for pair in pairs]
    return {
        "name": "4 octaves of 20 steps, 512 pixels",
        "median_ms": round(1000 * statistics.median(ours)),
        "spread": round(1000 * (max(ours) - min(ours))),
        "ratio": round(statistics.median(plain / bare for plain, bare in pairs), 3),
        "against": "a bare loop of gradients",
        "limit": SLOWEST,
    }


def memory(network: str, form: str, rounds: int) -> dict[str, Any]:
    pairs = [[dreamt(network, form, side, 1, 3) for side in (256, 1024)] for _ in range(rounds)]
    large = [pair[1]["seconds"] for pair in pairs]
    small, most = (statistics.median(pair[i]["bytes"] for pair in pairs) for i in (0, 1))
    return {
        "name": f"memory at 1024 pixels, {form}",
        "median_ms": round(1000 * statistics.median(large)),
        "spread": round(1000 * (max(large) - min(large))),
        "ratio": round(most / small, 3),
        "against": f"{small / 1e6:.0f} MB at 256 pixels",
        "limit": LARGEST,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="inception_v3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    rows = [seconds(arguments.network, arguments.rounds)]
    rows += [memory(arguments.network, form, arguments.rounds) for form in FORMS]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    console = Console()
    console.print(printed(rows, f"Dreams of {arguments.network}", f"{machine()}; {arguments.rounds} rounds"))
    console.print(verdict("seconds of the dream", rows[0]["median_ms"] / 1000, LONGEST))
    for row in rows:
        console.print(verdict(f"{row['name']} / {row['against']}", row["ratio"], row["limit"]))


if __name__ == "__main__":
    main()
