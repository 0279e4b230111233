"""What several commands print, and where to."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from app.networks.english import named
from app.program.stopping import Stopped

# Not 80 columns into a file or a pipe: a table that wraps is hard to read and harder to search.
output = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def scores(figures: dict[str, Any], classes: int) -> str:
    """Top-1, top-5 where it can be wrong, and loss; of several labels a picture the mean average precision and F1."""
    if "mean_average_precision" in figures:
        f1 = f"F1 {figures['macro_f1']:.4f} (of labels)  {figures['micro_f1']:.4f} (of all answers)"
        return f"mean average precision {figures['mean_average_precision']:.4f}  {f1}  loss {figures['loss']:.4f}"
    top_5 = f"top-5 {figures['top_5']:.4f}  " if classes > 5 else ""
    return f"top-1 {figures['top_1']:.4f}  {top_5}loss {figures['loss']:.4f}"


def answer(row: dict[str, Any]) -> str:
    """The classes of a picture and their scores, with English names beside synsets; in brackets where it is unknown."""
    names = dict(zip(row["classes"], row.get("names", ()), strict=False))
    said = "  ".join(
        f"{named(label, names)} {score:.3f}" for label, score in zip(row["classes"], row["scores"], strict=True)
    )
    said = said or "none of the labels"
    return f"unknown ({said})" if row.get("unknown") else said


@contextmanager
def going_on(what: str = "step") -> Iterator[None]:
    """Around work that keeps where it was when it is asked to stop. An interruption has kept nothing itself; what came
    before may have: a first member, or what is gone on with."""
    try:
        yield
    except Stopped as stopped:
        typer.echo(f"\nStopped and saved after {what} {stopped.step:,}. The same command goes on.", err=True)
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        said = "What was saved before stays; the same command goes on from there, or begins where nothing was."
        typer.echo(f"\nInterrupted. {said}", err=True)
        raise typer.Exit(130) from None


def print_preprocessing(folder: Path) -> None:
    """Of a run or an export, beside every score: figures of pictures that were prepared otherwise do not compare."""
    from app.images.preprocessing import Preprocessing

    file = folder / "classifier.json"
    if file.is_file():
        found = [json.loads(file.read_text())]
    else:
        found = json.loads((folder / "certificate.json").read_text())["networks"]
    for line in dict.fromkeys(Preprocessing(**each["preprocessing"]).described() for each in found):
        output.print(f"preprocessing: {line}", soft_wrap=True)
