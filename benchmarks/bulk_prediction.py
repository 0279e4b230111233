"""What many pictures cost in a file: against the artefact alone, in memory, and with kills on the way.

    python -m benchmarks.bulk_prediction EXPORT PICTURES [--pictures 20000] [--memory 10000,100000] [--kills 10]
        [--rounds 3] [--json]

EXPORT is an export, whose artefacts are taken in turn; PICTURES a folder of pictures of one size, repeated until there
are as many as wanted; `--pictures` are those that the killed process answers, a thousand and
more for every kill. Three figures:

- the share that `predict --to` reaches of what an artefact answers alone, where its batches are decoded and stacked
  beforehand, at the best of `SIZES`, called once on all cores or by a copy on each, whichever is faster;
- the largest memory of a process that answers many pictures, against one that answers few;
- whether the file is the same after so many SIGKILLs.

Every measurement is a process of its own. The clock starts behind the first answers: start and first call are left out.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from app.artefacts import choosing, version_folders
from app.images import finding
from app.program.files import digest
from benchmarks.machine import machine

SIZES = (1, 8, 16, 32, 64)
SECONDS = 4.0
TIMED = 5_000  # pictures that artefacts are timed with
REACHED, GROWN = 0.9, 1.1
BARE = """
import os, sys, threading, time
from pathlib import Path
import numpy as np
from app.artefacts import loading
from app.images import finding
from export import picture_files
path, seconds = Path(sys.argv[1]), float(sys.argv[3])
files = finding.pictures([Path(sys.argv[2])])[: int(sys.argv[4])]
decoded = [picture_files.decode(file.read_bytes()) for file in files]
pictures = np.stack([decoded[i % len(decoded)] for i in range(64)])
best = 0.0
for copies in (1, os.cpu_count()):
    networks = [loading.load(path, 1 if copies > 1 else None) for _ in range(copies)]
    for size in map(int, sys.argv[5].split(",")):
        batch, done = pictures[:size], [0] * copies
        for network in networks:
            network.answer(batch)
        begun = time.perf_counter()
        def ask(place):
            while time.perf_counter() - begun < seconds:
                networks[place].answer(batch)
                done[place] += size
        threads = [threading.Thread(target=ask, args=(place,)) for place in range(copies)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        best = max(best, sum(done) / (time.perf_counter() - begun))
print(best)
"""
OURS = """
import sys, time
from pathlib import Path
from app.scoring import bulk, target
path, pictures, to = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
seen = []
def watch(items, count, what):
    for place, item in enumerate(items):
        if what == "Predicting" and place in (bulk.UNIT, count - 1):
            seen.append((place, time.perf_counter()))
        yield item
bulk.predict(path, [pictures], target.named(to, False), 3, False, watch)
(first, begun), (last, ended) = seen
# Not `ru_maxrss`, which begins with that of the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print((last - first) / (ended - begun), int(status["VmHWM"].split()[0]) / 1024)
"""


def told(script: str, *arguments: object) -> list[float]:
    """The numbers that a process of its own prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return [float(word) for word in done.stdout.split()]


def repeated(pictures: Path, count: int, to: Path) -> Path:
    """So many pictures in a folder, a thousand in each of those in it."""
    for number, file in enumerate(islice(cycle(finding.pictures([pictures])), count)):
        copy = to / f"{number // 1000:04}" / f"{number:07}{file.suffix}"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return to


def throughput(artefact: Path, pictures: Path, work: Path, rounds: int) -> dict[str, Any]:
    ours, bare = [], []
    for number in range(rounds):
        (alone,) = told(BARE, artefact, pictures, SECONDS, 64, ",".join(map(str, SIZES)))
        bare.append(alone)
        ours.append(told(OURS, artefact, pictures, work / f"{artefact.name}.{number}.parquet")[0])
    ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
    return {
        "name": f"{choosing.name_of(artefact)}, a picture in a file",
        "median_ms": 1000 / statistics.median(ours),
        "alone_ms": 1000 / statistics.median(bare),
        "ratio": ratio,
        "limit": REACHED,
    }


def memory(artefact: Path, pictures: Path, counts: list[int], work: Path) -> Iterator[dict[str, Any]]:
    first = 0.0
    for count in counts:
        folder = repeated(pictures, count, work / f"memory_{count}")
        peak = told(OURS, artefact, folder, work / f"memory_{count}.parquet")[1]
        first = first or peak
        yield {"name": f"memory, {count} pictures", "mib": peak, "ratio": peak / first, "limit": GROWN}
        shutil.rmtree(folder)


def kills(artefact: Path, pictures: Path, times: int, work: Path) -> dict[str, Any]:
    """Each kill comes at a random time within a second after another part is there."""
    rng = random.Random(0)

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "app", "predict", str(artefact), str(pictures), "--to", str(work / name)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def parts() -> int:
        return len([*(work / "killed.parquet.parts").glob("part-*")])

    start("unbroken.parquet").wait()
    killed = 0
    while killed < times:
        before, process = parts(), start("killed.parquet")
        while process.poll() is None and parts() == before:
            time.sleep(0.01)
        time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        killed += 1
    start("killed.parquet").wait()
    same = digest(work / "killed.parquet") == digest(work / "unbroken.parquet")
    return {"name": f"the same bytes after {killed} kills", "ratio": float(same and killed == times), "limit": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--memory", default="10000,100000")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    artefacts = choosing.names(version_folders.newest(arguments.export))
    counts = [int(count) for count in arguments.memory.split(",") if count]
    with tempfile.TemporaryDirectory(prefix="bulk_prediction_") as name:
        work = Path(name)
        timed = repeated(arguments.folder, TIMED, work / "timed")
        rows = [throughput(path, timed, work, arguments.rounds) for path in artefacts.values() if arguments.rounds]
        rows += memory(artefacts["tflite"], arguments.folder, counts, work)
        if arguments.kills:
            pictures = repeated(arguments.folder, arguments.pictures, work / "pictures")
            rows.append(kills(artefacts["tflite"], pictures, arguments.kills, work))
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        return
    print(machine())
    for row in rows:
        figures = ", ".join(f"{key} {value:.3f}" for key, value in row.items() if key != "name")
        print(f"{row['name']}: {figures}")


if __name__ == "__main__":
    main()
