"""What a request is refused with: TensorFlow's codes, and HTTP's for them."""

from collections.abc import Mapping

HTTP = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


class RefusedError(Exception):
    """A request that gets no answer: the sentence for its client, and the code. `status` is for what only HTTP has a
    code for."""

    def __init__(
        self,
        message: str,
        code: str = "INVALID_ARGUMENT",
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status or HTTP[code]
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        """As TensorFlow prints a status inside another."""
        return f"{self.code}: {self.message}"
