"""Fetching one file over HTTP: with a bar, whole or not at all, going on where an earlier attempt was cut off."""

import contextlib
import http.client
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import keras

from .tensors import WeightsError

CHUNK = 2**20
TIMEOUT = 60  # seconds without a byte


def fetch(url: str, to: Path) -> None:
    """`url` as the file `to`. What has arrived lies in `to` with `.part` behind it until it is complete.

    Raises:
        WeightsError: there is no connection, the server has no such file, or the transfer was cut off.
    """
    part = to.with_name(f"{to.name}.part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            # A server that does not know ranges sends the whole file again, with status 200.
            goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            _receive(response, part, have if goes_on else 0)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the part is no beginning of this file
            part.unlink()
            return fetch(url, to)
        raise WeightsError(f"{url} could not be fetched ({error.code} {error.reason}).") from error
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(f"{url} could not be fetched ({getattr(error, 'reason', None) or error}).") from error
    part.replace(to)


def _receive(response: Any, part: Path, have: int) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    # Results go to standard output, so the bar does not.
    with part.open("ab" if have else "wb") as file, contextlib.redirect_stdout(sys.stderr):
        bar = keras.utils.Progbar(total, interval=0.2 if sys.stderr.isatty() else 10, unit_name="byte")
        while chunk := response.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            bar.update(have, finalize=have == total)
    if total is not None and have < total:
        raise OSError(f"cut off after {have} of {total} bytes; the next attempt goes on from there")
