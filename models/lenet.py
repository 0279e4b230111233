"""LeNet with batch normalisation: the teaching network of "Dive into Deep Learning", https://d2l.ai, chapter 8.5.

After LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition", and
Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167. Grid sizes are for 28 x 28 input.

As in its source: no padding, sigmoid after every normalisation, and the biases before batch normalisation are kept
although beta makes them idle.
"""

from os import PathLike
from typing import Any, Literal

import keras
from keras import layers

from . import imagenet
from .blocks import LAST, Stage, Style, Top, average_pool, classify, conv, finish, image_input, network, ported, run

preprocess_input, decode_predictions = imagenet.scaled, imagenet.decode_predictions

# fmt: off
STAGES: tuple[Stage, ...] = (                   #    grid     channels
    ("stem_1", 1, conv(6, 5, 1, "valid")),      #  24 x 24       6
    ("stem_2", 1, average_pool(2, 2, "valid")), #  12 x 12       6
    ("stem_3", 1, conv(16, 5, 1, "valid")),     #   8 x  8      16
    ("stem_4", 1, average_pool(2, 2, "valid"))) #   4 x  4      16
# fmt: on
DENSE = (120, 84)


def LeNetBN(
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 10,
    classifier_activation: str | None = "softmax",
    *,
    dropout: float = 0.0,
    width: float = 1.0,
    normalization: Literal["batch"] | None = "batch",
    momentum: float = 0.9,
    scale: bool = True,
    auxiliary: bool = False,
    ported_from: str | None = None,
    name: str = "lenet_bn",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (28, 28, 1) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None or a path. The top is
    both hidden dense layers and the classifier. For `width` and `normalization` see `blocks.Style`; `momentum` and
    `scale` are those of `BatchNormalization`. There are no auxiliary heads to ask for, and no port that differs.

    Raises:
        ValueError: images below 16 x 16 pixels; with the top, an unknown side; an argument outside its range.
    """
    style = Style(width, normalization, momentum, 1e-5, scale, use_bias=True, activation="sigmoid")
    style = ported(style, ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(28, 28, 1), minimum=16, input_tensor=input_tensor)
    shape = tuple(image.shape[1:])
    if include_top and None in shape:
        raise ValueError(f"{name} flattens its last map: input_shape={shape} needs a height and a width.")
    maps = run(STAGES, image, style)
    if not include_top:
        return network(image, finish(maps, top, style), "lenet_bn", name, weights)
    *_, x = maps.values()
    x = layers.Flatten(name="flatten", **LAST)(x)
    for position, units in enumerate(DENSE, start=1):
        dense = layers.Dense(style.scaled(units), kernel_initializer=style.initializer, name=f"dense_{position}_dense")
        x = style.activated(dense(x), f"dense_{position}")
    return network(image, classify(x, top, style), "lenet_bn", name, weights)
