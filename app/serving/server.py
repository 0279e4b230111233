"""The server as a process: its port, its log, and its end, at which what has been asked is still answered."""

import asyncio
import errno
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette

from app.program.errors import UserError
from app.serving.connections import Connection

TOKEN = "SERVE_TOKEN"  # the environment variable
# Seconds that requests have to end after SIGTERM: a body its minute, an answer its half, and some.
DRAIN = 95
HEADERS = 32 * 2**10  # bytes of a request's headers


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """The port taken, before anything is loaded for it; nobody can connect yet. `option` is what chooses another.

    Raises:
        UserError: it is in use, or not allowed; there is no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except (socket.gaierror, ValueError) as error:  # the latter of what is no name: UnicodeError, or a null in it
        why = error.strerror if isinstance(error, OSError) else "that is no name"
        raise UserError(f"There is no host '{host}' on this machine: {why}.") from error
    except OSError as error:
        why = "in use" if error.errno == errno.EADDRINUSE else f"not to be had: {error.strerror}"
        raise UserError(f"Port {port} of {host} is {why}; choose another {option}.") from error
    return listening


def token(file: Path | None) -> str | None:
    """What clients have to send, if anything: the content of the file, or of SERVE_TOKEN.

    Raises:
        UserError: the file cannot be read; either is empty.
    """
    if file is None:
        found = os.environ.get(TOKEN)
        found = found if found is None else found.strip()
        where = TOKEN
    else:
        try:
            found = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The token cannot be read from {file}: {error}.") from error
        where = str(file)
    if found == "":
        raise UserError(f"{where} holds no token; write one into it, or leave it out.")
    return found


class Beside(Protocol):
    """What is answered beside HTTP, in the same loop; it has so many seconds to end."""

    async def start(self) -> None: ...

    async def stop(self, seconds: float) -> None: ...


@contextmanager
def in_background(application: Starlette, listening: socket.socket, beside: Beside | None = None) -> Iterator[None]:
    """Answers within the block, in a thread of this process, and says nothing."""
    config = _config(application, log_config=None)
    listening.listen(config.backlog)
    ready = threading.Event()
    server = _Server(config, ready.set, beside)
    thread = threading.Thread(target=server.run, args=([listening],), name="serving")
    thread.start()
    while thread.is_alive() and not ready.wait(0.1):
        pass
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def run(
    application: Starlette,
    listening: socket.socket,
    ready: Callable[[], None] = lambda: None,
    beside: Beside | None = None,
) -> None:
    """Answers until SIGTERM or Ctrl-C: then no new request is taken, and those taken are answered. `ready` is called
    when clients can connect, and signals are heard."""
    log: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "loggers": {
            name: {"handlers": ["stderr"], "level": level, "propagate": False}
            for name, level in (("uvicorn.error", "WARNING"), ("app.serving", "INFO"))
        },
    }
    config = _config(application, log_config=log)
    try:
        listening.listen(config.backlog)
    except OSError as error:  # another has begun with it since
        raise UserError(f"Port {listening.getsockname()[1]} is in use; choose another --port.") from error
    _Server(config, ready, beside).run([listening])
    logging.getLogger("app.serving").info("Stopped")


def _config(application: Starlette, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        log_level=None,
        access_log=False,  # the application writes one, with how long an answer took
        timeout_graceful_shutdown=DRAIN,
        h11_max_incomplete_event_size=HEADERS,
        **options,
    )


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None] = lambda: None, beside: Beside | None = None
    ) -> None:
        super().__init__(config)
        self._ready, self._beside = ready, beside

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._beside:
            await self._beside.start()
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._beside is None:
            await super().shutdown(sockets)
            return
        ending = asyncio.ensure_future(self._beside.stop(DRAIN))
        await super().shutdown(sockets)
        while not ending.done() and not self.force_exit:
            await asyncio.sleep(0.1)
        if not ending.done():  # a second Ctrl-C
            await self._beside.stop(0)
        await ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would send itself the signal once more at the end: this is an end as it was asked for."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
