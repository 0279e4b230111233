"""JSON as TensorFlow Serving's parser takes it: NaN and Infinity are numbers, a byte order mark is skipped, what
follows the object is ignored, the first of equal keys counts, and bytes that are no UTF-8 stay as they are.
"""

import json
import re
from typing import Any

from app.serving.refusals import RefusedError

DEPTH = 100  # objects and lists inside each other
EXCERPT = 256  # characters of a value that a sentence quotes
MARK = b"\xef\xbb\xbf"
BLANKS = " \t\r\n"

# The end of a string may lack: then it goes to the end of the text, once.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# A number that a float64 may not hold.
_LONG_NUMBER = re.compile(rb"\d{300}|[eE]\+?\d{3}")


def parse(body: bytes) -> dict[str, Any]:
    """The object that a request's body is.

    Raises:
        RefusedError: it is no JSON, no object, or deeper than `DEPTH`.
    """
    body = body.removeprefix(MARK)
    text = body.decode("utf-8", "surrogateescape").lstrip(BLANKS)
    if not text:
        raise RefusedError("JSON Parse error: The document is empty")
    if _depth(body) > DEPTH:
        raise RefusedError(f"JSON Parse error: Objects and lists are more than {DEPTH} deep.")
    decoder = json.JSONDecoder(
        object_pairs_hook=_first_of_equal_keys, parse_float=_number if _LONG_NUMBER.search(body) else None
    )
    try:
        value, _ = decoder.raw_decode(text)
    except json.JSONDecodeError as error:
        raise RefusedError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError:  # of thousands of digits, which Python does not make a number of
        raise RefusedError("JSON Parse error: Number too big to be stored in double. at offset: 0") from None
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


def _depth(body: bytes) -> int:
    if body.count(b"[") + body.count(b"{") <= DEPTH:
        return 0  # whatever they are, they are not deeper
    depth = most = 0
    for found in _STRING_OR_BRACKET.finditer(body):
        mark = found[0]
        if mark in (b"[", b"{"):
            depth += 1
            most = max(most, depth)
        elif mark in (b"]", b"}"):
            depth -= 1
    return most


def _first_of_equal_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else dict(reversed(pairs))


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number
