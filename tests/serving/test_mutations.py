"""A hundred thousand requests that were valid before they were changed: none is more than a server can bear."""

import asyncio
import contextlib
import json
import logging
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from google.protobuf.message import DecodeError
from starlette.applications import Starlette

from app.artefacts import loading
from app.serving import server
from app.serving.application import application
from app.serving.grpc_answering import METHODS, PACKAGE
from app.serving.messages import message
from app.serving.models import Model, Models, Version
from app.serving.of_file import OfFile
from app.serving.refusals import HTTP, RefusedError
from app.serving.signatures import Servable
from app.serving.turns import Settings, Turns
from tests.serving import mutating
from tests.serving.asking import Echo
from tests.serving.mutating import Request
from tests.serving.test_client import Brightness

SECONDS = 10.0  # for one, of a machine that does something else as well
GROWTH = 50e6  # bytes
QUIET = 0.2  # seconds
# What of the contract is no fault: a type that JSON is not read to, and no room or time now.
ALLOWED = (501, 503, 504)


def memory() -> int:
    """Bytes that this process has, 0 where nobody says."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def models(network: Servable) -> Models:
    echo = Echo()
    for faulty in ("breaks", "static"):  # on purpose
        del echo.signatures[faulty]  # type: ignore[attr-defined]
    return Models(
        {
            "m": Model({1: Version(echo)}, {"stable": 1}),
            "pictures": Model({1: Version(OfFile(Brightness()))}, {}),
            "network": Model({1: Version(network)}, {}),
        }
    )


async def asked(app: Starlette, request: Request) -> tuple[int, bytes]:
    """Status and body, as a server would ask the application."""
    path, _, query = request.path.encode().partition(b"?")
    scope = {
        "type": "http",
        "method": request.method,
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query,
        "headers": list(request.headers),
        "client": ("127.0.0.1", 1),
    }
    received = [{"type": "http.request", "body": request.body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if not received:
            await asyncio.Event().wait()  # the client stays for its answer
        return received.pop()

    async def send(part: Any) -> None:
        sent.append(part)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


def fault(request: Request, status: int, body: bytes) -> str | None:
    """What a client must not be answered."""
    if status >= 500 and status not in ALLOWED:
        return f"{status}"
    if b"Traceback" in body or b'File "' in body:
        return "a trace"
    if request.path.lower().startswith("/v1/models") and request.method != "OPTIONS":
        said = json.loads(body.decode("utf-8", "surrogateescape"))
        if status >= 400 and (list(said) != ["error"] or not isinstance(said["error"], str)):
            return "an error without its sentence"
    return None


async def attack(app: Starlette, count: int, seed: int, rare: int) -> Counter[str]:
    """Asks so many, of which one in `rare` may reach the model `network`."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    slowest = 0.0
    for number in range(count):
        name = "network" if rng.randrange(rare) == 0 else "pictures"
        sort, request = mutating.mutated(rng, name)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(SECONDS):
                status, body = await asked(app, request)
            wrong = fault(request, status, body)
        except Exception as error:
            wrong = repr(error)
        slowest = max(slowest, time.perf_counter() - started)
        if wrong:
            shown = request._replace(body=request.body[:2000])
            pytest.fail(f"Request {number} of seed {seed}, changed in its {sort}: {wrong}: {shown}")
        found[f"{sort} {status}"] += 1
    assert slowest < SECONDS
    print(f"slowest {slowest:.2f} s, {memory() / 1e6:.0f} MB; {dict(sorted(found.items()))}")
    return found


def test_requests_changed_at_random_are_answered_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("app.serving").setLevel(logging.WARNING)
    turns = Turns(Settings())
    found = asyncio.run(attack(application(models(OfFile(Brightness())), turns), 2500, 0, 10))
    # Of every sort some are answered, and some refused: they reach what they shall.
    for sort in mutating.SORTS:
        assert found[f"{sort} 200"], sort
        assert any(found[f"{sort} {status}"] for status in (400, 404)), sort
    assert (turns.bodies.held, turns._waiting) == (0, 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def attack_messages(served: Models, count: int, seed: int, rare: int) -> Counter[str]:
    """As `attack`, by the functions that answer gRPC."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    for number in range(count):
        name = "network" if rng.randrange(rare) == 0 else "pictures"
        method, content = mutating.mutated_message(rng, name)
        started = time.perf_counter()
        try:
            asked = message(f"{PACKAGE}.{METHODS[method].request}").FromString(content)
            code = "OK"
            METHODS[method].answer(served, asked).content.SerializeToString()
        except DecodeError:
            code = "none"
        except RefusedError as refusal:
            code = refusal.code
        except Exception as error:
            pytest.fail(f"Message {number} of seed {seed}: {error!r}: {method} {content[:2000]!r}")
        assert HTTP.get(code, 200) < 500 or HTTP[code] in ALLOWED, (number, seed, method, code)
        assert time.perf_counter() - started < SECONDS
        found[f"{method} {code}"] += 1
    print(dict(sorted(found.items())))
    return found


def test_messages_changed_at_random_are_answered_or_refused() -> None:
    found = attack_messages(models(OfFile(Brightness())), 500, 0, 10)
    assert found["Predict OK"]
    assert found["Predict INVALID_ARGUMENT"]
    assert found["Predict none"]
    assert found["Classify OK"]


async def attack_connections(port: int, count: int, seed: int) -> Counter[str]:
    """Sends so many over connections of their own, and takes what comes until it ends or nothing comes for a while: of
    much that is sent more is expected."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    requests = iter([mutating.raw(rng, "pictures") for _ in range(count)])

    async def client() -> None:
        for request in requests:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            received = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                writer.write(request)
                await writer.drain()
                while part := await asyncio.wait_for(reader.read(65536), QUIET):
                    received += part
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            for status in re.findall(rb"HTTP/1\.1 (\d+) ", received) or [b"0"]:
                found[status.decode()] += 1
                assert int(status) < 500 or int(status) in ALLOWED, (seed, request[:2000], received)
            assert b"Traceback" not in received

    await asyncio.gather(*(client() for _ in range(50)))
    print(dict(sorted(found.items())))
    return found


def attack_server(count: int, seed: int) -> Counter[str]:
    turns = Turns(Settings())
    listening = server.listen("127.0.0.1", 0)
    with server.in_background(application(models(OfFile(Brightness())), turns), listening):
        port = listening.getsockname()[1]
        found = asyncio.run(attack_connections(port, count, seed))
        until = time.monotonic() + SECONDS
        while (turns.bodies.held or turns._waiting) and time.monotonic() < until:
            time.sleep(0.01)
        assert (turns.bodies.held, turns._waiting) == (0, 0)  # nothing is left of those that went
        with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
            connection.sendall(Request("GET", "/v1/health/ready").raw())
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
    return found


def test_bytes_changed_at_random_are_answered_or_refused(caplog: pytest.LogCaptureFixture) -> None:
    found = attack_server(200, 0)
    assert found["200"]
    assert found["400"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


class Errors(logging.Handler):
    """What is said of faults."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


def attack_with_all(file: Path) -> None:
    """A hundred thousand and more, of which some reach the network of a file, in a process of their own."""
    errors = Errors()
    logging.getLogger().addHandler(errors)
    served = models(OfFile(loading.load(file)))
    turns = Turns(Settings())
    after, count = [], 0
    for seed in range(1, 9):
        count += asyncio.run(attack(application(served, turns), 10_000, seed, 10)).total()
        count += attack_messages(served, 1500, seed, 10).total()
        count += attack_server(1000, seed).total()
        after.append(memory())
    assert count >= 100_000
    # The least of some: what a large request took may be there for a while.
    assert min(after[-3:]) - after[0] < GROWTH, after
    assert (turns.bodies.held, turns._waiting) == (0, 0)
    assert not errors.said, errors.said[:3]


ALL = """
import sys
from pathlib import Path
from tests.serving.test_mutations import attack_with_all

attack_with_all(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_hundred_thousand_requests_changed_at_random_are_answered_or_refused(
    exported: Path, fresh_process: Callable[..., str]
) -> None:
    print(fresh_process(ALL, exported / "model.tflite"))
