"""Which pictures show none of the classes: fitting the score of `export.strangeness`, and its file in the run folder.

unknown.npz     the fitted numbers, and the SHA-256 of the network that they belong to; or why there are none
"""

import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from app.datasets.dataset import spread
from app.program.files import digest, whole
from app.run_folder.folder import Run
from export import strangeness
from export.run_artefact import PLACES, RATE
from export.strangeness import Strangeness

FEWEST = 20  # validation images: 5 % of fewer are none
MOST = 5_000  # validation images that are looked at
STAGES = 12  # maps at most, evenly spread over the depth of the network; the first third of them is not looked at
FORM = 2  # of unknown.npz; another one is as good as none
FOLDS = 10  # of few images a Gaussian is another one than that of all of them: the fewer are left out, the nearer it is

Array = NDArray[np.float64]


def stages(model: keras.Model) -> list[str]:
    """The names of the maps that strangeness looks at: layers that all paths lead through, and whose output stays what
    it is when batch normalisation is folded into what is before it. Not the first ones: they see colour and contrast,
    in which known pictures differ most, and what is far from all of these is so further on, too."""
    layers = model.layers
    place = {id(layer): number for number, layer in enumerate(layers)}
    found, reach = [], 0  # the last layer that reads anything from before this one
    for number, layer in enumerate(layers):
        alone = reach <= number and len(layer._inbound_nodes) == 1
        readers = [place.get(id(node.operation), 0) for node in layer._outbound_nodes]
        reach = max(reach, *readers) if readers else reach
        is_map = len(getattr(layer.output, "shape", ())) == 4 and not isinstance(layer, keras.layers.InputLayer)
        if alone and is_map and not _is_folded(layer):
            found.append(layer.name)
    chosen = [found[i] for i in spread(len(found), STAGES)]
    return chosen[len(chosen) // 3 :]


def _is_folded(layer: keras.layers.Layer) -> bool:
    linear = getattr(layer, "activation", None) is keras.activations.linear
    return hasattr(layer, "moving_mean") or linear or isinstance(layer, keras.layers.Dropout)


class Reading:
    """A network where `evaluating.predict` wants a model: it gives the probabilities, and keeps what strangeness is
    made of until it is fitted, and the strangeness of what it is asked about from then on. To be fitted it is asked
    about `count` pictures first; of more than `MOST` every second, third ... is kept: they may come class by class."""

    def __init__(self, model: keras.Model, known: Strangeness | None = None, count: int = 0) -> None:
        self.model, self.known, self.count = model, known, count
        self.every = max(1, -(-count // MOST))
        self.seen = 0
        self.output_shape = model.output_shape
        self.layers = known.layers if known else tuple(stages(model)) if _has_classifier(model) else ()
        self.network = strangeness.network(model, self.layers) if self.layers else None
        self.pooled: list[list[Array]] = []
        self.energies: list[Array] = []
        self.scores: list[NDArray[np.float32]] = []

    def predict_on_batch(self, images: Any) -> NDArray[np.float32]:
        """Probabilities (N, classes) of prepared images."""
        if self.network is None:
            return self.model.predict_on_batch(images)
        probabilities, before, *pooled = self.network.predict_on_batch(images)
        if self.known:
            found = strangeness.measured(self.known, pooled, self._logits(before), self._is_independent)
            self.scores.append(found.strangeness.numpy())
        else:
            kept = slice(-self.seen % self.every, None, self.every)
            self.pooled.append([each[kept] for each in pooled])
            self.energies.append(strangeness.energy(self._logits(before[kept]), self._is_independent).numpy())
            self.seen += len(probabilities)
        return probabilities

    def measured(self, images: Any) -> tuple[NDArray[np.float32], strangeness.Measured]:
        """Probabilities (N, classes) and how strange prepared images are, of a network with a score."""
        assert self.known
        assert self.network
        probabilities, before, *pooled = self.network.predict_on_batch(images)
        found = strangeness.measured(self.known, pooled, self._logits(before), self._is_independent)
        return probabilities, strangeness.Measured(*(each.numpy() for each in found))

    def fit(self) -> Strangeness | str:
        """The score, of the pictures that the network was asked about, all validation images: the Gaussian of every
        stage, and, by images that each was not fitted on, what the distances and the energy are divided by and how
        strange known pictures are. Or a sentence: why there is none."""
        if self.count < FEWEST:
            return f"{self.count} validation images are too few to tell what is unknown: it takes {FEWEST}."
        if not self.layers:
            return "What is unknown cannot be told: the network has no maps before a dense layer."
        count = -(-self.count // self.every)
        pooled = [np.concatenate(each)[:count].astype(np.float64) for each in zip(*self.pooled, strict=True)]
        fitted = _fitted(self.layers, pooled, np.concatenate(self.energies)[:count].astype(np.float64))
        if not all(np.isfinite(each).all() for each in (*fitted.means, *fitted.matrices, fitted.weights)):
            return "What is unknown cannot be told: the network's maps are not numbers."
        self.known, self.pooled, self.energies = fitted, [], []
        return fitted

    @property
    def _is_independent(self) -> bool:
        """Whether every label has a probability of its own."""
        return strangeness.is_independent(self.model)

    def _logits(self, before: Any) -> tf.Tensor:
        last = strangeness.classifier(self.model)
        return tf.matmul(before, last.kernel) + (0.0 if last.bias is None else last.bias)


def _has_classifier(model: keras.Model) -> bool:
    return isinstance(model.layers[-1], keras.layers.Dense)


def _fitted(layers: tuple[str, ...], found: Sequence[Array], energies: Array) -> Strangeness:
    """Of the pooled maps (images, channels) and the energies (images,) of known pictures."""
    folds = np.arange(len(energies)) % FOLDS
    apart = np.empty((len(layers), len(energies)))  # log(1 + distance) to the Gaussians of the other folds' images
    for number, each in enumerate(found):
        for fold in range(FOLDS):
            out = folds == fold
            mean, matrix = _gaussian(each[~out])
            apart[number, out] = np.log1p(np.square((each[out] - mean) @ matrix).sum(axis=1))
    means, deviations = apart.mean(axis=1), _not_0(apart.std(axis=1))
    together = ((apart - means[:, np.newaxis]) / deviations[:, np.newaxis]).sum(axis=0)
    of_all, of_energy = _not_0(together.std()), _not_0(energies.std())
    weights = np.append(1 / (deviations * of_all), 1 / of_energy)
    offset = -float(weights[:-1] @ means + weights[-1] * energies.mean())
    scores = weights[:-1] @ apart + weights[-1] * energies + offset
    gaussians = [_gaussian(each) for each in found]
    return Strangeness(
        layers,
        tuple(mean.astype(np.float32) for mean, _ in gaussians),
        tuple(matrix.astype(np.float32) for _, matrix in gaussians),
        weights.astype(np.float32),
        offset,
        np.quantile(scores, np.linspace(0, 1, PLACES + 1)).astype(np.float32),
    )


def _gaussian(features: Array) -> tuple[Array, Array]:
    """The mean, and W with |W (x - mean)|^2 the Mahalanobis distance by the covariance of Ledoit and Wolf."""
    mean = features.mean(axis=0)
    covariance, _ = ledoit_wolf(features - mean, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    # A direction in which nothing varies tells nothing, and would be divided by 0.
    least = max(values[-1], np.finfo(np.float32).tiny) * np.finfo(np.float32).eps
    return mean, vectors / np.sqrt(np.maximum(values, least))


def _not_0(deviation: Any) -> Any:
    return np.where(deviation > 0, deviation, 1.0)


def figures(known: Strangeness, of_test: NDArray[Any]) -> dict[str, float]:
    """`rate` and `threshold` that `unknown` goes by, and the share of test images, 0..1, that is `refused`."""
    threshold = float(known.quantiles[round(PLACES * (1 - RATE / 100))])
    return {
        "rate": RATE,
        "threshold": threshold,
        "refused": float(np.mean(of_test > threshold)),
    }


def write(run: Run, fitted: Strangeness | str) -> None:
    content: dict[str, Any] = {"network": digest(run.model), "form": FORM}
    if isinstance(fitted, str):
        content["none"] = fitted
    else:
        named = fitted._asdict()
        for key in ("means", "matrices"):
            content |= {f"{key}_{number}": each for number, each in enumerate(named.pop(key))}
        content |= named
    with whole(run.unknown) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **content)


def is_there(run: Run) -> bool:
    """Whether it was fitted, or found not to be possible, for the network that the run has now."""
    return bool(_content(run))


def read(run: Run) -> Strangeness | None:
    """None where there is none for the network that the run has now."""
    content = _content(run)
    if not content or "none" in content:
        return None
    layers = tuple(content["layers"].tolist())
    parts = {key: tuple(content[f"{key}_{number}"] for number in range(len(layers))) for key in ("means", "matrices")}
    return Strangeness(
        layers, **parts, weights=content["weights"], offset=float(content["offset"]), quantiles=content["quantiles"]
    )


def _content(run: Run) -> dict[str, Any]:
    try:
        with run.unknown.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            content = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return {}
    is_of_it = content.get("form") == FORM and str(content.get("network")) == digest(run.model)
    return content if is_of_it else {}
