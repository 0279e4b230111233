"""Trainings that balance their classes: what the loss is, and that they go on with the same bits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import recipe, training
from app.program.progress import unwatched
from app.run_folder import folder
from app.run_folder.folder import Run
from app.training import losses
from app.training.callbacks import epochs
from tests.makers.image_folders import fill

WEIGHTS = np.array([0.25, 3.0, 1.5])


def crossentropy(logits: Any, label: int, smoothing: float) -> float:
    """By its definition, in float64."""
    target = np.full(3, smoothing / 3)
    target[label] += 1 - smoothing
    return float(-(target * (logits - np.log(np.exp(logits).sum()))).sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixed_image_has_the_weighted_loss_of_both_its_labels(smoothing: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (6, 3))
    shares = np.eye(3)[[0, 1, 2, 1, 0, 2]]
    shares[3:] = 0.7 * shares[3:] + 0.3 * np.eye(3)[[0, 2, 2]]

    def right(logits: Any) -> Any:
        return np.mean(
            [
                sum(share * WEIGHTS[k] * crossentropy(row, k, smoothing) for k, share in enumerate(some))
                for row, some in zip(logits, shares, strict=True)
            ]
        )

    loss = losses.WeightedCrossentropy(WEIGHTS.tolist(), smoothing)
    given = tf.Variable(logits, dtype=tf.float32)
    with tf.GradientTape() as tape:
        found = loss(shares.astype("float32"), given)
    assert float(found) == pytest.approx(right(logits), rel=1e-5)
    slopes = tape.gradient(found, given).numpy()
    for place in np.ndindex(6, 3):
        step = np.zeros((6, 3))
        step[place] = 1e-5
        assert slopes[place] == pytest.approx((right(logits + step) - right(logits - step)) / 2e-5, abs=1e-5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(shares.astype("float32"), given)) == float(found)


def unequal(root: Path) -> Path:
    for place, (name, count) in enumerate({"ant": 30, "bee": 12, "fly": 6}.items()):
        fill(root / "train" / name, range(place * 100, place * 100 + count))
        fill(root / "test" / name, range(place * 100 + 50, place * 100 + 55))
        fill(root / "validation" / name, range(place * 100 + 60, place * 100 + 65))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("balance", ["weights", "sample"])
def test_a_balanced_run_goes_on_within_an_epoch_with_the_same_bits(balance: str, tmp_path: Path) -> None:
    data = unequal(tmp_path / "data")
    settings = ("image_size=32", "batch_size=8", "epochs=3", "checkpoint.every=4", "augmentation.mixup=0.2")
    more = ("weight_average=0.99", "augmentation.crop_area=0.5", f"balance={balance}")

    def train(to: Path) -> Run:
        wanted = recipe.load("default", (*settings, *more))
        return training.train(str(data), "lenet_bn", to, wanted, unwatched)

    unbroken = train(tmp_path / "unbroken")
    count: Callable[..., None] = epochs.EndEpochs.on_train_batch_end

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == 10:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(epochs.EndEpochs, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run")
    run = train(tmp_path / "run")
    ends = [keras.models.load_model(of.checkpoints / "last.keras") for of in (run, unbroken)]
    for found, wanted in zip(ends[0].weights, ends[1].weights, strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted.numpy(), err_msg=wanted.path)
    assert json.loads(run.metrics.read_text()) == json.loads(unbroken.metrics.read_text())
    losses_ = [[row["loss"] for row in folder.read_history(of.history)] for of in (run, unbroken)]
    assert losses_[0] == losses_[1]
    page = run.report.read_text()
    figures = json.loads(run.metrics.read_text())
    assert f"{100 * figures['balanced_accuracy']:.2f} %</b> balanced accuracy" in page
    worst = min(figures["per_class"], key=lambda label: figures["per_class"][label]["recall"])
    assert f"{100 * figures['per_class'][worst]['recall']:.2f} %</b> recall of {worst}" in page
