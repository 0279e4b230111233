"""Figures of a network that names several labels a picture, or none, and the scores from which on it names them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn.metrics
from numpy.typing import NDArray

UNFITTED = 0.5  # the threshold of a label that no validation image has
SMALLEST = float(np.finfo(np.float32).tiny)


def fit(scores: NDArray[Any], truth: NDArray[Any]) -> tuple[float, ...]:
    """For each label the threshold with the largest F1, 2 right / (named + there), if it is named where its score is
    not below. `scores` and `truth` (0 or 1) are (images, labels).

    It lies half way between two scores, so that no rounding of an artefact crosses it; of several that are best it is
    the highest. A label without an image has `UNFITTED`.
    """
    return tuple(_fit(*of_label) for of_label in zip(scores.T.astype(np.float64), truth.T > 0, strict=True))


def _fit(scores: NDArray[np.float64], there: NDArray[np.bool_]) -> float:
    if not there.any():
        return UNFITTED
    order = np.argsort(-scores, kind="stable")
    falling = np.append(scores[order], 0.0)
    named = np.arange(1, len(scores) + 1)
    f1 = 2 * np.cumsum(there[order]) / (named + there.sum())
    f1[falling[:-1] == falling[1:]] = 0.0  # equal scores are named together
    last = int(np.argmax(f1))
    return float(falling[last] + falling[last + 1]) / 2


def metrics(
    scores: NDArray[Any], truth: NDArray[Any], labels: Sequence[str], thresholds: Sequence[float]
) -> dict[str, Any]:
    """`mean_average_precision`, `macro_f1`, `micro_f1` (in 0..1), `loss` (mean over the images of the sum of the
    labels' binary cross-entropies, nats), `count` and `per_class`, which maps a label to precision, recall, f1, count,
    `average_precision` and `threshold`. `scores` and `truth` (0 or 1) are (images, labels).

    The average precision of a label without an image is None, and means over labels are without such.
    """
    named, there = scores >= np.asarray(thresholds), truth > 0
    precision, recall, f1, count = sklearn.metrics.precision_recall_fscore_support(there, named, zero_division=0.0)
    known = np.flatnonzero(count).tolist()
    average: dict[int, float] = {
        place: float(sklearn.metrics.average_precision_score(there[:, place], scores[:, place])) for place in known
    }
    rows = zip(labels, precision, recall, f1, count, thresholds, strict=True)
    per_class = {
        label: {
            "precision": float(p),
            "recall": float(r),
            "f1": float(f),
            "count": int(n),
            "average_precision": average.get(place),
            "threshold": float(t),
        }
        for place, (label, p, r, f, n, t) in enumerate(rows)
    }
    return {
        "mean_average_precision": float(np.mean([*average.values()])) if average else 0.0,
        "macro_f1": float(np.mean(f1[known])) if average else 0.0,
        "micro_f1": 2 * int(np.sum(named & there)) / max(1, int(np.sum(named) + np.sum(there))),
        "loss": _loss(scores.astype(np.float64), there),
        "count": len(truth),
        "per_class": per_class,
    }


def _loss(scores: NDArray[np.float64], there: NDArray[np.bool_]) -> float:
    right = np.where(there, scores, 1 - scores)
    return float(-np.log(np.maximum(right, SMALLEST)).sum(axis=1).mean())
