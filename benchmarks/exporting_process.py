"""An export for `benchmarks.exporting`, in a process of its own.

    python -m benchmarks.exporting_process RUN TO FORMATS QUANTIZE

Prints a JSON object for each thing that begins: `stage`, what it is called, and `time`, when, in seconds of the clock.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def say(stage: str) -> None:
    print(json.dumps({"stage": stage, "time": time.time()}), flush=True)


def main(run: str, to: str, formats: str, quantize: str) -> None:
    say("starting")
    from app.exporting import exporting

    asked = formats.split(",")

    def watch(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
        """Says when each artefact begins, of all other things only when the first does."""
        parts = ("folding", *asked) if count == 1 + len(asked) else ()
        for place, item in enumerate(items):
            if parts:
                say(f"{what}: {parts[place]}")
            elif not place:
                say(what)
            yield item
        say(f"after {what}")

    exporting.export(Path(run), Path(to), asked, quantize=quantize, watch=watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
