"""What it takes to import a large checkpoint: seconds, and memory above that of an imported TensorFlow.

    python -m benchmarks.weights_import [--rounds 3] [--json]

Inception-ResNet-v2 with random weights, 224 MB, as TF-slim and timm would write it, through all that
`python -m app import` does; each time in a fresh process, on Linux. The limit is reading the file from memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import safetensors.numpy
import tensorflow as tf

from benchmarks.machine import machine
from models import NETWORKS
from models.weights.tables import TABLES

NETWORK = "inception_resnet_v2"
LONGEST, LARGEST = 15.0, 3.2  # seconds; times the file
# Linux keeps the peak in /proc; `getrusage` would count what the parent had in memory when it forked.
IMPORT = """
import json, sys, time
from pathlib import Path
from app.run_folder import importing
def peak():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
file, network, source, to = sys.argv[1:]
Path("/proc/self/clear_refs").write_text("5")
before, start = peak(), time.perf_counter()
importing.import_weights(Path(file), network, source, Path(to))
print(json.dumps({"seconds": time.perf_counter() - start, "bytes": peak() - before}))
"""


def write_files(folder: Path) -> dict[str, Path]:
    """One file per source, with random weights."""
    files = {"slim": folder / "model.ckpt", "timm": folder / "model.safetensors"}
    for source, file in files.items():
        (table,) = (table for table in TABLES if (table.network, table.source) == (NETWORK, source))
        model = NETWORKS[NETWORK](scale=source != "slim", classes=1001 if source == "slim" else 1000)
        named = {}
        for ours, theirs in table.layers.items():
            for weight in model.get_layer(ours).weights:
                values = weight.numpy()
                if source == "timm" and weight.name == "kernel":
                    values = values.transpose(3, 2, 0, 1) if values.ndim == 4 else values.T
                named[table.tensor(theirs, weight.name)] = np.ascontiguousarray(values)
        if source == "timm":
            safetensors.numpy.save_file(named, file)
        else:
            tf.raw_ops.SaveV2(
                prefix=str(file),
                tensor_names=list(named),
                shape_and_slices=[""] * len(named),
                tensors=[tf.constant(values) for values in named.values()],
            )
    return files


def size(file: Path) -> int:
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))


def measure(rounds: int, folder: Path) -> list[dict[str, Any]]:
    files = write_files(folder)
    found: dict[str, list[dict[str, float]]] = {source: [] for source in files}
    reading: dict[str, list[float]] = {source: [] for source in files}
    for turn in range(rounds):
        for source, file in files.items():
            start = time.perf_counter()
            for part in file.parent.glob(f"{file.name}*"):
                part.read_bytes()
            reading[source].append(time.perf_counter() - start)
            to = folder / f"run-{source}-{turn}"
            command = [sys.executable, "-c", IMPORT, str(file), NETWORK, source, str(to)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[source].append(json.loads(done.stdout.splitlines()[-1]))
    return [
        {
            "name": source,
            "median_ms": round(1000 * statistics.median(one["seconds"] for one in found[source]), 1),
            "spread": round(
                1000 * (max(o["seconds"] for o in found[source]) - min(o["seconds"] for o in found[source]))
            ),
            "ratio": round(statistics.median(one["bytes"] for one in found[source]) / size(file), 2),
            "against": f"memory, of a file of {size(file) / 1e6:.0f} MB",
            "limit": round(1000 * statistics.median(reading[source]), 1),
        }
        for source, file in files.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments.rounds, Path(folder))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    for row in rows:
        seconds = row["median_ms"] / 1000
        print(
            f"{row['name']}: {seconds:.1f} s (spread {row['spread'] / 1000:.1f} s, wanted at most {LONGEST:.0f}), "
            f"{row['ratio']} times the {row['against'].removeprefix('memory, of a ')} (wanted at most {LARGEST}); "
            f"reading the file alone takes {row['limit']:.0f} ms"
        )


if __name__ == "__main__":
    main()
