"""A client of TensorFlow Serving's REST contract: of `serve`, and of TensorFlow Serving itself. Of the standard library
alone.
"""

import base64
import http.client
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from app.program.errors import UserError

FILES, BYTES = 16, 16 * 2**20  # of pictures in a request at most, as exports are warmed up for; one may have more bytes
ATTEMPTS = 4  # at a server that is full
LONGEST = 10.0  # seconds that it is given to have room again, each time
LATER = (429, 503)


class Row(NamedTuple):
    """The best classes of a picture with their scores, or why it has none."""

    classes: Sequence[str]
    scores: Sequence[float]
    error: str | None = None


class Client:
    """Of the network at `url`, as in http://127.0.0.1:8501/v1/models/demo, perhaps with /versions/1 or /labels/stable
    behind; `token` is sent as a bearer, and a server has so many seconds to answer.

    Raises:
        UserError: the address is none of a network.
    """

    def __init__(self, url: str, token: str | None = None, seconds: float = 60.0) -> None:
        parts = urlsplit(url)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 80)
        except ValueError:  # of a port that is none
            known = False
        if not known or "/v1/models/" not in parts.path:
            raise UserError(f"{url} is no address of a network; one is http://127.0.0.1:8501/v1/models/NAME.")
        self.url = url.rstrip("/")
        self._host, self._path, self._seconds = parts.netloc, parts.path.rstrip("/"), seconds
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def predict(self, pictures: Iterable[bytes]) -> Iterator[Row]:
        """A row for each encoded picture, in several requests if they are many; the next is read when it is
        wanted.

        Raises:
            UserError: the server does not answer, or refuses the request.
        """
        for batch in _batches(pictures):
            instances = [{"b64": base64.b64encode(picture).decode()} for picture in batch]
            status, answer = self._ask("POST", f"{self._path}:predict", json.dumps({"instances": instances}))
            if status == 400 and len(batch) == 1:
                # `serve` refuses a picture that is alone and cannot be decoded.
                yield Row([], [], str(answer.get("error")))
                continue
            self._check(status, answer)
            yield from map(_row, answer.get("predictions", ()))

    def status(self) -> list[dict[str, Any]]:
        """The versions: `version`, `state`, `status`.

        Raises:
            UserError: the server does not answer, or has no such network.
        """
        status, answer = self._ask("GET", self._path)
        self._check(status, answer)
        return list(answer["model_version_status"])

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        if status != 200:
            raise UserError(f"{self.url} refuses (code {status}): {answer.get('error', 'it does not say why')}")

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        for attempt in range(1, ATTEMPTS + 1):
            connection = self._kind(self._host, timeout=self._seconds)
            try:
                connection.request(method, path, body, self._headers)
                response = connection.getresponse()
                status, content = response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
                raise UserError(f"{self.url} does not answer: {why}. `serve EXPORT` starts a server.") from error
            finally:
                connection.close()
            if status not in LATER or attempt == ATTEMPTS:
                break
            said = response.headers.get("Retry-After", "")
            time.sleep(min(float(said) if said.isdecimal() else 1.0, LONGEST))
        try:
            answer = json.loads(content)
            if not isinstance(answer, dict):
                raise ValueError(answer)
        except ValueError as error:
            raise UserError(f"{self.url} does not speak TensorFlow Serving's REST (code {status}).") from error
        return status, answer


def _batches(pictures: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for picture in pictures:
        if batch and (len(batch) == FILES or sum(map(len, batch)) + len(picture) > BYTES):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch


def _row(said: dict[str, Any]) -> Row:
    # Exports of before have no `errors`: a picture without an answer has empty classes there.
    error = said.get("errors") or (None if any(said["classes"]) else "This picture cannot be decoded.")
    return Row([], [], error) if error else Row(said["classes"], said["scores"])
