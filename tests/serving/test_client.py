"""The client, against servers of this process."""

import io
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.program.errors import UserError
from app.program.progress import unwatched
from app.serving import client, remote, server
from app.serving.application import application
from app.serving.bodies import Bodies
from app.serving.client import Client
from app.serving.models import Model, Models, Version
from app.serving.of_file import OfFile
from app.serving.turns import Settings, Turns


class Brightness:
    """A network that finds pictures dark or light, and remembers how many it was asked about at once."""

    labels = ("dark", "light")

    def answer(self, images: NDArray[Any]) -> NDArray[Any]:
        light = images.reshape(len(images), -1).mean(1) / 255
        return np.stack([1 - light, light], 1).astype(np.float32)


class Counting(OfFile):
    def __init__(self) -> None:
        super().__init__(Brightness())
        self.sizes: list[int] = []

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.sizes.append(len(inputs["image_bytes"]))
        return super().run(signature, inputs)


def png(level: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(content, "PNG")
    return content.getvalue()


@contextmanager
def serving(
    servable: Any, settings: Settings | None = None, bodies: Bodies | None = None, name: str = "m"
) -> Iterator[str]:
    listening = server.listen("127.0.0.1", 0)
    models = Models({name: Model({1: Version(servable)}, {"stable": 1})})
    app = application(models, Turns(settings or Settings(), bodies))
    with server.in_background(app, listening):
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/{name}"


@pytest.fixture(scope="module")
def counting() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def url(counting: Counting) -> Iterator[str]:
    with serving(counting, Settings(token="secret")) as at:
        yield at


def test_every_picture_gets_its_row_in_requests_of_sixteen(url: str, counting: Counting) -> None:
    counting.sizes.clear()
    pictures = [png(level) for level in range(0, 250, 10)]
    rows = list(Client(url, "secret").predict(iter(pictures)))
    assert counting.sizes == [16, 9]
    assert [row.classes[0] for row in rows] == ["dark"] * 13 + ["light"] * 12
    assert rows[1].scores[1] == pytest.approx(10 / 255)


def test_large_pictures_go_in_requests_of_their_own(
    url: str, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting.sizes.clear()
    monkeypatch.setattr(client, "BYTES", 2 * len(png(9)))
    rows = list(Client(f"{url}/versions/1/", "secret").predict([png(9)] * 5))
    assert (counting.sizes, [row.error for row in rows]) == ([2, 2, 1], [None] * 5)


def test_a_picture_that_cannot_be_decoded_says_why_alone_and_among_others(url: str) -> None:
    asked = Client(f"{url}/labels/stable", "secret")
    for pictures in ([b"x"], [b"x", png(255)]):
        first, *others = asked.predict(pictures)
        assert first == client.Row([], [], "This is no JPEG, PNG, GIF, WebP or BMP file.")
        assert [row.classes[0] for row in others] == ["light"] * (len(pictures) - 1)


def test_files_become_the_rows_of_predict(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "b.png").write_bytes(b"x")
    rows = remote.predict(url, [tmp_path / "a.png", tmp_path / "b.png"], 1, unwatched, "secret")
    assert rows == [
        {"file": str(tmp_path / "a.png"), "classes": ["dark"], "scores": [1.0]},
        {
            "file": str(tmp_path / "b.png"),
            "classes": [],
            "scores": [],
            "error": "This is no JPEG, PNG, GIF, WebP or BMP file.",
        },
    ]


def test_synsets_have_their_english_names_beside_them_as_from_a_run(tmp_path: Path) -> None:
    class OfImageNet(Brightness):
        labels = ("n01440764", "n02123045")

    (tmp_path / "a.png").write_bytes(png(255))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with serving(OfFile(OfImageNet())) as at:
        light, broken = remote.predict(at, [tmp_path / "a.png", tmp_path / "b.png"], 2, unwatched)
    assert light["classes"] == ["n02123045", "n01440764"]
    assert light["names"] == ["tabby", "tench"]
    assert "names" not in broken


def test_what_a_server_refuses_is_said_with_its_words(url: str) -> None:
    assert [version["state"] for version in Client(url, "secret").status()] == ["AVAILABLE"]
    with pytest.raises(
        UserError, match=r"m refuses \(code 401\): The header Authorization has not this server's token"
    ):
        next(Client(url).predict([png(0)] * 2))
    with pytest.raises(UserError, match=r"other refuses \(code 404\): Could not find any versions of model other"):
        Client(f"{url.removesuffix('m')}other", "secret").status()
    listening = server.listen("127.0.0.1", 0)
    at = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/m"
    with listening, pytest.raises(UserError, match=r"m does not answer: .*refused.*`serve EXPORT` starts a server."):
        Client(at).status()


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8501",
        "http://127.0.0.1:8501",
        "file:///v1/models/m",
        "http://a:x/v1/models/m",
        "http:///v1/models/m",
        "http://[a/v1/models/m",
        "http://a..b/v1/models/m",
        "http://user:secret@127.0.0.1:8501/v1/models/m",
        "http://a\0b/v1/models/m",
        "http://127.0.0.1:8501/v1/models/\udcff",  # bytes of the command line that are no text
    ],
)
def test_an_address_of_no_network_is_refused(url: str) -> None:
    with pytest.raises(
        UserError, match=r"is no address of a network; one is http://127.0.0.1:8501/v1/models/NAME"
    ) as caught:
        Client(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("answers", "calls"), [([503, 429, 200], 3), ([503] * 9, 4)])
def test_a_server_that_is_full_is_asked_again_and_not_for_ever(
    answers: list[int], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    taken: list[bytes] = []

    def answer() -> None:
        for status in answers[:calls]:
            connection, _ = listening.accept()
            with connection:
                taken.append(connection.recv(65536))
                head = f"HTTP/1.1 {status} x\r\nRetry-After: 3600\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + b'{"model_version_status": [], "error": "full"}')

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        asked = Client(f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/m")
        if answers[-1] == 200:
            assert asked.status() == []
        else:
            with pytest.raises(UserError, match=r"refuses \(code 503\): full"):
                asked.status()
        thread.join()
    assert len(taken) == calls
    assert waited == [10.0] * (calls - 1)


@contextmanager
def answering(*contents: bytes) -> Iterator[str]:
    """The address of a server that says these, one after the other."""

    def answer() -> None:
        for content in contents:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/m"
        thread.join()


def test_what_is_no_such_server_is_told() -> None:
    strange = (b"<html>", b"[1]", b'{"a": 1', b"{}", b'{"model_version_status": 1}', b"[" * 100_000)
    with answering(*strange) as url:
        for _ in strange:
            with pytest.raises(UserError, match="does not speak TensorFlow Serving's REST"):
                Client(url).status()


def test_what_is_no_answer_of_an_export_is_told() -> None:
    row = '{"classes": ["a"], "scores": [1]}'
    rows = ("1", '"a"', "[1]", "[[1.5]]", '[{"classes": ["a"]}]', "null", row)
    odd = ('{"classes": 1, "scores": 1}', '{"classes": [1], "scores": [1]}', '{"classes": ["a"], "scores": ["b"]}')
    strange = [b"{}", *(f'{{"predictions": {said}}}'.encode() for said in (*rows, *(f"[{each}]" for each in odd)))]
    with answering(*strange) as url:
        for _ in strange:
            with pytest.raises(UserError, match="answers, but not with `classes` and `scores` as an export"):
                list(Client(url).predict([b"x"]))
    two = f'{{"predictions": [{row}, {row}]}}'.encode()
    with answering(two) as url, pytest.raises(UserError, match="answers 2 pictures of 1 that it was asked about"):
        list(Client(url).predict([b"x"]))


def test_a_refusal_of_the_request_is_none_of_its_picture(url: str) -> None:
    for wrong, said in (
        ("/versions/1/x", "Malformed request: POST /v1/models/m/versions/1/x:predict"),
        ("/labels/other", "Unrecognized servable version label: other"),
    ):
        with pytest.raises(UserError, match=rf"{wrong} refuses \(code 400\): {said}"):
            list(Client(url + wrong, "secret").predict([png(0)]))


def test_a_picture_too_large_for_the_server_costs_its_own_row_alone() -> None:
    large = b"\0" * 20_000_000
    with serving(OfFile(Brightness()), bodies=Bodies(most=100_000)) as url:
        for pictures in ([large], [png(0), large, png(255)]):
            rows = list(Client(url).predict(pictures))
            errors = [row.error for row in rows]
            said = "This picture is too large for the server: The request is larger than 100000 bytes."
            assert errors == [None if picture != large else said for picture in pictures]
        # As many as are too large together go one by one.
        rows = list(Client(url).predict([b"x" * 60_000, png(255), b"x" * 60_000]))
        assert [row.error is None for row in rows] == [False, True, False]


@pytest.mark.parametrize("token", ["sö", "€", " plain\n", "\udcff"])
def test_a_token_is_sent_as_it_is_written_in_its_file(token: str) -> None:
    with serving(OfFile(Brightness()), Settings(token=token.strip())) as url:
        assert len(Client(url, token).status()) == 1
    with pytest.raises(UserError, match="The token for the server has more than one line"):
        Client(url, "a\nb")


@pytest.mark.parametrize("name", ["größe", "my model", "a%20b"])
def test_a_name_may_have_any_letters(name: str) -> None:
    with serving(OfFile(Brightness()), name=name.replace("%20", " ")) as url:
        at = url.rpartition("/")[0] + f"/{name}"
        assert [row.error for row in Client(at).predict([png(0)])] == [None]
