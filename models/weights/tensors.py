"""What every reader of a file hands over: its tensors by name, with their shapes, each read when it is asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# The largest tensor of the family is the classifier of 85,742 faces on 512 features, a third of this.
LARGEST = 2**27


class WeightsError(ValueError):
    """One sentence that names the file or the tensor and the way out."""


@dataclass(frozen=True)
class Tensor:
    """`name` is the file's own spelling, for people; `read` gives the values or raises a `WeightsError`. `done` is what
    has been done to these values already, in words."""

    name: str
    shape: Shape
    read: Callable[[], Array]
    done: tuple[str, ...] = ()


def possible(path: object, name: str, shape: Shape) -> Shape:
    """`shape`, if a network of the family could have such a tensor.

    Raises:
        WeightsError: more than five axes, a negative size, or more than 2^27 values.
    """
    if len(shape) > 5 or any(size < 0 for size in shape) or math.prod(shape) > LARGEST:
        raise WeightsError(f"{path}: {name} claims the shape {shape}, which no weight of these networks has.")
    return shape
