"""The rows of REST and gRPC in a certificate: what a server says of an export to those who ask as clients do."""

import functools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app import exporting
from app.artefacts import certified
from app.exporting import served
from app.program.progress import unwatched
from app.serving import json_writing, needed, of_file, starting
from app.serving.refusals import RefusedError
from app.serving.turns import Settings
from export import certificate
from tests.makers.exports import SAVED_MODEL, change, forget_the_run, without

NAMES = ["REST model.tflite", "gRPC model.tflite"]


@pytest.fixture(scope="module")
def file_only(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only. As an export of a LiteRT file alone, which takes no time to load."""
    return without(exported, tmp_path_factory.mktemp("file") / "pictures" / "1", *SAVED_MODEL)


def asked(version: Path) -> list[dict[str, Any]]:
    labels = certified.read(version)[0].labels
    return served.rows(version, served.usual(version), certificate.golden(version), labels, "float32", unwatched)


def test_a_server_gives_every_golden_picture_the_answer_of_the_network(file_only: Path) -> None:
    rows = asked(file_only)
    by_pixels = next(
        row for row in json.loads((file_only / "certificate.json").read_text())["rows"] if "LiteRT" in row["artefact"]
    )
    assert [row["artefact"] for row in rows] == NAMES
    golden = {Path(image["file"]).name for image in certificate.golden(file_only)}
    for row in rows:
        assert certificate.passes(row)
        assert (row["tolerance"], row["held_out"]) == (1e-5, None)
        assert row["max_difference"] > 0, "the network was trained by others than LiteRT's kernels"
        for key in ("images", "bytes", "accuracy"):
            assert row[key] == by_pixels[key]
        assert row["not_compared"].items() <= by_pixels["not_compared"].items()
        assert row["images"] + len(row["not_compared"]) == len(golden)
        assert row["milliseconds"] > 0


def test_an_answer_that_is_written_otherwise_is_one_of_rest_alone(
    file_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json_writing.rows

    def coarse(outputs: Any) -> str:
        return rows({**outputs, "scores": np.round(outputs["scores"], 3)})

    monkeypatch.setattr(json_writing, "rows", coarse)
    rest, grpc = asked(file_only)
    assert not certificate.passes(rest)
    assert 1e-5 < rest["max_difference"] < 1e-3
    assert certificate.passes(grpc)


def test_a_proxy_that_the_environment_names_is_not_asked(file_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert [certificate.passes(row) for row in asked(file_only)] == [True, True]


def test_a_network_that_is_slow_has_more_time_than_clients_give_it(
    file_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, ask = iter([0.3]), of_file.OfFile._ask

    def slow(self: of_file.OfFile, images: NDArray[Any]) -> Any:
        if images.any():
            time.sleep(next(once, 0))
        return ask(self, images)

    monkeypatch.setattr(of_file.OfFile, "_ask", slow)
    monkeypatch.setattr(starting, "Settings", functools.partial(Settings, deadline=0.2))
    assert [row["artefact"] for row in asked(file_only)] == NAMES


def test_a_server_that_refuses_a_picture_is_said(file_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_file.OfFile, "_ask", refusing(of_file.OfFile._ask))
    name = certificate.golden(file_only)[0]["file"]
    said = rf"model.tflite cannot be served: {Path(name).name}: .* refuses .* it has no mind for this"
    with pytest.raises(certificate.ArtefactError, match=said):
        asked(file_only)


def refusing(ask: Any) -> Any:
    """Of all pictures but the first, which is none of a client."""

    def refused(self: of_file.OfFile, images: NDArray[Any]) -> Any:
        if images.any():
            raise RefusedError("it has no mind for this")
        return ask(self, images)

    return refused


@pytest.fixture
def certified_so(file_only: Path, tmp_path: Path) -> Path:
    """A copy whose certificate has the rows."""
    version = tmp_path / "pictures" / "1"
    shutil.copytree(file_only, version)
    forget_the_run(version)
    rows = asked(version)
    change(version, lambda content: content["rows"].extend(rows))
    return version


def test_verify_asks_the_server_again(certified_so: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_file.OfFile, "_ask", lambda self, images: np.full((len(images), 3), 1 / 3, np.float32))
    _, found = exporting.verify(certified_so)
    assert [row["artefact"] for row in found["rows"]] == ["LiteRT model.tflite", *NAMES]
    assert [certificate.passes(row) for row in found["rows"]] == [True, False, False]
    assert (found["ok"], found["missing"], found["added"], found["not_served"]) == (False, [], [], None)


def test_verify_says_that_it_cannot_serve_what_was_served(certified_so: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(needed.PACKAGES, "uvicorn", "nothing_of_this_name")
    _, found = exporting.verify(certified_so)
    assert (found["ok"], found["missing"], found["added"]) == (True, [], [])
    assert found["not_served"] == "uvicorn of the extra `serve` cannot be imported here"
