"""Messages as they come, before protobuf makes objects of them: a field of two bytes can become one of fifty, and while
that is done nothing else is answered."""

import functools
from collections.abc import Mapping
from typing import Any

from app.serving.refusals import RefusedError

FIELDS = 100_000  # of a message and those inside it; numbers in a row, packed, are one
VARINT, EIGHT, LONG, BEGIN, END, FOUR = range(6)  # how a field's value is written
SIZES = {EIGHT: 8, FOUR: 4, BEGIN: 0, END: 0}


def check(content: bytes, descriptor: Any) -> None:
    """
    Raises:
        RefusedError: the message has more than `FIELDS`.
        ValueError, IndexError: it is none.
    """
    if len(content) <= FIELDS:
        return
    left = FIELDS
    parts = [(0, len(content), descriptor)]
    while parts:
        at, end, of = parts.pop()
        inside = _messages(of)
        while at < end:
            left -= 1
            if left < 0:
                raise RefusedError(f"The message has more than {FIELDS} fields.", "RESOURCE_EXHAUSTED")
            key, at = _varint(content, at)
            number, kind = key >> 3, key & 7
            if kind == VARINT:
                _, at = _varint(content, at)
            elif kind == LONG:
                size, at = _varint(content, at)
                if number in inside:
                    parts.append((at, at + size, inside[number]))
                at += size
            elif kind in SIZES:
                at += SIZES[kind]
            else:
                raise ValueError(kind)
            if at > end:
                raise ValueError(at)


@functools.cache
def _messages(of: Any) -> Mapping[int, Any]:
    """The fields that are messages, by their numbers."""
    return {field.number: field.message_type for field in of.fields if field.message_type}


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that is written at this place, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(value)
