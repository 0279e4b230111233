"""More than a server can answer, clients that are slow, and its end while it has much to do: nobody is lost."""

import asyncio
import contextlib
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray
from starlette.applications import Starlette

from app.serving import connections, server
from app.serving.application import application
from app.serving.models import Model, Models, Version
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo
from tests.serving.corpus import http, predict
from tests.serving.test_limits import Waits
from tests.serving.test_mutations import memory
from tests.serving.test_process import WAIT, send, serving
from tests.serving.test_process import predict as predict_picture

ONE = '{"instances": [1]}'
ASKING = http("POST", "/v1/models/m:predict", ONE, close=False)
ANSWER = re.compile(rb"HTTP/1\.1 (\d+).*?\r\n\r\n", re.DOTALL)
GROWTH = 50e6  # bytes


class Slow(Echo):
    """Takes its time, as a network does, and counts."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.asked = seconds, 0

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.asked += 1
        time.sleep(self.seconds)
        return super().run(signature, inputs)


def serve(servable: Echo, waiting: int) -> tuple[Starlette, Turns, socket.socket, int]:
    turns = Turns(Settings(waiting=waiting))
    listening = server.listen("127.0.0.1", 0)
    app = application(Models({"m": Model({1: Version(servable)}, {})}), turns)
    return app, turns, listening, listening.getsockname()[1]


async def client(port: int, requests: int, found: Counter[str]) -> None:
    """One that asks again as soon as it has its answer, over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(requests):
        writer.write(ASKING)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length
        await reader.readexactly(int(length[1]))
        later = "later" if b"retry-after: 1\r\n" in head.lower() else ""
        found[f"{head.split(b' ')[1].decode()}{later}"] += 1
    writer.close()
    await writer.wait_closed()


async def all_of(port: int, clients: int, requests: int) -> Counter[str]:
    found: Counter[str] = Counter()
    async with asyncio.timeout(WAIT):
        await asyncio.gather(*(client(port, requests, found) for _ in range(clients)))
    return found


@pytest.mark.slow
def test_of_more_than_can_be_answered_all_that_are_accepted_are_and_the_rest_may_come_later() -> None:
    waiting, clients, requests = 20, 200, 25
    slow = Slow(0.002)
    app, turns, listening, port = serve(slow, waiting)
    with server.in_background(app, listening):
        asyncio.run(all_of(port, clients, 1))
        before, asked = memory(), slow.asked
        found = asyncio.run(all_of(port, clients, requests))
        assert found.keys() == {"200", "503later"}
        assert sum(found.values()) == clients * requests
        assert found["200"] == slow.asked - asked  # nothing was computed for nobody
        assert found["503later"] > clients
        assert memory() - before < GROWTH
        assert (turns.bodies.held, turns._waiting) == (0, 0)
        assert asyncio.run(all_of(port, 1, 10)) == {"200": 10}


def test_who_finds_all_places_taken_is_refused_before_his_body_comes() -> None:
    waits = Waits()
    app, turns, listening, port = serve(waits, 1)
    with server.in_background(app, listening), socket.create_connection(("127.0.0.1", port), WAIT) as first:
        first.sendall(predict(ONE))
        assert waits.begun.wait(WAIT)
        with socket.create_connection(("127.0.0.1", port), WAIT) as second:
            second.sendall(predict(" " * 10_000_000 + ONE)[:200])
            refused = second.recv(65536)
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: 1\r\n" in refused.lower()
            assert turns.bodies.held == len(ONE)
        waits.go.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert asyncio.run(all_of(port, 1, 1)) == {"200": 1}


@pytest.mark.slow
def test_clients_that_say_nothing_or_a_byte_a_second_keep_nobody_from_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SECONDS", 3.0)
    app, turns, listening, port = serve(Slow(0.001), 100)
    over = threading.Event()

    def drip(held: list[socket.socket]) -> None:
        for place in range(20):
            for number, connection in enumerate(held):
                # A third says nothing, a third its headers, a third a body, a byte at a time.
                part = (b"", ASKING[place : place + 1], ONE[place : place + 1].encode())[number % 3]
                with contextlib.suppress(OSError):  # it had its time
                    connection.sendall(part)
            if over.wait(1.0):
                return

    with server.in_background(app, listening):
        held = [socket.create_connection(("127.0.0.1", port), WAIT) for _ in range(200)]
        for connection in held[2::3]:
            connection.sendall(ASKING.removesuffix(ONE.encode()))
        thread = threading.Thread(target=drip, args=(held,))
        thread.start()
        try:
            until = time.monotonic() + 4.0  # beyond what is given to those who say nothing
            rounds = 0
            while time.monotonic() < until:
                assert asyncio.run(all_of(port, 8, 25)) == {"200": 200}
                rounds += 1
            assert rounds > 1
            closed = 0
            for connection in held[::3]:
                connection.settimeout(WAIT)
                closed += connection.recv(1) == b""
            assert closed == len(held[::3])
        finally:
            over.set()
            thread.join()
            for connection in held:
                connection.close()
        until = time.monotonic() + WAIT
        while turns.bodies.held and time.monotonic() < until:
            time.sleep(0.01)
        assert (turns.bodies.held, turns._waiting) == (0, 0)


def end_with_many_in_flight(exported: Path, count: int = 50) -> None:
    """SIGTERM while half of the requests are there and half lack a byte: all have their answer, and it ends."""
    with serving(exported.parent, "--artefact", "tflite") as (process, port):
        request = predict_picture(exported, 20)
        assert send(port, request).startswith(b"HTTP/1.1 200")
        answers: list[bytes] = []
        held = [socket.create_connection(("127.0.0.1", port), WAIT) for _ in range(count)]
        for number, connection in enumerate(held):
            connection.sendall(request if number % 2 else request[:-1])
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)

        def finish(number: int, connection: socket.socket) -> None:
            if number % 2 == 0:
                connection.sendall(request[-1:])
            received = b""
            while part := connection.recv(65536):
                received += part
            answers.append(received)
            connection.close()

        threads = [threading.Thread(target=finish, args=each) for each in enumerate(held)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.split(b" ")[1] for answer in answers] == [b"200"] * count
        assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
        assert process.wait(WAIT) == 0


@pytest.mark.parametrize(
    "times", [pytest.param(2, marks=pytest.mark.slow), pytest.param(20, marks=[pytest.mark.slow, pytest.mark.long])]
)
def test_nobody_is_lost_at_the_end(exported: Path, times: int) -> None:
    for _ in range(times):
        end_with_many_in_flight(exported)
