"""The page of labels that may be wrong, with their pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.datasets.dataset import Split
from app.program.shown import command
from app.reports import page
from app.reports.run_report import thumbnail

SHOWN = 200  # pictures: a page of about two megabytes


def write(
    folder: Path, data: str, source: Path, suspects: Sequence[dict[str, Any]], pictures: Split, decode: Any, **said: Any
) -> None:
    """Writes wrong_labels.html. `suspects` are the first of the ranking, `pictures` theirs; `decode` makes pixels of an
    image's bytes."""
    read = pictures.in_order().as_numpy_iterator()
    thumbnails = [thumbnail(decode(encoded).numpy()) for encoded, _ in read]
    page.write(
        folder / "wrong_labels.html",
        "wrong_labels.html.jinja",
        title=f"Labels of {data} that may be wrong",
        suspects=[{**row, "source": seen} for row, seen in zip(suspects, thumbnails, strict=True)],
        command=command("check", data, "--with", source, "--to", folder),
        **said,
    )
