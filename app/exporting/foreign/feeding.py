"""The ways in which a file may be meant to be given pictures."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.exporting.foreign.mistakes import (
    RANGES,
    SAID,
    Deviation,
    Floats,
    Pictures,
    Scale,
    other_colour,
    ranges,
    resized,
)
from app.exporting.foreign.process import Foreign
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError

LAYOUTS = {"NHWC": 3, "NCHW": 1}  # and the axis of the channels


class Feed(NamedTuple):
    """One way to give a file pictures: `scale`, whose name is `range`, then `swapped` channels, the axes in the order
    of `layout`. `resized` ones have the network's size. `deviations` are from how the file is used, or may be meant."""

    range: str
    scale: Scale
    swapped: bool
    layout: str
    resized: bool
    deviations: tuple[Deviation, ...] = ()

    @property
    def said(self) -> str:
        """As in "-1..1, RGB, NHWC"."""
        if self.range == ENCODED:
            return "whole files, encoded"
        colour = other_colour(self.scale.colour) if self.swapped else self.scale.colour
        kind = SAID.get(self.range) or f"{self.range}, {colour}"
        return f"{kind}, {self.layout}{'' if self.resized else ', of any size'}"

    def values(self, pixels: Any) -> Floats:
        scaled = self.scale(pixels)
        return scaled[..., ::-1] if self.swapped else scaled

    def prepare(self, pictures: Pictures, preprocessing: Preprocessing, whole_numbers: bool) -> list[NDArray[Any]]:
        """Inputs of one picture each, float32, or uint8 if `whole_numbers`."""
        found = []
        for picture in pictures:
            pixels = resized(picture, preprocessing, whole_numbers) if self.resized else picture
            values = self.values(pixels)[np.newaxis]
            values = np.moveaxis(values, 3, 1) if self.layout == "NCHW" else values
            found.append(np.ascontiguousarray(values.astype(np.uint8) if whole_numbers else values))
        return found


ENCODED = "encoded"
OTHER_RESIZE = "resized otherwise"
BYTES = Feed(ENCODED, RANGES["0..255"], False, "NHWC", False)


def ways_to_feed(
    file: Foreign, preprocessing: Preprocessing, run: Path, range_: str | None, layout: str | None
) -> list[Feed]:
    """How the file may be given pictures, those without deviations first: as it is used, where `range_` and `layout`
    say so, and all that its one input takes where nobody does.

    Raises:
        UserError: it has not one input for pictures, or what is said is not what it takes.
    """
    if len(file.inputs) != 1:
        listed = ", ".join(f"{each['name']} {_shape(each['shape'])}" for each in file.inputs) or "none"
        raise UserError(f"{file.file} has to have one input, for pictures, and has {len(file.inputs)}: {listed}.")
    (image,) = file.inputs
    if image["dtype"] == "string":
        if range_ or layout:
            raise UserError(f"{file.file} takes encoded pictures; leave out --range and --layout.")
        return [BYTES]
    if not (file.takes_whole_numbers or image["dtype"].startswith("float")):
        raise UserError(f"{file.file} takes {image['dtype']}; pictures are encoded, or whole or real numbers.")
    if file.takes_whole_numbers and range_ not in (None, "0..255"):
        raise UserError(f"{file.file} takes {image['dtype']}, which is 0..255; leave out --range {range_}.")
    layouts = _layouts(file, image["shape"], layout)
    sizes = _sizes(file, image["shape"], layouts, preprocessing, run)
    return _feeds(preprocessing, range_, layouts, sizes, file.takes_whole_numbers)


def _layouts(file: Foreign, shape: list[int | None] | None, wanted: str | None) -> list[str]:
    """Those in which the shape may have three channels."""
    if shape is None:
        return [wanted] if wanted else [*LAYOUTS]
    sure = [name for name, axis in LAYOUTS.items() if len(shape) == 4 and shape[axis] == 3]
    found = sure or [name for name, axis in LAYOUTS.items() if len(shape) == 4 and shape[axis] is None]
    if not found:
        raise UserError(
            f"{file.file} takes {_shape(shape)}; pictures are (N, height, width, 3) or (N, 3, height, width)."
        )
    if wanted and wanted not in found:
        raise UserError(f"{file.file} takes {_shape(shape)}, which is not {wanted}; leave out --layout {wanted}.")
    return [wanted] if wanted else found


def _sizes(
    file: Foreign, shape: list[int | None] | None, layouts: list[str], preprocessing: Preprocessing, run: Path
) -> list[bool]:
    """Whether pictures are resized before; the more likely one first."""
    sides = [None, None] if shape is None else shape[2:] if layouts[0] == "NCHW" else shape[1:3]
    own = (preprocessing.height, preprocessing.width)
    if any(side not in (None, right) for side, right in zip(sides, own, strict=True)):
        size, right = (" x ".join("any" if side is None else str(side) for side in each) for each in (sides, own))
        raise UserError(f"{file.file} takes pictures of {size}, and the network of {run} those of {right}.")
    if None not in sides:
        return [True]
    return [False, True] if file.takes_whole_numbers else [True, False]


def _feeds(
    preprocessing: Preprocessing, range_: str | None, layouts: list[str], sizes: list[bool], whole_numbers: bool
) -> list[Feed]:
    known = {"0..255": RANGES["0..255"]} if whole_numbers else ranges(preprocessing)
    found = []
    for is_resized, swapped, (name, scale), layout in itertools.product(sizes, (False, True), known.items(), layouts):
        deviations = []
        if range_ not in (None, name):
            remedy = "prepare pictures so" if name in SAID else f"give it pixels of {name}"
            remedy += ", which it scales itself" if name == "0..255" else ""
            deviations.append(Deviation(name, f"its input is {SAID.get(name, name)} instead of {range_}", remedy))
        if swapped:
            right, wrong = scale.colour, other_colour(scale.colour)
            remedy = f"swap the channels before it, or convert it again for {right}"
            deviations.append(Deviation(wrong, f"its input is {wrong} instead of {right}", remedy))
        if whole_numbers and is_resized != sizes[0]:
            size = f"{preprocessing.height} x {preprocessing.width}"
            said = f"pictures are resized to {size} before it"
            remedy = "resize them as the run does before it, since it does so in another way or not at all"
            deviations.append(Deviation(OTHER_RESIZE, said, remedy))
        found.append(Feed(name, scale, swapped, layout, is_resized, tuple(deviations)))
    return sorted(found, key=lambda feed: len(feed.deviations))


def output_of(file: Foreign, classes: int, run: Path, wanted: str | None) -> str:
    """The name of the output of as many classes as the run has, or of one more for a background class.

    Raises:
        UserError: there is none, or several.
    """
    listed = ", ".join(f"{each['name']} {_shape(each['shape'])}" for each in file.outputs) or "none"
    if wanted is not None and wanted not in [each["name"] for each in file.outputs]:
        raise UserError(f"{file.file} has no output {wanted}; its outputs are {listed}.")
    numbers = [each for each in file.outputs if each["dtype"].startswith(("float", "bfloat"))]
    named = [each for each in numbers if wanted in (None, each["name"])]
    for sides in ((classes,), (classes + 1,), (None,)):
        found = [each["name"] for each in named if (each["shape"] or [None])[-1] in sides]
        if len(found) > 1:
            raise UserError(f"{file.file} has several outputs for classes: {', '.join(found)}; name one with --output.")
        if found:
            return found[0]
    raise UserError(
        f"{file.file} has no output of {classes} classes, as {run} has, nor of one more; its outputs are {listed}."
    )


def _shape(shape: list[int | None] | None) -> str:
    return "of any shape" if shape is None else f"({', '.join('any' if side is None else str(side) for side in shape)})"
