"""`out_of_fold.csv` of a run that is a fold: what its network says of the pictures that it was not trained on."""

import csv
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.program.errors import UserError
from app.program.files import whole


class Answers(NamedTuple):
    """Of pictures by their paths: probabilities (count, classes) in the order of `classes`, and the labels that they
    had."""

    files: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: NDArray[Any]


def write(path: Path, answers: Answers) -> None:
    """A line for each picture: file, label, and the probability of every class, in a column of its name."""
    with whole(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as content:
        rows = csv.writer(content)
        rows.writerow(("file", "label", *answers.classes))
        for file, label, row in zip(answers.files, answers.labels, answers.probabilities, strict=True):
            rows.writerow((os.path.abspath(file), label, *(f"{value:.9g}" for value in row)))


def read(path: Path) -> Answers:
    """Raises:
    UserError: it is not as `write` left it.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as content:
            (_, _, *classes), *rows = csv.reader(content)
        probabilities = np.array([row[2:] for row in rows], np.float64).reshape(len(rows), len(classes))
        return Answers(tuple(row[0] for row in rows), tuple(row[1] for row in rows), tuple(classes), probabilities)
    except (ValueError, IndexError, csv.Error) as error:
        again = "remove it, and the `train --folds` that made it writes it again"
        raise UserError(f"{path} is damaged; {again}.") from error
