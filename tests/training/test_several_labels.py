"""Training on pictures with several labels each: what is learnt, kept, measured and said."""

import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from app import evaluation, recipe, run_folder, training
from app.commands import printing
from app.datasets import label_sets
from app.datasets.loading.named import load
from app.evaluation import evaluating, prediction, several_labels, strangeness
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import training_batches
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run, read_history
from app.training import finishing, members
from app.training.callbacks import epochs
from app.training.several_labels import SumOfBinaryCrossentropies

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def squares(root: Path, count: int = 120) -> Path:
    """Grey pictures with squares of up to three colours in them, and the manifest of which."""
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    lines = ["file,label"]
    for number in range(count):
        pixels = draw.integers(90, 160, (24, 24, 3), np.uint8)
        there = [name for name in COLOURS if draw.random() < 0.4]
        for place, name in zip(draw.permutation(4), there, strict=False):
            top, left = 12 * (place // 2), 12 * (place % 2)
            pixels[top : top + 10, left : left + 10] = COLOURS[name]
        Image.fromarray(pixels).save(root / f"{number:03}.png")
        lines.append(f"{number:03}.png,{'|'.join(there) or '|'}")
    (root / "squares.csv").write_text("\n".join(lines))
    return root / "squares.csv"


def test_the_loss_is_the_sum_of_binary_cross_entropies() -> None:
    draw = np.random.default_rng(2)
    logits, there = draw.normal(0, 3, (5, 4)), (draw.random((5, 4)) < 0.5).astype(float)
    for smoothing in (0.0, 0.2):
        wanted = []
        for row, truth in zip(logits, there, strict=True):
            targets = [one * (1 - smoothing) + smoothing / 2 for one in truth]
            chances = [1 / (1 + math.exp(-one)) for one in row]
            pairs = zip(targets, chances, strict=True)
            wanted.append(-sum(t * math.log(p) + (1 - t) * math.log(1 - p) for t, p in pairs))
        loss = SumOfBinaryCrossentropies(smoothing)
        assert float(loss(there, logits)) == pytest.approx(np.mean(wanted), rel=1e-5)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert float(again(there, logits)) == float(loss(there, logits))


@pytest.mark.slow
def test_batches_have_a_one_for_every_label_and_mix_them(tmp_path: Path) -> None:
    data = load(str(squares(tmp_path)))
    sets = {tuple(row) for row in label_sets.rows(data.label_sets, 3).tolist()}
    assert len(sets) == 8
    given = Preprocessing(height=8, width=8), recipe.load("default", ("batch_size=16",)), 3, 0
    (_, labels), *_ = training_batches(data.train, *given, kinds=data.label_sets).take(1)
    assert {tuple(row) for row in labels.numpy().tolist()} <= sets
    mixing = recipe.load("default", ("batch_size=16", "augmentation.mixup=0.4"))
    (_, mixed), *_ = training_batches(data.train, given[0], mixing, 3, 0, kinds=data.label_sets).take(1)
    other = np.roll(labels.numpy(), -1, axis=0)
    kept = (mixed.numpy() - other)[labels.numpy() != other] / (labels.numpy() - other)[labels.numpy() != other]
    assert 0 < kept[0] < 1
    np.testing.assert_allclose(kept, kept[0], rtol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("several")
    settings = ("epochs=12", "batch_size=8", "image_size=24", "optimizer.rate=0.1")
    return training.train(str(squares(folder / "data")), "lenet_bn", folder / "run", recipe.load("default", settings))


@pytest.mark.slow
def test_a_run_learns_which_labels_are_there(trained: Run) -> None:
    figures = json.loads(trained.metrics.read_text())
    assert figures["mean_average_precision"] > 0.9  # by chance it is the share of pictures with a label, 0.4
    assert figures["micro_f1"] > 0.8
    assert not {"top_1", "top_5", "ece", "confusion"} & {*figures}
    known = trained.read_classifier()
    assert (known.activation, len(known.thresholds)) == ("sigmoid", 3)
    assert {row["threshold"] for row in figures["per_class"].values()} == {*known.thresholds}
    assert "val_average_precision" in trained.history.read_text()
    report = trained.report.read_text()
    assert "mean average precision" in report
    assert "Confusion" not in report


@pytest.mark.slow
def test_what_is_finished_is_not_measured_again(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    known, written = trained.read_classifier(), trained.metrics.stat().st_mtime_ns
    assert known.data
    assert known.recipe
    assert strangeness.is_there(trained)
    training.train(known.data.name, "lenet_bn", trained.folder, known.recipe)
    assert "is finished; nothing to do." in " ".join(capsys.readouterr().err.split())
    finishing.complete_later(trained.folder, unwatched)
    assert trained.metrics.stat().st_mtime_ns == written


@pytest.mark.slow
def test_how_strange_pictures_are_is_told_of_several_labels_too(tmp_path: Path) -> None:
    settings = ("epochs=1", "batch_size=32", "image_size=24")
    run = training.train(str(squares(tmp_path, 400)), "lenet_bn", tmp_path / "run", recipe.load("default", settings))
    assert strangeness.read(run)
    figures = json.loads(run.metrics.read_text())
    assert 0 <= figures["unknown"]["refused"] < 0.5
    assert "refused as unknown" in run.report.read_text()
    asked = sorted(tmp_path.glob("*.png"))
    rows = [*prediction.predict(run.folder, asked, 1, unwatched, 20.0)]
    assert 0 < np.mean([row["unknown"] for row in rows]) < 0.3
    row = next(row for row in rows if row["unknown"])
    assert printing.answer(row | {"classes": [], "scores": []}) == "unknown (none of the labels)"


@pytest.mark.slow
def test_its_figures_are_those_of_its_own_answers(trained: Run) -> None:
    """By the network alone, thresholds fitted by trying all."""
    network, known = keras.models.load_model(trained.model, compile=False), trained.read_classifier()
    assert known.data
    data = load(known.data.name)
    scores, truth = {}, {}
    for split in ("validation", "test"):
        pictures = [file for file in data.files if file.split == split]
        prepared = [known.preprocessing(known.preprocessing.decode(file.path.read_bytes())) for file in pictures]
        scores[split] = network.predict(np.stack(prepared), verbose=0)
        truth[split] = np.array([[label in file.labels for label in data.labels] for file in pictures])
    assert ((scores["test"] > 0) & (scores["test"] < 1)).all()
    np.testing.assert_allclose(several_labels.fit(scores["validation"], truth["validation"]), known.thresholds, 1e-5)
    wanted = several_labels.metrics(scores["test"], truth["test"], data.labels, known.thresholds)
    again = evaluating.evaluate(trained.folder, None)
    for key in ("mean_average_precision", "macro_f1", "micro_f1", "loss"):
        assert again[key] == pytest.approx(wanted[key], abs=1e-5)
        assert json.loads(trained.metrics.read_text())[key] == pytest.approx(wanted[key], abs=1e-5)


@pytest.mark.slow
def test_predict_names_all_labels_that_reach_their_thresholds(trained: Run) -> None:
    known = trained.read_classifier()
    assert known.data
    files = sorted(Path(known.data.name).parent.glob("*.png"))[:30]
    found = prediction.predict(trained.folder, files, 1, unwatched)
    network = run_folder.load(trained.folder)
    counts = set()
    for file, row in zip(files, found, strict=True):
        image = known.preprocessing(known.preprocessing.decode(file.read_bytes()))
        scores = network.model.predict_on_batch(image[np.newaxis])[0]
        named = {
            label: score
            for label, score, least in zip(known.labels, scores, known.thresholds, strict=True)
            if score >= least
        }
        assert dict(zip(row["classes"], row["scores"], strict=True)) == pytest.approx(named)
        assert row["scores"] == sorted(row["scores"], reverse=True)
        counts.add(len(named))
    assert {0, 1, 2} <= counts


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(trained: Run, tmp_path: Path) -> None:
    """Bit by bit, the average precision that was half counted too, and the thresholds."""
    known = trained.read_classifier()
    assert known.data
    assert known.recipe
    wanted = known.recipe.model_copy(update={"checkpoint": recipe.Checkpoint(every=4)})
    count = epochs.EndEpochs.on_train_batch_end

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == 15:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(epochs.EndEpochs, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            training.train(known.data.name, "lenet_bn", tmp_path / "run", wanted)
    run = training.train(known.data.name, "lenet_bn", tmp_path / "run", wanted)
    assert run.read_classifier().thresholds == known.thresholds
    assert json.loads(run.metrics.read_text()) == json.loads(trained.metrics.read_text())
    for mine, theirs in zip(read_history(run.history), read_history(trained.history), strict=True):
        for key in ("loss", "average_precision", "val_loss", "val_average_precision"):
            assert mine[key] == theirs[key]


@pytest.mark.slow
def test_fine_tuning_begins_with_its_weights(trained: Run, tmp_path: Path) -> None:
    known = trained.read_classifier()
    assert known.data
    wanted = recipe.load("default", ("steps=1", "batch_size=8", "optimizer.rate=1e-9"))
    run = training.train(known.data.name, None, tmp_path / "run", wanted, start=trained.folder)
    first, second = (run_folder.load(one.folder).model.layers[1].weights[0] for one in (trained, run))
    np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-6)
    assert (run.read_classifier().activation, len(run.read_classifier().thresholds)) == ("sigmoid", 3)


@pytest.mark.slow
def test_a_label_that_no_validation_image_has_is_said_and_costs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = squares(tmp_path, 60)
    first, *lines = manifest.read_text().splitlines()
    splits = ["validation" if number % 4 == 0 and "red" not in line else "" for number, line in enumerate(lines)]
    splits = ["test" if number % 4 == 1 else split for number, split in enumerate(splits)]
    rows = [f"{line},{split or 'train'}" for line, split in zip(lines, splits, strict=True)]
    manifest.write_text("\n".join([f"{first},split", *rows]))
    run = training.train(
        str(manifest), "lenet_bn", tmp_path / "run", recipe.load("default", ("steps=2", "image_size=24"))
    )
    assert run.metrics.is_file()
    assert run.read_classifier().thresholds[2] == 0.5
    said = " ".join(capsys.readouterr().err.split())
    assert f"No validation image of {manifest} has the label 'red': the threshold of such" in said
    assert "is 0.5." in said


@pytest.mark.long
def test_auxiliary_heads_learn_the_same_labels(tmp_path: Path) -> None:
    manifest = squares(tmp_path / "data", 40)
    options = ("steps=2", "batch_size=2", "image_size=224", "width=0.05", "auxiliary=0.3", "label_smoothing=0.1")
    wanted = recipe.load("default", (*options, "weight_average=0.9", "augmentation.cutmix=1"))
    run = training.train(str(manifest), "googlenet", tmp_path / "run", wanted)
    (row,) = read_history(run.history)
    heads = 0.3 * (row["auxiliary_1_loss"] + row["auxiliary_2_loss"])
    assert row["total_loss"] == pytest.approx(row["loss"] + heads, rel=1e-4)
    assert 0 <= row["average_precision"] <= 1
    assert math.isfinite(json.loads(run.metrics.read_text())["loss"])
    assert len(keras.models.load_model(run.model, compile=False).outputs) == 1


def test_what_is_for_one_label_says_so(tmp_path: Path) -> None:
    manifest = squares(tmp_path / "data", 40)
    data = load(str(manifest))
    with pytest.raises(UserError, match="have several labels each, and an ensemble is for pictures with one"):
        members.train(2, data, "lenet_bn", tmp_path / "run", recipe.load("default"))
    known: dict[str, Any] = {
        "network": "lenet_bn",
        "arguments": {},
        "labels": data.labels,
        "preprocessing": Preprocessing(height=8, width=8),
        "recipe": None,
        "versions": {},
        "seed": 0,
        "data": None,
    }
    several = Classifier(**known, activation="sigmoid", thresholds=(0.5, 0.5, 0.5))
    with pytest.raises(UserError, match="names several labels a picture, and an ensemble is for one"):
        several.check_one_label("run", "an ensemble")
    Classifier(**known).check_one_label("run", "an ensemble")
    run = Run(tmp_path / "one")
    run.folder.mkdir()
    run.classifier.write_text(Classifier(**known).model_dump_json())
    run.model.touch()
    with pytest.raises(UserError, match=r"squares.csv have several labels, and the network of .*one names one"):
        evaluation.evaluate(run.folder, str(manifest))


@pytest.mark.parametrize("shown", ["accuracy", "average_precision"])
def test_figures_of_a_network_with_heads_are_named_as_those_of_one_without(shown: str) -> None:
    figures = {f"{prefix}{name}": 1.0 for prefix in ("", "val_") for name in ("loss", "predictions_loss")}
    figures |= {f"predictions_{shown}": 0.5, f"val_predictions_{shown}": 0.25}
    figures |= {"predictions_loss": 0.7, "val_predictions_loss": 0.8}
    epochs.NamePredictions().on_epoch_end(0, figures)
    assert figures == {
        **{"loss": 0.7, "val_loss": 0.8, "total_loss": 1.0, "val_total_loss": 1.0},
        **{shown: 0.5, f"val_{shown}": 0.25},
    }
