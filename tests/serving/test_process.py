"""`serve` as a process of its own: its beginning, its answers to bare HTTP, and its end."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.slow
WAIT = 60.0  # seconds


@contextmanager
def serving(*arguments: str | Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process of `serve`, and its port, when it says that it serves."""
    command = [sys.executable, "-m", "app", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r":(\d+)/v1/models/", said)
        assert found, said or process.communicate()[1]
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def send(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), WAIT) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def predict(exported: Path, count: int = 1) -> bytes:
    picture = exported / "golden" / json.loads((exported / "golden" / "golden.json").read_text())[0]["file"]
    one = {"b64": base64.b64encode(picture.read_bytes()).decode()}
    body = json.dumps({"instances": [one] * count}).encode()
    head = f"POST /v1/models/pictures:predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


def body_of(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    return dict(json.loads(body))


def test_it_answers_bare_http_on_the_loopback_address_alone(exported: Path) -> None:
    with serving(exported.parent, "--artefact", "tflite") as (process, port):
        answer = send(port, predict(exported))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert list(body_of(answer)) == ["predictions"]
        # No answer says what program gave it, and where that lies.
        assert b"uvicorn" not in answer.lower()
        for request, status in (
            (b"GET /v1/models/pictures HTTP/1.0\r\n\r\n", b"200"),
            (b"GET /v1/models/pictures/versions/../../etc HTTP/1.0\r\n\r\n", b"400"),
            (b"GET /../../../etc/passwd HTTP/1.0\r\n\r\n", b"404"),
            (b"BREW /v1/models/pictures HTTP/1.0\r\n\r\n", b"400"),
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/1.0\r\nA: " + b"a" * 100_000, b"400"),
            (b"POST /v1/models/pictures:predict HTTP/1.0\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        ):
            assert send(port, request).split(b" ")[1] == status, request
        sockets = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()]
        addresses = [line[1] for line in sockets if line[3] == "0A" and line[1].endswith(f":{port:04X}")]  # 0A listens
        assert addresses == [f"0100007F:{port:04X}"]


def test_requests_in_flight_are_answered_after_sigterm(exported: Path) -> None:
    count = 50
    with serving(exported.parent, "--artefact", "tflite") as (process, port):
        request = predict(exported, 40)
        answers: list[bytes] = []
        connections = [socket.create_connection(("127.0.0.1", port), WAIT) for _ in range(count)]
        for connection in connections:
            connection.sendall(request[:-1])
        time.sleep(0.5)  # the server has them all, but for a byte

        def finish(connection: socket.socket) -> None:
            connection.sendall(request[-1:])
            received = b""
            while part := connection.recv(65536):
                received += part
            answers.append(received)
            connection.close()

        process.send_signal(signal.SIGTERM)
        threads = [threading.Thread(target=finish, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.split(b" ")[1] for answer in answers] == [b"200"] * count
        assert process.wait(WAIT) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), WAIT)


def test_a_port_in_use_is_one_sentence(exported: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "app", "serve", str(exported), "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT)
    said = f"Error: Port {port} of 127.0.0.1 is in use; choose another --port.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


NEVER = """
import sys
from concurrent.futures import ThreadPoolExecutor

for name in ("tensorflow", "keras", "tensorflow_serving"):
    sys.modules[name] = None  # importing it fails from here on

import asyncio, base64, json
from pathlib import Path
import httpx
import app.__main__
from app.serving import starting

prepared = starting.prepare(Path(sys.argv[1]), sys.argv[2])
(name,) = prepared.urls
transport = httpx.ASGITransport(prepared.application)

async def ask():
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        predicted = await client.post(f"/v1/models/{name}:predict", json=json.loads(sys.argv[3]))
        example = {"image/encoded": json.loads(sys.argv[3])["instances"][0]}
        body = {"signature_name": "classify", "examples": [example]}
        classified = await client.post(f"/v1/models/{name}:classify", json=body)
        metadata = await client.get(f"/v1/models/{name}/metadata")
        (served,) = (await client.get("/page/models")).json()["versions"]
        picture = base64.b64decode(example["image/encoded"]["b64"])
        seen = await client.post(f"/page/models/{name}/versions/{served['version']}/seen", content=picture)
        print([answer.status_code for answer in (predicted, classified, metadata, seen)])

asyncio.run(ask())
"""


def test_a_file_is_served_where_tensorflow_cannot_be_imported(
    exported: Path, fresh_process: Callable[..., str]
) -> None:
    body = predict(exported).partition(b"\r\n\r\n")[2].decode()
    for artefact in ("tflite", "auto"):
        assert fresh_process(NEVER, exported, artefact, body) == "[200, 200, 200, 200]\n"


def test_a_file_takes_two_seconds_of_a_processor_to_be_ready_and_is_small(exported: Path) -> None:
    started = time.monotonic()
    with serving(exported, "--artefact", "tflite") as (process, port):
        seconds = time.monotonic() - started
        assert send(port, predict(exported)).startswith(b"HTTP/1.1 200")
        status = Path(f"/proc/{process.pid}/status").read_text()
        used = Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]
        processor = sum(map(int, used)) / os.sysconf("SC_CLK_TCK")
        (peak,) = (int(kilobytes) * 1024 for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status))
    print(f"ready in {seconds:.2f} s, {processor:.2f} s of a processor, {peak / 1e6:.0f} MB")
    assert processor < 2
    assert peak < 150e6 + 3 * (exported / "model.tflite").stat().st_size


def test_the_saved_model_answers_as_the_file(exported: Path) -> None:
    def asked(artefact: str) -> list[dict[str, list[float]]]:
        with serving(exported, "--artefact", artefact) as (_, port):
            found = json.loads(send(port, predict(exported, 2)).partition(b"\r\n\r\n")[2])["predictions"]
            url = f"http://127.0.0.1:{port}/v1/models/pictures/metadata"
            said = json.loads(urllib.request.urlopen(url).read())["metadata"]["signature_def"]["signature_def"]
            assert ("features" in said) == (artefact == "saved_model")
            for request, status in ((b'{"instances": [{"b64": "YQ=="}]}', b"400"), (b'{"inputs": []}', b"400")):
                length = f"Content-Length: {len(request)}\r\nConnection: close"
                head = f"POST /v1/models/pictures:predict HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\n"
                answer = send(port, head.encode() + request)
                assert answer.split(b" ")[1] == status
                assert b"Traceback" not in answer
            return list(found)

    ours, theirs = asked("tflite"), asked("saved_model")
    for one, other in zip(ours, theirs, strict=True):
        assert one["classes"] == other["classes"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)
