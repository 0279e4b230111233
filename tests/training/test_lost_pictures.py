"""Pictures that vanish or are damaged after they were looked at, and other errors of TensorFlow within a training."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import evaluation, recipe, training
from app.datasets import loading
from app.datasets.dataset import Data
from app.datasets.files import manifests
from app.datasets.files.image_files import FileSplit
from app.pipeline import held_pictures, input_pipeline
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from app.training import beginning, continuing, failures, finishing
from app.training.callbacks import epochs
from app.training.checkpoints import checkpoint
from tests.makers.image_folders import age

SETTINGS = ("epochs=2", "image_size=16", "batch_size=8", "dropout=0.3", "augmentation.flip=true")
STEPS = 18  # of the run


def train(data: Path, to: Path, quarantine: Path | None = None) -> Run:
    wanted = recipe.load("default", SETTINGS)
    return training.train(str(data), "lenet_bn", to, wanted, unwatched, quarantine=quarantine)


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "photos"
    shutil.copytree(pictures, copy)
    age(copy)
    return copy


@pytest.fixture(autouse=True)
def _read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a large data set is read: nothing of it is held in memory."""
    monkeypatch.setattr(input_pipeline, "FEW", 0)
    monkeypatch.setattr(input_pipeline, "HELD", 0)
    monkeypatch.setattr(held_pictures, "MEMORY", 0)


def of_split(photos: Path, split: str) -> Path:
    return next(file.path for file in loading.load(str(photos)).files if file.split == split)


def at_step(step: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    count = epochs.EndEpochs.on_train_batch_end

    def acting(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == step:
            action()

    monkeypatch.setattr(epochs.EndEpochs, "on_train_batch_end", acting)


def weights(run: Run) -> list[np.ndarray[Any, Any]]:
    return [weight.numpy() for weight in keras.models.load_model(run.checkpoints / "last.keras").weights]


@pytest.mark.slow
def test_a_picture_that_vanishes_is_named_and_nothing_is_lost(photos: Path, tmp_path: Path) -> None:
    lost, run = of_split(photos, "train"), Run(tmp_path / "run")
    content = lost.read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        at_step(3, lost.unlink, monkeypatch)
        with pytest.raises(UserError) as caught:
            train(photos, run.folder)
    listed = run.checkpoints / "quarantine.txt"
    state = checkpoint.newest(run.checkpoints)
    assert state
    step = state.state.step
    assert 3 <= step < STEPS
    assert str(caught.value) == (
        f"{lost} is gone. The state after step {step} is saved. Bring back what was there, and the same command goes "
        f"on; with --quarantine {listed} it goes on without."
    )
    assert listed.read_text() == f"{lost}\n"
    with pytest.raises(UserError) as caught:
        train(photos, run.folder)
    assert f"are not those that {run.folder} was begun with: 1 image was removed: {lost}. To go on, " in str(
        caught.value
    )
    assert f"with --quarantine {listed}, a list of what was removed, the training goes on without" in str(caught.value)
    assert listed.read_text() == f"{lost}\n"
    lost.write_bytes(content)
    train(photos, run.folder)
    assert not listed.exists()
    for mine, theirs in zip(weights(run), weights(train(photos, tmp_path / "unbroken")), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_a_training_goes_on_without_a_picture_that_was_cut(photos: Path, tmp_path: Path) -> None:
    lost, run = of_split(photos, "train"), Run(tmp_path / "run")
    size = lost.stat().st_size

    def cut() -> None:
        lost.write_bytes(lost.read_bytes()[: size // 2])

    with pytest.MonkeyPatch.context() as monkeypatch:
        at_step(3, cut, monkeypatch)
        with pytest.raises(UserError, match=f"was cut, {size // 2} of {size} bytes are left. The state after step"):
            train(photos, run.folder)
    begun = run.read_classifier().data
    listed = tmp_path / "list.txt"
    shutil.copy(run.checkpoints / "quarantine.txt", listed)
    train(photos, run.folder, listed)
    record = run.read_classifier().data
    assert begun
    assert record
    assert record.train == begun.train - 1
    assert record.fingerprint == loading.load(str(photos), quarantine=listed).fingerprint
    assert lost not in {picture.file.path for picture in manifests.read_pictures(run.split)}
    assert evaluation.evaluate(run.folder, None)["top_1"] == json.loads(run.metrics.read_text())["top_1"]
    assert loading.load(str(run.split)).fingerprint == record.fingerprint


@pytest.mark.slow
def test_a_picture_of_the_validation_that_vanishes_costs_no_more_than_the_last_minute(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, run = of_split(photos, "validation"), Run(tmp_path / "run")
    content = lost.read_bytes()
    with pytest.MonkeyPatch.context() as monkeypatch:
        at_step(12, lost.unlink, monkeypatch)
        with pytest.raises(UserError, match=r"is gone\. The state after step 9 is saved."):
            train(photos, run.folder)
    given, listed = run.checkpoints / "quarantine.txt", tmp_path / "list.txt"
    shutil.copy(given, listed)
    train(photos, run.folder, given)
    assert given.read_bytes() == listed.read_bytes(), "the command that was advised, again"
    train(photos, run.folder, given)
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert run.quarantine.read_bytes() == b"", "nobody could find what is gone"
    assert evaluation.evaluate(run.folder, None)["count"] == 16
    lost.write_bytes(content)
    with pytest.raises(UserError, match="1 image was added"):
        train(photos, run.folder)


@pytest.mark.slow
def test_the_other_pictures_come_in_the_steps_in_which_they_would_have_come(photos: Path, tmp_path: Path) -> None:
    """The place of what is lost has the next picture of its class."""
    data, run = loading.load(str(photos)), Run(tmp_path / "run")
    assert isinstance(data.train, FileSplit)
    paths, places = data.train.paths, [5, 6, data.train.count - 1]

    def remove() -> None:
        for place in places:
            Path(paths[place]).unlink()

    with pytest.MonkeyPatch.context() as monkeypatch:
        at_step(3, remove, monkeypatch)
        words = rf"^{paths[5]} is gone, and 2 more images are not what they were\. The state after step \d+"
        with pytest.raises(UserError, match=words):
            train(photos, run.folder)
    listed = tmp_path / "list.txt"
    shutil.copy(run.checkpoints / "quarantine.txt", listed)
    assert listed.read_text().split("\n") == [*(paths[place] for place in places), ""]
    there = loading.load(str(photos), quarantine=listed, told=run.split)
    assert there.train.count == data.train.count - 3
    found = continuing.as_begun(run, there, listed)
    assert isinstance(found.train, FileSplit)
    assert found.fingerprint == data.fingerprint
    assert found.train.labels == data.train.labels
    changed = [i for i, (a, b) in enumerate(zip(found.train.paths, paths, strict=True)) if a != b]
    assert changed == places
    assert found.train.paths[5] == found.train.paths[6] == paths[7]
    last = data.train.labels[-1]
    assert found.train.paths[-1] == paths[data.train.labels.index(last)]
    (photos / "flower" / "new.png").write_bytes(next((photos / "temple").glob("*.png")).read_bytes())
    with pytest.raises(UserError, match=r"1 image was added: \S+new.png; 3 images were removed: "):
        continuing.as_begun(run, loading.load(str(photos), quarantine=listed, told=run.split), listed)


def test_what_tensorflow_cannot_read_of_a_published_data_set_is_one_sentence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures are no files, and nobody looked at them before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = loading.load(str(photos))
    Path(data.train.paths[0]).write_bytes(b"no picture")  # type: ignore[attr-defined]
    set_ = Data("tfds:x", data.labels, data.train, data.validation, data.test, data.fingerprint)
    with pytest.raises(UserError) as caught:
        training.train(set_, "lenet_bn", tmp_path / "run", recipe.load("default", SETTINGS))
    said = re.fullmatch(
        r"InvalidArgumentError: .*This is no JPEG, PNG, GIF, WebP or BMP file.* The full trace is in (\S+)\. "
        r"(No step was saved yet\. The same command begins again"
        r"|The state after step \d+ is saved\. The same command goes on)\.",
        str(caught.value),
    )
    assert said, str(caught.value)
    assert "Traceback" in Path(said[1]).read_text()


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.InvalidArgumentError, tf.errors.DataLossError])
def test_all_pictures_are_read_only_for_an_error_that_one_can_cause(
    kind: type[tf.errors.OpError], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data, run, shown = loading.load(str(photos)), Run(tmp_path / "run"), []
    run.checkpoints.mkdir(parents=True)
    lost = data.files[0].path
    before = lost.stat()
    lost.write_bytes(bytes(before.st_size))
    os.utime(lost, ns=(before.st_atime_ns, before.st_mtime_ns))  # its content alone tells

    def watch(items: Iterable[Any], count: int, what: str) -> Iterable[Any]:
        shown.append((count, what))
        return items

    with pytest.raises(UserError) as caught, failures.named(data, run, watch=watch):
        raise kind(None, None, "cuDNN launch failure")
    looks = (count := len(data.files), "Looking through the images again")
    if kind is tf.errors.InternalError:
        assert shown == [looks]
        assert str(caught.value).startswith("InternalError: cuDNN launch failure. ")
        assert str(caught.value).endswith(" No step was saved yet. The same command begins again.")
        return
    assert shown == [looks, looks]
    assert count == 99
    listed = run.checkpoints / "quarantine.txt"
    assert str(caught.value) == (
        f"{lost} was changed. No step was saved yet. Bring back what was there, and the same command begins again; "
        f"with --quarantine {listed} it begins again without."
    )


def test_a_list_of_a_training_may_name_what_is_gone_and_stays_where_it_was_given(photos: Path, tmp_path: Path) -> None:
    run, gone = Run(tmp_path / "run"), photos / "flower" / "gone.png"
    run.checkpoints.mkdir(parents=True)
    listed, copy = run.checkpoints / "quarantine.txt", tmp_path / "list.txt"
    for path in (listed, copy):
        path.write_text(f"{gone}\n{photos / 'flower' / '00.jpg'}\n")
    for path in (listed, copy):
        with pytest.raises(UserError, match=f"{path} names {gone}, which is no image of"):
            loading.load(str(photos), quarantine=path)
    run.classifier.write_text("{}")
    there = loading.load(str(photos), quarantine=listed)
    assert len(there.files) == 98
    # A run that begins with such a list, as the next member of an ensemble does, keeps it, and finds its data by it.
    for path in (listed, copy):
        begun = Run(tmp_path / f"begun with {path.name}")
        beginning.begin(begun, beginning.describe(there, "lenet_bn", recipe.load("default", SETTINGS)), there, path)
        assert loading.of_run(begun).fingerprint == there.fingerprint
    failures.forget(run.checkpoints, listed)
    assert listed.is_file()
    failures.forget(run.checkpoints, copy)
    assert not listed.exists()
    failures.forget(run.checkpoints, None)


def test_a_finished_run_needs_no_picture_that_is_lost(photos: Path, tmp_path: Path) -> None:
    data, run, listed = loading.load(str(photos)), Run(tmp_path / "run"), tmp_path / "list.txt"
    beginning.begin(run, beginning.describe(data, "lenet_bn", recipe.load("default", SETTINGS)), data, None)
    run.model.touch()
    lost = of_split(photos, "train")
    lost.unlink()
    listed.write_text(f"{lost}\n")
    there = loading.load(str(photos), quarantine=listed, told=run.split)
    with pytest.raises(UserError, match="1 image was removed"):
        continuing.as_begun(run, there, listed)
    run.metrics.touch()
    assert continuing.as_begun(run, there, listed).fingerprint == data.fingerprint
    with pytest.raises(UserError, match="1 image was removed"):
        continuing.as_begun(run, there, None)


def test_figures_of_all_pictures_stay_where_some_were_lost_since(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that was finished before there was a score of strangeness."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished_run.folder, run.folder)
    run.unknown.unlink()
    data, classifier, asked = loading.of_run(run), run.read_finished(), []
    monkeypatch.setattr(finishing, "_measure", lambda *given: asked.append(given))
    assert isinstance(data.test, FileSplit)
    fewer = FileSplit(data.test.paths[1:], data.test.labels[1:])
    assert not finishing.complete(dataclasses.replace(data, test=fewer), classifier, run, unwatched)
    assert not asked
    assert finishing.complete(data, classifier, run, unwatched)
    assert len(asked) == 1


@pytest.mark.slow
def test_within_a_step_a_fault_leaves_the_checkpoint_before(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some variables may have changed already."""

    def fail() -> None:
        raise tf.errors.InternalError(None, None, "Graph execution error:\n\ncuDNN launch failure")

    at_step(12, fail, monkeypatch)
    with pytest.raises(UserError, match=r"^InternalError: cuDNN launch failure\. .* The state after step 9 is saved\."):
        train(photos, tmp_path / "run")
