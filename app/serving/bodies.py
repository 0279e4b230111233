"""The body of a request: so many bytes, of all requests together and in so many seconds, and no more."""

import asyncio
import threading
import zlib

from starlette.requests import Request

from app.serving.refusals import RefusedError

MOST = 64 * 2**20  # bytes of a body, as it comes and unpacked
TOGETHER = 4 * MOST  # of all bodies that are held at once, also unpacked
SMALL = 2**20  # bytes of a body that has room where large ones have taken theirs
RESERVED = MOST  # for those
STEP, PAUSE = 2**18, 10.0  # bytes of a large body that have to come in so many seconds: it takes the room of others
SECONDS = 60.0  # for all of a body to come
LATER = {"Retry-After": "1"}


class Bodies:
    def __init__(
        self, most: int = MOST, together: int = TOGETHER, seconds: float = SECONDS, reserved: int = RESERVED
    ) -> None:
        self.most, self.together, self.seconds, self.reserved = most, together, seconds, reserved
        self.pause = PAUSE
        self.held = 0  # bytes
        self._counting = threading.Lock()

    async def read(self, request: Request) -> bytes:
        """The body, which is held until it is freed.

        Raises:
            RefusedError: it is too large, as it says itself or as it comes; too slow; or there is no room for it now.
        """
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said[:20]) > self.most:
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds) as limit:
                end, expected = limit.when() or 0.0, SMALL
                async for part in request.stream():
                    if size + len(part) > self.most:
                        raise self._too_large()
                    self.hold(len(part), size)
                    size += len(part)
                    parts.append(part)
                    if size >= expected:
                        expected = size + STEP
                        limit.reschedule(min(end, asyncio.get_running_loop().time() + self.pause))
        except TimeoutError:
            self.free(size)
            late = f"The request did not come in {self.seconds:g} seconds, or came too slowly."
            raise RefusedError(late, "DEADLINE_EXCEEDED", status=408) from None
        except BaseException:
            self.free(size)
            raise
        return b"".join(parts)

    def hold(self, size: int, of: int = 0) -> None:
        """For so many more bytes, of a body of which there are `of` already, until they are freed.

        Raises:
            RefusedError: there is no room for them now.
        """
        with self._counting:
            room = self.together + (self.reserved if of + size <= SMALL else 0)
            if self.held + size > room:
                raise RefusedError("The server holds as much as it can; try again.", "UNAVAILABLE", headers=LATER)
            self.held += size

    def free(self, size: int) -> None:
        with self._counting:
            self.held -= size

    def unpacked(self, body: bytes, either: bool = False) -> bytes:
        """Of gzip, or `either` of gzip and deflate; empty if it is not, as TensorFlow Serving takes it. It is held
        until it is freed.

        Raises:
            RefusedError: unpacked it is too large, or there is no room for it now.
        """
        unpacking = zlib.decompressobj((32 if either else 16) + zlib.MAX_WBITS)
        try:
            content = unpacking.decompress(body, self.most + 1)
        except zlib.error:
            return b""
        if len(content) > self.most:
            raise self._too_large()
        content = content if unpacking.eof else b""
        self.hold(len(content))
        return content

    def _too_large(self) -> RefusedError:
        return RefusedError(f"The request is larger than {self.most} bytes.", "RESOURCE_EXHAUSTED", status=413)
