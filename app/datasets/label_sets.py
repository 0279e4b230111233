"""Several labels a picture. A split still gives one number for each: the place of what the picture shows in a table of
sets of labels, which a network's targets are made of. Where pictures have one label each there is no such table: the
number is that of the label.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.program.errors import UserError

SEPARATOR = "|"  # between the labels of a manifest; alone it is a picture with none of them
LabelSets = tuple[tuple[int, ...], ...]  # places of labels, rising


def text(labels: Sequence[str]) -> str:
    """A set of labels as a manifest writes it."""
    return SEPARATOR.join(labels) if labels else SEPARATOR


def table(found: Iterable[tuple[str, ...]], labels: Sequence[str]) -> LabelSets:
    """The table of the sets of labels that pictures have; empty where each has one."""
    sets = {*found}
    if all(len(one) == 1 for one in sets):
        return ()
    places = {label: place for place, label in enumerate(labels)}
    return tuple(sorted(tuple(sorted(places[label] for label in one)) for one in sets))


def numbers(found: Iterable[tuple[str, ...]], labels: Sequence[str], label_sets: LabelSets) -> tuple[int, ...]:
    """What a split gives for pictures with these labels."""
    places = {label: place for place, label in enumerate(labels)}
    kinds = {kind: number for number, kind in enumerate(label_sets or [(place,) for place in range(len(labels))])}
    return tuple(kinds[tuple(sorted(places[label] for label in one))] for one in found)


def names(number: int, labels: Sequence[str], label_sets: LabelSets) -> tuple[str, ...]:
    """The labels that the number of a split stands for."""
    return tuple(labels[place] for place in label_sets[number]) if label_sets else (labels[number],)


def texts(labels: Sequence[str], label_sets: LabelSets) -> list[str]:
    """What every number of a split stands for, as a manifest writes it."""
    return [text(names(number, labels, label_sets)) for number in range(len(label_sets or labels))]


def check_one(name: object, label_sets: LabelSets, what: str) -> None:
    """
    Raises:
        UserError: pictures have several labels, and `what` is for one each.
    """
    if label_sets:
        raise UserError(f"The pictures of {name} have several labels each, and {what} is for pictures with one.")


def rows(label_sets: LabelSets, classes: int) -> NDArray[np.float32]:
    """The targets of every number of a split, (numbers, classes): 1 for each label, 0 elsewhere."""
    if not label_sets:
        return np.eye(classes, dtype=np.float32)
    found = np.zeros((len(label_sets), classes), np.float32)
    for row, kind in zip(found, label_sets, strict=True):
        row[list(kind)] = 1
    return found


def targets(label: Any, classes: int, label_sets: LabelSets) -> tf.Tensor:
    """The same of one number, or of a batch of them, as a tensor."""
    return tf.gather(rows(label_sets, classes), label) if label_sets else tf.one_hot(label, classes)
