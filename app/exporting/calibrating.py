"""The pictures that a quantised file is made and measured with: those for the ranges of int8 have every class among
them that the data has, so that no class meets ranges taken without it."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Data
from app.exporting import failures
from app.images.preprocessing import Preprocessing
from app.program.progress import console
from app.program.shown import counted

SAMPLES = 100  # training pictures for the ranges of int8
LOOKED_AT = 10_000  # training pictures, not decoded, in which every class is looked for
VALIDATION = 1_000  # validation pictures at most
NAMED = 5  # classes without a picture that a sentence names


@dataclass(frozen=True)
class Pictures:
    """Examples (encoded image, label) in a fixed order, whose pictures are decoded anew each time they are asked for:
    a thousand of three megapixels take nine gigabytes together."""

    examples: tf.data.Dataset
    preprocessing: Preprocessing
    count: int
    name: Callable[[int], str]  # what the picture at a place is called

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One at a time, uint8 (height, width, 3)."""
        for place, (encoded, _) in enumerate(self.examples.as_numpy_iterator()):
            yield self._decoded(place, encoded)

    def _decoded(self, place: int, encoded: bytes) -> NDArray[np.uint8]:
        with failures.decoding_of(self.name(place)):
            return self.preprocessing.decode(encoded).numpy()

    def labels(self) -> NDArray[np.int64]:
        return np.array([label for _, label in self.examples.as_numpy_iterator()])

    def first(self, count: int) -> "Pictures":
        return replace(self, examples=self.examples.take(count), count=min(count, self.count))


def samples(data: Data, preprocessing: Preprocessing) -> Pictures:
    """`SAMPLES` training pictures, in an order that is always the same: one of each class, as far as they go round, and
    the first of a shuffle. Says which classes have none."""
    chosen, lacking = _chosen(data)
    if lacking:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        where = counted(min(data.train.count, LOOKED_AT), "training image", "training images")
        console.print(
            f"The ranges of int8 are taken without {', '.join(lacking[:NAMED])}{more}: no picture of "
            f"{'these classes' if lacking[1:] else 'this class'} is in the {where} of {data.name} that were looked at."
        )
    anyone = f"a training image of {data.name}"
    encoded, labels = zip(*chosen, strict=True)
    examples = tf.data.Dataset.from_tensor_slices((tf.constant(encoded), tf.constant(labels)))
    return Pictures(examples, preprocessing, len(chosen), lambda _: anyone)


def _chosen(data: Data) -> tuple[list[tuple[bytes, int]], list[str]]:
    """The encoded images with their labels, and the classes that have none."""
    shuffled = data.train.shuffled(0, tf.constant(0, tf.int64))
    of_class: dict[int, tuple[bytes, int]] = {}
    others: list[tuple[bytes, int]] = []
    wanted = min(len(data.labels), SAMPLES)
    for encoded, label in islice(shuffled.as_numpy_iterator(), LOOKED_AT):
        if label not in of_class and len(of_class) < wanted:
            of_class[int(label)] = (encoded, int(label))
        elif len(others) < SAMPLES:
            others.append((encoded, int(label)))
        if len(of_class) == wanted and len(of_class) + len(others) >= SAMPLES:
            break
    lacking = [label for place, label in enumerate(data.labels) if place not in of_class]
    return [*of_class.values(), *others][:SAMPLES], lacking if len(of_class) < wanted else []


def validation(data: Data, preprocessing: Preprocessing) -> Pictures:
    """The first `VALIDATION` validation pictures."""
    named: Callable[[int], Any] = functools.partial(failures.picture, data, "validation")
    return Pictures(data.validation.in_order(), preprocessing, data.validation.count, named).first(VALIDATION)
