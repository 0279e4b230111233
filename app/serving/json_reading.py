"""JSON as TensorFlow Serving's parser takes it: NaN and Infinity are numbers, a byte order mark is skipped, what
follows the object is ignored, the first of equal keys counts, and bytes that are no UTF-8 stay as they are.
"""

import json
import re
from typing import Any

import numpy as np

from app.serving.refusals import RefusedError

DEPTH = 100  # objects and lists inside each other
# Values of a request, and escapes in its strings: those of a picture of 1.3 megapixels as pixels. Each takes up to 100
# times its bytes once it is read, and while all are read nothing else is answered.
VALUES = 4_000_000
PART = 2**20  # bytes
EXCERPT = 256  # characters of a value that a sentence quotes
MARK = b"\xef\xbb\xbf"
BLANKS = " \t\r\n"

# What is none of the marks that tell how deep a value lies.
_NO_MARK = bytes(set(range(256)) - set(b'"[]{}'))
# A number that a float64 may not hold: up to 199 digits and two of an exponent are below 1e299.
_LONG_NUMBER = re.compile(rb"\d{200}|[eE]\+?\d{3}")


def parse(body: bytes) -> dict[str, Any]:
    """The object that a request's body is.

    Raises:
        RefusedError: it is no JSON, no object, deeper than `DEPTH`, or of more than `VALUES`.
    """
    body = body.removeprefix(MARK)
    if sum(map(body.count, (b",", b"[", b"{", b"\\"))) > VALUES:
        raise _too_many()
    text = body.decode("utf-8", "surrogateescape").lstrip(BLANKS)
    if not text:
        raise RefusedError("JSON Parse error: The document is empty")
    if _depth(body) > DEPTH:
        raise RefusedError(f"JSON Parse error: Objects and lists are more than {DEPTH} deep.")
    decoder = json.JSONDecoder(
        object_pairs_hook=_first_of_equal_keys, parse_float=_number if _has_long_number(body) else None
    )
    try:
        value, _ = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise RefusedError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError:  # of thousands of digits, which Python does not make a number of
        raise too_big() from None
    if not isinstance(value, dict):
        raise RefusedError(f"JSON Value: {excerpt(value)} Is not object")
    return value


def excerpt(value: Any) -> str:
    """The beginning of a value as JSON."""
    written = ""
    for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        written += part[:EXCERPT]
        if len(written) >= EXCERPT:
            break
    return written[:EXCERPT]


def _has_long_number(body: bytes) -> bool:
    if b"\\" not in body:  # then quotation marks are the ends of strings, and pictures in base64 need not be looked at
        body = b'"'.join(body.split(b'"')[::2])
    # Part by part: between them other threads, as that which reads requests, have their turn.
    return any(_LONG_NUMBER.search(body, at, at + PART + 300) for at in range(0, len(body), PART))


def too_big() -> RefusedError:
    return RefusedError("JSON Parse error: Number too big to be stored in double. at offset: 0")


def _depth(body: bytes) -> int:
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return 0  # whatever they are, they are not deeper
    # Of escapes only these two tell where a string ends. They are taken away in the order in which they are read.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_MARK)
    if len(marks) > 4 * VALUES:
        raise _too_many()
    found = np.frombuffer(marks, np.uint8)
    outside = np.bitwise_xor.accumulate(found == ord('"')) == 0
    opening = (found == ord("[")) | (found == ord("{"))
    closing = (found == ord("]")) | (found == ord("}"))
    steps = (opening & outside).astype(np.int8) - (closing & outside).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _too_many() -> RefusedError:
    said = f"JSON Parse error: The request has more than {VALUES} values; send pictures as files."
    return RefusedError(said, "RESOURCE_EXHAUSTED", status=413)


def _first_of_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number
