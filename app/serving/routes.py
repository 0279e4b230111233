"""Which request is meant by method and path (model_servers/http_rest_api_util.cc). The query counts as path."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from app.serving.models import Wanted
from app.serving.refusals import RefusedError

_VERSION = r"(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
_ASK = re.compile(rf"/v1/models/([^/:]+){_VERSION}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_LOOK = re.compile(rf"/v1/models(?:/([^/:]+))?{_VERSION}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
METHODS = ("predict", "classify", "regress")
LARGEST = 2**63 - 1


class Route(NamedTuple):
    """`method` is one of METHODS, "metadata" or "status"."""

    method: str
    wanted: Wanted


def route(http_method: str, target: str) -> Route:
    """
    Raises:
        RefusedError: nothing is there.
    """
    malformed = RefusedError(f"Malformed request: {http_method} {target}")
    pattern = {"POST": _ASK, "GET": _LOOK}.get(http_method)
    found = pattern.fullmatch(target) if pattern else None
    if found is None:
        raise malformed
    name, version, label, method = found.groups()
    digits = (version or "").lstrip("0")
    if len(digits) > len(str(LARGEST)) or int(digits or 0) > LARGEST:
        raise RefusedError(f"Failed to convert version: {version} to numeric.")
    wanted = Wanted(_decoded(name or ""), None if version is None else int(digits or 0), label and _decoded(label))
    if http_method == "POST":
        if method not in METHODS:  # in capitals: they are found, and then not known
            raise malformed
        return Route(method, wanted)
    if not name:
        raise RefusedError("Missing model name in request.")
    return Route("metadata" if method == "metadata" else "status", wanted)


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")
