"""What the first look at a data set costs, and every one after it.

    python -m benchmarks.scanning [--small 20000] [--large 400] [--json]

20,000 pictures of 64 x 64 pixels, and 400 photographs of 12 megapixels: crops of the two that scikit-learn carries,
resized, each with other bytes. Every start is a process of its own, which has imported TensorFlow before the clock
starts, with its own folder for what is remembered.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from PIL import Image

from benchmarks.machine import machine

LONGEST = {"small": 3.0, "large": 1.0}  # seconds of a second start
SIDES = {"small": (64, 64), "large": (4000, 3000)}
DIFFERENT = {"small": 1_000, "large": 20}  # pictures; others have the same pixels and other bytes
START = """
import json, sys, time
from app.datasets.loading import load
from app.datasets.checks import check
begun = time.perf_counter()
data = load(sys.argv[1]) if sys.argv[2] == "load" else check(sys.argv[1], full=True)
print(json.dumps(time.perf_counter() - begun))
"""


def write(root: Path, kind: str, count: int) -> None:
    """`count` JPEG files in two classes, of an hour ago."""
    photographs = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    rng = np.random.default_rng(0)
    encoded: list[bytes] = []
    for _ in range(min(count, DIFFERENT[kind])):
        left, top = (int(place) for place in rng.integers(0, 160, 2))
        buffer = io.BytesIO()
        photo = photographs[len(encoded) % 2].crop((left, top, left + 360, top + 270))
        photo.resize(SIDES[kind], Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    then = time.time() - 3600
    for number in range(count):
        path = root / f"class_{number % 2}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = encoded[number % len(encoded)]
        comment = b"\xff\xfe\0\x0a" + f"{number:08}".encode()  # a segment behind the first two bytes
        path.write_bytes(content[:2] + comment + content[2:])
        os.utime(path, (then, then))


def start(root: Path, how: str, remembered: Path) -> float:
    """Seconds that a process of its own takes to look at all of `root`."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(remembered), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", START, str(root), how], env=environment, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(kind: str, count: int, folder: Path) -> dict[str, Any]:
    root, remembered = folder / kind, folder / "remembered"
    write(root, kind, count)
    first, *later = (start(root, "load", remembered) for _ in range(4))
    full = start(root, "full", remembered)
    return {"kind": kind, "files": count, "first": first, "second": sorted(later)[1], "full": full}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=20_000)
    parser.add_argument("--large", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scanning_") as folder:
        counts = {"small": arguments.small, "large": arguments.large}
        rows = [measure(kind, count, Path(folder)) for kind, count in counts.items() if count]
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    print(machine())
    for row in rows:
        wanted = LONGEST[row["kind"]]
        print(
            f"{row['files']} {row['kind']} files: first start {row['first']:.1f} s, a second {row['second']:.2f} s "
            f"(at most {wanted:g} s is wanted), a full check {row['full']:.1f} s"
        )


if __name__ == "__main__":
    main()
