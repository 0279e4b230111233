"""A classifier that begins with what another knows of the classes that both have."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from app import recipe, run_folder, training
from app.datasets import loading
from app.program.progress import unwatched
from app.run_folder.folder import Run
from app.training import fine_tuning, old_classes
from models import NETWORKS
from tests.makers.untrained_runs import untrained


def test_before_any_step_the_logits_of_the_old_classes_are_those_of_the_old_network(tmp_path: Path) -> None:
    """In float64, from the features of the old network and its own kernel and bias; the classes stand elsewhere."""
    start = untrained(tmp_path / "start", 16, ("ants", "bees", "wasps"))
    rng = np.random.default_rng(0)
    before = run_folder.load(start.folder).model
    last = before.get_layer("predictions")
    last.set_weights([rng.normal(size=weight.shape) for weight in last.get_weights()])
    before.save(start.model)
    labels = ("bees", "crickets", "wasps", "ants")
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=4, classifier_activation=None)
    new = model.get_layer("predictions").get_weights()[0][:, 1].copy()
    assert "predictions" in fine_tuning.take_weights(model, start.folder, labels)
    images = rng.uniform(-1, 1, (5, 16, 16, 3)).astype(np.float32)
    features = keras.Model(before.input, last.input).predict(images, verbose=0).astype(np.float64)
    kernel, bias = (weight.astype(np.float64) for weight in last.get_weights())
    expected = features @ kernel + bias
    logits = model.predict(images, verbose=0)
    for here, there in ((0, 1), (2, 2), (3, 0)):
        np.testing.assert_allclose(logits[:, here], expected[:, there], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.get_layer("predictions").get_weights()[0][:, 1], new)


def test_which_classes_are_kept_new_and_gone_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    start = untrained(tmp_path / "start", 16, ("ants", "bees", "wasps")).folder
    old_classes.say(start, ("ants", "bees", "crickets"))
    expected = f"The classifier begins with what {start} knows of 2 classes; new: 'crickets'; gone: 'wasps'"
    assert expected in capfd.readouterr().err
    old_classes.say(start, ("cats", "dogs"))
    assert capfd.readouterr().err == ""


def without(pictures: Path, label: str, to: Path) -> Path:
    shutil.copytree(pictures, to, ignore=lambda _, names: [name for name in names if name == label])
    return to


@pytest.mark.slow
def test_how_much_the_old_classes_lost_is_measured_on_their_own_test_images(
    finished_run: Run, pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`digit` and `temple` of three are kept, `sky` is new; it has the pictures of `flower`."""
    photos = without(pictures, "flower", tmp_path / "photos")
    shutil.copytree(pictures / "flower", photos / "sky")
    wanted = recipe.load("default", ("steps=3", "batch_size=8", "optimizer.rate=0.05"))
    run = training.train(str(photos), None, tmp_path / "run", wanted, unwatched, finished_run.folder)
    found = json.loads(run.old_classes.read_text())
    test = [file for file in loading.load(str(pictures)).files if file.split == "test" and file.label != "flower"]
    said = {}
    for when, folder in (("before", finished_run.folder), ("after", run.folder)):
        trained = run_folder.load(folder)
        decode = trained.preprocessing.decode
        images = np.stack([trained.preprocessing(decode(file.path.read_bytes())).numpy() for file in test])
        said[when] = [trained.labels[i] for i in trained.model.predict(images, verbose=0).argmax(axis=1)]
        right = [one == file.label for one, file in zip(said[when], test, strict=True)]
        assert found[when] == pytest.approx(np.mean(right))
        for label in ("digit", "temple"):
            of_label = [one for one, file in zip(right, test, strict=True) if file.label == label]
            assert found["classes"][label][when] == pytest.approx(np.mean(of_label))
            assert found["classes"][label]["count"] == len(of_label)
    assert {*found["classes"]} == {"digit", "temple"}
    assert (found["count"], found["taken_for_new"]) == (len(test), said["after"].count("sky"))
    printed = capfd.readouterr().err
    assert "new: 'sky'; gone: 'flower'" in printed
    assert f"{found['before']:.1%} were named right before, and {found['after']:.1%} are now" in printed
    assert "Old classes" in run.report.read_text()
    assert "Old classes" not in finished_run.report.read_text()


@pytest.mark.slow
def test_old_data_that_is_gone_is_said_and_no_failure(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """And old test images that were trained on are not counted."""
    photos = shutil.copytree(pictures, tmp_path / "photos")
    wanted = recipe.load("default", ("steps=1", "batch_size=8", "image_size=32"))
    start = training.train(str(photos), "lenet_bn", tmp_path / "start", wanted, unwatched)
    data = loading.load(str(photos))
    moved = [file for file in data.files if file.split == "test"][:3]
    manifest = tmp_path / "moved.csv"
    with manifest.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label", "split"))
        rows.writerows((one.path, one.label, "train" if one in moved else one.split) for one in data.files)
    wanted = recipe.load("default", ("steps=1", "batch_size=8"))
    run = training.train(str(manifest), None, tmp_path / "run", wanted, unwatched, start.folder)
    found = json.loads(run.old_classes.read_text())
    shown = {file.path: known.picture for file, known in zip(data.files, data.known, strict=True)}
    held = [shown[file.path] for file in data.files if file.split == "test"]
    assert found["trained_on"] == sum(one in {shown[file.path] for file in moved} for one in held) >= 3
    assert found["count"] == len(held) - found["trained_on"]
    capfd.readouterr()
    shutil.copytree(photos, tmp_path / "copy")
    shutil.rmtree(photos)
    later = training.train(str(tmp_path / "copy"), None, tmp_path / "later", wanted, unwatched, start.folder)
    assert later.metrics.is_file()
    assert not later.old_classes.exists()
    assert (
        f"How well the classes of {start.folder} are still known was not measured. {photos}" in capfd.readouterr().err
    )
