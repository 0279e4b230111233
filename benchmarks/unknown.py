"""How well a network tells pictures of none of its classes: the score that is shipped beside five of the literature.

    python -m benchmarks.unknown RUN [--unknown NAME=FOLDER]... [--json]

RUN is a finished run whose data is still there. Each score is fitted on the run's validation images, by halves where it
would know them again, and refuses 5 % of them. A row has `refused`, the share of known test images that it refuses, and
for each kind of unknown picture `area`, under the ROC curve against the test images, and `found`, the share refused:
noise, uniform, Gaussian and large, flat colours, digits, and the pictures of the folders that are named. `ratio` is the
mean of `found`; the time, of all of them together, is not measured.
"""

import argparse
import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import numpy as np
import sklearn.datasets
import sklearn.metrics
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf

from app import run_folder
from app.datasets import loading
from app.evaluation import evaluating, strangeness
from app.images.finding import pictures
from app.pipeline.input_pipeline import evaluation_batches
from app.program.progress import unwatched
from app.run_folder.folder import Run
from benchmarks.machine import machine
from export.strangeness import classifier

Array = NDArray[np.float64]
MOST = 400  # pictures of a kind that are made
FOUND = 2_000  # of a folder, at most
NEIGHBOURS = 10
KEPT = 0.95  # of the variance: the principal subspace


def made(rng: np.random.Generator) -> dict[str, list[Any]]:
    """Pixels that no camera has seen, by what they are."""
    noise = [rng.normal(127.5, 64, (32, 32, 3)).clip(0, 255).astype(np.uint8) for _ in range(MOST)]
    digits = [Image.fromarray(np.uint8(digit * 15)) for digit in sklearn.datasets.load_digits().images[:MOST]]
    return {
        "uniform": [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(MOST)],
        "Gaussian": noise,
        "large noise": [rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(MOST // 4)],
        "flat": [np.full((32, 32, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(MOST)],
        "digits": [np.asarray(one.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB")) for one in digits],
    }


class Seen:
    """What a network says of pictures: `before` its classifier, `logits`, and its pooled maps with the energy."""

    def __init__(self, reading: strangeness.Reading, batches: Iterator[Any]) -> None:
        last = classifier(reading.model)
        before, scores = [], []
        for images in batches:
            assert reading.network
            before.append(reading.network.predict_on_batch(images)[1])
            scores.append(reading.measured(images)[1].strangeness)
        self.before = np.concatenate(before).astype(np.float64)
        self.logits = self.before @ last.kernel.numpy() + last.bias.numpy()
        self.shipped = np.concatenate(scores)


def normed(features: Array) -> Array:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def neighbours(features: Array, truth: Any, weights: Any) -> Callable[[Array], Array]:
    """2204.06507: the distance to the nearest but so many, of features of length 1."""
    bank = normed(features)
    return lambda new: np.sort(2 - 2 * normed(new) @ bank.T, axis=1)[:, NEIGHBOURS - 1]


def class_means(features: Array, truth: Any, weights: Any) -> Callable[[Array], Array]:
    """1807.03888: the distance of Mahalanobis to the nearest class."""
    means = np.stack([features[truth == label].mean(axis=0) for label in np.unique(truth)])
    places = np.searchsorted(np.unique(truth), truth)
    inverse = np.linalg.inv(ledoit_wolf(features - means[places], assume_centered=True)[0])
    return lambda new: np.min([np.einsum("ij,ij->i", (new - mean) @ inverse, new - mean) for mean in means], axis=0)


def residual(features: Array, truth: Any, weights: Any) -> Callable[[Array], Array]:
    """2203.10807: what lies outside of the principal subspace."""
    kernel, bias = weights
    origin = -np.linalg.pinv(kernel.T) @ bias
    values, vectors = np.linalg.eigh(np.cov(features - origin, rowvar=False, bias=True))
    outside = vectors[:, : len(values) - 1 - int(np.searchsorted(np.cumsum(values[::-1]) / values.sum(), KEPT))]
    return lambda new: np.linalg.norm((new - origin) @ outside, axis=1)


FITTED = {
    "nearest neighbours": neighbours,
    "class means": class_means,
    "residual": residual,
}
AS_IT_IS: dict[str, Callable[[Seen], Array]] = {
    "energy": lambda seen: -logsumexp(seen.logits, axis=1),
    "maximum logit": lambda seen: -seen.logits.max(axis=1),
}


def _of_features(score: Callable[[Array], Array], seen: Seen) -> Array:
    return score(seen.before)


def rows(run: Path, folders: dict[str, Path]) -> list[dict[str, Any]]:
    trained = run_folder.load(run)
    data = loading.of_run(Run(run), unwatched)
    prepared, reading = trained.preprocessing, strangeness.Reading(trained.model, count=data.validation.count)
    evaluating.predict(reading, data.validation, prepared)
    fitted = reading.fit()
    if isinstance(fitted, str):
        raise SystemExit(fitted)

    def of_split(split: Any) -> tuple[Seen, Any]:
        images, truth = zip(*evaluation_batches(split, prepared, 32).as_numpy_iterator(), strict=True)
        return Seen(reading, iter(images)), np.concatenate(truth)

    def of_pixels(pixels: list[Any]) -> Seen:
        images = (prepared(tf.constant(one)).numpy() for one in pixels)
        whole = np.stack([*images])
        return Seen(reading, (whole[i : i + 32] for i in range(0, len(whole), 32)))

    (known, truth), (test, _) = of_split(data.validation), of_split(data.test)
    unknown = {name: of_pixels(pixels) for name, pixels in made(np.random.default_rng(0)).items()}
    for name, folder in folders.items():
        files = pictures([folder])[:FOUND]
        unknown[name] = of_pixels([prepared.decode(file.read_bytes()).numpy() for file in files])
    last = classifier(trained.model)
    weights = (last.kernel.numpy().astype(np.float64), last.bias.numpy().astype(np.float64))
    scores: dict[str, tuple[float, Callable[[Seen], Array]]] = {}
    for name, score in AS_IT_IS.items():
        scores[name] = (float(np.quantile(score(known), 0.95)), score)
    halves = np.arange(len(truth)) % 2 == 0
    for name, fit in FITTED.items():
        of_each = np.empty(len(truth))
        for half in (halves, ~halves):
            of_each[~half] = fit(known.before[half], truth[half], weights)(known.before[~half])
        final = fit(known.before, truth, weights)
        scores[name] = (float(np.quantile(of_each, 0.95)), functools.partial(_of_features, final))
        if name == "residual":  # ViM: in units of the logits, beside the energy
            alpha = known.logits.max(axis=1).mean() / of_each.mean()

            def vim(seen: Seen, final: Any = final, alpha: float = alpha) -> Array:
                return alpha * final(seen.before) - logsumexp(seen.logits, axis=1)

            of_vim = alpha * of_each - logsumexp(known.logits, axis=1)
            scores["residual and energy (ViM)"] = (float(np.quantile(of_vim, 0.95)), vim)
    threshold = strangeness.figures(fitted, test.shipped)["threshold"]
    scores["stages and energy (shipped)"] = (threshold, lambda seen: seen.shipped)
    return [row(name, limit, score, test, unknown) for name, (limit, score) in scores.items()]


def row(
    name: str, limit: float, score: Callable[[Seen], Array], test: Seen, unknown: dict[str, Seen]
) -> dict[str, Any]:
    of_test = score(test)
    area, found = {}, {}
    for kind, seen in unknown.items():
        of_kind = score(seen)
        truth = np.r_[np.zeros(len(of_test)), np.ones(len(of_kind))]
        area[kind] = round(float(sklearn.metrics.roc_auc_score(truth, np.r_[of_test, of_kind])), 4)
        found[kind] = round(float(np.mean(of_kind > limit)), 4)
    return {
        "name": name,
        "median_ms": 0,
        "spread": 0,
        "ratio": round(float(np.mean([*found.values()])), 3),
        "against": "all pictures of none of the classes",
        "limit": None,
        "refused": round(float(np.mean(of_test > limit)), 4),
        "area": area,
        "found": found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--unknown", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--json", action="store_true", help="figures for other programs")
    arguments = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (one.partition("=") for one in arguments.unknown)}
    found = rows(arguments.run, folders)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": found}, indent=1))
        return
    table = Table("score", "known", *found[0]["found"], caption=f"area, and per cent refused. {machine()}")
    for one in found:
        shown = [f"{one['area'][kind]:.3f} {100 * one['found'][kind]:3.0f}" for kind in one["found"]]
        table.add_row(one["name"], f"{100 * one['refused']:.1f}", *shown)
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
