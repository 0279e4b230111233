"""Connections that cost something, and the end of a server that waits no longer."""

import asyncio
import contextlib
import json
import signal
import socket
import time
from typing import Any

import pytest

from app.program.errors import UserError
from app.serving import bodies, connections, exchanges, server, turns
from app.serving.turns import DEADLINE, Settings
from tests.serving.asking import Echo
from tests.serving.test_client import serving
from tests.serving.test_limits import Waits, serve


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])), 10)


def everything(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


STATUS = b"GET /v1/models/m HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_connection_without_the_headers_of_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.1)
    beginnings = (b"", b"GET /v1", STATUS[:-2], STATUS + b"GET", STATUS * 2 + STATUS[:-2])
    with serving(Echo()) as url:
        held = [connected(url) for _ in beginnings]
        for connection, said in zip(held, beginnings, strict=True):
            connection.sendall(said)
        for connection, said in zip(held, beginnings, strict=True):
            with connection:
                assert everything(connection).count(b"HTTP/1.1 200") == said.count(STATUS)


def test_a_request_whose_headers_are_there_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SECONDS", 0.05)
    waits = Waits()
    with serving(waits) as url, connected(url) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(10)
        connection.sendall(b'{"instances": [1]}')
        assert waits.begun.wait(10)
        waits.go.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_request_that_is_refused_before_its_body_is_there_leaves_its_connection(size: int) -> None:
    waits = Waits()
    predict = "POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: "
    with serving(waits, Settings(waiting=1)) as url, connected(url) as first, connected(url) as second:
        first.sendall(f'{predict}18\r\n\r\n{{"instances": [1]}}'.encode())
        assert waits.begun.wait(10)
        second.sendall(f"{predict}{size}\r\n\r\n".encode() + b" " * 99)
        received = b""
        while not received.endswith(b"}"):
            received += second.recv(65536)
        assert received.startswith(b"HTTP/1.1 503")
        second.sendall(b" " * (size - 99) + STATUS)
        assert second.recv(65536).startswith(b"HTTP/1.1 200")
        waits.go.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_who_does_not_read_his_answer_is_left_and_who_reads_it_slowly_has_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "UNREAD", 0.5)
    size = 20_000_000
    request = f'{{"signature_name": "string", "inputs": ["{"a" * size}"]}}'
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(request)}\r\n\r\n"
    with serving(Echo()) as url:

        def received(times: int, pause: float, wait: float) -> int:
            found = 0
            with connected(url) as connection, contextlib.suppress(ConnectionResetError):
                connection.sendall((head + request).encode() * times)
                time.sleep(wait)
                while found < size * times and (part := connection.recv(2_000_000, socket.MSG_WAITALL)):
                    found += len(part)
                    time.sleep(pause)
            return found

        assert received(1, 0.1, 0.0) > size
        assert received(1, 0.0, 1.5) < size
        assert received(2, 0.0, 1.5) < size


def test_more_connections_than_there_may_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 3)
    with serving(Echo()) as url:
        held = [connected(url) for _ in range(3)]
        for connection in held:
            connection.sendall(STATUS)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with connected(url) as refused:
            assert everything(refused).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
        for connection in held:
            connection.close()
        with connected(url) as again:
            again.sendall(STATUS)
            assert again.recv(65536).startswith(b"HTTP/1.1 200")


def test_what_is_not_answered_when_the_server_waits_no_longer_is_refused_as_one_for_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "DRAIN", 0.1)
    waits = Waits()
    with serving(waits) as url:
        connection = connected(url)
        connection.sendall(
            b'POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\n{"instances": [1]}'
        )
        assert waits.begun.wait(10)
    head, _, body = everything(connection).partition(b"\r\n\r\n")
    connection.close()
    waits.go.set()
    assert head.startswith(b"HTTP/1.1 503")
    assert json.loads(body) == {"error": "The server ends; try again."}
    assert "Traceback" not in caplog.text


def test_all_that_a_request_may_take_fits_into_the_end_of_the_server() -> None:
    assert server.DRAIN > bodies.SECONDS + DEADLINE
    assert server._config(None).timeout_graceful_shutdown == server.DRAIN  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\ud800", "a\0b"])
def test_a_host_that_is_no_name_is_refused(host: Any) -> None:
    with pytest.raises(UserError, match="There is no host"):
        server.listen(host, 0)


def test_who_is_told_that_it_serves_can_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    before = signal.getsignal(signal.SIGTERM)
    ready: list[Any] = []

    def tell() -> None:
        ready.append(signal.getsignal(signal.SIGTERM))
        assert ready != [before]
        signal.raise_signal(signal.SIGTERM)

    listening = server.listen("127.0.0.1", 0)
    server.run(serve(), listening, tell)
    assert (len(ready), signal.getsignal(signal.SIGTERM)) == (1, before)


def test_a_second_ctrl_c_does_not_wait_for_what_is_answered_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    given: list[float] = []

    class Beside:
        async def start(self) -> None:
            self.over = asyncio.Event()

        async def stop(self, seconds: float) -> None:
            given.append(seconds)
            if seconds:
                signal.raise_signal(signal.SIGINT)
                await asyncio.wait_for(self.over.wait(), 10)
            self.over.set()

    listening = server.listen("127.0.0.1", 0)
    server.run(serve(), listening, lambda: signal.raise_signal(signal.SIGINT), Beside())
    assert given == [server.DRAIN, 0]


def test_what_a_client_has_asked_that_is_gone_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "SOON", 0.01)
    monkeypatch.setattr(turns, "THREADS", 1)  # the second waits until the first is answered
    waits = Waits()
    asked: list[float] = []

    def run(signature: str, inputs: Any) -> Any:
        asked.extend(inputs["x"].tolist())
        return Waits.run(waits, signature, inputs)

    monkeypatch.setattr(waits, "run", run)
    with serving(waits) as url:
        first, second, third = (connected(url) for _ in range(3))
        for number, connection in enumerate((first, second, third), 1):
            body = b'{"instances": [%d]}' % number
            head = b"POST /v1/models/m:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            if connection is first:
                assert waits.begun.wait(10)
        time.sleep(0.3)  # all three are there
        second.close()
        time.sleep(0.3)
        waits.go.set()
        for connection in (first, third):
            with connection:
                assert everything(connection).startswith(b"HTTP/1.1 200")
    assert asked == [1, 3]
