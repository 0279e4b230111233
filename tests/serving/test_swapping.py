"""Real exports come while others are served: good ones under load, broken ones of every kind."""

import base64
import http.client
import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from app.serving import server, starting, watching
from app.serving.models import Wanted
from export import metadata, serving
from tests.makers import exports

CLIENTS, SWAPS = 8, 20


def relabel(version: Path, number: int) -> None:
    """The labels of the network say which version it is."""
    found = json.loads((version / "certificate.json").read_text())["labels"]
    labels = [f"{number} {label}" for label in found]
    metadata.write(version / "model.tflite", "pictures", "", labels)
    exports.certify_again(version)


def picture(exported: Path) -> bytes:
    name = json.loads((exported / "golden" / "golden.json").read_text())[0]["file"]
    return (exported / "golden" / name).read_bytes()


class Asking:
    """Clients that ask one after the other until the block ends; `answers` are when each began, what version answered
    and when, or what else was said."""

    def __init__(self, port: int, content: bytes) -> None:
        self.port = port
        self.body = json.dumps({"instances": [{"b64": base64.b64encode(content).decode()}]})
        self.answers: list[tuple[float, int, float]] = []
        self.others: list[Any] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Asking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            try:
                while not self._ended.is_set():
                    self.answers.append(self._answer(connection))
            except Exception as error:
                self.others.append(error)

    def _answer(self, connection: http.client.HTTPConnection) -> tuple[float, int, float]:
        started = time.monotonic()
        connection.request("POST", "/v1/models/pictures:predict", self.body)
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 200, said
        (row,) = json.loads(said)["predictions"]
        (version,) = {int(name.split(" ")[0]) for name in row["classes"]}
        return started, version, time.monotonic()


@pytest.mark.slow
def test_twenty_versions_come_under_load_and_no_request_fails_or_is_answered_by_a_wrong_one(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SECONDS", 0.05)
    base = tmp_path / "pictures"
    base.mkdir()

    def export(number: int) -> Path:
        made = exports.without(exported, tmp_path / f"incomplete-{number}", *exports.SAVED_MODEL, "assets")
        relabel(made, number)
        return made

    export(1).rename(base / "1")
    prepared = starting.prepare(base)
    came, seen = {1: 0.0}, {1: 0.0}
    until = time.monotonic() + 300
    with (
        server.in_background(prepared.application, prepared.listening),
        prepared.watching,
        Asking(prepared.listening.getsockname()[1], picture(exported)) as asking,
    ):
        for number in range(2, SWAPS + 2):
            made = export(number)
            came[number] = time.monotonic()
            made.rename(base / str(number))
            while prepared.models.models["pictures"].available != [number] and time.monotonic() < until:
                time.sleep(0.01)
            seen[number] = time.monotonic()
        count = len(asking.answers)
        while len(asking.answers) < count + CLIENTS and not asking.others and time.monotonic() < until:
            time.sleep(0.01)
    assert asking.others == []
    assert {version for _, version, _ in asking.answers} >= {1, SWAPS + 1}
    for started, version, ended in asking.answers:
        assert max(number for number, when in seen.items() if when <= started) <= version
        assert version <= max(number for number, when in came.items() if when <= ended)
    print(f"{len(asking.answers)} answers during {SWAPS} swaps in {seen[SWAPS + 1] - came[2]:.1f} s")


def remove(name: str) -> Callable[[Path], None]:
    return lambda version: (version / name).unlink()


def spoil(name: str, content: bytes = b"x", certified: bool = False) -> Callable[[Path], None]:
    """Puts this into the file; in the place of what it held if that is to be `certified`."""

    def change(version: Path) -> None:
        before = b"" if certified or not (version / name).exists() else (version / name).read_bytes()
        (version / name).write_bytes(before + content)
        if certified:
            exports.certify_again(version)

    return change


def alter(version: Path) -> None:
    content = json.loads((version / "certificate.json").read_text())
    (version / "certificate.json").write_text(json.dumps(content | {"ok": True, "held_out": 1}))


def truncate(version: Path) -> None:
    file = version / "model.tflite"
    file.write_bytes(file.read_bytes()[:1000])
    exports.certify_again(version)


def empty(version: Path) -> None:
    shutil.rmtree(version)
    version.mkdir()


def disagree(version: Path) -> None:
    exports.change(version, lambda content: content.update(ok=False))


def unlabelled(version: Path) -> None:
    metadata.write(version / "model.tflite", "pictures", "", [])
    exports.certify_again(version)


BROKEN: list[tuple[Callable[[Path], None], str]] = [
    (empty, "has no readable certificate"),
    (remove("certificate.json"), "has no readable certificate"),
    (spoil("certificate.json"), "has no readable certificate"),
    (alter, "certificate.json was altered since it was written"),
    (disagree, "disagrees with its network, as its certificate says"),
    (spoil("model.tflite"), "model.tflite is not the file that was certified"),
    (remove("model.tflite"), "has lost model.tflite"),
    (remove("golden/golden.json"), "has lost golden/golden.json"),
    (spoil("model.xml"), "model.xml was never certified"),
    (truncate, "model.tflite cannot be loaded"),
    (unlabelled, "model.tflite names no classes"),
    (spoil("model.tflite", b"", certified=True), "model.tflite cannot be loaded"),
]


@pytest.fixture
def refuses() -> Callable[..., None]:
    def check(first: Path, broken: list[tuple[Callable[[Path], None], str]]) -> None:
        """The first version goes on answering, and each of those that come, as it is or broken, is refused."""
        told: list[str] = []
        prepared = starting.prepare(first.parent, tell=told.append)
        prepared.listening.close()
        before = prepared.models.find(Wanted("pictures"))
        copy = shutil.copytree(first, first.parent.parent / "copy")
        for number, (change, _) in enumerate(broken, 2):
            change(shutil.copytree(copy, first.parent / str(number)))
        for _ in range(2 * len(broken)):
            prepared.watching.poll()
        assert prepared.models.find(Wanted("pictures")) == before
        status = prepared.models.status(Wanted("pictures"))["model_version_status"]
        assert [(int(each["version"]), each["state"]) for each in status] == [
            *((number, "END") for number in range(len(broken) + 1, 1, -1)),
            (1, "AVAILABLE"),
        ]
        for number, (_, why) in enumerate(broken, 2):
            said = prepared.models.status(Wanted("pictures", number))["model_version_status"][0]["status"]
            assert re.search(why, said["error_message"])
            assert str(first.parent / str(number)) in said["error_message"]
            assert f"Not served: {said['error_message']}" in told
        assert len(told) == len(broken)
        # The same files, whole, are served.
        shutil.move(copy, first.parent / "99")
        prepared.watching.poll()
        prepared.watching.poll()
        assert prepared.models.find(Wanted("pictures"))[0] == 99

    return check


def test_broken_exports_of_every_kind_are_refused_and_the_old_one_answers(
    exported: Path, tmp_path: Path, refuses: Callable[..., None]
) -> None:
    (tmp_path / "pictures").mkdir()
    refuses(exports.without(exported, tmp_path / "pictures" / "1", *exports.SAVED_MODEL, "assets"), BROKEN)


def warm_up(images: bytes, times: int) -> Callable[[Path], None]:
    def change(version: Path) -> None:
        shutil.rmtree(version / "assets.extra")
        serving.write_warmup(version, "pictures", images)
        file = version / serving.WARMUP
        records = file.read_bytes()
        file.write_bytes(records * times)
        exports.certify_again(version)

    return change


def cut(version: Path) -> None:
    file = version / serving.WARMUP
    file.write_bytes(file.read_bytes()[:-5])
    exports.certify_again(version)


@pytest.mark.slow
def test_saved_models_that_are_broken_or_fail_their_warm_up_are_refused(
    exported: Path, tmp_path: Path, refuses: Callable[..., None]
) -> None:
    (tmp_path / "pictures").mkdir()
    refuses(
        exports.without(exported, tmp_path / "pictures" / "1", "model.tflite"),
        [
            (spoil("saved_model.pb", certified=True), "cannot be loaded"),
            (spoil("variables/variables.index"), "variables/variables.index is not the file that was certified"),
            (spoil("assets/labels.txt"), "assets/labels.txt is not the file that was certified"),
            (warm_up(b"no picture", 1), "a warm-up request has an image that is none"),
            (warm_up(picture(exported), 201), "has more than the 1000 requests that a server warms up with"),
            (cut, "cannot be loaded: .*(truncated|corrupted)"),
        ],
    )
