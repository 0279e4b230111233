"""The artefact alone, called in a loop, for a process of its own: what `benchmarks.serving` compares a server with.

    python -m benchmarks.serving_bare KIND FILE INPUT

as `benchmarks.inference_worker`. For each line on standard input, a number of seconds, it calls for so long and prints
a JSON object: `per_second`, pictures, and `median_ms` of a call.
"""

import json
import statistics
import sys
import time

import numpy as np

from benchmarks.inference_worker import KINDS, WARM_UP


def main(kind: str, file: str, given: str) -> None:
    images = np.load(given)
    contestant = KINDS[kind](file, images)
    for _ in range(WARM_UP):
        contestant.call()
    print(json.dumps({"version": contestant.version}), flush=True)
    for line in sys.stdin:
        times = []
        started = time.perf_counter()
        until = started + float(line)
        while (before := time.perf_counter()) < until:
            contestant.call()
            times.append(time.perf_counter() - before)
        rate = len(images) * len(times) / (time.perf_counter() - started)
        print(json.dumps({"per_second": rate, "median_ms": 1000 * statistics.median(times)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
