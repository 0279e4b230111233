"""A long evaluation that was stopped goes on where it was, to the same figures."""

import shutil
import signal
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import typer

from app import evaluation
from app.__main__ import main
from app.commands.printing import going_on
from app.datasets.files.image_files import FileSplit
from app.evaluation import evaluating
from app.evaluation.kept_answers import Answers, KeptAnswers
from app.program.stopping import Stopped
from app.run_folder.folder import Run


class Calls:
    """Counts the batches that networks answer, and asks for an end within the one of this number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.asked = 0, 0
        real = keras.Model.predict_on_batch

        def counted(model: keras.Model, images: Any) -> Any:
            self.count += 1
            if self.count == self.asked:
                signal.raise_signal(signal.SIGINT)
            return real(model, images)

        monkeypatch.setattr(keras.Model, "predict_on_batch", counted)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluating, "FEW", 100)  # images: less is not worth keeping
    return Calls(monkeypatch)


def kept(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "cache").rglob("*.npz")]


def test_many_crops_are_not_asked_for_twice(
    finished_run: Run, calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluation.evaluate(finished_run.folder, None, crops=12)
    assert calls.count == -(-whole["count"] * 12 // 32)
    assert kept(tmp_path) == [], "nothing is left of what ended"
    calls.count, calls.asked = 0, 4  # 128 crops: of the eleventh image some were seen
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(finished_run.folder), "--crops", "12"])
    assert (ended.value.code, calls.count) == (130, 4)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("Stopped and saved after image 10. The same command goes on.\n")
    assert len(kept(tmp_path)) == 1
    calls.count = calls.asked = 0
    found = evaluation.evaluate(finished_run.folder, None, crops=12)
    assert calls.count == -(-(whole["count"] - 10) * 12 // 32)
    assert found["confusion"] == whole["confusion"]
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert kept(tmp_path) == []


@pytest.mark.slow
def test_the_members_that_have_answered_are_not_asked_again(finished_run: Run, calls: Calls, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(finished_run.folder, other, ignore=shutil.ignore_patterns("report.html", "checkpoints"))
    plain = other / "classifier.json"
    plain.write_text(plain.read_text().replace('"antialias": true', '"antialias": false'))
    runs: dict[str, Any] = {"folder": finished_run.folder, "data_name": None, "others": [other], "crops": 12}
    whole = evaluation.evaluate(**runs)
    each = calls.count // 2
    calls.count, calls.asked = 0, each + 2  # in the second member
    with pytest.raises(Stopped) as stopped:
        evaluation.evaluate(**runs)
    assert len(kept(tmp_path)) == 2
    calls.count = calls.asked = 0
    found = evaluation.evaluate(**runs)
    assert calls.count == -(-(whole["count"] - stopped.value.step) * 12 // 32) < each
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    assert [row["loss"] for row in found["members"]] == pytest.approx([row["loss"] for row in whole["members"]])
    assert kept(tmp_path) == []


def test_answers_are_those_of_one_network_on_these_files(
    finished_run: Run, pictures: Path, calls: Calls, tmp_path: Path
) -> None:
    files = tuple(str(path) for path in sorted((pictures / "digit").glob("*.png"))[:3])
    copies = tuple(str(tmp_path / Path(path).name) for path in files)
    for path, copy in zip(files, copies, strict=True):
        Path(copy).write_bytes(Path(path).read_bytes())
    split, labels = FileSplit(copies, (0, 0, 1)), ("digit", "flower", "temple")
    place = KeptAnswers.of(finished_run, split, labels, 10)
    assert place == KeptAnswers.of(finished_run, FileSplit(copies, (0, 0, 1)), labels, 10)
    assert place.read() is None
    place.write(Answers(np.eye(3)[:2], np.array([0, 1])))
    sums, truth = place.read() or ((), ())
    np.testing.assert_array_equal(sums, np.eye(3)[:2])
    assert list(truth) == [0, 1]
    others = [
        KeptAnswers.of(finished_run, split, labels, 12),
        KeptAnswers.of(finished_run, split, labels[::-1], 10),
        KeptAnswers.of(finished_run, FileSplit(copies, (0, 1, 1)), labels, 10),
        KeptAnswers.of(finished_run, FileSplit(copies[:2], (0, 0)), labels, 10),
    ]
    Path(copies[0]).write_bytes(b"changed")
    others.append(KeptAnswers.of(finished_run, split, labels, 10))
    assert len({place.file, *(other.file for other in others)}) == 6
    place.file.write_bytes(place.file.read_bytes()[:-50])
    assert place.read() is None


def test_an_interruption_before_anything_is_kept_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, going_on():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert "before there was anything to save" in capsys.readouterr().err
