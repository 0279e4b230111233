"""Whether a probability means what it says, and the one number that mends it. Guo et al. 2017, 1706.04599."""

from typing import Any

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

BINS = 15  # as the paper reports
LIMITS = (0.05, 20.0)  # of the temperature
SMALLEST = float(np.finfo(np.float32).tiny)  # below it float32 has no probability that can be told from 0


def expected_error(probabilities: NDArray[Any], truth: NDArray[Any]) -> float:
    """The expected calibration error, 0 to 1: over `BINS` equal widths of the confidence, each closed above, the
    distance between mean confidence and accuracy, weighted by the images in the bin (equation 3).

    `probabilities` is (count, classes), `truth` (count,).
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.digitize(confidence, np.arange(1, BINS) / BINS, right=True)
    apart = np.bincount(bins, right - confidence, BINS)  # sums; divided by the bin's images and weighted by them
    return float(np.abs(apart).sum() / len(truth))


def fit(logits: NDArray[Any], truth: NDArray[Any]) -> float:
    """The temperature T for which softmax(logits / T) has the smallest mean cross-entropy (section 4.2).

    Log-probabilities are logits as well. Where every image is named right there is no smallest: the surer, the better;
    T is 1 then.
    """
    if (logits.argmax(axis=1) == truth).all():
        return 1.0
    logits = logits.astype(np.float64)

    def cross_entropy(logarithm: float) -> float:
        scaled = logits / np.exp(logarithm)
        return float(np.mean(scipy.special.logsumexp(scaled, axis=1) - scaled[np.arange(len(truth)), truth]))

    found = scipy.optimize.minimize_scalar(
        cross_entropy, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-8}
    )
    return float(np.exp(found.x))


def logarithms(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Their natural logarithms; what is rounded to 0 counts as `SMALLEST`."""
    return np.log(np.maximum(probabilities, SMALLEST, dtype=np.float64))


def scaled(probabilities: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """softmax(logits / temperature), from softmax(logits): the order of the classes stays."""
    return scipy.special.softmax(logarithms(probabilities) / temperature, axis=1)
