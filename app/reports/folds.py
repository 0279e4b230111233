"""The page of a cross-validation: the figures of every fold, their mean, and by how much they differ."""

from pathlib import Path
from typing import Any

from app.reports import made_by, page
from app.run_folder.folder import Run

NAMES = {"top_1": "top-1", "top_5": "top-5", "ece": "calibration error"}


def write(folder: Path, found: dict[str, Any]) -> None:
    """Writes report.html beside the folds.json whose content is `found`."""
    count = len(found["folds"])
    first = Run(folder / found["folds"][0]["run"]).read_classifier()
    assert first.data is not None
    whole = first.model_copy(update={"data": first.data.model_copy(update={"name": found["data"]})})
    keys = [key for key in found["mean"] if key != "recall"]
    page.write(
        folder / "report.html",
        "folds.html.jinja",
        title=f"{folder.resolve().name}: {count} folds of {found['data']}",
        names=[NAMES.get(key, key.replace("_", " ")) for key in keys],
        keys=keys,
        found=found,
        command=f"{made_by.training(Run(folder), whole)} --folds {count}",
    )
