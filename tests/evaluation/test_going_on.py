"""A long evaluation that was stopped goes on where it was, to the same figures."""

import errno
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import typer

from app import evaluation
from app.__main__ import main
from app.commands.printing import going_on
from app.datasets.dataset import Split
from app.datasets.files.image_files import FileSplit
from app.datasets.prepared.records import RecordSplit
from app.evaluation import evaluating, kept_answers
from app.evaluation.kept_answers import Answers, KeptAnswers
from app.program.stopping import Stopped
from app.run_folder.folder import Run


def kept_of(run: Run, split: Split, labels: tuple[str, ...], crops: int) -> KeptAnswers:
    (one,) = KeptAnswers.of_all([run], split, labels, crops)
    return one


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


@pytest.mark.slow
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
    place = kept_of(finished_run, split, labels, 10)
    assert place == kept_of(finished_run, FileSplit(copies, (0, 0, 1)), labels, 10)
    assert place.read() is None
    place.write(Answers(np.eye(3)[:2], np.array([0, 1])))
    sums, truth = place.read() or ((), ())
    np.testing.assert_array_equal(sums, np.eye(3)[:2])
    assert list(truth) == [0, 1]
    others = [
        kept_of(finished_run, split, labels, 12),
        kept_of(finished_run, split, labels[::-1], 10),
        kept_of(finished_run, FileSplit(copies, (0, 1, 1)), labels, 10),
        kept_of(finished_run, FileSplit(copies[:2], (0, 0)), labels, 10),
    ]
    Path(copies[0]).write_bytes(b"changed")
    others.append(kept_of(finished_run, split, labels, 10))
    assert len({place.file, *(other.file for other in others)}) == 6
    place.file.write_bytes(place.file.read_bytes()[:-50])
    assert place.read() is None


class Streamed:
    """A split that cannot be read at places, and counts what is read of it."""

    count = 1000
    read = 0

    def in_order(self) -> tf.data.Dataset:
        def examples() -> Iterator[tuple[bytes, int]]:
            for number in range(self.count):
                self.read += 1
                yield f"{number}".encode(), number % 3

        signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
        return tf.data.Dataset.from_generator(examples, output_signature=signature)

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        return Split.at(self, places)

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        raise NotImplementedError


def test_to_know_images_again_a_stream_of_them_is_not_read_to_its_end(finished_run: Run) -> None:
    split = Streamed()
    places = KeptAnswers.of_all([finished_run, finished_run], split, ("digit", "flower", "temple"), 10)
    assert split.read <= kept_answers.SAMPLED + 1, "once for all runs"
    assert places == [kept_of(finished_run, split, ("digit", "flower", "temple"), 10)] * 2
    split.count = 999
    assert kept_of(finished_run, split, ("digit", "flower", "temple"), 10) != places[0]


def test_records_are_known_by_their_shards(finished_run: Run, tmp_path: Path) -> None:
    shard = tmp_path / "one"
    shard.write_bytes(b"records")
    split = RecordSplit((shard,), np.zeros((2, 3), np.int64))
    before = kept_of(finished_run, split, ("digit", "flower", "temple"), 10)
    assert before == kept_of(finished_run, split, ("digit", "flower", "temple"), 10)
    shard.write_bytes(b"other records")
    assert before != kept_of(finished_run, split, ("digit", "flower", "temple"), 10)


@pytest.fixture
def unwritable(calls: Calls, tmp_path: Path) -> Path:
    """Where the user's cache should be, is a file, as nobody could make folders in a home that is read only."""
    (tmp_path / "cache").write_text("")
    return tmp_path / "cache"


def test_an_evaluation_is_not_lost_where_its_answers_cannot_be_kept(
    finished_run: Run, unwritable: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = evaluation.evaluate(finished_run.folder, None, crops=12)
    assert 0 <= figures["top_1"] <= 1
    assert "kept" not in capsys.readouterr().err, "after the last network nothing is to be kept"
    place = KeptAnswers(unwritable / "one.npz")
    assert not place.write(Answers(np.eye(3), np.array([0, 1, 2])))
    assert capsys.readouterr().err.startswith(f"The answers so far are not kept: {unwritable}")
    place.forget()


def test_a_full_disk_keeps_no_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    assert not KeptAnswers(tmp_path / "one.npz").write(Answers(np.eye(3), np.array([0, 1, 2])))
    assert f"are not kept: {tmp_path}/one.npz could not be written: no space left" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_what_could_not_be_kept_is_not_said_to_be_saved(
    finished_run: Run, unwritable: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.asked = 2
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(finished_run.folder), "--crops", "12"])
    said = capsys.readouterr()
    assert (ended.value.code, calls.count, said.out) == (130, 2, "")
    assert "saved after" not in said.err
    assert "The answers so far are not kept: " in said.err
    assert said.err.endswith("the same command goes on from there, or begins where nothing was.\n")


def test_an_interruption_promises_neither_that_something_was_saved_nor_that_nothing_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit) as ended, going_on():
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == (
        "\nInterrupted. What was saved before stays; the same command goes on from there, or begins where nothing "
        "was.\n"
    )
