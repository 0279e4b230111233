"""DenseNet-121. Huang, Liu, van der Maaten, Weinberger 2016, https://arxiv.org/abs/1608.06993

Figures and tables are that paper's. Grid sizes are for 224 x 224 input. Strided convolutions and pools are padded by
half their kernel on either side; epsilon is the 1.001e-5 of `keras.applications`.

Departures of `DenseNetD2L`, the teaching network of "Dive into Deep Learning", https://d2l.ai, chapter 8.7:
- four layers in each of the four blocks, without the 1x1 bottleneck;
- convolutions keep their biases, which beta makes idle;
- 96 x 96 images of one channel, ten classes.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import keras
from keras import layers

from . import imagenet
from .blocks import (
    SYMMETRIC,
    Op,
    Stage,
    Style,
    Top,
    average_pool,
    conv,
    convolution,
    finish,
    image_input,
    max_pool,
    network,
    ported,
    run,
)

preprocess_input, decode_predictions = imagenet.standardized, imagenet.decode_predictions

PORTS: Mapping[str, Mapping[str, Any]] = {"torchvision": {"epsilon": 1e-5}, "caffe": {"epsilon": 1e-5}}
GROWTH = 32


def preactivated(filters: int, kernel: int) -> Op:
    """BN, ReLU, convolution: section 3, "Composite function"."""

    def op(x: Any, name: str, style: Style) -> Any:
        return convolution(style.activated(x, name), name, style, style.scaled(filters), kernel)

    return op


def dense_layer(*steps: Op) -> Op:
    """Concatenates the output of `steps` to the map they start from: section 3, "Dense connectivity"."""

    def op(x: Any, name: str, style: Style) -> Any:
        new = x
        for position, step in enumerate(steps, start=1):
            new = step(new, f"{name}_{position}", style)
        return layers.Concatenate(name=name)([x, new])

    return op


def transition(filters: int) -> Op:
    """Section 3, "Pooling layers"."""

    def op(x: Any, name: str, style: Style) -> Any:
        x = layers.Activation(style.activation, name=f"{name}_relu")(style.normalized(x, name))
        x = convolution(x, name, style, style.scaled(filters), 1)
        return average_pool(2, 2, "valid")(x, name, style)

    return op


def activation(x: Any, name: str, style: Style) -> Any:
    return style.activated(x, name)


# fmt: off

BOTTLENECK = dense_layer(preactivated(4 * GROWTH, 1), preactivated(GROWTH, 3))      # DenseNet-B
PLAIN = dense_layer(preactivated(GROWTH, 3))

STAGES: tuple[Stage, ...] = (      # Table 1            grid     channels
    ("stem_1", 1, conv(64, 7, 2)),                  # 112 x 112       64
    ("stem_2", 1, max_pool(3, 2)),                  #  56 x  56       64
    ("dense_block_1", 6, BOTTLENECK),               #  56 x  56      256
    ("transition_1", 1, transition(128)),           #  28 x  28      128
    ("dense_block_2", 12, BOTTLENECK),              #  28 x  28      512
    ("transition_2", 1, transition(256)),           #  14 x  14      256
    ("dense_block_3", 24, BOTTLENECK),              #  14 x  14     1024
    ("transition_3", 1, transition(512)),           #   7 x   7      512
    ("dense_block_4", 16, BOTTLENECK),              #   7 x   7     1024
    ("final", 1, activation))                       #   7 x   7     1024

D2L_STAGES: tuple[Stage, ...] = (  # for 96 x 96        grid     channels
    ("stem_1", 1, conv(64, 7, 2)),                  #  48 x  48       64
    ("stem_2", 1, max_pool(3, 2)),                  #  24 x  24       64
    ("dense_block_1", 4, PLAIN),                    #  24 x  24      192
    ("transition_1", 1, transition(96)),            #  12 x  12       96
    ("dense_block_2", 4, PLAIN),                    #  12 x  12      224
    ("transition_2", 1, transition(112)),           #   6 x   6      112
    ("dense_block_3", 4, PLAIN),                    #   6 x   6      240
    ("transition_3", 1, transition(120)),           #   3 x   3      120
    ("dense_block_4", 4, PLAIN),                    #   3 x   3      248
    ("final", 1, activation))                       #   3 x   3      248
# fmt: on


def halves_evenly(side: int | None) -> bool:
    """Whether the three transitions meet maps of even sides, where convolution and pool of the stem round up."""
    return side is None or -(-side // 4) % 8 == 0


def DenseNet121(
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    dropout: float = 0.0,
    width: float = 1.0,
    normalization: Literal["batch"] | None = "batch",
    momentum: float = 0.99,
    scale: bool = True,
    auxiliary: bool = False,
    ported_from: str | None = None,
    name: str = "densenet121",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    The published weights take images less ImageNet's mean, over its deviation.
    Arguments up to `classifier_activation` are those of `keras.applications.DenseNet121`; `weights` is None, "imagenet"
    or a path. `dropout` is the share of features that is dropped before the classifier (the paper drops none). For
    `width`, which scales growth and bottleneck too, and `normalization` see `blocks.Style`; `momentum` and `scale` are
    those of `BatchNormalization`. `ported_from` "torchvision" and "caffe" have epsilon 1e-5.

    Raises:
        ValueError: images below 29 x 29 pixels; an argument outside its range, among them `auxiliary`, of which the
            paper has none; with "caffe", whose average pools count a row that is left over, sides on which one is.
    """
    style = Style(width, normalization, momentum, 1.001e-5, scale, **SYMMETRIC)
    style = ported(style, ported_from, PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(224, 224, 3), minimum=29, input_tensor=input_tensor)
    if ported_from == "caffe" and not all(halves_evenly(side) for side in image.shape[1:3]):
        raise ValueError(
            f"On images of {image.shape[1]} x {image.shape[2]} pixels the average pools of this port meet maps of odd "
            "sides: multiples of 32 work."
        )
    maps = run(STAGES, image, style)
    return network(image, finish(maps, top, style), "densenet121", name, weights)


def DenseNetD2L(
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
    momentum: float = 0.99,
    scale: bool = True,
    auxiliary: bool = False,
    ported_from: str | None = None,
    name: str = "densenet_d2l",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (96, 96, 1) -> probabilities (batch, classes).

    Arguments as for `DenseNet121`; there is no port.

    Raises:
        ValueError: images below 29 x 29 pixels; an argument outside its range.
    """
    style = Style(width, normalization, momentum, 1e-5, scale, use_bias=True, **SYMMETRIC)
    style = ported(style, ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(96, 96, 1), minimum=29, input_tensor=input_tensor)
    maps = run(D2L_STAGES, image, style)
    return network(image, finish(maps, top, style), "densenet_d2l", name, weights)
