"""Messages of protocol buffers, read from a file by position: what is long is stepped over, nothing is built of it.

A message is fields one after the other: a key, which is the field's number above the three bits of its kind, and then a
varint, four bytes, eight bytes, or a length and so many bytes (https://protobuf.dev/programming-guides/encoding). The
reader knows no message's description; who asks knows the numbers of the fields.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from .tensors import Array

VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
SIZES = {FOUR_BYTES: 4, EIGHT_BYTES: 8}
LONGEST_NAME = 1000  # bytes
# The messages of DenseNet-121's layers, weights aside, have a fiftieth of these.
MOST_FIELDS = 2**20


class MessageError(ValueError):
    """What is wrong with the bytes, without the name of their file."""


class Field(NamedTuple):
    """The bytes of one field from `start` to `end`. `value` is that of a varint.

    Of numbers of four or eight bytes a field is the whole run under one key, which is how a list that is not packed is
    written: the bytes are those with the keys, and `value` is the length of a key.
    """

    number: int
    kind: int
    value: int
    start: int
    end: int


class Reader:
    """Fields of the messages in `file`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.left = MOST_FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message that lies from `start` to `end`.

        Raises:
            MessageError: a field that reaches outside, that is of no kind, or that is one too many.
        """
        while start < end:
            self.left -= 1
            if self.left < 0:
                raise MessageError(f"it has more than {MOST_FIELDS} fields")
            key, place = self._varint(start, end)
            number, kind, value = key >> 3, key & 7, 0
            if kind == VARINT:
                value, stop = self._varint(place, end)
            elif kind == LENGTH:
                length, place = self._varint(place, end)
                stop = place + length
            elif kind in SIZES:
                value = place - start
                place, stop = start, self._end_of_run(start, value, SIZES[kind], end)
            else:
                raise MessageError(f"no field begins at byte {start}")
            if number == 0 or stop > end:
                raise MessageError(f"the field at byte {start} is longer than what it is in")
            yield Field(number, kind, value, place, stop)
            start = stop

    def text(self, field: Field) -> str:
        if field.kind != LENGTH or field.end - field.start > LONGEST_NAME:
            raise MessageError(f"no name begins at byte {field.start}")
        name = self.read(field.start, field.end).decode("utf-8")
        if not name.isprintable():
            raise MessageError(f"the name at byte {field.start} cannot be printed")
        return name

    def varints(self, field: Field) -> list[int]:
        """Whole numbers, packed or a single one."""
        if field.kind == VARINT:
            return [field.value]
        if field.kind != LENGTH or field.end - field.start > LONGEST_NAME:
            raise MessageError(f"no whole numbers begin at byte {field.start}")
        found, place = [], field.start
        while place < field.end:
            value, place = self._varint(place, field.end)
            found.append(value)
        return found

    def numbers(self, field: Field, kind: int) -> Array:
        """The floats (`kind` is FOUR_BYTES) or doubles (EIGHT_BYTES) of `field`, packed or a run."""
        number = np.dtype(f"<f{SIZES[kind]}")
        raw = self.read(field.start, field.end)
        if field.kind == LENGTH:
            return np.frombuffer(raw, number)
        return np.frombuffer(raw, [("key", f"V{field.value}"), ("value", number)])["value"]

    def read(self, start: int, end: int) -> bytes:
        self.file.seek(start)
        raw = self.file.read(end - start)
        if len(raw) < end - start:
            raise MessageError("it ends too early")
        return raw

    def _varint(self, start: int, end: int) -> tuple[int, int]:
        """The number, and where what follows begins."""
        value = 0
        for place, byte in enumerate(self.read(start, min(start + 10, end))):
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                return value & (2**64 - 1), start + place + 1
        raise MessageError(f"no number begins at byte {start}")

    def _end_of_run(self, start: int, key: int, size: int, end: int) -> int:
        """Behind the last of the fields that begin with the same `key` bytes as the one at `start`."""
        first = np.frombuffer(self.read(start, start + key), "u1")
        stop, some = start + key + size, 1
        while (some := min(4 * some, 2**16, (end - stop) // (key + size))) > 0:
            following = np.frombuffer(self.read(stop, stop + some * (key + size)), "u1").reshape(some, key + size)
            same = (following[:, :key] == first).all(axis=1)
            if not same.all():
                return stop + int(same.argmin()) * (key + size)
            stop += some * (key + size)
        return stop


def count(fields: Iterable[Field], kind: int) -> int:
    """How many numbers of `kind` the `fields` hold.

    Raises:
        MessageError: bytes that are not a whole number of them, or another kind of field.
    """
    found = 0
    for field in fields:
        each = SIZES[kind] + (0 if field.kind == LENGTH else field.value)
        if field.kind not in (LENGTH, kind) or (field.end - field.start) % each:
            raise MessageError(f"no numbers begin at byte {field.start}")
        found += (field.end - field.start) // each
    return found


def read_numbers(path: Path, fields: Iterable[Field], kind: int) -> Array:
    """All numbers of the `fields`, see `count`, one after the other."""
    with path.open("rb") as file:
        found = [Reader(file).numbers(field, kind) for field in fields]
    return found[0] if len(found) == 1 else np.concatenate([*found, np.zeros(0, f"<f{SIZES[kind]}")])
