"""Training: what goes into a step, what comes out as a run folder, and going on after a stop."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import evaluation, recipe, run_folder, training
from app.batch_norm import repair
from app.datasets import loading
from app.datasets.dataset import Data
from app.datasets.files.image_files import FileSplit
from app.evaluation import evaluating
from app.images.decoding import decode
from app.images.preprocessing import Preprocessing
from app.pipeline import augmentation, input_pipeline
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Augmentation, Recipe
from app.run_folder import folder
from app.run_folder.classifier import Classifier, DataRecord
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden
from app.training import beginning, finishing, optimizers
from app.training.callbacks import epochs, progress
from app.training.callbacks.live_report import LiveReport
from app.training.checkpoints import checkpoint, saving
from app.training.checkpoints.checkpoint import State
from models import NETWORKS

Array = np.ndarray[Any, Any]
TIMES = ("seconds", "images_per_second", "memory_mb")  # what is another in every run
# All that a continued run could lose: momentum, dropout's seeds, augmentation's keys, the place in the schedule.
LONG = (
    "epochs=3",
    "image_size=32",
    "batch_size=8",
    "dropout=0.3",
    "label_smoothing=0.1",
    "optimizer.nesterov=true",
    "optimizer.weight_decay=1e-3",
    "schedule.warmup=1",
    "augmentation.flip=true",
    "augmentation.crop_area=0.5",
    "augmentation.colour=fast",
    "augmentation.mixup=0.2",
    "augmentation.cutmix=1",
)


def train(data: Path, to: Path, *settings: str, network: str = "lenet_bn") -> Run:
    return training.train(str(data), network, to, recipe.load("default", settings), unwatched)


def tree(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder: when it was written, and the hash of what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def softmax(logits: Array) -> Array:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def noise(count: int = 5) -> Array:
    return np.random.default_rng(2).uniform(-1, 1, (count, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def data(pictures: Path) -> Data:
    return loading.load(str(pictures))


@pytest.fixture(scope="module")
def unbroken(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs of nine steps with everything that has a state. Read only."""
    return train(pictures, tmp_path_factory.mktemp("unbroken") / "run", *LONG)


# ---- the run folder


def test_a_run_folder_holds_what_its_docstring_says_and_nothing_else(finished_run: Run) -> None:
    named = set(re.findall(r"^([\w./]+)  +\S", folder.__doc__ or "", flags=re.MULTILINE))
    assert {"model.keras", "golden/", "unreadable.csv"} <= named
    found = {path.name + "/" * path.is_dir() for path in finished_run.folder.iterdir()}
    # No file was unreadable or to be left out, no rate was to be found, nothing was imported, and it is no fold.
    absent = {"unreadable.csv", "quarantine.txt", "rates.csv", "import.json", "auxiliary.keras"}
    assert found == named - absent - {"old_classes.json", "out_of_fold.csv"}


def test_classifier_json_says_how_the_network_was_made(finished_run: Run, data: Data) -> None:
    found = json.loads(finished_run.classifier.read_text())
    assert found["network"] == "lenet_bn"
    assert found["arguments"] == {"input_shape": [32, 32, 3], "classes": 3, "width": 1.0, "momentum": 0.9}
    assert found["labels"] == ["digit", "flower", "temple"]
    assert found["preprocessing"] == Preprocessing(height=32, width=32).model_dump(mode="json")
    assert found["recipe"] == recipe.load(
        "default", ["epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1"]
    ).model_dump(mode="json")
    assert found["seed"] == 1
    assert found["versions"]["keras"] == keras.__version__
    assert found["versions"]["tensorflow"] == tf.__version__
    assert found["data"] == {
        "name": data.name,
        "place": os.path.realpath(data.name),
        "fingerprint": data.fingerprint,
        "train": data.train.count,
        "validation": data.validation.count,
        "test": data.test.count,
        "unreadable": 0,
    }
    assert sum(found["data"][split] for split in ("train", "validation", "test")) == 99


def test_model_keras_needs_models_alone_and_gives_the_same_probabilities(
    finished_run: Run, fresh_process: Callable[..., str], tmp_path: Path
) -> None:
    x = noise()
    np.save(tmp_path / "x.npy", x)
    script = """
import sys, numpy as np, keras, models
model = keras.models.load_model(sys.argv[1], compile=False)
np.save(sys.argv[3], model.predict_on_batch(np.load(sys.argv[2])))
print(model.layers[-1].name, model.layers[-1].activation.__name__, "app" in sys.modules, "export" in sys.modules)
"""
    said = fresh_process(script, finished_run.model, tmp_path / "x.npy", tmp_path / "y.npy")
    assert said.split() == ["predictions", "softmax", "False", "False"]
    right = run_folder.load(finished_run.folder).model.predict_on_batch(x)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), right, rtol=0, atol=1e-6)
    assert right.std(axis=0).min() > 1e-4, "an untrained or constant network would prove nothing"


def test_a_loaded_run_gives_probabilities_and_their_logits(finished_run: Run) -> None:
    trained = run_folder.load(str(finished_run.folder))
    x = noise()
    probabilities, logits = trained.model.predict_on_batch(x), trained.logits_model.predict_on_batch(x)
    np.testing.assert_allclose(probabilities, softmax(logits), rtol=0, atol=1e-6)
    assert np.abs(logits.sum(axis=1) - 1).min() > 1e-3
    assert trained.labels == ("digit", "flower", "temple")
    assert trained.preprocessing == Preprocessing(height=32, width=32)


def test_history_has_a_row_per_epoch(finished_run: Run) -> None:
    with finished_run.history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    columns = {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", *TIMES}
    assert all(set(row) == columns for row in rows)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def validation_loss(run: Run, data: Data) -> float:
    trained = run_folder.load(run.folder)
    probabilities, truth = evaluating.predict(trained.model, data.validation, trained.preprocessing)
    return float(-np.mean(np.log(probabilities[np.arange(len(truth)), truth].astype(np.float64))))


@pytest.mark.parametrize("use", ["last", pytest.param("best", marks=pytest.mark.slow)])
def test_the_model_is_that_of_the_last_epoch_or_of_the_lowest_validation_loss(
    use: str, finished_run: Run, data: Data, tmp_path: Path
) -> None:
    run = Run(tmp_path / "again")
    described = json.loads(finished_run.classifier.read_text())
    described["recipe"]["checkpoint"]["use"] = use
    described["recipe"]["batch_norm"]["recalibrate"] = "never"  # with other statistics, the losses are others
    wanted = Recipe.model_validate(described["recipe"])
    if use == "last":  # all epochs are done: it only finishes
        shutil.copytree(finished_run.folder, run.folder, ignore=shutil.ignore_patterns("metrics.json", "model.keras"))
        run.classifier.write_text(json.dumps(described))
    training.train(data, "lenet_bn", run.folder, wanted, unwatched)
    losses = [row["val_loss"] for row in folder.read_history(run.history)]
    assert validation_loss(run, data) == pytest.approx(losses[-1] if use == "last" else min(losses), rel=1e-4)
    assert min(losses) < losses[-1] * 0.99, "the last epoch is the best: this test cannot see a difference"


def test_metrics_are_those_of_the_test_images(finished_run: Run, data: Data) -> None:
    trained = run_folder.load(finished_run.folder)
    losses, right = [], 0
    for encoded, label in data.test.in_order().as_numpy_iterator():
        image = trained.preprocessing(decode(encoded)).numpy()
        scores = softmax(trained.logits_model.predict_on_batch(image[np.newaxis]))[0]
        losses.append(-np.log(scores[label]))
        right += int(np.argmax(scores) == label)
    found = json.loads(finished_run.metrics.read_text())
    assert found["count"] == data.test.count == len(losses)
    assert found["top_1"] == right / len(losses)
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["top_1"] >= 0.6, "three classes: it has learned"


def test_golden_images_are_test_images_as_they_came(finished_run: Run, data: Data) -> None:
    test = {encoded: data.labels[label] for encoded, label in data.test.in_order().as_numpy_iterator()}
    golden = read_golden(finished_run)
    assert len(golden) == min(finishing.GOLDEN, data.test.count)
    for image in golden:
        assert test.pop((finished_run.golden / image["file"]).read_bytes()) == image["label"]


def test_the_report_is_one_page_that_needs_no_other_file(finished_run: Run) -> None:
    page = finished_run.report.read_text()
    figures = json.loads(finished_run.metrics.read_text())
    assert f"{100 * figures['top_1']:.2f} %" in page
    assert page.count("<img ") == figures["count"]  # fewer than it would show at most
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?!data:)', page)


# ---- stopping and going on


def killed_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    count = epochs.EndEpochs.on_train_batch_end

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(epochs.EndEpochs, "on_train_batch_end", stop)


def killed_between_history_and_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    write = epochs.History.on_epoch_end

    def stop(self: Any, epoch: int, logs: Any = None) -> None:
        write(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(epochs.History, "on_epoch_end", stop)


def killed_before_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    write = saving.SaveCheckpoints._write

    def stop(self: Any, name: str) -> None:
        if name == "last.keras":
            raise KeyboardInterrupt
        write(self, name)

    monkeypatch.setattr(saving.SaveCheckpoints, "_write", stop)


def asked_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    count = epochs.EndEpochs.on_train_batch_end

    def ask(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == 15:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(epochs.EndEpochs, "on_train_batch_end", ask)


def asked_to_stop_in_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = progress.ReportProgress.on_test_begin

    def ask(self: Any, logs: Any = None) -> None:
        begin(self, logs)
        if self.step == 18:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(progress.ReportProgress, "on_test_begin", ask)


@pytest.mark.parametrize(
    ("ended", "step"),
    [
        (asked_to_stop, 15),
        pytest.param(killed_within_an_epoch, 12, marks=pytest.mark.slow),
        pytest.param(killed_between_history_and_checkpoint, 16, marks=pytest.mark.slow),
        pytest.param(killed_before_the_last_checkpoint, 24, marks=pytest.mark.slow),
        pytest.param(asked_to_stop_in_a_validation, 18, marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_after_its_last_checkpoint_and_ends_as_if_nothing_had_happened(
    ended: Callable[[pytest.MonkeyPatch], None],
    step: int,
    unbroken: Run,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = (*LONG, "checkpoint.every=4")
    with pytest.MonkeyPatch.context() as monkeypatch:
        ended(monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            train(pictures, tmp_path / "run", *settings)
    run = Run(tmp_path / "run")
    assert not run.model.exists()
    assert not run.metrics.exists()
    with pytest.raises(UserError, match="is not finished"):
        run_folder.load(run.folder)
    train(pictures, run.folder, *settings)
    assert f"Going on after step {step} of 27\n" in capsys.readouterr().err
    assert_same(run, unbroken)
    assert not list(run.checkpoints.glob("step-*"))


def assert_same(run: Run, other: Run) -> None:
    """Bit by bit, but for the times."""

    def history(of: Run) -> list[dict[str, float]]:
        rows = folder.read_history(of.history)
        return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]

    assert history(run) == history(other)
    ends = [keras.models.load_model(of.checkpoints / "last.keras") for of in (run, other)]
    assert [int(end.optimizer.iterations) for end in ends] == [27, 27]
    for mine, theirs in (
        (ends[0].weights, ends[1].weights),
        (ends[0].optimizer.variables, ends[1].optimizer.variables),
    ):
        for found, wanted in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=wanted.path)
    assert json.loads(run.metrics.read_text()) == json.loads(other.metrics.read_text())
    assert not list(run.folder.rglob(".*")), "half-written files were left"


def test_a_finished_run_is_left_alone(unbroken: Run, pictures: Path) -> None:
    before = tree(unbroken.folder)
    train(pictures, unbroken.folder, *LONG)
    assert tree(unbroken.folder) == before


def test_other_work_in_the_folder_of_a_run_is_refused(unbroken: Run, pictures: Path, tmp_path: Path) -> None:
    before = tree(unbroken.folder)
    other = tmp_path / "other"
    shutil.copytree(pictures, other)
    next((other / "flower").glob("*.png")).unlink()
    relabelled = tmp_path / "relabelled"
    shutil.copytree(pictures, relabelled)
    (relabelled / "flower").rename(relabelled / "rose")
    for data, network, settings, words in (
        (pictures, "bn_inception", LONG, "another network"),
        (pictures, "lenet_bn", (*LONG, "epochs=4"), "another recipe"),
        (relabelled, "lenet_bn", LONG, "new: 'rose'; missing: 'flower'"),
        (other, "lenet_bn", LONG, "are not those that"),
    ):
        with pytest.raises(UserError, match=words):
            train(data, unbroken.folder, *settings, network=network)
    assert tree(unbroken.folder) == before


def test_a_checkpoint_of_another_recipe_is_refused(unbroken: Run, pictures: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(unbroken.folder, run.folder, ignore=shutil.ignore_patterns("model.keras", "last.keras"))
    model = small_model({})
    model.optimizer.build(model.trainable_variables)
    other = recipe.load("default", [*LONG, "seed=3"])
    described = run.read_classifier().model_copy(update={"recipe": other})
    checkpoint.write(run.checkpoints, model, State(classifier=described, step=3))
    with pytest.raises(UserError, match=r"step-00000003 holds a run with another recipe \(seed 3, here 0\); choose"):
        train(pictures, run.folder, *LONG)


@pytest.mark.parametrize("damaged", ["checkpoints/last.keras", "classifier.json"])
def test_a_damaged_run_is_named(damaged: str, unbroken: Run, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken.folder, tmp_path / "run")
    (tmp_path / "run" / "model.keras").unlink()
    path = tmp_path / "run" / damaged
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError) as caught:
        train(pictures, tmp_path / "run", *LONG)
    assert f"{path} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_another_version_is_named_with_the_key_that_is_new(finished_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path)
    written = json.loads(finished_run.classifier.read_text())
    written["recipe"]["optimizer"]["speed"] = 1
    run.classifier.write_text(json.dumps(written))
    with pytest.raises(UserError) as caught:
        run.read_classifier()
    assert str(caught.value) == (
        f"{run.classifier} is damaged or of another version, at recipe.optimizer.speed: Extra inputs are not permitted."
    )


def test_a_damaged_model_is_named(finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.folder, tmp_path / "run")
    path = tmp_path / "run" / "model.keras"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError) as caught:
        run_folder.load(tmp_path / "run")
    assert f"{path} is damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_the_first_step_finds_its_optimizer_built(
    precision: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow would trace it twice, and a large network's for minutes."""

    class BegunError(Exception):
        """With the optimizer."""

    def begun(model: keras.Model, *_: Any, **__: Any) -> None:
        raise BegunError(model.optimizer)

    monkeypatch.setattr(keras.Model, "fit", begun)
    with pytest.raises(BegunError) as caught:
        train(pictures, tmp_path / "run", f"precision={precision}", *LONG)
    (optimizer,) = caught.value.args
    assert optimizer.built
    assert getattr(optimizer, "inner_optimizer", optimizer).built


def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        train(
            pictures, tmp_path / "run", "image_size=32", "batch_size=8", "optimizer.rate=1e38", "schedule.name=constant"
        )
    step = re.search(r"The loss became (nan|inf) at step (\d+)[,;]", str(caught.value))
    assert step
    assert 2 <= int(step[2]) <= 9, "the first loss is finite, and an epoch has nine steps"
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("stem_3_conv", "and what stem_3_bn is given was the first that is not finite"),
        ("predictions", "behind all batch normalisations"),
    ],
)
def test_where_a_loss_stopped_being_finite_is_said(broken: str, sentence: str) -> None:
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3, classifier_activation=None)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.get_layer(broken).kernel.assign(np.full(model.get_layer(broken).kernel.shape, np.inf))
    images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)
    with pytest.raises(UserError, match=f"at step 8, {sentence}; try"):
        model.fit(images, np.eye(3)[[0, 1, 2, 0]], verbose=0, callbacks=[epochs.StopOnNonFinite(7)])


def test_a_training_says_on_what_and_how_it_goes(
    pictures: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("image_size=32", "batch_size=8", "steps=4", "optimizer.accumulate=2")
    run = train(pictures, tmp_path / "run", *settings)
    said = capfd.readouterr().err
    assert re.search("on (the CPU: |[0-9]+ GPU)", said)
    parameters = run_folder.load(run.folder).model.count_params()
    assert re.search(rf"lenet_bn: of {parameters:,} parameters [\d,]+ train\n", said)
    assert "float32, 16 images a step in 2 parts, 4 steps" in said
    (row,) = folder.read_history(run.history)
    assert 100 < row["memory_mb"] < 100_000


def test_the_report_shows_the_curves_while_training_goes_on(pictures: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = [{"epoch": 1, "loss": 2.0, "val_loss": 1.0, "accuracy": 0.3, "val_accuracy": 0.625, "images_per_second": 9}]
    history = epochs.History(run.history, [])
    history.on_epoch_end(0, {key: value for key, value in rows[0].items() if key != "epoch"})
    classifier = Classifier(
        network="lenet_bn",
        arguments={},
        labels=("a", "b"),
        preprocessing=Preprocessing(height=8, width=8),
        recipe=Recipe(),
        versions={},
        seed=0,
        data=DataRecord(name=str(pictures), fingerprint="", train=5, validation=2, test=3, unreadable=0),
    )
    LiveReport(run, classifier, 4).on_epoch_end(0)
    page = run.report.read_text()
    assert "Epoch 1 of 4" in page
    assert "62.50 %" in page
    assert "python -m app train" in page


@pytest.fixture(scope="module")
def short_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Eleven steps of 8 an epoch in bfloat16, from data with an unreadable file and one to be left out. Read only."""
    folder = tmp_path_factory.mktemp("short")
    shutil.copytree(pictures, folder / "data")
    (folder / "data" / "flower" / "text.jpg").write_text("no picture")
    (folder / "list.txt").write_text("temple/00.jpg\n")
    wanted = recipe.load("default", ("image_size=32", "batch_size=8", "steps=11", "precision=mixed_bfloat16"))
    run = training.train(
        str(folder / "data"), "lenet_bn", folder / "run", wanted, unwatched, quarantine=folder / "list.txt"
    )
    (folder / "list.txt").unlink()
    return run


def test_a_number_of_steps_ends_a_run_whatever_the_epochs(short_run: Run) -> None:
    last = keras.models.load_model(short_run.checkpoints / "last.keras")
    assert int(last.optimizer.iterations) == 11
    rows = folder.read_history(short_run.history)
    assert len(rows) == 2
    assert rows[-1]["learning_rate"] == pytest.approx(0, abs=1e-9), "the cosine ends where the run does"


def test_a_run_in_half_precision_keeps_float32(short_run: Run) -> None:
    last = keras.models.load_model(short_run.checkpoints / "last.keras")
    assert last.get_layer("stem_1_conv").compute_dtype == "bfloat16"
    model = keras.models.load_model(short_run.model, compile=False)
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(json.loads(short_run.metrics.read_text())["loss"])


def test_files_left_out_are_listed_in_the_run(short_run: Run) -> None:
    with short_run.unreadable.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).name for row in rows] == ["text.jpg"]
    assert rows[0]["reason"]
    assert json.loads(short_run.classifier.read_text())["data"]["unreadable"] == 1


@pytest.mark.slow
def test_what_was_left_out_of_training_is_left_out_of_the_evaluation(short_run: Run, tmp_path: Path) -> None:
    assert short_run.quarantine.read_text() == "temple/00.jpg\n"
    figures = evaluation.evaluate(short_run.folder, None)
    assert figures["top_1"] == json.loads(short_run.metrics.read_text())["top_1"]
    shutil.copytree(short_run.folder, tmp_path / "run")
    data = str(short_run.folder.parent / "data")
    repair.recalibrate(tmp_path / "run", data)
    repair.adapt(tmp_path / "run", data, tmp_path / "adapted")
    assert evaluation.evaluate(tmp_path / "adapted", None)["count"] == figures["count"]


def test_the_split_is_a_manifest_to_train_on_again(short_run: Run) -> None:
    record = short_run.read_classifier().data
    again = loading.load(str(short_run.split))
    assert record
    assert again.fingerprint == record.fingerprint
    assert (again.train.count, again.validation.count, again.test.count) == (
        record.train,
        record.validation,
        record.test,
    )
    assert sum(file.path.name == "00.jpg" for file in again.files) == 2, "of three classes, one is without it"


@pytest.mark.parametrize(
    ("network", "images", "side"),
    [
        ("bn_inception", "digits", 64),
        ("inception_v3", "digits", 75),
        ("inception_v3", "folder", 299),
        ("lenet_bn", "folder", 28),
    ],
)
def test_the_image_size_is_the_datas_or_the_networks(network: str, images: str, side: int, data: Data) -> None:
    source = loading.load("digits") if images == "digits" else data
    found = beginning.describe(source, network, Recipe())
    assert found.arguments["input_shape"] == (side, side, 3)
    assert (found.preprocessing.height, found.preprocessing.width) == (side, side)
    assert beginning.describe(source, network, Recipe(image_size=81)).preprocessing.height == 81


# ---- the step


def test_the_loss_is_the_smoothed_cross_entropy(pictures: Path, data: Data, tmp_path: Path) -> None:
    """One step of all images that fit, at a rate that moves nothing: the loss of the first forward pass."""
    settings = ("epochs=1", "image_size=32", "batch_size=72", "label_smoothing=0.2", "optimizer.rate=1e-9", "seed=4")
    run = train(pictures, tmp_path / "run", *settings)
    wanted = recipe.load("default", settings)
    preprocessing = Preprocessing(height=32, width=32)
    ((images, labels),) = input_pipeline.training_batches(data.train, preprocessing, wanted, 3, 0).take(1)
    keras.utils.set_random_seed(4)
    model = run.read_classifier().build(activation=None)
    logits = model(images, training=True).numpy().astype(np.float64)
    log_probabilities = np.log(softmax(logits))
    smoothed = labels.numpy() * (1 - 0.2) + 0.2 / 3
    (row,) = folder.read_history(run.history)
    assert len(images) == 72
    assert row["loss"] == pytest.approx(-np.mean((smoothed * log_probabilities).sum(axis=1)), rel=1e-5)
    assert row["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == labels.numpy().argmax(axis=1)))


def small_model(optimizer: dict[str, Any], schedule: str = "constant", steps: int = 10, total: int = 50) -> keras.Model:
    keras.utils.set_random_seed(5)
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3, classifier_activation=None)
    wanted = Recipe.model_validate({"optimizer": optimizer, "schedule": {"name": schedule}})
    model.compile(optimizer=optimizers.build(model, wanted, steps, total), loss="mse")
    return model


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_weight_decay_shrinks_kernels_and_nothing_else(name: str, resumed: bool, unbroken: Run, tmp_path: Path) -> None:
    rate, decay = 0.1, 0.5
    model = small_model({"name": name, "rate": rate, "momentum": 0.0, "weight_decay": decay})
    if resumed:
        model.optimizer.build(model.trainable_variables)
        checkpoint.write(tmp_path, model, State(classifier=unbroken.read_classifier()))
        model = small_model({"name": name, "rate": rate, "momentum": 0.0, "weight_decay": decay})
        found = checkpoint.newest(tmp_path)
        assert found
        found.restore(model)
    rng = np.random.default_rng(6)
    for weight in model.trainable_weights:
        weight.assign(rng.uniform(1, 2, weight.shape))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.optimizer.apply([tf.zeros(weight.shape) for weight in model.trainable_weights], model.trainable_weights)
    for weight, was in zip(model.trainable_weights, before, strict=True):
        factor = 1 - rate * decay if weight.name == "kernel" else 1
        np.testing.assert_allclose(weight.numpy(), was * factor, rtol=1e-6, err_msg=weight.path)
    assert Counter(weight.name for weight in model.trainable_weights) == {"kernel": 5, "bias": 5, "gamma": 4, "beta": 4}


# ---- batches


@pytest.mark.parametrize("few", [pytest.param(0, marks=pytest.mark.slow), 256])
@pytest.mark.parametrize("held", [0, 2**20])
def test_validation_images_are_those_of_an_evaluation_again_and_again(
    few: int, held: int, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_pipeline, "FEW", few)
    monkeypatch.setattr(input_pipeline, "HELD", held)
    preprocessing = Preprocessing(height=20, width=24)
    right = [*input_pipeline.evaluation_batches(data.train, preprocessing, 16).as_numpy_iterator()]
    batches = input_pipeline.validation_batches(data.train, preprocessing, 16)
    for _ in range(2):
        for found, wanted in zip(batches.as_numpy_iterator(), right, strict=True):
            assert [part.dtype for part in found] == [part.dtype for part in wanted]
            for part, wanted_part in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(part, wanted_part)


def test_training_batches_leave_out_what_fills_no_batch_and_evaluation_leaves_out_nothing(data: Data) -> None:
    preprocessing = Preprocessing(height=20, width=24)
    wanted = Recipe(batch_size=16)
    steps = input_pipeline.steps_per_epoch(data.train, wanted)
    assert steps == data.train.count // 16
    assert data.train.count % 16, "nothing is left over: this test cannot see a difference"
    batches = list(input_pipeline.training_batches(data.train, preprocessing, wanted, 3, 0).take(2 * steps))
    for images, labels in batches:
        assert images.shape == (16, 20, 24, 3)
        assert images.dtype == tf.float32
        assert np.abs(images).max() <= 1 + 1e-6
        assert labels.shape == (16, 3)
        np.testing.assert_array_equal(np.sort(labels, axis=1), [[0, 0, 1]] * 16)
    plain = {
        preprocessing(decode(encoded)).numpy().tobytes(): int(label)
        for encoded, label in data.train.in_order().as_numpy_iterator()
    }
    seen = []
    for epoch in (batches[:steps], batches[steps:]):
        images = np.concatenate([images for images, _ in epoch])
        labels = np.concatenate([labels for _, labels in epoch]).argmax(axis=1)
        seen.append({image.tobytes() for image in images})
        assert len(seen[-1]) == 16 * steps
        assert all(plain[image.tobytes()] == label for image, label in zip(images, labels, strict=True))
    assert seen[0] != seen[1], "the same images are left out of every epoch"

    evaluated = list(input_pipeline.evaluation_batches(data.train, preprocessing, 16))
    assert [len(images) for images, _ in evaluated] == [16] * steps + [data.train.count % 16]
    found = [image.tobytes() for images, _ in evaluated for image in images.numpy()]
    assert found == list(plain)
    assert np.concatenate([labels for _, labels in evaluated]).tolist() == list(plain.values())


def test_a_split_smaller_than_a_batch_is_one_batch(data: Data) -> None:
    wanted = Recipe(batch_size=64)
    assert data.validation.count < 64
    assert input_pipeline.steps_per_epoch(data.validation, wanted) == 1
    batches = input_pipeline.training_batches(data.validation, Preprocessing(height=8, width=8), wanted, 3, 0)
    assert [len(images) for images, _ in batches.take(3)] == [data.validation.count] * 3


def test_a_run_that_goes_on_sees_the_batches_it_would_have_seen(data: Data) -> None:
    wanted = Recipe(batch_size=16, augmentation=Augmentation(flip=True, crop_area=0.3), seed=9)
    steps = input_pipeline.steps_per_epoch(data.train, wanted)

    def batches(first_step: int, count: int, settings: Recipe = wanted) -> list[bytes]:
        made = input_pipeline.training_batches(data.train, Preprocessing(height=9, width=9), settings, 3, first_step)
        return [images.numpy().tobytes() + labels.numpy().tobytes() for images, labels in made.take(count)]

    whole = batches(0, 2 * steps)
    assert batches(0, 2 * steps) == whole
    for first in (steps - 1, steps + 2):
        assert batches(first, 2 * steps - first) == whole[first:]
    assert len(set(whole)) == 2 * steps
    assert not set(batches(0, steps, wanted.model_copy(update={"seed": 10}))) & set(whole)


def test_an_image_is_augmented_otherwise_in_every_place_and_epoch(pictures: Path) -> None:
    path = str(min((pictures / "flower").glob("*.png")))
    split = FileSplit((path,) * 32, (0,) * 32)  # one picture: its place in the order cannot tell
    wanted = Recipe(batch_size=16, augmentation=Augmentation(crop_area=0.3))
    batches = input_pipeline.training_batches(split, Preprocessing(height=9, width=9), wanted, 3, 0).take(4)
    # Windows that are nearly the whole picture are few: two draws may give the same.
    assert len({image.tobytes() for images, _ in batches for image in images.numpy()}) >= 60


# ---- augmentation


def keys(count: int) -> list[Any]:
    return [tf.constant([3, i], tf.int64) for i in range(count)]


def test_augmentation_is_a_function_of_its_key() -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    preprocessing, options = Preprocessing(height=16, width=16), Augmentation(flip=True, crop_area=0.3)

    def images() -> list[bytes]:
        windows = [augmentation.random_window(key, options.crop_area).of(pixels) for key in keys(20)]
        return [
            augmentation.augmented(window, key, options, preprocessing).numpy().tobytes()
            for window, key in zip(windows, keys(20), strict=True)
        ]

    first = images()
    assert images() == first
    assert len(set(first)) == 20


def test_without_options_augmentation_is_the_preprocessing() -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    preprocessing = Preprocessing(height=16, width=16)
    found = augmentation.augmented(pixels, keys(1)[0], Augmentation(), preprocessing)
    np.testing.assert_array_equal(found, preprocessing(pixels))


def test_flipping_mirrors_half_of_the_images_left_to_right() -> None:
    pixels = np.random.default_rng(8).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    preprocessing = Preprocessing(height=12, width=16)
    plain = preprocessing(pixels).numpy()
    kinds: Counter[str] = Counter()
    for key in keys(200):
        image = augmentation.augmented(pixels, key, Augmentation(flip=True), preprocessing).numpy()
        kinds["plain" if (image == plain).all() else "mirrored" if (image == plain[:, ::-1]).all() else "other"] += 1
    assert set(kinds) == {"plain", "mirrored"}
    assert 65 <= kinds["mirrored"] <= 135  # five deviations of a coin


@pytest.mark.parametrize("smallest", [0.3, 0.9])
def test_a_crop_is_a_window_of_the_picture_with_area_and_shape_in_range(smallest: float) -> None:
    rows, columns = np.mgrid[:200, :240].astype(np.uint8)
    pixels = np.stack([rows, columns, rows * 0], axis=2)  # every pixel says where it is
    areas, shapes, corners = [], [], set()
    crop = tf.function(lambda key: augmentation.random_window(key, smallest).of(pixels))
    for key in keys(400):
        window = crop(key).numpy().astype(int)
        (top, left, _), (bottom, right, _) = window[0, 0], window[-1, -1]
        np.testing.assert_array_equal(window, pixels[top : bottom + 1, left : right + 1])
        height, width = (bottom - top + 1) / 200, (right - left + 1) / 240
        areas.append(height * width)
        shapes.append(width / height)
        corners.add((int(top), int(left)))
    rounding = 0.011  # a pixel less on both sides
    assert smallest - rounding <= min(areas) <= smallest + 0.02
    assert max(areas) <= 1
    assert max(areas) >= 0.98
    assert np.mean(areas) == pytest.approx((1 + smallest) / 2, abs=5 * (1 - smallest) / 12**0.5 / 400**0.5 + rounding)
    assert min(shapes) >= 3 / 4 - rounding
    assert max(shapes) <= 4 / 3 + rounding
    assert np.median(shapes) == pytest.approx(1, abs=0.05)
    if smallest == 0.3:
        assert min(shapes) < 0.78
        assert max(shapes) > 1.29
        assert max(top for top, _ in corners) > 70
        assert max(left for _, left in corners) > 85
    assert len(corners) > 50
