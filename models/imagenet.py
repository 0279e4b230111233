"""ImageNet's thousand classes (ILSVRC 2012), and images and answers of the networks whose published weights know them.

`imagenet.csv` holds the classes in the order of published networks: the synset, as `n01440764`, and its English name,
the first word that WordNet 3.0 (https://wordnet.princeton.edu) has for it. Two names stand there twice: a crane is a
bird and a machine, and there are two maillots.
"""

import csv
import importlib.resources
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

BACKGROUND = "background"  # class 0 of the 1001 that TF-slim trains: no image has it
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in 0..1, red, green, blue


def names() -> dict[str, str]:
    """Synset -> English name, in the order of published networks."""
    return dict(_rows())


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    with (importlib.resources.files(__package__) / "imagenet.csv").open(encoding="utf-8") as file:
        return tuple((row["synset"], row["name"]) for row in csv.DictReader(file))


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, Any]]]:
    """The `top` best classes of every row, the best first, as (synset, English name, score).

    `preds` is (batch, 1000), or (batch, 1001) with the background of TF-slim's networks first.

    Raises:
        ValueError: another shape.
    """
    shape = tuple(preds.shape)
    if len(shape) != 2 or shape[1] not in (1000, 1001):
        raise ValueError(
            f"Predictions of shape {shape} are not of ImageNet's classes, which are (batch, 1000), or (batch, 1001) "
            "with the background first: a network of your own classes has your own labels."
        )
    classes = _rows() if shape[1] == 1000 else ((BACKGROUND, BACKGROUND), *_rows())
    scores = ops.convert_to_numpy(preds)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(*classes[i], row[i]) for i in places] for row, places in zip(scores, best, strict=True)]


def scaled(x: Any, data_format: str | None = None) -> Any:
    """Pixels in 0..255, (..., height, width, channels), as [-1, 1]: what Inception networks take.

    A NumPy array gives a new one, a tensor a tensor; integers become `keras.config.floatx()`. `data_format` is there
    because `keras.applications` has it.

    Raises:
        ValueError: `data_format` "channels_first".
    """
    return _floating(x, data_format) / 127.5 - 1.0


def standardized(x: Any, data_format: str | None = None) -> Any:
    """RGB pixels in 0..255, (..., height, width, 3), less ImageNet's mean and over its deviation: what ResNet and
    DenseNet take, as torchvision trained them. Types as in `scaled`.

    Raises:
        ValueError: `data_format` "channels_first", or other channels than 3.
    """
    if x.shape[-1] != 3:
        raise ValueError(f"ImageNet's mean is of red, green and blue; images of shape {tuple(x.shape)} have others.")
    x = _floating(x, data_format) / 255.0
    if isinstance(x, np.ndarray):
        return (x - np.asarray(MEAN, x.dtype)) / np.asarray(DEVIATION, x.dtype)
    return (x - ops.convert_to_tensor(MEAN, x.dtype)) / ops.convert_to_tensor(DEVIATION, x.dtype)


def _floating(x: Any, data_format: str | None) -> Any:
    if data_format not in (None, "channels_last"):
        raise ValueError(f'data_format={data_format!r}: the networks take images as "channels_last" alone.')
    if isinstance(x, np.ndarray):
        return x if np.issubdtype(x.dtype, np.floating) else x.astype(keras.config.floatx())
    return x if keras.backend.is_float_dtype(x.dtype) else ops.cast(x, keras.config.floatx())
