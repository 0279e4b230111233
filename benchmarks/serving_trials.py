"""What `benchmarks.serving` does to a server."""

import contextlib
import json
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from app.serving.turns import WAITING
from benchmarks.serving_load import Asked, Load, at_rate, by_wrk, request

ROOT = Path(__file__).parent.parent
CONNECTIONS = 8
MANY = 32  # pictures that are asked at once for the largest rate, as many as the largest of the batches that are swept
OVERLOAD, CROWD = 10, 400  # times the largest rate, and over so many connections
SLOW = 200  # connections
FLIGHT = 50  # requests
WAIT = 60.0  # seconds, after which something is lost
SEEN = 15.0  # seconds until a new version has to answer
LIKE_BEFORE = 5  # answers in a row that are as fast as before


class Server(NamedTuple):
    """A running one."""

    process: "subprocess.Popen[str]"
    port: int
    path: str
    of: "Served"

    def asked(self, batch: int) -> Asked:
        return Asked(self.port, f"{self.path}:predict", self.of.bodies[batch], self.of.expected)

    def memory(self) -> float:
        """MB"""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6

    def version(self) -> int:
        """The newest that answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self.path}/metadata", timeout=WAIT) as answer:
            return int(json.loads(answer.read())["model_spec"]["version"])


class Served(NamedTuple):
    """An export, and what it is asked. By batch: the body of a request, and the file with its pixels, of which a `kind`
    of `inference_worker` is made."""

    version: Path
    artefact: str
    path: Path
    kind: str
    bodies: dict[int, bytes]
    inputs: dict[int, Path]
    expected: str

    @contextlib.contextmanager
    def running(self, parameters: str | None = None) -> Iterator[Server]:
        """Of a copy of the version, beside which are parameters of batching, if there are some."""
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "network"
            shutil.copytree(self.version, root / "1")
            if parameters:
                (root / "batching_parameters.txt").write_text(parameters)
            with self.running_in(root) as server:
                yield server

    @contextlib.contextmanager
    def running_in(self, root: Path) -> Iterator[Server]:
        """Of a folder with versions."""
        command = [sys.executable, "-m", "app", "serve", str(root), "--artefact", self.artefact, "--port", "0"]
        with subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            try:
                assert process.stdout is not None
                found = re.search(r":(\d+)(/v1/models/\S+)", process.stdout.readline())
                if not found:
                    raise SystemExit(f"The server ended with {process.wait()}: {' '.join(command)}")
                yield Server(process, int(found[1]), found[2], self)
            finally:
                process.kill()

    def copy(self, server_root: Path, number: int) -> None:
        """One more version, whole as soon as it is there."""
        hidden = server_root.parent / f"coming-{number}"
        shutil.copytree(self.version, hidden)
        hidden.rename(server_root / str(number))


def ask(asked: Asked) -> tuple[int, float]:
    """Status and milliseconds of a single request."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", asked.port), WAIT) as connection:
        connection.sendall(request(asked).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        received = b""
        while part := connection.recv(65536):
            received += part
    return int(received.split(b" ")[1]), 1000 * (time.perf_counter() - started)


class Ready(NamedTuple):
    seconds: float
    megabytes: float


def ready(served: Served, rounds: int) -> Ready:
    seconds, megabytes = [], []
    for _ in range(rounds):
        with served.running() as server:
            seconds.append(time.time() - psutil.Process(server.process.pid).create_time())
            status, _ = ask(server.asked(1))
            if status != 200:
                raise SystemExit(f"The first answer was {status}.")
            megabytes.append(server.memory())
    return Ready(statistics.median(seconds), statistics.median(megabytes))


class Rates(NamedTuple):
    """Pictures a second by round."""

    bare: list[float]
    served: list[float]


@contextlib.contextmanager
def _bare(served: Served, batch: int) -> Iterator[Callable[[float], dict[str, float]]]:
    """Calls the artefact for so many seconds, and says its rate and median."""
    file = str(served.path.resolve())
    command = [sys.executable, "-m", "benchmarks.serving_bare", served.kind, file, str(served.inputs[batch])]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:

        def said() -> dict[str, float]:
            assert process.stdout
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"The bare artefact ended with {process.wait()}.")
            return dict(json.loads(line))

        def call(seconds: float) -> dict[str, float]:
            assert process.stdin
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            return said()

        try:
            said()
            yield call
        finally:
            process.kill()


def throughput(served: Served, batch: int, seconds: float, rounds: int) -> Rates:
    rates = Rates([], [])
    with _bare(served, batch) as bare, served.running() as server:
        asked = server.asked(batch)
        connections = max(1, MANY // batch)
        by_wrk(asked, connections, 1)
        for _ in range(rounds):
            rates.bare.append(bare(seconds)["per_second"])
            rates.served.append(batch * closed(asked, connections, seconds).per_second)
    return rates


def one_by_one(served: Served, seconds: float, rounds: int) -> float:
    """Milliseconds that the server adds to a call of one picture, at the median."""
    more = []
    with _bare(served, 1) as bare, served.running() as server:
        by_wrk(server.asked(1), 1, 1)
        for _ in range(rounds):
            alone = bare(seconds)["median_ms"]
            more.append(closed(server.asked(1), 1, seconds).p50 - alone)
    return statistics.median(more)


def closed(asked: Asked, connections: int, seconds: float) -> Load:
    return by_wrk(asked, connections, seconds)


def opened(asked: Asked, rate: float, seconds: float) -> Load:
    return at_rate(asked, rate, seconds)


class Overload(NamedTuple):
    """What was answered, MB more than before, and seconds until answers are as before."""

    load: Load
    megabytes: float
    recovery: float


def overload(server: Server, asked: Asked, peak: float, seconds: float) -> Overload:
    usual = statistics.median(ask(asked)[1] for _ in range(2 * LIKE_BEFORE))
    before = server.memory()
    # Of these as many as may wait do, and the others come back after their pause.
    load = by_wrk(asked, CROWD, seconds, pause=1000 * (CROWD - WAITING) / (OVERLOAD * peak))
    after = server.memory() - before
    started = time.perf_counter()
    row = 0
    found = 0.0
    while row < LIKE_BEFORE and time.perf_counter() - started < WAIT:
        began = time.perf_counter() - started
        status, took = ask(asked)
        if status != 200 or took > 1.5 * usual + 1:
            row = 0
        else:
            found = found if row else began
            row += 1
    return Overload(load, after, found if row == LIKE_BEFORE else WAIT)


@contextlib.contextmanager
def _slow_clients(asked: Asked) -> Iterator[None]:
    """Half of them say nothing, the others a byte a second; each begins again when it is sent away."""
    over = threading.Event()
    content = request(asked)

    def connected() -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", asked.port), WAIT)
        connection.setblocking(False)
        return connection

    def drip() -> None:
        held = [connected() for _ in range(SLOW)]
        places = [0] * SLOW
        while not over.wait(1.0):
            for number, connection in enumerate(held):
                try:
                    if number % 2:
                        connection.send(content[places[number] : places[number] + 1])
                        places[number] += 1
                    if connection.recv(1) == b"":
                        raise ConnectionResetError
                except BlockingIOError:
                    pass
                except OSError:
                    connection.close()
                    held[number], places[number] = connected(), 0
        for connection in held:
            connection.close()

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        time.sleep(1.5)
        yield
    finally:
        over.set()
        thread.join()


def slow(server: Server, asked: Asked, seconds: float, rounds: int) -> tuple[list[float], list[float]]:
    """The 99th percentiles of the others, without and with slow clients."""
    without, beside = [], []
    for _ in range(rounds):
        without.append(closed(asked, CONNECTIONS, seconds).p99)
        with _slow_clients(asked):
            beside.append(closed(asked, CONNECTIONS, seconds).p99)
    return without, beside


class Swapped(NamedTuple):
    """Versions that came to answer, and requests that had no right answer."""

    seen: int
    failed: int


def swaps(served: Served, times: int) -> Swapped:
    """A new version of the same files again and again, and the one before it gone, while it is asked."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "network"
        root.mkdir()
        served.copy(root, 1)
        with served.running_in(root) as server:
            over = threading.Event()
            loads: list[Load] = []

            def load() -> None:
                while not over.is_set():
                    loads.append(closed(server.asked(1), CONNECTIONS, 2))

            thread = threading.Thread(target=load)
            thread.start()
            seen = 0
            try:
                for number in range(2, 2 + times):
                    served.copy(root, number)
                    until = time.perf_counter() + SEEN
                    while (found := server.version()) != number and time.perf_counter() < until:
                        time.sleep(0.05)
                    if found != number:  # this server does not look for versions
                        break
                    seen += 1
                    shutil.rmtree(root / str(number - 1))
            finally:
                over.set()
                thread.join()
    return Swapped(seen, sum(load.refused + load.wrong + load.lost for load in loads))


def ends(served: Served, times: int) -> int:
    """Requests without a right answer when the server is ended, half of which it has, and half of which lack a byte."""
    lost = 0
    for _ in range(times):
        with served.running() as server:
            content = request(server.asked(1))
            held = [socket.create_connection(("127.0.0.1", server.port), WAIT) for _ in range(FLIGHT)]
            for number, connection in enumerate(held):
                connection.sendall(content if number % 2 else content[:-1])
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            for connection in held[::2]:
                connection.sendall(content[-1:])
            for connection in held:
                with connection:
                    lost += not _is_right(connection, served.expected)
    return lost


def _is_right(connection: socket.socket, expected: str) -> bool:
    received = b""
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            received += part
    return received.startswith(b"HTTP/1.1 200 ") and expected.encode() in received
