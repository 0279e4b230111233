"""The fastest artefact of an export on this machine: how it is measured, written down and taken."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
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
from app.run_folder.folder import Run
from app.serving import opening
from export import certificate
from tests import ROOT

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
    found = exporting.tune(version, 0.5)
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
    exporting.tune(version, 0.5)
    (pictures,) = asked
    assert pictures.shape == (8, 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 8
    few = tuning._pictures(certificate.golden(version)[:3], 9, 7)
    assert few.shape == (8, 9, 7, 3)
    np.testing.assert_array_equal(few[:3], few[3:6])


def test_only_what_is_no_float32_loses_points(version: Path, asked: list[NDArray[np.uint8]]) -> None:
    content = json.loads((version / "certificate.json").read_text())
    network, *rows, rest, _ = content["rows"]
    network["held_out"] |= {"accuracy": 0.9}
    quantized = rows[-1] | {"artefact": "LiteRT model.int8.tflite", "precision": "int8"}
    rows[-1]["held_out"] |= {"accuracy": 0.5}
    half = [
        row | {"artefact": f"{row['artefact']}, bfloat16", "precision": "bfloat16", "held_out": None, "accuracy": 0.25}
        for row in (rows[0], rest)
    ]
    network["accuracy"] = 0.75
    quantized["held_out"] = quantized["held_out"] | {"accuracy": 0.88}
    content["rows"] = [network, *rows, quantized, *half]
    (version / "certificate.json").write_text(json.dumps(content))
    shutil.copy(version / "model.tflite", version / "model.int8.tflite")
    found = exporting.tune(version, 2.5)
    drops = {name: row["drop"] for name, row in found["rows"].items()}
    assert drops["tflite"] is None
    assert drops["model.int8.tflite"] == pytest.approx(2)
    assert drops["saved_model"] == pytest.approx(50), "on the golden images: it was asked about no others"
    assert found["take"] == {"1": "model.int8.tflite", "8": "model.int8.tflite"}
    assert found["max_drop"] == 2.5
    assert exporting.tune(version, 1.5)["take"] == {"1": "tflite", "8": "tflite"}, "the others lost more"
    for file in ("model.tflite", "model.int8.tflite"):
        (version / file).unlink()
    assert exporting.tune(version, 1.5)["take"]["1"] == "saved_model", "there is no other"


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


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("The process that ran model.tflite died."), r"The process that ran model\.tflite died\.$"),
        (RuntimeError("no memory\nat all"), r"no memory\.$"),
    ],
)
def test_what_comes_between_leaves_the_export_as_it_was(
    error: Exception, said: str, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (version / "certificate.json").read_text()

    def fail(*options: Any) -> None:
        raise error

    monkeypatch.setattr(timing, "measure", fail)
    with pytest.raises(UserError, match=f"1 was exported, but not measured: {said}"):
        exporting.tune(version, 0.5)
    assert (version / "certificate.json").read_text() == before


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (KeyboardInterrupt(), "Interrupted. {} was exported, but not measured.\n", 130),
        (UserError("1 was exported, but not measured: no."), "Error: 1 was exported, but not measured: no.", None),
    ],
)
def test_an_export_that_was_not_measured_is_told_all_the_same(
    error: BaseException,
    said: str,
    code: int | None,
    version: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*options: Any) -> None:
        raise error

    written = json.loads((version / "certificate.json").read_text())
    monkeypatch.setattr(exporting, "export", lambda *options, **others: (version, dict(written)))
    monkeypatch.setattr(exporting, "tune", fail)
    (version / "classifier.json").write_text(json.dumps({"preprocessing": written["networks"][0]["preprocessing"]}))
    for options, printed in (([], f"Exported {version}\n"), (["--json"], '"ok": true')):
        with pytest.raises(SystemExit) as end:
            __main__.main(["export", str(version), "--to", str(version.parent.parent), "--tune", *options])
        out, err = capsys.readouterr()
        assert printed in out
        if code is None:
            assert end.value.code == said
        else:
            assert (end.value.code, err.strip()) == (code, said.format(version).strip())


@pytest.mark.slow
def test_every_artefact_is_measured_in_a_process_of_its_own(version: Path) -> None:
    pictures = np.zeros((8, 32, 32, 3), np.uint8)
    artefacts = choosing.names(version)
    found = timing.measure(artefacts, pictures, unwatched, rounds=1)
    assert {name: set(of) for name, of in found.items()} == {name: {1, 8} for name in ("saved_model", "tflite")}
    assert all(0 < milliseconds < 1000 for of in found.values() for milliseconds in of.values())
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_an_artefact_that_does_not_load_or_answer_is_named(version: Path, tmp_path: Path) -> None:
    content = (version / "model.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut\.tflite cannot be loaded: .*\. Export the run again\.$"):
        timing.measure({"cut": tmp_path / "cut.tflite"}, np.zeros((8, 32, 32, 3), np.uint8), unwatched, rounds=1)
    with pytest.raises(UserError, match=r"model\.tflite does not answer: "):
        timing.measure({"tflite": version / "model.tflite"}, np.zeros((8, 32, 32, 1), np.uint8), unwatched, rounds=1)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_ends_the_measuring_without_a_word_of_its_process(seconds: float, exported: Path) -> None:
    script = f"""
import sys
from pathlib import Path
import numpy as np
from app.artefacts import timing
from app.program.progress import unwatched
if __name__ == "__main__":
    print("measuring", flush=True)
    try:
        timing.measure({{"a": Path({str(exported / "model.tflite")!r})}}, np.zeros((8, 32, 32, 3), np.uint8), unwatched)
    except KeyboardInterrupt:
        print("interrupted")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and Python leaves an ignored signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    assert process.stdout.readline() == "measuring\n"
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20) == ("interrupted\n", "")


@pytest.mark.slow
def test_an_export_is_tuned_from_the_command_line(
    finished_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(finished_run.folder), "--to", str(tmp_path), "--formats", "saved_model,tflite", "--tune"]
    with pytest.raises(SystemExit) as end:
        __main__.main([*command, "--json"])
    assert not end.value.code
    tuned = json.loads(capsys.readouterr().out)["tuned"]
    (certificate,) = tmp_path.glob("*/1/certificate.json")
    assert json.loads(certificate.read_text())["tuned"] == tuned
    assert certified.read(certificate.parent)[1]
    assert set(tuned["rows"]) == {"saved_model", "tflite"}
    for batch in ("1", "8"):
        times = {name: row["milliseconds"][batch] for name, row in tuned["rows"].items()}
        assert min(times.values()) > 0
        assert times[tuned["take"][batch]] == min(times.values())
    opening.check(certificate.parent)
    assert choosing.name_of(choosing.meant(tmp_path, "auto")) == tuned["take"]["1"]
