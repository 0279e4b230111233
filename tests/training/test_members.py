"""The recipes of an ensemble's members, and what they begin with."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from app import recipe
from app.__main__ import app
from app.datasets import loading
from app.datasets.dataset import Data
from app.datasets.files import manifests
from app.datasets.files.image_files import FileSplit
from app.program.errors import UserError
from app.recipe import Recipe
from app.run_folder.folder import Run
from app.training import beginning, members, training
from models import NETWORKS
from tests.makers.untrained_runs import untrained


def test_members_differ_in_seed_dropout_and_initial_weights_as_the_paper_says() -> None:
    wanted = recipe.load("default", ("seed=7", "epochs=3"))
    found = members.recipes(wanted, 6)
    assert [each.seed for each in found] == [7, 8, 9, 10, 11, 12]
    assert {each.dropout for each in found} == {0.05, 0.1}
    pairs = [(each.dropout, each.initial_weights) for each in found]
    assert len(set(pairs[:4])) == 4
    assert pairs[4:] == pairs[:2]
    same = {"seed": 7, "dropout": None, "initial_weights": 1.0}
    assert all(each.model_copy(update=same) == wanted for each in found)


def test_initial_weights_scale_the_kernels_of_convolutions_alone() -> None:
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3)
    before = {weight.path: weight.numpy() for weight in model.weights}
    beginning.scale_kernels(model, 1.5)
    for layer in model.layers:
        for weight in layer.weights:
            scaled = isinstance(layer, keras.layers.Conv2D) and weight.name == "kernel"
            np.testing.assert_allclose(weight.numpy(), before[weight.path] * (1.5 if scaled else 1.0), rtol=1e-6)


def test_members_are_trained_one_after_the_other_in_folders_of_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Data, Path, Recipe]] = []
    loads: list[str] = []

    def load(name: str, *_: object) -> Data:
        loads.append(name)
        return data

    def train_one(data: Data, network: str, folder: Path, each: Recipe, *_: object) -> Run:
        trained.append((data, folder, each))
        return Run(folder)

    none = FileSplit((), ())
    data = Data("photos", (), none, none, none, "")
    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(training, "train", train_one)
    found = members.train(3, "photos", "lenet_bn", tmp_path, Recipe(seed=3))
    assert [run.folder for run in found] == [tmp_path / number for number in ("1", "2", "3")]
    recipes = members.recipes(Recipe(seed=3), 3)
    assert trained == [(data, run.folder, each) for run, each in zip(found, recipes, strict=True)]
    assert loads == ["photos"], "once for all"


def test_a_picture_that_vanished_while_members_were_trained_can_be_left_out(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, members_, listed = tmp_path / "photos", tmp_path / "members", tmp_path / "list.txt"
    shutil.copytree(pictures, photos)
    before = loading.load(str(photos))
    (members_ / "2").mkdir(parents=True)
    manifests.write(members_ / "2" / "split.csv", before.files, before.known)
    lost = before.files[0].path
    lost.unlink()
    listed.write_text(f"{lost}\n")
    trained: list[Data] = []

    def train_one(data: Data, network: str, folder: Path, *_: object) -> Run:
        trained.append(data)
        return Run(folder)

    monkeypatch.setattr(training, "check", lambda *_: "lenet_bn")
    monkeypatch.setattr(training, "train", train_one)
    members.train(2, str(photos), "lenet_bn", members_, Recipe(), quarantine=listed)
    assert [len(data.files) for data in trained] == [len(before.files) - 1] * 2


def test_a_member_of_another_recipe_is_found_before_any_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("the data is read"))
    first = untrained(tmp_path / "2", 32, ("a", "b"))
    with pytest.raises(UserError, match=f"{first.folder} holds a run with another recipe"):
        members.train(3, "photos", "lenet_bn", tmp_path, Recipe(seed=3))


def test_members_do_not_go_into_a_run(tmp_path: Path) -> None:
    (tmp_path / "classifier.json").write_text("{}")
    arguments = ["train", "digits", "--network", "lenet_bn", "--to", str(tmp_path), "--members", "2"]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UserError)
    assert "is a run; choose another --to for 2 of them" in str(done.exception)


@pytest.mark.slow
def test_an_ensemble_is_trained_by_one_command(pictures: Path, tmp_path: Path) -> None:
    settings = ["--set", "image_size=32", "--set", "batch_size=8", "--set", "steps=2"]
    arguments = ["train", str(pictures), "--network", "lenet_bn", "--to", str(tmp_path), "--members", "2", *settings]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("top-1") == 2
    assert f"evaluate {tmp_path / '1'} {tmp_path / '2'}" in done.stdout
    for number, dropout in (("1", 0.05), ("2", 0.1)):
        found = Run(tmp_path / number).read_classifier().recipe
        assert found is not None
        assert found.dropout == dropout
