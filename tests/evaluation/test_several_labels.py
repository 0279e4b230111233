"""Figures and thresholds of several labels a picture, against what follows from their definitions."""

import math

import numpy as np
import pytest
import sklearn.metrics

from app.evaluation import several_labels

LABELS = ("a", "b", "c")


def answers(seed: int, images: int = 40, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores, rounded so that some are equal, and what is there."""
    draw = np.random.default_rng(seed)
    truth = (draw.random((images, labels)) < 0.3).astype(np.float32)
    scores = np.round(np.clip(0.3 * truth + draw.random((images, labels)) * 0.7, 0, 1), 2).astype(np.float32)
    return scores, truth


def f1(named: np.ndarray, there: np.ndarray) -> float:
    return float(sklearn.metrics.f1_score(there, named, zero_division=0.0))


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_has_a_larger_f1_than_the_fitted_one(seed: int) -> None:
    scores, truth = answers(seed)
    for place, threshold in enumerate(several_labels.fit(scores, truth)):
        own, there = scores[:, place], truth[:, place] > 0
        every = [f1(own >= cut, there) for cut in [0.0, *np.unique(own), 1.1]]
        assert f1(own >= threshold, there) == pytest.approx(max(every), abs=1e-12)
        assert threshold not in own, "it lies between two scores"
        assert 0 <= threshold <= own.max()


def test_a_label_without_an_image_has_one_half() -> None:
    scores, truth = answers(1)
    truth[:, 1] = 0
    assert several_labels.fit(scores, truth)[1] == 0.5


def test_a_label_of_every_image_is_named_always() -> None:
    scores, truth = answers(1)
    truth[:, 2] = 1
    threshold = several_labels.fit(scores, truth)[2]
    assert (scores[:, 2][scores[:, 2] > 0] >= threshold).all()


def test_the_figures_are_those_of_their_definitions() -> None:
    scores, truth = answers(3)
    thresholds = several_labels.fit(scores, truth)
    found = several_labels.metrics(scores, truth, LABELS, thresholds)
    right = named_in_all = there_in_all = 0
    f1s, averages = [], []
    for place, label in enumerate(LABELS):
        named = [bool(score >= thresholds[place]) for score in scores[:, place]]
        there = [bool(one) for one in truth[:, place]]
        hits = sum(a and b for a, b in zip(named, there, strict=True))
        row = found["per_class"][label]
        assert row["precision"] == pytest.approx(hits / sum(named))
        assert row["recall"] == pytest.approx(hits / sum(there))
        assert row["f1"] == pytest.approx(2 * hits / (sum(named) + sum(there)))
        assert (row["count"], row["threshold"]) == (sum(there), thresholds[place])
        # The sum over the cuts of precision times what recall gains there.
        average, before = 0.0, 0.0
        for cut in sorted({*scores[:, place].tolist()}, reverse=True):
            taken = scores[:, place] >= np.float32(cut)
            recall = float((taken & (truth[:, place] > 0)).sum() / truth[:, place].sum())
            average += (recall - before) * float((taken & (truth[:, place] > 0)).sum() / taken.sum())
            before = recall
        assert row["average_precision"] == pytest.approx(average)
        f1s.append(row["f1"])
        averages.append(average)
        right, named_in_all, there_in_all = right + hits, named_in_all + sum(named), there_in_all + sum(there)
    assert found["macro_f1"] == pytest.approx(np.mean(f1s))
    assert found["micro_f1"] == pytest.approx(2 * right / (named_in_all + there_in_all))
    assert found["mean_average_precision"] == pytest.approx(np.mean(averages))
    losses = [
        -sum(math.log(s if t else 1 - s) for s, t in zip(one, there, strict=True))
        for one, there in zip(scores.astype(float).tolist(), truth.tolist(), strict=True)
    ]
    assert found["loss"] == pytest.approx(np.mean(losses))
    assert found["count"] == 40


def test_a_label_that_no_test_image_has_is_in_no_mean() -> None:
    scores, truth = answers(5)
    truth[:, 0] = 0
    found = several_labels.metrics(scores, truth, LABELS, (0.5, 0.5, 0.5))
    assert found["per_class"]["a"]["average_precision"] is None
    others = [found["per_class"][label] for label in "bc"]
    assert found["mean_average_precision"] == pytest.approx(np.mean([row["average_precision"] for row in others]))
    assert found["macro_f1"] == pytest.approx(np.mean([row["f1"] for row in others]))
