"""A client of TensorFlow Serving's REST contract: of `serve`, and of TensorFlow Serving itself. Of the standard library
alone.
"""

import base64
import contextlib
import http.client
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from app.program.errors import UserError

FILES, BYTES = 16, 16 * 2**20  # of pictures in a request at most, as exports are warmed up for; one may have more bytes
ATTEMPTS = 4  # at a server that is full
LONGEST = 10.0  # seconds that it is given to have room again, each time
LATER = (429, 503)
TOO_LARGE = 413


class Row(NamedTuple):
    """The best classes of a picture with their scores, or why it has none; and where a picture may have several labels,
    the scores from which on it has these."""

    classes: Sequence[str]
    scores: Sequence[float]
    error: str | None = None
    thresholds: Sequence[float] = ()


class Client:
    """Of the network at `url`, as in http://127.0.0.1:8501/v1/models/demo, perhaps with /versions/1 or /labels/stable
    behind; `token` is sent as a bearer, and a server has so many seconds to answer.

    Raises:
        UserError: the address is none of a network.
    """

    def __init__(self, url: str, token: str | None = None, seconds: float = 60.0) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
            # No user and password: only the token says who asks. And a host that can be looked up.
            known = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
            (parts.hostname or "").encode("idna")
            known = known and not re.search(r"[\0-\x20\x7f]", parts.hostname or "")
            url.encode()
        except ValueError:  # of a port that is none, a name, or bytes that are no text
            known = False
        if not known or "/v1/models/" not in parts.path:
            said = re.sub("//[^/]*@", "//...@", url).encode("utf-8", "replace").decode()  # a password is not repeated
            raise UserError(f"{said} is no address of a network; one is http://127.0.0.1:8501/v1/models/NAME.")
        self.url = url.rstrip("/")
        self._host, self._port, self._seconds = parts.hostname or "", port, seconds
        self._path = quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        token = (token or "").strip()
        if re.search(r"[\0\r\n]", token):
            raise UserError("The token for the server has more than one line.")
        self._headers = {"Authorization": f"Bearer {token}".encode("utf-8", "surrogateescape")} if token else {}

    def predict(self, pictures: Iterable[bytes]) -> Iterator[Row]:
        """A row for each encoded picture, in several requests if they are many; the next is read when it is
        wanted.

        Raises:
            UserError: the server does not answer, or refuses the request.
        """
        for batch in _batches(pictures):
            yield from self._rows(batch)

    def _rows(self, batch: Sequence[bytes]) -> list[Row]:
        status, answer = self._predict(batch)
        if status == TOO_LARGE and len(batch) > 1:
            return [row for picture in batch for row in self._rows([picture])]
        if status == TOO_LARGE:
            return [Row([], [], f"This picture is too large for the server: {_why(answer)}")]
        if status == 400 and len(batch) == 1:
            # `serve` refuses a picture that is alone and cannot be decoded. Beside another, if only one that is none,
            # its row says so; what is wrong with the request itself is refused again.
            again, beside = self._predict([*batch, b""])
            if again == 200:
                return self._understood(beside, 2)[:1]
        self._check(status, answer)
        return self._understood(answer, len(batch))

    def _predict(self, batch: Sequence[bytes]) -> tuple[int, dict[str, Any]]:
        instances = [{"b64": base64.b64encode(picture).decode()} for picture in batch]
        return self._ask("POST", f"{self._path}:predict", json.dumps({"instances": instances}))

    def _understood(self, answer: Mapping[str, Any], count: int) -> list[Row]:
        try:
            rows = [_row(said) for said in answer["predictions"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.url} answers, but not with `classes` and `scores` as an export does.") from error
        if len(rows) != count:
            raise UserError(f"{self.url} answers {len(rows)} pictures of {count} that it was asked about.")
        return rows

    def status(self) -> list[dict[str, Any]]:
        """The versions: `version`, `state`, `status`.

        Raises:
            UserError: the server does not answer, or has no such network.
        """
        status, answer = self._ask("GET", self._path)
        self._check(status, answer)
        versions = answer.get("model_version_status")
        if not isinstance(versions, list):
            raise self._foreign(status)
        return versions

    def _check(self, status: int, answer: dict[str, Any]) -> None:
        if status != 200:
            raise UserError(f"{self.url} refuses (code {status}): {_why(answer)}")

    def _foreign(self, status: int) -> UserError:
        return UserError(f"{self.url} does not speak TensorFlow Serving's REST (code {status}).")

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, Any]]:
        for attempt in range(1, ATTEMPTS + 1):
            connection = self._kind(self._host, self._port, timeout=self._seconds)
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    # Who refuses a large body does not read it to its end; the answer is there all the same.
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
        except (ValueError, RecursionError):
            answer = None
        if status == TOO_LARGE and not isinstance(answer, dict):  # of a proxy before it, which speaks HTML
            answer = {}
        if not isinstance(answer, dict):
            raise self._foreign(status)
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


def _why(answer: Mapping[str, Any]) -> str:
    return str(answer.get("error", "it does not say why"))


def _row(said: Mapping[str, Any]) -> Row:
    """
    Raises:
        KeyError, TypeError, ValueError: it is no row of an export.
    """
    classes, scores, error = said["classes"], said["scores"], said.get("errors") or None
    if not isinstance(classes, list) or not isinstance(scores, list) or len(classes) != len(scores):
        raise ValueError(said)
    if not all(isinstance(each, str) for each in classes) or not all(isinstance(each, float | int) for each in scores):
        raise ValueError(said)
    # Exports of before have no `errors`: a picture without an answer has empty classes there.
    error = error or (None if any(classes) else "This picture cannot be decoded.")
    return Row([], [], str(error)) if error else Row(classes, scores, None, said.get("thresholds", ()))
