"""Whose turn it is to be answered: that of requests by HTTP and by gRPC, as they came, and of so many."""

import asyncio
import hmac
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from app.serving import at_work
from app.serving.bodies import LATER, Bodies
from app.serving.metrics import Metrics
from app.serving.refusals import RefusedError

WAITING = 100  # requests that are answered or wait for it
DEADLINE = 30.0  # seconds, TensorFlow Serving's
# Requests that are answered at once, most of which wait for a network: two of the largest batches of an export, one of
# which is collected while the other is answered.
THREADS = 32
PLACES = min(os.cpu_count() or 1, 4)  # of these, those that do not wait: each may take the memory of a large request
# A second: what they take of the time of those who are answered is to be little, however often the others ask again.
REFUSALS = 300
FAILED = "The server failed at this request; its log says how."
Found = TypeVar("Found")


def ending() -> RefusedError:
    """What is said to those whom the server cannot answer any more."""
    return RefusedError("The server ends; try again.", "UNAVAILABLE", headers=LATER)


class Settings(NamedTuple):
    """`token` is what a client has to send as a bearer."""

    token: str | None = None
    cors: bool = False
    waiting: int = WAITING
    deadline: float = DEADLINE


class Turns:
    def __init__(self, settings: Settings, bodies: Bodies | None = None) -> None:
        self.settings = settings
        self.bodies = bodies or Bodies()
        self.metrics = Metrics()
        self._pool = ThreadPoolExecutor(THREADS, "answering")
        self._places = threading.Semaphore(PLACES)
        self._waiting = self._refusing = 0

    async def take(self, ask: Callable[[], Found], done: Callable[[], None], seconds: float | None = None) -> Found:
        """Elsewhere than where requests are read, which goes on; in the order in which they came. `done` is called when
        nothing holds the request any more, which may be after its client was refused, or went, or its `seconds` were
        over.

        Raises:
            RefusedError: too many wait, or it took too long; what `ask` raises.
        """
        try:
            self.check_room()
        except RefusedError:
            done()
            raise
        given_up = False
        deadline = self.settings.deadline if seconds is None else min(seconds, self.settings.deadline)

        def late() -> RefusedError:
            return RefusedError(f"There was no answer in {deadline:g} seconds.", "DEADLINE_EXCEEDED")

        task = at_work.Task(lambda: late() if given_up else None, self._places)

        def in_time() -> Found:
            with at_work.on(task):
                return ask()

        def ended(future: asyncio.Future[Any]) -> None:
            self._waiting -= 1
            done()
            if not future.cancelled():
                future.exception()  # nobody may be there to look at it

        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, in_time)
        future.add_done_callback(ended)
        try:
            # Its place is that of another only when its turn is over: what a network has begun cannot be stopped.
            return await asyncio.wait_for(asyncio.shield(future), deadline)
        except TimeoutError:
            given_up = True
            raise late() from None
        except asyncio.CancelledError:  # its client is gone, or the server ends, which what waits would keep from it
            given_up = True
            raise
        except RefusedError as refusal:
            # Without the frames in which it was raised, which hold all that was read; they and the future hold each
            # other, until a garbage collection that may come after many requests.
            raise refusal.with_traceback(None) from None
        finally:
            del future

    async def room(self) -> None:
        """To be asked before a body is read. Where there is none there may be some after a while, the longer the more
        are there to be refused.

        Raises:
            RefusedError: as many as can wait do.
        """
        try:
            self.check_room()
        except RefusedError:
            self._refusing += 1
            try:
                await asyncio.sleep(self._refusing / REFUSALS)
            finally:
                self._refusing -= 1
            self.check_room()

    def check_room(self) -> None:
        """
        Raises:
            RefusedError: as many as can wait do.
        """
        if self._waiting >= self.settings.waiting:
            raise RefusedError(f"{self._waiting} requests wait already; try again.", "UNAVAILABLE", headers=LATER)

    def check_token(self, given: bytes) -> None:
        """`given` is the header Authorization, as it came.

        Raises:
            RefusedError: it is not the one that is asked for.
        """
        if self.settings.token is None:
            return
        scheme, _, said = given.partition(b" ")
        same = hmac.compare_digest(said.lstrip(b" "), self.settings.token.encode("utf-8", "surrogateescape"))
        if scheme.lower() != b"bearer" or not same:
            headers = {"WWW-Authenticate": "Bearer"}
            raise RefusedError(
                "The header Authorization has not this server's token.", "UNAUTHENTICATED", headers=headers
            )
