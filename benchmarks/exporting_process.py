"""An export for `benchmarks.exporting`, in a process of its own.

    python -m benchmarks.exporting_process RUN TO FORMATS QUANTIZE MAX_DROP

Prints a JSON object for each thing that began: `stage`, what it is called, and `time`, when, in seconds of the clock. A
stage is what the export itself shows as progress, with the artefacts that were written in it; what comes behind one and
has no progress of its own is `after` it.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def say(stage: str, began: float) -> None:
    print(json.dumps({"stage": stage, "time": began}), flush=True)


def artefacts(to: Path) -> set[str]:
    """The names of the artefacts that are there, of a version that is not whole yet."""
    files = [*to.glob("*/.incomplete-*/model.*"), *to.glob("*/.incomplete-*/saved_model.pb")]
    return {file.name for file in files if file.suffix != ".bin"}


def main(run: str, to: str, formats: str, quantize: str, max_drop: str) -> None:
    say("starting", time.time())
    from app.exporting import exporting

    def watch(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
        for item in items:
            before, began = artefacts(Path(to)), time.time()
            yield item
            made = sorted(artefacts(Path(to)) - before)
            say(f"{what}: {', '.join(made)}" if made else what, began)
        say(f"after {what}", time.time())

    asked = formats.split(",")
    exporting.export(Path(run), Path(to), asked, quantize=quantize, max_drop=float(max_drop), watch=watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
