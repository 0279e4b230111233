"""A finished run that is trained for longer."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app import recipe, training
from app.datasets import loading
from app.datasets.files.image_files import FileSplit
from app.program.errors import UserError
from app.recipe import Schedule
from app.run_folder.folder import Run, read_history
from app.training import extending
from app.training.callbacks import epochs
from app.training.optimizers import Rate

TIMES = ("seconds", "images_per_second", "memory_mb")
STEPS = 9  # of an epoch


def copied(run: Run, to: Path) -> Run:
    shutil.copytree(run.folder, to)
    return Run(to)


def extended(run: Run, data: Path, **settings: Any) -> None:
    found = run.read_classifier().recipe
    assert found
    wanted = found.model_copy(update=settings)
    training.train(str(data), "lenet_bn", run.folder, wanted, extend=True)


def test_a_finished_run_goes_on_with_the_schedule_of_the_longer_one(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(finished_run, tmp_path / "run")
    before = run.model.read_bytes()
    rate = float(Rate(0.1, Schedule(), STEPS, 7 * STEPS)(6 * STEPS))
    extended(run, pictures, epochs=7)
    said = capsys.readouterr().err
    assert (
        f"{run.folder} goes on after epoch 6, up to 7. It will not be the run that trains 7 epochs from the beginning. "
        f"The cosine schedule had ended, at a rate of 0, and goes on where the longer one is by then, at {rate:.2g}.\n"
    ) in said
    assert "momentum" not in said
    assert f"Going on after step {6 * STEPS} of {7 * STEPS}" in said
    rows = read_history(run.history)
    assert rows[:6] == read_history(finished_run.history)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    found = run.read_classifier()
    assert found.extended == (6,)
    assert found.recipe
    assert found.recipe.epochs == 7
    assert (run.checkpoints / "epoch-6.keras").read_bytes() == before
    assert run.model.read_bytes() != before
    last = keras.models.load_model(run.checkpoints / "last.keras")
    assert int(last.optimizer.iterations) == 7 * STEPS
    assert run.metrics.stat().st_mtime_ns > finished_run.metrics.stat().st_mtime_ns
    assert not list(run.checkpoints.glob("step-*"))
    extended(run, pictures, epochs=7)
    assert "is finished; nothing to do" in capsys.readouterr().err


@pytest.mark.slow
def test_what_depends_on_no_length_is_continued_bit_by_bit(pictures: Path, tmp_path: Path) -> None:
    """The same as the longer run, although nobody is promised that."""
    settings = ("image_size=32", "batch_size=8", "dropout=0.3", "schedule.name=constant", "optimizer.rate=0.02")

    def train(to: Path, epochs: int, **options: Any) -> Run:
        wanted = recipe.load("default", (*settings, f"epochs={epochs}"))
        return training.train(str(pictures), "lenet_bn", to, wanted, **options)

    short, long = train(tmp_path / "short", 1), train(tmp_path / "long", 3)
    train(short.folder, 3, extend=True)
    ends = [keras.models.load_model(run.checkpoints / "last.keras") for run in (short, long)]
    for mine, theirs in zip(*([*end.weights, *end.optimizer.variables] for end in ends), strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=mine.path)
    histories = [
        [{key: value for key, value in row.items() if key not in TIMES} for row in read_history(run.history)]
        for run in (short, long)
    ]
    assert histories[0] == histories[1]


@pytest.mark.parametrize("killed", ["before the checkpoint", "after it"])
def test_an_extension_that_was_killed_at_its_beginning_begins_again(
    killed: str, finished_run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished_run, tmp_path / "run")

    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    class BegunError(Exception):
        """With the step."""

    def begun(_: object, step: int, *__: object) -> None:
        raise BegunError(step)

    with monkeypatch.context() as patched:
        where = ("app.training.checkpoints.checkpoint.write", "app.training.training.begin")
        patched.setattr(where[killed == "after it"], kill)
        with pytest.raises(KeyboardInterrupt):
            extended(run, pictures, epochs=7)
    assert (run.checkpoints / "epoch-6.keras").exists() == (killed == "after it")
    assert run.is_finished == (killed != "after it")
    with monkeypatch.context() as patched:
        patched.setattr(epochs.StopOnNonFinite, "__init__", begun)
        with pytest.raises(BegunError) as caught:
            extended(run, pictures, epochs=7)
    assert caught.value.args == (6 * STEPS,)


def test_a_momentum_that_was_chosen_from_the_length_is_said(
    finished_run: Run,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = copied(finished_run, tmp_path / "run")
    described = json.loads(run.classifier.read_text())
    described["recipe"]["batch_norm"]["momentum"] = "auto"
    described["recipe"]["schedule"]["name"] = "constant"
    described["arguments"]["momentum"] = 1 - 10 / (6 * STEPS)
    run.classifier.write_text(json.dumps(described))

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.training.training.fit", kill)
    with pytest.raises(KeyboardInterrupt):
        extended(run, pictures, epochs=12)
    said = capsys.readouterr().err
    assert "The momentum of batch normalisation, chosen from the length, was 0.8148 and is 0.9074.\n" in said
    assert "schedule had ended" not in said


def test_a_run_whose_epochs_had_other_steps_cannot_be_extended(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    """Pictures were lost at its end: eight are the batch that was the last of an epoch."""
    run, data = copied(finished_run, tmp_path / "run"), loading.load(str(pictures))
    assert isinstance(data.train, FileSplit)
    fewer = dataclasses.replace(data, train=FileSplit(data.train.paths[8:], data.train.labels[8:]))
    begun = run.read_classifier()
    assert begun.recipe
    wanted = begun.model_copy(update={"recipe": begun.recipe.model_copy(update={"epochs": 7})})
    words = f"{run.folder} was trained in epochs of {STEPS} steps, and its images are enough for {STEPS - 1} now"
    with pytest.raises(UserError, match=f"^{words}, so it cannot be extended: begin with its weights by --from "):
        extending.extend(run, begun, wanted, fewer)
    assert run.is_finished
    assert run.metrics.is_file()
    assert not list(run.checkpoints.glob("step-*"))


def test_what_has_no_last_epoch_cannot_be_extended(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    (run.checkpoints / "last.keras").unlink()
    with pytest.raises(UserError, match=r"has no checkpoints/last.keras, so it cannot be extended: .* --from"):
        extended(run, pictures, epochs=7)
    assert run.is_finished
    with pytest.raises(UserError, match="is no run that could be extended"):
        training.train(str(pictures), "lenet_bn", tmp_path / "new", recipe.load("default"), extend=True)
