"""Requests for a server, many at once: by `wrk`, which takes little of the processor that the server needs, and at a
given rate by a client of our own."""

import asyncio
import json
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

MISSING = "wrk is not installed; `apt-get install wrk` or `brew install wrk` brings it."
# What each thread of wrk does. An answer is right if it has what is wanted; a pause before a request is exponential.
SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  math.randomseed(tonumber(args[3]))
  local file = assert(io.open(args[1], "rb"))
  wrk.body = file:read("*a")
  file:close()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  expected, pause = args[2], tonumber(args[4])
  right, refused, wrong = 0, 0, 0
  if pause > 0 then
    delay = function() return math.floor(-math.log(1 - math.random()) * pause) end
  end
end
function response(status, headers, body)
  if status == 200 and string.find(body, expected, 1, true) then
    right = right + 1
  elseif status == 503 and (headers["retry-after"] or headers["Retry-After"]) then
    refused = refused + 1
  else
    wrong = wrong + 1
  end
end
function done(summary, latency, requests)
  local right, refused, wrong = 0, 0, 0
  for _, thread in ipairs(threads) do
    right = right + thread:get("right")
    refused = refused + thread:get("refused")
    wrong = wrong + thread:get("wrong")
  end
  local errors = summary.errors
  io.write(string.format(
    'FOUND {"right": %d, "refused": %d, "wrong": %d, "lost": %d, "seconds": %f, "p50": %f, "p90": %f, "p99": %f}\\n',
    right, refused, wrong, errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1000, latency:percentile(90) / 1000, latency:percentile(99) / 1000))
end
"""


class Load(NamedTuple):
    """Answers by sort: right ones, refusals for later, others, and none; and milliseconds by percentile."""

    right: int
    refused: int
    wrong: int
    lost: int
    seconds: float
    p50: float
    p90: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.right / self.seconds

    @property
    def offered(self) -> float:
        return (self.right + self.refused + self.wrong + self.lost) / self.seconds


class Asked(NamedTuple):
    """Where a prediction is asked for, and with what body; the right answer has `expected` in it."""

    port: int
    path: str
    body: bytes
    expected: str


def by_wrk(asked: Asked, connections: int, seconds: float, pause: float = 0.0) -> Load:
    """Over so many connections, each of which asks again when it has its answer, or a mean of `pause` milliseconds
    later."""
    with tempfile.TemporaryDirectory() as name:
        script, body = Path(name) / "post.lua", Path(name) / "body"
        script.write_text(SCRIPT)
        body.write_bytes(asked.body)
        options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(script)]
        url = f"http://127.0.0.1:{asked.port}{asked.path}"
        command = [shutil.which("wrk") or "wrk", *options, url, "--", str(body), asked.expected, "1", str(pause)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = next((line for line in done.stdout.splitlines() if line.startswith("FOUND ")), None)
    if found is None:
        raise SystemExit(f"wrk failed: {done.stderr or done.stdout}")
    return Load(**json.loads(found.removeprefix("FOUND ")))


class _Client(asyncio.Protocol):
    """One connection; `ask` is answered by the status and the body."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, b""

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, mark, body = self.received.partition(b"\r\n\r\n")
        if not mark or self.answer is None:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) >= length:
            self.received = b""
            self.answer.set_result((int(head.split(b" ")[1]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result((0, b""))


def request(asked: Asked) -> bytes:
    head = f"POST {asked.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(asked.body)}\r\n\r\n"
    return head.encode() + asked.body


def at_rate(asked: Asked, rate: float, seconds: float, most: int = 400) -> Load:
    """So many requests a second, whatever becomes of those before: at random times, over connections that are free, of
    which there are at most so many. Milliseconds are from when a request was due."""
    return asyncio.run(_at_rate(asked, rate, seconds, most))


async def _at_rate(asked: Asked, rate: float, seconds: float, most: int) -> Load:
    rng = random.Random(0)
    content, expected = request(asked), asked.expected.encode()
    loop = asyncio.get_running_loop()
    free: list[_Client] = []
    places = asyncio.Semaphore(most)
    times, counts = [], {"right": 0, "refused": 0, "wrong": 0, "lost": 0}

    async def one(due: float) -> None:
        async with places:
            client = free.pop() if free else (await loop.create_connection(_Client, "127.0.0.1", asked.port))[1]
            status, body = await client.ask(content)
        times.append(1000 * (time.perf_counter() - due))
        sort = {200: "right" if expected in body else "wrong", 503: "refused", 0: "lost"}.get(status, "wrong")
        counts[sort] += 1
        if not client.transport.is_closing() and sort != "lost":
            free.append(client)

    tasks = []
    started = time.perf_counter()
    due = started
    while (due := due + rng.expovariate(rate)) < started + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    took = time.perf_counter() - started
    for client in free:
        client.transport.close()
    times.sort()
    shares = [times[min(len(times) - 1, int(share * len(times)))] if times else 0.0 for share in (0.5, 0.9, 0.99)]
    return Load(**counts, seconds=took, p50=shares[0], p90=shares[1], p99=shares[2])
