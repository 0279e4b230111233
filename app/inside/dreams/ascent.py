"""Gradient ascent on a picture, through octaves: small first, for the large forms, then larger for the small ones."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.inside.dreams.laplacian import resized
from app.inside.dreams.parametrizations import Array, root_mean_square
from app.inside.dreams.unfinished import Point
from app.program.errors import UserError
from app.program.progress import Watch

Gradient = Callable[[Array, np.random.Generator], tuple[float, Array]]  # picture -> value, gradient by pixels
Direction = Callable[[Array], Array]


def octave_sizes(height: int, width: int, octaves: int, scale: float) -> list[tuple[int, int]]:
    """(height, width) of every octave, each `scale` times as large as the one before; the last is the picture's."""
    factors = [scale**-i for i in reversed(range(octaves))]
    return [(max(1, round(height * factor)), max(1, round(width * factor))) for factor in factors]


def ascend(
    start: NDArray[np.uint8],
    sizes: Sequence[tuple[int, int]],
    steps: int,
    rate: float,
    gradient: Gradient,
    direction: Direction,
    rng: np.random.Generator,
    watch: Watch,
    begun: Point | None = None,
    after: Callable[[Point], None] | None = None,
) -> tuple[Array, list[float]]:
    """The picture after `steps` steps in each of `sizes`, 0 to 255, and the value before every step.

    It goes on from `begun`, where that is given; `after` is called after every step, and may end it by raising.

    A step changes the picture by `rate` grey levels, root mean square. What an octave has added to the start is
    enlarged and goes into the next.

    Raises:
        UserError: a gradient of nothing but zeros, or with what is no number.
    """
    values: list[float] = []
    picture = np.zeros(0, np.float32)
    if begun:
        values, picture, rng.bit_generator.state = [*begun.values], begun.picture, begun.random
    plan = [(i, step) for i in range(len(sizes)) for step in range(steps)]
    left = plan[len(values) :]
    for i, step in watch(left, len(left), "Dreaming"):
        if step == 0:
            added = picture - resized(start, *sizes[i - 1]) if i else None
            picture = np.require(resized(start, *sizes[i]), requirements="W")
            if added is not None:
                picture += resized(added, *sizes[i])
        value, change = gradient(picture, rng)
        values.append(value)
        change = direction(change)
        size = root_mean_square(change)
        if not math.isfinite(size):
            raise UserError("The network's gradients are not numbers: its training diverged.")
        if size == 0:
            raise UserError("Nothing in the picture moves what is dreamt of; try another layer, channel or seed.")
        change *= rate / size
        picture += change
        np.clip(picture, 0, 255, out=picture)
        del change  # the next gradient is to have its memory
        if after:
            after(Point(len(values), picture, values, rng.bit_generator.state))
    return picture, values
