"""The fastest artefact of an export on this machine: how it is measured, written down and taken."""

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app import __main__, exporting
from app.artefacts import certified, choosing, timing
from app.artefacts.processor import processor
from app.exporting import tuning
from app.program.errors import UserError
from app.program.progress import unwatched
from export import certificate

TIMES = {"saved_model": {1: 9.0, 8: 2.0}, "tflite": {1: 3.0, 8: 4.0}}


@pytest.fixture
def version(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be written to."""
    return Path(shutil.copytree(exported, tmp_path / "digits" / "1"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """The pictures that would be measured with; the times are TIMES, of each artefact that there is."""
    shown = []

    def measure(artefacts: Mapping[str, Path], pictures: NDArray[np.uint8], *options: Any) -> dict[str, Any]:
        shown.append(pictures)
        return {name: TIMES.get(name, {1: 1.0, 8: 1.0}) for name in artefacts}

    monkeypatch.setattr(timing, "measure", measure)
    return shown


def test_the_fastest_is_written_beside_hashes_that_stay(version: Path, asked: list[NDArray[np.uint8]]) -> None:
    before = json.loads((version / "certificate.json").read_text())
    found = exporting.tune(version.parent)
    assert found["take"] == {"1": "tflite", "8": "saved_model"}
    assert found["rows"]["tflite"] == {"milliseconds": {"1": 3.0, "8": 4.0}, "drop": None}
    assert (found["processor"], found["threads"]) == (processor(), os.cpu_count())
    after = json.loads((version / "certificate.json").read_text())
    assert after["tuned"] == found
    assert all(after[key] == value for key, value in before.items() if key != "sha256")
    assert certified.hashes(version) == after["sha256"]["files"] == before["sha256"]["files"]
    assert certified.read(version)[1]  # it still says what was written
    assert choosing.meant(version, "auto") == version / "model.tflite"


def test_it_is_measured_with_golden_images_at_the_networks_size(version: Path, asked: list[NDArray[np.uint8]]) -> None:
    exporting.tune(version)
    (pictures,) = asked
    assert pictures.shape == (8, 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 8
    few = tuning._pictures(certificate.golden(version)[:3], 9, 7)
    assert few.shape == (8, 9, 7, 3)
    np.testing.assert_array_equal(few[:3], few[3:6])


def test_only_what_is_no_float32_loses_points(version: Path, asked: list[NDArray[np.uint8]]) -> None:
    content = json.loads((version / "certificate.json").read_text())
    network, *rows = content["rows"]
    network["held_out"] |= {"accuracy": 0.9}
    quantized = rows[-1] | {"artefact": "LiteRT model.int8.tflite", "precision": "int8"}
    rows[-1]["held_out"] |= {"accuracy": 0.5}
    half = [
        row | {"artefact": f"{row['artefact']}, bfloat16", "precision": "bfloat16", "held_out": None, "accuracy": 0.25}
        for row in rows[:1]
    ]
    network["accuracy"] = 0.75
    quantized["held_out"] = quantized["held_out"] | {"accuracy": 0.88}
    content["rows"] = [network, *rows, quantized, *half]
    (version / "certificate.json").write_text(json.dumps(content))
    shutil.copy(version / "model.tflite", version / "model.int8.tflite")
    found = exporting.tune(version)
    drops = {name: row["drop"] for name, row in found["rows"].items()}
    assert drops["tflite"] is None
    assert drops["model.int8.tflite"] == pytest.approx(2)
    assert drops["saved_model"] == pytest.approx(50), "on the golden images: it was asked about no others"
    assert found["take"]["1"] == "model.int8.tflite"


def test_the_export_says_what_to_take(
    version: Path, asked: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = json.loads((version / "certificate.json").read_text())
    monkeypatch.setattr(exporting, "export", lambda *options, **others: (version, dict(written)))
    command = ["export", str(version), "--to", str(version.parent.parent), "--tune"]
    (version / "classifier.json").write_text(json.dumps({"preprocessing": written["networks"][0]["preprocessing"]}))
    with pytest.raises(SystemExit) as end:
        __main__.main(command)
    assert end.value.code in (0, None)
    *_, head, one, other, verdict = capsys.readouterr().out.splitlines()
    assert head.split() == ["artefact", "ms", "at", "1", "ms", "at", "8", "points", "lost"]
    assert [one.split(), other.split()] == [["saved_model", "9.0", "2.0"], ["tflite", "3.0", "4.0"]]
    assert verdict.startswith(f"Fastest on {processor()['name']}, {os.cpu_count()} thread")
    assert verdict.endswith(": tflite for one picture at a time, saved_model for eight.")
    with pytest.raises(SystemExit):
        __main__.main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["tuned"]["take"] == {"1": "tflite", "8": "saved_model"}


def test_a_process_that_dies_leaves_the_export_as_it_was(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (version / "certificate.json").read_text()

    def die(*options: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(timing, "measure", die)
    with pytest.raises(UserError, match=r"1 was exported, but not measured: a process that ran an artefact died"):
        exporting.tune(version)
    assert (version / "certificate.json").read_text() == before


@pytest.mark.slow
def test_every_artefact_is_measured_in_a_process_of_its_own(version: Path) -> None:
    pictures = np.zeros((8, 32, 32, 3), np.uint8)
    artefacts = choosing.names(version)
    found = timing.measure(artefacts, pictures, unwatched, rounds=1)
    assert {name: set(of) for name, of in found.items()} == {name: {1, 8} for name in ("saved_model", "tflite")}
    assert all(0 < milliseconds < 1000 for of in found.values() for milliseconds in of.values())
    assert not timing._asked, "nothing of it ran here"
