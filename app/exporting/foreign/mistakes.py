"""What may be otherwise inside a file that somebody else converted: its network is given something else than the run
gives it. Every deviation has the words that name it and the way out.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import ValidationError

from app.images.preprocessing import Preprocessing

Pictures = Sequence[NDArray[np.uint8]]  # each (height, width, 3), RGB
Floats = NDArray[np.float32]


class Deviation(NamedTuple):
    """`when` completes "FILE agrees with RUN when ..."; `remedy` is an imperative."""

    name: str
    when: str
    remedy: str


@dataclass(frozen=True)
class Scale:
    """Channels in the order of `colour`, each (pixel - mean) / deviation."""

    colour: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, pixels: Any) -> Floats:
        pixels = np.asarray(pixels, np.float32)
        if self.colour == "BGR":
            pixels = pixels[..., ::-1]
        # As Preprocessing computes it, to the last bit.
        return (pixels - np.asarray(self.mean, np.float32)) * (1 / np.asarray(self.deviation, np.float32))


def _grey(mean: float, deviation: float) -> Scale:
    return Scale("RGB", (mean,) * 3, (deviation,) * 3)


RANGES = {
    "-1..1": _grey(127.5, 127.5),
    "0..1": _grey(0.0, 255.0),
    "0..255": _grey(0.0, 1.0),
    "caffe": Scale("BGR", (103.939, 116.779, 123.68), (1.0,) * 3),
    "torch": Scale("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
SAID = {
    "caffe": "BGR less the means 103.939, 116.779, 123.68 (caffe)",
    "torch": "RGB of 0..1 less the means 0.485, 0.456, 0.406, over 0.229, 0.224, 0.225 (torch)",
    "run": "what the run's own preprocessing gives",
}


def ranges(preprocessing: Preprocessing) -> dict[str, Scale]:
    """The known ones, that of the run first, as "run" where it is none of them."""
    own = Scale(preprocessing.colour, preprocessing.mean, preprocessing.deviation)
    name = next((name for name, scale in RANGES.items() if scale == own), "run")
    return {name: own} | RANGES


def other_colour(colour: str) -> str:
    return {"RGB": "BGR", "BGR": "RGB"}[colour]


def resized(picture: NDArray[np.uint8], preprocessing: Preprocessing, whole_numbers: bool = False) -> Floats:
    pixels = preprocessing.resized(picture).numpy()
    return np.clip(np.round(pixels), 0, 255).astype(np.float32) if whole_numbers else pixels


# ---- what may be otherwise inside

PROBES = np.arange(12, dtype=np.float32).reshape(4, 3) ** 2


class Inside(NamedTuple):
    """What a network inside a file is given instead of what the run gives it: the three steps from pictures to inputs,
    of which those that deviate have `deviations`."""

    resize: Callable[[NDArray[np.uint8]], Any]  # (h, w, 3) -> (height, width, 3), of 0..255, RGB
    scale: Callable[[Any], Floats]  # (..., 3) -> (..., 3)
    turn: Callable[[Floats], Floats]  # of batches
    deviations: tuple[Deviation, ...] = ()
    plain: bool = False  # for pictures that `images.plain` decoded

    def inputs(self, pictures: Pictures) -> Floats:
        """(N, height, width, 3)."""
        return self.turn(self.scale(np.stack([np.asarray(self.resize(picture)) for picture in pictures])))

    def gives(self, values: Callable[[Any], Floats]) -> bool:
        """Whether it does no more to pixels than this function."""
        return self.turn is _same and np.allclose(self.scale(PROBES), values(PROBES), rtol=1e-4, atol=1e-4)


def own(preprocessing: Preprocessing, rounded: bool) -> Inside:
    """What the run gives its network; `rounded` where pixels come in whole grey levels."""
    return Inside(lambda picture: resized(picture, preprocessing, rounded), _scale_of(preprocessing), _same)


def singles(preprocessing: Preprocessing, rounded: bool, *, whole: bool, encoded: bool) -> list[Inside]:
    """One mistake each; pictures are resized inside only where the file takes them `whole`, and decoded there where it
    takes them `encoded`."""
    return [one for ways in _all(preprocessing, rounded, whole, encoded) for one in ways]


def pairs(preprocessing: Preprocessing, rounded: bool, *, whole: bool, encoded: bool) -> list[Inside]:
    """Two mistakes each, in decoding, resizing or scaling."""
    *steps, _ = _all(preprocessing, rounded, whole, encoded)
    found = []
    for earlier, later in itertools.combinations(steps, 2):
        for one, other in itertools.product(earlier, later):
            first = {"plain": True} if one.plain else {"resize": one.resize}
            found.append(other._replace(deviations=one.deviations + other.deviations, **first))
    return found


def _all(preprocessing: Preprocessing, rounded: bool, whole: bool, encoded: bool) -> list[list[Inside]]:
    """Step by step."""
    right = own(preprocessing, rounded)
    resizes = _resizes(preprocessing) if whole else ()
    return [
        [right._replace(plain=True, deviations=(PLAIN,))] if encoded else [],
        [right._replace(resize=resize, deviations=(said,)) for said, resize in resizes],
        [right._replace(scale=scale, deviations=(said,)) for said, scale in _scales(preprocessing)],
        [right._replace(turn=turn, deviations=(said,)) for said, turn in _turns(preprocessing)],
    ]


def _same(values: Floats) -> Floats:
    return values


def _scale_of(preprocessing: Preprocessing) -> Scale:
    return next(iter(ranges(preprocessing).values()))


RUN_TOO = "the run, too, "


def _otherwise(name: str, what: str, remedy: str) -> Deviation:
    return Deviation(name, f"{RUN_TOO}{what}", remedy)


PLAIN = _otherwise(
    "Exif and transparency ignored",
    "turns no picture as Exif says and lays none on white",
    "convert it again with both inside, or do both before it",
)


def _resizes(own: Preprocessing) -> Iterator[tuple[Deviation, Callable[[Any], Any]]]:
    sides = (own.height, own.width)
    nearest, bilinear = tf.raw_ops.ResizeNearestNeighbor, tf.raw_ops.ResizeBilinear

    def by(method: str) -> Callable[[Any], Any]:
        return lambda picture: tf.cast(tf.image.resize(picture, sides, method), tf.float32)

    def corners(resize: Callable[..., Any], **options: bool) -> Callable[[Any], Any]:
        return lambda picture: tf.cast(resize(images=picture[np.newaxis], size=sides, **options)[0], tf.float32)

    ways: dict[str, Callable[[Any], Any]] = {}
    for resize, antialias, how in (
        ("bilinear", True, "bilinear with antialias"),
        ("bilinear", False, "bilinear without antialias"),
        ("bicubic", True, "bicubic with antialias"),
    ):
        ways[how] = _preprocessed(own, resize=resize, antialias=antialias)
    ways["bicubic without antialias"] = by("bicubic")
    ways["to the nearest pixel"] = by("nearest")
    ways["to the nearest pixel, counted from corners"] = corners(nearest)
    ways["by the mean of areas"] = by("area")
    ways["bilinear with pixels counted from corners, as TensorFlow 1 did"] = corners(bilinear)
    ways["bilinear with corners aligned"] = corners(bilinear, align_corners=True)
    for aspect, crop, how in (
        ("squash", 1.0, "squashed whole"),
        ("squash", 0.875, "squashed from the middle 87.5 %"),
        ("keep", 1.0, "with their aspect kept, the middle taken"),
        ("keep", 0.875, "with their aspect kept, the middle 87.5 % taken"),
        ("pad", 1.0, "with their aspect kept, the rest filled"),
    ):
        ways[how] = _preprocessed(own, aspect=aspect, crop=crop)
    for how, resized_ in ways.items():
        if resized_ is not None:
            yield _otherwise(how, f"resizes pictures {how}", "convert it again with the run's resize"), resized_
    rounded = _otherwise(
        "whole grey levels", "rounds pixels to whole grey levels after resizing", "convert it again without rounding"
    )
    yield rounded, lambda picture: resized(picture, own, whole_numbers=True)


def _preprocessed(own: Preprocessing, **changes: Any) -> Any:
    """None where it is the run's own, or none that there is."""
    try:
        other = Preprocessing(**{**own.model_dump(), **changes})
    except ValidationError:
        return None
    return None if other == own else other.resized


def _scales(own: Preprocessing) -> Iterator[tuple[Deviation, Callable[[Any], Floats]]]:
    right = _scale_of(own)
    other = other_colour(own.colour)
    convert = "convert it again with the run's preprocessing inside, or leave all of it to whoever calls it"
    yield (
        _otherwise(other, f"gives its network {other} instead of {own.colour}", f"convert it again for {own.colour}"),
        lambda pixels: right(pixels[..., ::-1]),
    )
    for name, scale in ranges(own).items():
        if scale != right:
            yield _otherwise(name, f"gives its network {SAID.get(name, name)}", convert), scale
    if any(right.mean):
        yield (
            _otherwise("mean missing", "leaves out the mean", "subtract the mean inside"),
            replace(right, mean=(0.0,) * 3),
        )
    if {*right.deviation} != {1.0}:
        yield (
            _otherwise("deviation missing", "leaves out the deviation", "divide by the deviation inside"),
            replace(right, deviation=(1.0,) * 3),
        )
        # Numbers of 0..1 for pixels of 0..255.
        mean, deviation = (np.array(numbers) / 255 for numbers in (right.mean, right.deviation))
        small = replace(right, mean=(*mean,), deviation=(*deviation,))
        said = "takes mean and deviation as of pixels of 0..1, though they are of 0..255"
        yield _otherwise("not divided by 255", said, "divide pixels by 255 first"), small
    twice = _otherwise("scaled twice", "scales pixels twice", "scale them inside or outside of it, not both")
    yield twice, lambda pixels: replace(right, colour="RGB")(right(pixels))


def _turns(own: Preprocessing) -> Iterator[tuple[Deviation, Callable[[Any], Floats]]]:
    if own.height == own.width:
        said = _otherwise(
            "rows and columns exchanged",
            "exchanges rows and columns of pictures",
            "convert it again with the right order of axes",
        )
        yield said, lambda images: np.swapaxes(images, 1, 2)
    said = _otherwise(
        "reshaped, not transposed",
        "reshapes (3, height, width) into (height, width, 3)",
        "transpose the axes, instead of giving them another shape",
    )
    yield said, lambda images: np.moveaxis(images, 3, 1).reshape(images.shape)
