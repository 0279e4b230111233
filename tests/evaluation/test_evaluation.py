"""The figures, against scikit-learn and against plain counting."""

import gc
import io
import json
import shutil
import tarfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import tensorflow_datasets as tfds
from PIL import Image

from app import evaluation, run_folder
from app.__main__ import main
from app.datasets import loading
from app.datasets.checks.checking import check
from app.datasets.prepared import published
from app.evaluation import calibration, evaluating
from app.networks import synsets
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from tests.makers.image_folders import picture
from tests.makers.untrained_runs import untrained

Array = np.ndarray[Any, Any]


def answers(count: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Probabilities that are right more often than not, and true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count)
    logits = rng.normal(0, 1, (count, classes))
    logits[np.arange(count), truth] += 1.0
    probabilities = np.exp(logits)
    return probabilities / probabilities.sum(axis=1, keepdims=True), truth


def names(classes: int) -> list[str]:
    return [f"class {i}" for i in range(classes)]


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 12])
def test_figures_are_those_of_scikit_learn(classes: int) -> None:
    probabilities, truth = answers(400, classes)
    found = evaluation.metrics(probabilities, truth, names(classes))
    best, labels = probabilities.argmax(axis=1), list(range(classes))
    assert found["count"] == 400
    assert found["top_1"] == pytest.approx(sklearn.metrics.accuracy_score(truth, best), abs=1e-12)
    balanced = sklearn.metrics.balanced_accuracy_score(truth, best)
    assert found["balanced_accuracy"] == pytest.approx(balanced, abs=1e-12)
    if classes > 5:
        wanted = sklearn.metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=labels)
        assert found["top_5"] == pytest.approx(wanted, abs=1e-12)
    assert found["loss"] == pytest.approx(sklearn.metrics.log_loss(truth, probabilities, labels=labels), abs=1e-12)
    assert found["confusion"] == sklearn.metrics.confusion_matrix(truth, best, labels=labels).tolist()
    report = sklearn.metrics.classification_report(
        truth, best, labels=labels, target_names=names(classes), output_dict=True, zero_division=0.0
    )
    assert list(found["per_class"]) == names(classes)
    for name, row in found["per_class"].items():
        right = report[name]
        assert row["count"] == right["support"]
        assert row["precision"] == pytest.approx(right["precision"], abs=1e-12)
        assert row["recall"] == pytest.approx(right["recall"], abs=1e-12)
        assert row["f1"] == pytest.approx(right["f1-score"], abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 12])
def test_figures_are_those_of_plain_counting(classes: int) -> None:
    probabilities, truth = answers(300, classes, seed=1)
    found = evaluation.metrics(probabilities, truth, names(classes))
    ranks = np.array([(row > row[label]).sum() for row, label in zip(probabilities, truth, strict=True)])
    assert found["top_1"] == pytest.approx(np.mean(ranks == 0), abs=1e-12)
    assert found["top_5"] == pytest.approx(np.mean(ranks < 5), abs=1e-12)
    assert found["loss"] == pytest.approx(-np.mean(np.log(probabilities[np.arange(300), truth])), abs=1e-12)
    confusion = np.zeros((classes, classes), int)
    for label, row in zip(truth, probabilities, strict=True):
        confusion[label, row.argmax()] += 1
    assert found["confusion"] == confusion.tolist()
    assert found["top_5"] == 1 if classes <= 5 else found["top_1"] < found["top_5"] < 1


def test_float32_answers_give_their_own_loss() -> None:
    probabilities, truth = answers(200, 4, seed=2)
    found = evaluation.metrics(probabilities.astype(np.float32), truth, names(4))
    assert found["loss"] == pytest.approx(-np.mean(np.log(probabilities[np.arange(200), truth])), rel=1e-6)


def test_a_class_that_is_never_true_or_never_guessed_has_figures_of_zero() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    found = evaluation.metrics(probabilities, np.array([0, 0, 1]), names(3))
    assert found["per_class"]["class 0"] == {"precision": 2 / 3, "recall": 1.0, "f1": 0.8, "count": 2}
    assert found["per_class"]["class 1"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 1}
    assert found["per_class"]["class 2"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "count": 0}
    assert found["confusion"] == [[2, 0, 0], [1, 0, 0], [0, 0, 0]]


def test_certain_mistakes_have_a_finite_loss() -> None:
    found = evaluation.metrics(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([1, 1]), names(2))
    assert np.isfinite(found["loss"])
    assert found["loss"] > 5
    assert json.loads(json.dumps(found)) == found


def test_predictions_come_in_the_order_of_the_split(finished_run: Run, pictures: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    split = loading.load(str(pictures)).train
    assert split.count > evaluating.BATCH
    assert split.count % evaluating.BATCH
    probabilities, truth = evaluating.predict(trained.model, split, trained.preprocessing)
    examples = list(split.in_order().as_numpy_iterator())
    assert truth.tolist() == [label for _, label in examples]
    assert probabilities.shape == (split.count, 3)
    for i in (0, 1, 31, 32, split.count - 1):
        image = trained.preprocessing(trained.preprocessing.decode(examples[i][0])).numpy()
        alone = trained.model.predict_on_batch(image[np.newaxis])[0]
        np.testing.assert_allclose(probabilities[i], alone, rtol=0, atol=1e-5)
    assert probabilities.std(axis=0).min() > 0.05, "all answers are the same: order cannot show"


def test_evaluating_a_run_gives_the_figures_of_its_training(finished_run: Run) -> None:
    assert evaluation.evaluate(finished_run.folder, None) == json.loads(finished_run.metrics.read_text())


def test_other_data_is_evaluated_on_its_own_test_images(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in ("digit", "flower", "temple"):
            shutil.copytree(pictures / label, tmp_path / split / label)
    for label in ("digit", "temple"):
        (tmp_path / "test" / label).mkdir(parents=True)
        shutil.copy(sorted((pictures / label).glob("*.png"))[0], tmp_path / "test" / label)
    found = evaluation.evaluate(finished_run.folder, str(tmp_path))
    assert found["count"] == 2
    assert {label: row["count"] for label, row in found["per_class"].items()} == {"digit": 1, "flower": 0, "temple": 1}


def test_other_labels_are_refused(finished_run: Run) -> None:
    with pytest.raises(UserError) as caught:
        evaluation.evaluate(finished_run.folder, "digits")
    assert "new: '0', '1', '2', '3', '4' and 5 more; missing: 'digit', 'flower', 'temple'" in str(caught.value)


def test_data_that_changed_since_the_training_is_refused_unless_asked_for(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    data, folder = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(pictures, data)
    shutil.copytree(finished_run.folder, folder)
    record = json.loads((folder / "classifier.json").read_text())
    record["data"] |= {"name": str(data), "place": None}
    (folder / "classifier.json").write_text(json.dumps(record))
    assert evaluation.evaluate(folder, None)["count"] == record["data"]["test"]
    sorted((data / "flower").iterdir())[0].unlink()
    with pytest.raises(UserError, match="changed since the training"):
        evaluation.evaluate(folder, None)
    assert evaluation.evaluate(folder, str(data))["count"] > 0


def test_answers_that_are_not_numbers_are_said_to_be_none(finished_run: Run, pictures: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    classifier = trained.model.get_layer("predictions")
    classifier.bias.assign(np.array([np.nan, 0, 0]))
    split = loading.load(str(pictures)).test
    with pytest.raises(UserError, match=rf"answers to {split.count} of {split.count} images are not numbers"):
        evaluating.predict(trained.model, split, trained.preprocessing)


# ---- calibration


def calibration_error(probabilities: Array, truth: Array) -> float:
    """1706.04599, equation 3, image by image."""
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(probabilities, truth, strict=True):
        best = max(range(len(row)), key=lambda j: row[j])
        place = next(m for m in range(1, 16) if row[best] <= m / 15 or m == 15)
        bins[place - 1].append((float(row[best]), best == label))
    total = 0.0
    for members in bins:
        if members:
            accuracy = sum(right for _, right in members) / len(members)
            confidence = sum(sure for sure, _ in members) / len(members)
            total += len(members) / len(truth) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_the_calibration_error_is_that_of_the_paper(classes: int) -> None:
    probabilities, truth = answers(500, classes, seed=3)
    found = evaluation.metrics(probabilities, truth, names(classes))
    assert found["ece"] == pytest.approx(calibration_error(probabilities, truth), abs=1e-12)
    assert found["ece"] > 0.01
    assert found["calibrated"] is None


def test_a_confidence_on_the_edge_of_two_bins_is_in_the_lower() -> None:
    # 0.6 is 9/15: together with 0.55 the errors of both would cancel out, and with 0.65 they do not.
    probabilities = np.array([[0.6, 0.4], [0.65, 0.35]])
    assert calibration.expected_error(probabilities, np.array([0, 1])) == pytest.approx((0.4 + 0.65) / 2, abs=1e-12)
    probabilities = np.array([[0.6, 0.4], [0.55, 0.45]])
    assert calibration.expected_error(probabilities, np.array([0, 1])) == pytest.approx((0.55 - 0.4) / 2, abs=1e-12)


def overconfident(count: int, classes: int, factor: float, seed: int = 4) -> tuple[Array, Array]:
    """Logits that are `factor` times as sure as the labels, which are drawn by their softmax, allow."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    truth = (logits + rng.gumbel(0, 1, (count, classes))).argmax(axis=1)
    return factor * logits, truth


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_is_by_how_much_the_logits_are_too_sure(factor: float) -> None:
    logits, truth = overconfident(20_000, 5, factor)
    found = calibration.fit(logits, truth)
    assert found == pytest.approx(factor, rel=0.03)

    def cross_entropy(temperature: float) -> float:
        return float(sklearn.metrics.log_loss(truth, softmax(logits / temperature)))

    assert all(cross_entropy(found) < cross_entropy(found * shift) for shift in (0.5, 0.99, 1.01, 2))
    slope = (cross_entropy(found * 1.001) - cross_entropy(found * 0.999)) / 0.002
    assert abs(slope) < 1e-5


def softmax(logits: Array) -> Array:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_a_temperature_changes_how_sure_and_not_what() -> None:
    logits, truth = overconfident(2000, 6, 3.0)
    probabilities = softmax(logits)
    temperature = calibration.fit(calibration.logarithms(probabilities.astype(np.float32)), truth)
    assert temperature == pytest.approx(calibration.fit(logits, truth), rel=1e-5)
    np.testing.assert_allclose(calibration.scaled(probabilities, 2.5), softmax(logits / 2.5), atol=1e-12)
    plain = evaluation.metrics(probabilities, truth, names(6))
    found = evaluation.metrics(probabilities, truth, names(6), temperature)
    calibrated = found.pop("calibrated")
    assert found == {key: plain[key] for key in plain if key != "calibrated"}
    assert set(calibrated) == {"temperature", "loss", "ece"}
    scaled = softmax(logits / temperature)
    assert calibrated["loss"] == pytest.approx(sklearn.metrics.log_loss(truth, scaled), abs=1e-12)
    assert calibrated["ece"] == pytest.approx(calibration_error(scaled, truth), abs=1e-12)
    assert calibrated["ece"] < 0.3 * found["ece"]
    assert calibrated["loss"] < found["loss"]


def test_answers_that_are_all_right_stay_as_sure_as_they_are() -> None:
    logits = np.eye(4) * 3
    assert calibration.fit(logits, np.arange(4)) == 1.0
    assert calibration.fit(logits, np.array([0, 1, 2, 0])) != 1.0


def test_certain_mistakes_have_a_temperature() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], np.float32)
    found = evaluation.metrics(
        certain, np.array([0, 1, 1]), names(2), calibration.fit(calibration.logarithms(certain), np.array([0, 1, 1]))
    )
    assert found["calibrated"]["temperature"] == pytest.approx(calibration.LIMITS[1], rel=1e-3)
    assert np.isfinite(found["calibrated"]["loss"])


def test_a_run_has_the_temperature_of_its_validation_images(finished_run: Run, pictures: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    validation = loading.load(str(pictures)).validation
    logits, truth = [], []
    for encoded, label in validation.in_order().as_numpy_iterator():
        image = trained.preprocessing(trained.preprocessing.decode(encoded)).numpy()
        logits.append(trained.logits_model.predict_on_batch(image[np.newaxis])[0])
        truth.append(label)
    found = json.loads(finished_run.metrics.read_text())
    wanted = calibration.fit(np.array(logits), np.array(truth))
    assert found["calibrated"]["temperature"] == pytest.approx(wanted, rel=1e-3)
    assert f"at temperature {found['calibrated']['temperature']:.3f}" in finished_run.report.read_text()


# ---- ensembles


LABELS = ("digit", "flower", "temple")


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_networks_of_different_sizes(
    finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    other = untrained(tmp_path / "other", 48, LABELS, like=finished_run)
    found = evaluation.evaluate(finished_run.folder, None, others=[other.folder], crops=10)
    test = loading.load(str(pictures)).test
    both = []
    for run in (finished_run, other):
        trained = run_folder.load(run.folder)
        probabilities, truth = evaluating.predict(trained.model, test, trained.preprocessing, crops=10)
        both.append(probabilities)
    wanted = evaluation.metrics((both[0] + both[1]) / 2, truth, LABELS)
    assert np.abs(both[0] - both[1]).max() > 0.1
    members = found.pop("members")
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    assert found["confusion"] == wanted["confusion"]
    assert found["calibrated"] is None, "no temperature was fitted to the mean"
    for member, run, probabilities in zip(members, (finished_run, other), both, strict=True):
        alone = evaluation.metrics(probabilities, truth, LABELS)
        assert member["run"] == str(run.folder)
        assert member["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert (member["top_1"], member["top_5"]) == (alone["top_1"], alone["top_5"])


def test_many_crops_are_not_calibrated_by_the_temperature_of_one(finished_run: Run) -> None:
    found = evaluation.evaluate(finished_run.folder, None, crops=12)
    assert found["calibrated"] is None
    assert found["count"] == json.loads(finished_run.metrics.read_text())["count"]
    with pytest.raises(UserError, match=r"--crops 11 is none of 1, 10, 12, 144\."):
        evaluation.evaluate(finished_run.folder, None, crops=11)


def test_one_network_at_a_time_is_in_memory(finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = untrained(tmp_path / "other", 32, LABELS, like=finished_run)
    loaded: list[weakref.ref[Any]] = []
    load = run_folder.load

    def watched(path: Path) -> Trained:
        assert [reference() for reference in loaded] == [None] * len(loaded)
        trained = load(path)
        loaded.append(weakref.ref(trained.model))
        return trained

    monkeypatch.setattr(run_folder, "load", watched)
    gc.disable()  # nothing but what the program does
    try:
        evaluation.evaluate(finished_run.folder, None, others=[other.folder])
    finally:
        gc.enable()
    assert len(loaded) == 2


def test_runs_with_different_labels_make_no_ensemble(finished_run: Run, tmp_path: Path) -> None:
    other = untrained(tmp_path / "other", 32, ("cat", "digit", "temple"), like=finished_run)
    with pytest.raises(UserError) as caught:
        evaluation.evaluate(finished_run.folder, None, others=[other.folder])
    assert str(caught.value) == (
        f"{other.folder} has other labels than {finished_run.folder} (new: 'cat'; missing: 'flower'); an ensemble "
        "needs the same labels."
    )


def test_an_unfinished_member_is_found_before_anything_is_computed(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = untrained(tmp_path / "other", 32, LABELS, like=finished_run)
    other.model.unlink()
    monkeypatch.setattr(run_folder, "load", lambda path: pytest.fail("a network was loaded"))
    with pytest.raises(UserError, match="other is not finished"):
        evaluation.evaluate(finished_run.folder, None, others=[other.folder])


def test_runs_of_different_data_need_a_name(finished_run: Run, tmp_path: Path) -> None:
    other = untrained(tmp_path / "other", 32, LABELS, like=finished_run)
    record = json.loads(other.classifier.read_text())
    record["data"] |= {"name": "elsewhere", "place": None}
    other.classifier.write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"was trained on .*pictures and .*other on elsewhere; name the data with --data"
    ):
        evaluation.evaluate(finished_run.folder, None, others=[other.folder])
    imported = untrained(tmp_path / "imported", 32, LABELS)
    with pytest.raises(UserError, match="imported was imported and has no data of its own"):
        evaluation.evaluate(finished_run.folder, None, others=[imported.folder])


def test_labels_are_found_by_name(finished_run: Run, tmp_path: Path) -> None:
    turned = Run(tmp_path / "turned")
    shutil.copytree(finished_run.folder, turned.folder)
    order = [2, 0, 1]
    trained = run_folder.load(turned.folder)
    classifier = trained.model.get_layer("predictions")
    classifier.set_weights([weight[..., order] for weight in classifier.get_weights()])
    trained.model.save(turned.model)
    record = json.loads(turned.classifier.read_text())
    record["labels"] = [LABELS[i] for i in order]
    turned.classifier.write_text(json.dumps(record))
    found, wanted = evaluation.evaluate(turned.folder, None), json.loads(finished_run.metrics.read_text())
    assert found["confusion"] == wanted["confusion"]
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    assert list(found["per_class"]) == list(LABELS)


def test_the_command_prints_every_member_and_the_temperature(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    listing = tmp_path / "list"
    listing.write_text("1")
    figures = evaluation.metrics(*answers(50, 3), LABELS, temperature=1.5)
    members = [{"run": f"runs/{name}", "top_1": 0.5, "top_5": 1.0, "loss": 0.75} for name in ("one", "two")]

    def evaluate(folder: Path, data_name: str | None, watch: object, **options: Any) -> dict[str, Any]:
        asked.append((folder, data_name, options))
        return {**figures, "members": members}

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    run = finished_run.folder
    arguments = ["evaluate", str(run), str(run), "--data", "digits", "--crops", "144", "--leave-out", str(listing)]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert asked == [(run, "digits", {"others": [run], "crops": 144, "leave_out": listing})]
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"runs/{name} alone: top-1 0.5000  loss 0.7500" for name in ("one", "two")]
    error = f"balanced accuracy {figures['balanced_accuracy']:.4f}  calibration error {figures['ece']:.4f}"
    assert lines[2].endswith(f"loss {figures['loss']:.4f}  {error}  on 50 images, 144 crops of each")
    assert lines[3].startswith(f"at temperature 1.500: loss {figures['calibrated']['loss']:.4f}  calibration error ")
    assert [line.startswith("preprocessing: 32 x 32 RGB") for line in lines[4:6]] == [True, True]


# ---- networks that were imported, and ImageNet

# The first validation images and their synsets, as everybody who unpacks them by hand knows them.
SYNSETS = ("n01751748", "n09193705", "n02105855", "n04263257", "n03125729")


def validation_image(folder: Path, number: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ILSVRC2012_val_{number:08}.JPEG"
    with Image.open(io.BytesIO(picture(number))) as image:
        image.convert("RGB").resize((40, 30)).save(path, "JPEG")
    return path


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The first five validation images, as the tar has them."""
    for number in range(1, 6):
        validation_image(tmp_path / "unpacked", number)
    (tmp_path / "unpacked" / "readme.txt").write_text("from image-net.org")
    return tmp_path / "unpacked"


def test_unpacked_validation_images_are_labelled_by_their_number(unpacked: Path, tmp_path: Path) -> None:
    labels = ("background", *synsets.synsets())  # as TF-slim trains; no image has the first
    run = untrained(tmp_path / "run", 32, labels)
    found = evaluation.evaluate(run.folder, str(unpacked))
    assert found["count"] == 5
    assert len(found["per_class"]) == 1000
    assert {label for label, row in found["per_class"].items() if row["count"]} == set(SYNSETS)
    trained, losses = run_folder.load(run.folder), []
    for number, synset in enumerate(SYNSETS, start=1):
        encoded = (unpacked / f"ILSVRC2012_val_{number:08}.JPEG").read_bytes()
        image = trained.preprocessing(trained.preprocessing.decode(encoded)).numpy()
        scores = trained.model.predict_on_batch(image[np.newaxis])[0].astype(np.float64)
        losses.append(-np.log(scores[labels.index(synset)] / scores[-1000:].sum()))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_number_that_no_validation_image_has_is_refused(unpacked: Path, tmp_path: Path) -> None:
    path = validation_image(unpacked, 50_001)
    run = untrained(tmp_path / "run", 32, synsets.synsets())
    with pytest.raises(UserError, match=f"{path} is no validation image of ImageNet: their numbers are 1 to 50000"):
        evaluation.evaluate(run.folder, str(unpacked))


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Validation images in folders of three synsets, four of each."""
    for i in range(12):
        validation_image(tmp_path / "validation" / SYNSETS[i % 3], 100 + i)
    return tmp_path / "validation"


def test_all_images_count_for_a_network_that_has_seen_none(class_folders: Path, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", 32, SYNSETS[:3])  # whose order is not that of the folders
    assert sorted(SYNSETS[:3]) != list(SYNSETS[:3])
    found = evaluation.evaluate(run.folder, str(class_folders))
    assert found["count"] == 12
    assert {label: row["count"] for label, row in found["per_class"].items()} == dict.fromkeys(SYNSETS[:3], 4)
    (class_folders.parent / "data").mkdir()
    shutil.copytree(class_folders, class_folders.parent / "data" / "val")
    shutil.copytree(class_folders, class_folders.parent / "data" / "train")
    with_splits = evaluation.evaluate(run.folder, str(class_folders.parent / "data"))
    assert with_splits["count"] == 12
    shutil.rmtree(class_folders.parent / "data" / "val")
    with pytest.raises(UserError, match="has only training images; add a folder 'test' or 'validation' beside them"):
        evaluation.evaluate(run.folder, str(class_folders.parent / "data"))


def test_class_folders_of_another_network_are_refused(class_folders: Path, tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", 32, SYNSETS[1:4])
    with pytest.raises(UserError) as caught:
        evaluation.evaluate(run.folder, str(class_folders))
    assert str(caught.value) == (
        f"{class_folders} has other labels than {run.folder} was trained on (new: 'n01751748'; missing: 'n04263257'); "
        "name data of the same classes with --data."
    )


def test_data_without_labels_are_refused(finished_run: Run, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(picture(0))
    for run in (finished_run, untrained(tmp_path / "run", 32, LABELS)):
        with pytest.raises(UserError, match="pictures has no class folders: put the images of each class into"):
            evaluation.evaluate(run.folder, str(tmp_path / "pictures"))


def test_a_list_of_names_or_numbers_is_left_out(
    class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained(tmp_path / "run", 32, SYNSETS[:3])
    listing = tmp_path / "black list.txt"
    listing.write_text(f"100\n\nILSVRC2012_val_00000101.JPEG\r\n{SYNSETS[2]}/ILSVRC2012_val_00000102.JPEG\n7\n")
    found = evaluation.evaluate(run.folder, str(class_folders), leave_out=listing)
    assert {label: row["count"] for label, row in found["per_class"].items()} == dict.fromkeys(SYNSETS[:3], 3)
    assert f"3 images left out, as {listing} says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "data", "words"),
    [
        (None, "", "cannot be read: No such file"),
        ("7\n8\n", "", "names no image of"),
        ("\n".join(str(number) for number in range(100, 112)), "", "names every image of"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(
    content: str | None, data: str, words: str, class_folders: Path, tmp_path: Path
) -> None:
    run = untrained(tmp_path / "run", 32, SYNSETS[:3])
    if content is not None:
        (tmp_path / "list").write_text(content)
    with pytest.raises(UserError, match=words):
        evaluation.evaluate(run.folder, data or str(class_folders), leave_out=tmp_path / "list")


def test_what_are_no_files_cannot_be_left_out(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", 32, tuple("0123456789"))
    (tmp_path / "list").write_text("1\n")
    with pytest.raises(UserError, match="digits has no files to leave out"):
        evaluation.evaluate(run.folder, "digits", leave_out=tmp_path / "list")


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path / "catalogue"))
    return tmp_path / "catalogue"


def test_check_says_which_files_of_imagenet_are_missing_and_where(catalogue: Path) -> None:
    manual = catalogue / "downloads" / "manual"
    with pytest.raises(UserError) as caught:
        check("tfds:imagenet2012")
    assert str(caught.value) == (
        "tfds:imagenet2012 needs ILSVRC2012_img_train.tar (missing) and ILSVRC2012_img_val.tar (missing) in the folder "
        f"{manual}; whoever registers can download them from https://image-net.org/download-images."
    )
    manual.mkdir(parents=True)
    (manual / "ILSVRC2012_img_val.tar").write_bytes(b"begun")
    with pytest.raises(UserError, match=r"ILSVRC2012_img_val\.tar \(5 of 6,744,924,160 bytes are there\)"):
        check("tfds:imagenet2012")


def test_an_imported_network_needs_nothing_but_the_validation_images(
    catalogue: Path, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = untrained(tmp_path / "run", 32, synsets.synsets())
    with pytest.raises(UserError, match=r"tfds:imagenet2012 needs ILSVRC2012_img_val\.tar \(missing\) in the folder"):
        evaluation.evaluate(run.folder, "tfds:imagenet2012")
    manual = catalogue / "downloads" / "manual"
    manual.mkdir(parents=True)
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as archive:
        for path in sorted(unpacked.glob("*.JPEG")):
            archive.add(path, path.name)
    sizes = {"train": ("ILSVRC2012_img_train.tar", 1), "validation": ("ILSVRC2012_img_val.tar", 1)}
    monkeypatch.setitem(published.MANUAL, "imagenet2012", sizes)
    found = evaluation.evaluate(run.folder, "tfds:imagenet2012")
    wanted = evaluation.evaluate(run.folder, str(unpacked))
    assert found["count"] == 5
    assert found["per_class"] == wanted["per_class"]
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-6)
    with pytest.raises(UserError, match=r"was prepared without all it needs: remove .* and put ILSVRC2012_img_train"):
        loading.load("tfds:imagenet2012")
