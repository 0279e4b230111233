"""Cross-validation by one command."""

import json
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app import run_folder
from app.__main__ import app
from app.datasets import loading
from app.datasets.dataset import Data
from app.evaluation import wrong_labels
from app.images.view import read
from app.program.errors import UserError
from app.recipe import Recipe
from app.recipe import load as load_recipe
from app.run_folder import out_of_fold
from app.run_folder.folder import Run
from app.training import folds, training
from app.training.beginning import describe
from tests.makers.untrained_runs import untrained

SETTINGS = ("image_size=32", "batch_size=8", "steps=2")


def arguments(data: object, to: Path, *more: str) -> list[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["train", str(data), "--network", "lenet_bn", "--to", str(to), *settings, *more]


@pytest.mark.slow
def test_folds_are_trained_by_one_command_and_their_mean_and_deviation_are_said(pictures: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, arguments(pictures, tmp_path / "folds", "--folds", "3"))
    assert done.exit_code == 0, done.output
    whole = loading.load(str(pictures))
    untouched = {str(file.path) for file in whole.files if file.split == "test"}
    assert f"No fold has seen the {len(untouched)} test images" in done.stdout
    runs = [Run(tmp_path / "folds" / number) for number in "123"]
    answers = [out_of_fold.read(run.out_of_fold) for run in runs]
    seen = [file for one in answers for file in one.files]
    assert sorted(seen) == sorted(str(file.path) for file in whole.files if file.split != "test")
    tops = []
    for run, one in zip(runs, answers, strict=True):
        trained = run_folder.load(run.folder)
        assert one.classes == trained.labels == whole.labels
        assert one.labels == tuple(Path(file).parent.name for file in one.files)
        trained_on = {line.split(",")[0] for line in run.split.read_text().splitlines() if ",test," not in line}
        assert trained_on.isdisjoint({*one.files} | untouched)
        images = np.stack([read(Path(file), trained.preprocessing).image for file in one.files])
        np.testing.assert_allclose(one.probabilities, trained.model.predict(images, verbose=0), atol=1e-5)
        right = [one.classes[row.argmax()] == label for row, label in zip(one.probabilities, one.labels, strict=True)]
        tops.append(float(np.mean(right)))
    found = json.loads((tmp_path / "folds" / "folds.json").read_text())
    assert [fold["top_1"] for fold in found["folds"]] == pytest.approx(tops)
    mean, deviation = statistics.fmean(tops), statistics.stdev(tops)
    assert (found["mean"]["top_1"], found["deviation"]["top_1"]) == pytest.approx((mean, deviation))
    assert f"top-1 {mean:.4f} ± {deviation:.4f}" in done.stdout
    assert f"{mean:.4f}</td>" in (tmp_path / "folds" / "report.html").read_text()
    # The same command finds all done, but for what is missing.
    before = {run.model: run.model.stat().st_mtime_ns for run in runs}
    runs[1].out_of_fold.unlink()
    again = CliRunner().invoke(app, arguments(pictures, tmp_path / "folds", "--folds", "3"))
    assert again.exit_code == 0, again.output
    assert {run.model: run.model.stat().st_mtime_ns for run in runs} == before
    np.testing.assert_allclose(out_of_fold.read(runs[1].out_of_fold).probabilities, answers[1].probabilities, rtol=1e-6)
    # Their untouched test images are what the folds together are evaluated on.
    evaluated = CliRunner().invoke(app, ["evaluate", str(tmp_path / "folds"), "--data", str(pictures)])
    assert evaluated.exit_code == 0, evaluated.output
    assert "trained on" not in evaluated.output


def test_folds_of_another_number_or_of_other_data_do_not_go_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided: list[Data] = []

    def train_one(data: Data, *_: object) -> Run:
        divided.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", train_one)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            folds.train(3, str(pictures), "lenet_bn", tmp_path, Recipe())
    assert divided[0].fingerprint == divided[1].fingerprint
    with pytest.raises(UserError, match=f"{tmp_path} holds folds of other data than .*, or another number of them"):
        folds.train(4, str(pictures), "lenet_bn", tmp_path, Recipe())


def test_a_class_folder_that_would_be_two_labels_in_a_manifest_is_refused(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "digit").rename(tmp_path / "photos" / "digit|number")
    refused = r"'digit\|number' of .* would be several labels in the manifest that {} writes, .*: rename its folder"
    with pytest.raises(UserError, match=refused.format("--folds")):
        folds.train(3, str(tmp_path / "photos"), "lenet_bn", tmp_path / "folds", Recipe())
    assert not (tmp_path / "folds").exists()
    with pytest.raises(UserError, match=refused.format("--with")):
        wrong_labels.find(str(tmp_path / "photos"), untrained(tmp_path / "run", 32, ("a", "b")).folder)


def test_several_labels_a_picture_are_refused_before_anything_is_written(pictures: Path, tmp_path: Path) -> None:
    files = sorted(path for path in pictures.rglob("*") if path.is_file())
    labels = ("a|b", "a", "b")
    lines = "".join(f"{file},{labels[place % 3]}\n" for place, file in enumerate(files))
    (tmp_path / "several.csv").write_text("file,label\n" + lines)
    with pytest.raises(UserError, match=r"--folds is for one label a picture, and in .*several[.]csv some"):
        folds.train(3, str(tmp_path / "several.csv"), "lenet_bn", tmp_path / "folds", Recipe())
    assert not (tmp_path / "folds").exists()
    with pytest.raises(UserError, match=r"--with judges one label a picture, and in .*several[.]csv some"):
        wrong_labels.find(str(tmp_path / "several.csv"), untrained(tmp_path / "run", 32, ("a", "b")).folder)


def test_what_is_measured_is_measured_once_for_all_folds(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def train_one(data: Data, network: str, folder: Path, recipe: Recipe, *_: object) -> Run:
        asked.append(recipe.batch_size or "auto")
        if len(asked) in (3, 6):
            raise KeyboardInterrupt
        automatic = () if recipe.batch_size else ("batch_size",)
        found = describe(data, network, recipe.model_copy(update={"batch_size": recipe.batch_size or 16}))
        folder.mkdir(parents=True, exist_ok=True)
        if not Run(folder).classifier.is_file():
            content = found.model_copy(update={"automatic": automatic}).model_dump_json()
            Run(folder).classifier.write_text(content)
        return Run(folder)

    monkeypatch.setattr(training, "train", train_one)
    monkeypatch.setattr(folds, "_keep_answers", lambda *_: None)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            folds.train(3, str(pictures), "lenet_bn", tmp_path, load_recipe("default", ("batch_size=auto",)))
    assert asked == ["auto", 16, 16, 16, 16, 16]


@pytest.mark.parametrize(
    ("data", "more", "why"),
    [
        ("digits", ("--folds", "3"), "digits has no files that could be divided"),
        ("photos", ("--folds", "3", "--members", "2"), "--members and --folds are two ways"),
    ],
)
def test_folds_of_what_cannot_be_divided_are_refused(
    tmp_path: Path, data: str, more: tuple[str, ...], why: str
) -> None:
    done = CliRunner().invoke(app, arguments(data, tmp_path / "folds", *more))
    assert isinstance(done.exception, UserError)
    assert why in str(done.exception)
    assert not (tmp_path / "folds").exists()


def test_answers_that_were_kept_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Also a class with a comma, and one that is called as a column is."""
    rows = np.array([[0.1, 0.2, 0.7], [1e-9, 1.0, 0.0]], np.float32)
    answers = out_of_fold.Answers(("/a,b.png", "/c.png"), ("label", "x, y"), ("file", "label", "x, y"), rows)
    out_of_fold.write(tmp_path / "answers.csv", answers)
    found = out_of_fold.read(tmp_path / "answers.csv")
    assert found[:3] == answers[:3]
    np.testing.assert_array_equal(np.float32(found.probabilities), rows)
    (tmp_path / "answers.csv").write_text("file,label,a\n/a.png,a,much\n")
    with pytest.raises(UserError, match=r"answers\.csv is damaged"):
        out_of_fold.read(tmp_path / "answers.csv")
