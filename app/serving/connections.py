"""Connections of clients: so many, and none that says nothing."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 500
SECONDS = 10.0  # from a connection, or an answer on it, until the headers of the next request are there
UNREAD = 60.0  # in which some of an answer has to be read: it is held until it is, beside what the system holds
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Strict(h11.Connection):
    """Takes no request that says its end in two ways: what is behind it may be hidden from whoever is between, and
    would be answered here (RFC 9112, 6.1)."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request) and {b"content-length", b"transfer-encoding"} <= dict(event.headers).keys():
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event


class Connection(H11Protocol):
    """Uvicorn's, which has neither bound: it closes a connection only while nothing at all is said after an answer. And
    whose clients may leave their answers unread, in this server's memory, as long as they like."""

    _due: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = self.config.h11_max_incomplete_event_size or 2**14  # h11's own
        self.conn = _Strict(h11.SERVER, self._most)

    def data_received(self, data: bytes) -> None:
        """In parts: how many headers there are is asked only of those that have not ended with what has come."""
        if self.conn.their_state is h11.SEND_BODY:
            super().data_received(data)
            return
        size = self._most + 1  # one more than there may be without an end
        for at in range(0, len(data), size):
            if not self.transport.is_closing():
                super().data_received(data[at : at + size])

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.write(FULL)
            transport.close()
        else:
            self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._expect_no_reading()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()

    def send_400_response(self, msg: str) -> None:
        """Of a request whose end was none this is the answer: it gets no other."""
        super().send_400_response(msg)
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        self._expect_headers()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        self._expect_no_reading()
        super().resume_writing()

    def _expect_reading(self, before: float = float("inf")) -> None:
        left = self.transport.get_write_buffer_size()
        if left < before:
            self._unread = self.loop.call_later(UNREAD, self._expect_reading, left)
        else:
            self.transport.abort()

    def _expect_no_reading(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expect_headers(self) -> None:
        self._expect_nothing()
        self._due = self.loop.call_later(SECONDS, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
