"""The step after which a dream was stopped, in a file beside the picture that it becomes."""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from app.inside.dreams.parametrizations import Array
from app.program.files import whole


class Point(NamedTuple):
    """After `step` steps, of all octaves together: the picture, (height, width, 3) of 0 to 255, the objective before
    each step, and the state of the random numbers."""

    step: int
    picture: Array
    values: list[float]
    random: Any


def place(to: Path) -> Path:
    return to.with_name(f"{to.name}.unfinished")


def keep(to: Path, about: dict[str, Any], point: Point) -> None:
    """`about` says what is dreamt, in full: another dream does not go on from here.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    known = {"about": about, "step": point.step, "values": point.values, "random": point.random}
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole(place(to)) as beside, beside.open("wb") as file:
        np.savez(file, picture=point.picture, known=np.array(json.dumps(known)))


def kept(to: Path, about: dict[str, Any]) -> Point | None:
    """Where this dream goes on; None where it begins: nothing was kept, or of another dream, or the file is damaged."""
    try:
        with place(to).open("rb") as content, np.load(content, allow_pickle=False) as file:
            known = json.loads(str(file["known"]))
            if known["about"] != json.loads(json.dumps(about)):
                return None
            return Point(known["step"], file["picture"], known["values"], known["random"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def forget(to: Path) -> None:
    place(to).unlink(missing_ok=True)
