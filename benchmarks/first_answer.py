"""How long a user waits for the first answer of an artefact: `predict` on one picture, the whole process.

    python -m benchmarks.first_answer [--export EXPORT] [--rounds 5] [--json]

Without an export one of `inception_v3` is made, of random weights (see `calm`), with all formats that the installed
packages allow. The artefacts are asked in turn; what the file system has in memory stays there, since nobody waits for
that twice. The limit is what is wanted, none of a SavedModel, for which TensorFlow has to be there.
"""

import argparse
import importlib.util
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
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import sklearn.datasets
from PIL import Image
from rich.console import Console

from app.artefacts.version_folders import newest
from app.exporting import exporting, runtimes
from app.program import progress
from benchmarks import calm
from benchmarks.batch_normalization import printed, row, verdict
from benchmarks.machine import machine

ROOT = Path(__file__).parent.parent
NETWORK = "inception_v3"
SAVED_MODEL = "saved_model"
WANTED = {".tflite": 1500.0, ".onnx": 1500.0, ".xml": 2000.0}  # milliseconds, by the suffix of the file


def artefacts(version: Path) -> list[str]:
    """What --artefact calls them."""
    files = sorted(file.name for file in version.iterdir() if file.suffix in WANTED)
    return [*([SAVED_MODEL] if (version / "saved_model.pb").is_file() else []), *files]


def milliseconds(version: Path, picture: Path, artefact: str) -> float:
    command = [sys.executable, "-m", "app", "predict", str(version), str(picture), "--artefact", artefact]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    took = 1000 * (time.perf_counter() - started)
    if done.returncode:
        raise SystemExit(f"{done.stderr}\n{artefact} gave no answer.")
    return took


def measure(version: Path, rounds: int) -> dict[str, list[float]]:
    names = artefacts(version)
    found: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.jpg"
        Image.fromarray(sklearn.datasets.load_sample_images().images[0]).save(picture)
        for name in names:
            milliseconds(version, picture, name)  # reads what is not in memory yet
        for _ in progress.watch(range(rounds), rounds, "Asking"):
            for name in names:
                found[name].append(milliseconds(version, picture, name))
    return found


def rows(found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Each against the first."""
    first = next(iter(found))
    made = []
    for name, times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found[first], strict=True))
        made.append(row(name, times, ratio, first, 0.0) | {"limit": WANTED.get(Path(name).suffix)})
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, help="an export, instead of a new one")
    parser.add_argument("--rounds", type=int, default=5, help="two at least")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: a spread needs two.")
    with tempfile.TemporaryDirectory() as name:
        version = newest(arguments.export) if arguments.export else None
        if version is None:
            progress.console.print(f"Exporting {NETWORK}")
            run = calm.run_apart(Path(name) / NETWORK, NETWORK)
            formats = [
                format_
                for format_ in exporting.FORMATS
                if all(map(importlib.util.find_spec, runtimes.WRITTEN_WITH.get(format_, ())))
            ]
            version, _ = exporting.export(run.folder, Path(name) / "exports", formats, watch=progress.watch)
        made = rows(measure(version, arguments.rounds))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": made}, indent=1))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(printed(made, "The first answer, the whole process", f"{machine()}; {arguments.rounds} rounds"))
    for line in made:
        if line["limit"]:
            console.print(verdict(f"seconds for {line['name']}", line["median_ms"] / 1000, line["limit"] / 1000))


if __name__ == "__main__":
    main()
