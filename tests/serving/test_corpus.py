"""Every request of the corpus is answered as it says, over a connection; and the server lives on."""

import logging
import re
import socket
from collections.abc import Iterator

import pytest

from app.serving import server
from app.serving.application import application
from app.serving.models import Model, Models, Version
from app.serving.of_file import OfFile
from app.serving.turns import Settings, Turns
from tests.serving import corpus
from tests.serving.asking import Echo
from tests.serving.test_client import Brightness

QUIET, LONG = 0.15, 10.0  # seconds that nothing comes to what has no end, and until an answer is there


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    served = {
        "m": Model({1: Version(Echo())}, {"stable": 1}),
        "pictures": Model({1: Version(OfFile(Brightness()))}, {}),
    }
    listening = server.listen("127.0.0.1", 0)
    with server.in_background(application(Models(served), Turns(Settings())), listening):
        yield listening.getsockname()[1]


def sent(port: int, request: bytes, wait: float) -> bytes:
    """What comes until the connection ends, or until nothing comes for so many seconds."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), LONG) as connection:
        connection.settimeout(LONG)
        try:
            connection.sendall(request)
            connection.settimeout(wait)
            while part := connection.recv(65536):
                received += part
        except (TimeoutError, ConnectionError):
            pass
    return received


@pytest.mark.parametrize("case", corpus.ALL, ids=lambda case: case.name)
def test_what_is_sent_is_answered(port: int, case: corpus.Case, caplog: pytest.LogCaptureFixture) -> None:
    ends = len(case.statuses) == 1
    received = sent(port, case.request, LONG if ends else QUIET)
    found = tuple(int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", received))
    assert found == case.statuses, received[:1000]
    assert case.said in received.decode("utf-8", "surrogateescape")
    assert b"Traceback" not in received
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_corpus_has_more_than_two_hundred_requests_of_different_names() -> None:
    assert len({case.name for case in corpus.ALL}) == len(corpus.ALL) > 200
