"""`.caffemodel` files: the layers in a message of the type NetParameter, with what of them is needed here.

The numbers of the fields are those of `caffe.proto` in https://github.com/BVLC/caffe, for layers as they are written
now (`layer`) and as they were until 2015 (`layers`). `BN` and its number are of https://github.com/yjxiong/caffe.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from .protobuf import (
    EIGHT_BYTES,
    FOUR_BYTES,
    LENGTH,
    LONGEST_NAME,
    VARINT,
    Field,
    MessageError,
    Reader,
    count,
    read_numbers,
)
from .tensors import Array, Shape, WeightsError, possible

DAMAGED = (OSError, ValueError)
TEXT = re.compile(rb"\s*(#[^\n]*\s+)*(name|layers?|input|input_dim|input_shape|state)\s*[:{]")
HDF5 = b"\x89HDF\r\n\x1a\n"


class Numbers(NamedTuple):
    """Those of the fields of a layer's message; 0 is no field's. `settings` go by the layer's kind."""

    name: int
    kind: int
    bottom: int
    top: int
    blobs: int
    settings: dict[str, int]
    oldest: int = 0


NUMBERS = {
    100: Numbers(1, 2, 3, 4, 7, {"BatchNorm": 139, "BN": 137, "Convolution": 106, "LRN": 118, "Pooling": 121}),
    2: Numbers(4, 5, 2, 3, 6, {"Convolution": 10, "LRN": 18, "Pooling": 19}, oldest=1),
}
# What `layers` have as numbers where `layer` has words.
KINDS = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling"}


@dataclass(frozen=True)
class Blob:
    """`name` is for people: blobs have none."""

    path: Path
    name: str
    shape: Shape
    kind: int
    parts: tuple[Field, ...]

    def read(self) -> Array:
        try:
            return read_numbers(self.path, self.parts, self.kind).reshape(self.shape)
        except DAMAGED as error:
            raise WeightsError(
                f"{self.path} is damaged, fetch it again: {self.name} cannot be read ({error})."
            ) from error


@dataclass
class Layer:
    """`settings` are the numbers in the message of the layer's own kind, by their fields; None without such a message:
    a file may have weights alone."""

    name: str = ""
    kind: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    settings: dict[int, list[float]] | None = None

    def setting(self, number: int, otherwise: float) -> float:
        return (self.settings or {}).get(number, [otherwise])[-1]

    def sides(self, both: int, height: int, width: int, otherwise: float) -> tuple[float, float]:
        """A setting of rows and columns, which is one number, two, or two settings."""
        values = (self.settings or {}).get(both, [otherwise])
        return self.setting(height, values[0]), self.setting(width, values[-1])


def layers(path: Path) -> list[Layer]:
    """The layers of `path` from bottom to top.

    Raises:
        WeightsError: no such file; one that is cut off, of another format, or not of a network; a blob that holds
            another number of values than its shape says.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no file.")
    try:
        with path.open("rb") as file:
            _check_beginning(path, file.read(4096))
            found = list(_layers(path, Reader(file), path.stat().st_size))
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(f"{path} is no caffemodel, or is cut off: fetch it again ({error}).") from error
    if not any(layer.blobs for layer in found):
        raise WeightsError(f"{path} has no layer with weights: give the .caffemodel that a training with Caffe writes.")
    return found


def _check_beginning(path: Path, beginning: bytes) -> None:
    if TEXT.match(beginning):
        raise WeightsError(
            f"{path} describes a network in words, as a .prototxt does: give the .caffemodel, which has the weights."
        )
    if beginning.startswith(HDF5):
        raise WeightsError(
            f"{path} is a caffemodel in HDF5, which is not read: save it with `snapshot_format: BINARYPROTO`."
        )


def _layers(path: Path, reader: Reader, end: int) -> Iterator[Layer]:
    for part in reader.fields(0, end):
        if part.number == 1 and part.kind == VARINT:
            raise WeightsError(
                f"{path} is no network: the state of a solver and a mean image begin like this; give the .caffemodel."
            )
        if part.number in NUMBERS and part.kind == LENGTH:
            yield _layer(path, reader, part, NUMBERS[part.number])


def _layer(path: Path, reader: Reader, message: Field, numbers: Numbers) -> Layer:
    layer = Layer()
    blobs: list[Field] = []
    others: dict[int, Field] = {}
    for part in reader.fields(message.start, message.end):
        if part.number == numbers.name:
            layer.name = reader.text(part)
        elif part.number == numbers.kind:
            layer.kind = KINDS.get(part.value, f"kind {part.value}") if part.kind == VARINT else reader.text(part)
        elif part.number == numbers.bottom:
            layer.bottoms.append(reader.text(part))
        elif part.number == numbers.top:
            layer.tops.append(reader.text(part))
        elif part.number == numbers.blobs:
            blobs.append(part)
        elif part.number == numbers.oldest:
            raise WeightsError(
                f"{path} is in the format of Caffe's first year: convert it with Caffe's upgrade_net_proto_binary."
            )
        else:
            others[part.number] = part
    layer.blobs = [_blob(path, reader, part, f"{layer.name}[{place}]") for place, part in enumerate(blobs)]
    settings = others.get(numbers.settings.get(layer.kind, 0))
    if settings is not None:
        layer.settings = _settings(reader, settings)
    return layer


def _blob(path: Path, reader: Reader, message: Field, name: str) -> Blob:
    """A blob's shape is its `shape`, or in old files num, channels, height and width."""
    _whole(message)
    sides: list[int] | None = None
    old = [0, 0, 0, 0]
    data: dict[int, list[Field]] = {FOUR_BYTES: [], EIGHT_BYTES: []}
    for part in reader.fields(message.start, message.end):
        if part.number in (1, 2, 3, 4):
            (old[part.number - 1],) = reader.varints(part)
        elif part.number == 5:
            data[FOUR_BYTES].append(part)
        elif part.number == 7:
            _whole(part)
            dims = [reader.varints(dim) for dim in reader.fields(part.start, part.end) if dim.number == 1]
            sides = [side for dim in dims for side in dim]
        elif part.number == 8:
            data[EIGHT_BYTES].append(part)
    shape = possible(path, name, tuple(old if sides is None else sides))
    kind = FOUR_BYTES if data[FOUR_BYTES] else EIGHT_BYTES
    held = count(data[FOUR_BYTES], FOUR_BYTES) + count(data[EIGHT_BYTES], EIGHT_BYTES)
    if held != math.prod(shape) or held == 0 or all(data.values()):
        raise WeightsError(f"{path}: {name} claims the shape {shape} and holds {held} values; the file is damaged.")
    return Blob(path, name, shape, kind, tuple(data[kind]))


def _settings(reader: Reader, message: Field) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    _whole(message)
    for part in reader.fields(message.start, message.end):
        if part.kind == VARINT:
            found.setdefault(part.number, []).append(part.value)
        elif part.kind == FOUR_BYTES and part.end - part.start <= LONGEST_NAME:
            found.setdefault(part.number, []).extend(reader.numbers(part, FOUR_BYTES).tolist())
    if not all(math.isfinite(number) for numbers in found.values() for number in numbers):
        raise MessageError(f"the settings at byte {message.start} are no numbers")
    return found


def _whole(message: Field) -> None:
    if message.kind != LENGTH:
        raise MessageError(f"no message begins at byte {message.start}")
