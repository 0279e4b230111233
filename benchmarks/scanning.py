"""What the first look at a data set costs, and every one after it, for `train` and for `check`.

    python -m benchmarks.scanning [--small 100000] [--middle 4000] [--large 400] [--cores 1 2] [--json]

100,000 pictures of 64 x 64 pixels, 4,000 of 512 x 384, and 400 photographs of 12 megapixels: crops of the two that
scikit-learn carries, resized, under a veil of colours of each one's own where they are not large, so that no two look
alike. Every start is a process of its own, which has imported TensorFlow before the clock starts, on so many cores,
with its own folder for what is remembered. A `check` after a training reads the files once more, for their likenesses.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image

from benchmarks.machine import machine

WANTED = 3_000  # files a second of a second start, on two cores
SIDES = {"small": (64, 64), "middle": (512, 384), "large": (4000, 3000)}
COUNTS = {"small": 100_000, "middle": 4_000, "large": 400}
DIFFERENT = 20  # large pictures; others have the same pixels and other bytes
START = """
import json, os, resource, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[3])])
from app.datasets.loading import load
from app.datasets.checks import check
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.perf_counter()
if sys.argv[2] == "train":
    load(sys.argv[1])
else:
    check(sys.argv[1], full=sys.argv[2] == "full")
seconds = time.perf_counter() - begun
print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def write(root: Path, kind: str, count: int) -> None:
    """`count` JPEG files in two classes, of an hour ago."""
    photographs = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    rng = np.random.default_rng(0)
    crops = []
    for number in range(DIFFERENT):
        left, top = (int(place) for place in rng.integers(0, 160, 2))
        crop = photographs[number % 2].crop((left, top, left + 360, top + 270))
        crops.append(crop.resize(SIDES[kind], Image.Resampling.BICUBIC))
    encoded = [_jpeg(crop) for crop in crops]
    then = time.time() - 3600
    for number in range(count):
        content = encoded[number % DIFFERENT]
        if kind != "large":
            veil = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            veil = veil.resize(SIDES[kind], Image.Resampling.BICUBIC)
            content = _jpeg(Image.blend(crops[number % DIFFERENT], veil, 0.6))
        path = root / f"class_{number % 2}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        comment = b"\xff\xfe\0\x0a" + f"{number:08}".encode()  # a segment behind the first two bytes
        path.write_bytes(content[:2] + comment + content[2:])
        os.utime(path, (then, then))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def start(root: Path, how: str, cores: int, remembered: Path) -> tuple[float, float]:
    """Seconds that a process of its own takes to look at all of `root`, and the MiB that it grows by at most."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(remembered), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", START, str(root), how, str(cores)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, grown = json.loads(done.stdout.splitlines()[-1])
    return seconds, grown


def measure(root: Path, kind: str, count: int, cores: int, remembered: Path) -> Iterator[dict[str, Any]]:
    for what, how, times in (
        ("train, first start", "train", 1),
        ("train, second start", "train", 3),
        ("check after train", "check", 1),
        ("check, second time", "check", 3),
        ("check --full", "full", 1),
    ):
        found = sorted(start(root, how, cores, remembered) for _ in range(times))
        seconds, grown = found[len(found) // 2]
        row = {"name": f"{what}, {kind}", "files": count, "cores": cores, "median_ms": 1000 * seconds}
        row |= {"files_a_second": count / seconds, "mebibytes": grown}
        if what == "train, second start" and cores == 2:
            row |= {"ratio": count / seconds / WANTED, "limit": "at least 1"}
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, count in COUNTS.items():
        parser.add_argument(f"--{kind}", type=int, default=count)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    if not arguments.json:
        print(machine())
    with tempfile.TemporaryDirectory(prefix="scanning_") as folder:
        for kind in COUNTS:
            count = getattr(arguments, kind)
            if not count:
                continue
            root = Path(folder) / kind
            write(root, kind, count)
            for cores in arguments.cores:
                for row in measure(root, kind, count, cores, Path(folder) / f"remembered {cores}"):
                    rows.append(row)
                    if not arguments.json:
                        print(
                            f"{row['name']}, {count:,} files, cores: {cores}: {row['median_ms'] / 1000:.2f} s, "
                            f"{row['files_a_second']:,.0f} a second, {row['mebibytes']:.0f} MiB more",
                            flush=True,
                        )
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
