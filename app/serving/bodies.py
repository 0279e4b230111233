"""The body of a request: so many bytes, of all requests together and in so many seconds, and no more."""

import asyncio
import zlib

from starlette.requests import Request

from app.serving.refusals import RefusedError

MOST = 64 * 2**20  # bytes of a body, as it comes and unpacked
TOGETHER = 4 * MOST  # of all bodies that are held at once
SECONDS = 60.0  # for all of a body to come
LATER = {"Retry-After": "1"}


class Bodies:
    def __init__(self, most: int = MOST, together: int = TOGETHER, seconds: float = SECONDS) -> None:
        self.most, self.together, self.seconds = most, together, seconds
        self.held = 0  # bytes

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
            async with asyncio.timeout(self.seconds):
                async for part in request.stream():
                    size += len(part)
                    self.held += len(part)
                    if size > self.most:
                        raise self._too_large()
                    if self.held > self.together:
                        raise RefusedError(
                            "The server holds as much as it can; try again.", "UNAVAILABLE", headers=LATER
                        )
                    parts.append(part)
        except TimeoutError:
            self.held -= size
            late = f"The request did not come in {self.seconds:g} seconds."
            raise RefusedError(late, "DEADLINE_EXCEEDED", status=408) from None
        except BaseException:
            self.held -= size
            raise
        return b"".join(parts)

    def free(self, body: bytes) -> None:
        self.held -= len(body)

    def unpacked(self, body: bytes) -> bytes:
        """Of gzip; empty if it is not, as TensorFlow Serving takes it.

        Raises:
            RefusedError: unpacked it is too large.
        """
        unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            content = unpacking.decompress(body, self.most + 1)
        except zlib.error:
            return b""
        if len(content) > self.most:
            raise self._too_large()
        return content if unpacking.eof else b""

    def _too_large(self) -> RefusedError:
        return RefusedError(f"The request is larger than {self.most} bytes.", "RESOURCE_EXHAUSTED", status=413)
