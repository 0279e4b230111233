"""ResNet-18. He, Zhang, Ren, Sun 2015, https://arxiv.org/abs/1512.03385

Figures and tables are that paper's. Grid sizes are for 224 x 224 input. Strided convolutions and pools are padded by
half their kernel on either side, and epsilon is 1e-5, as in torchvision's network of that name.

Departures of `ResNet18D2L`, the teaching network of "Dive into Deep Learning", https://d2l.ai, chapter 8.6:
- convolutions keep their biases, which beta makes idle;
- the shortcuts' convolutions are not normalised, so that their biases are at work;
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

PORTS: Mapping[str, Mapping[str, Any]] = {"caffe": {"strided_pools": "ceil"}}


def basic_block(filters: int, stride: int = 1, normalize_shortcut: bool = True, project: bool = False) -> Op:
    """Two 3x3 convolutions and a shortcut, the sum activated: Figure 2, Figure 5 on the left.

    The shortcut is the input itself; where the block is strided, or `project` asks for it, its 1x1 convolution (option
    B of section 3.3).
    """

    def op(x: Any, name: str, style: Style) -> Any:
        shortcut, channels = x, style.scaled(filters)
        x = conv(filters, 3, stride)(x, f"{name}_1", style)
        x = style.normalized(convolution(x, f"{name}_2", style, channels, 3), f"{name}_2")
        if stride > 1 or project:
            shortcut = convolution(shortcut, f"{name}_shortcut", style, channels, 1, stride)
            if normalize_shortcut:
                shortcut = style.normalized(shortcut, f"{name}_shortcut")
        return layers.Activation(style.activation, name=name)(layers.Add(name=f"{name}_sum")([x, shortcut]))

    return op


# fmt: off
def schema(normalize_shortcut: bool) -> tuple[Stage, ...]:
    return (                       # Table 1                                            grid     channels
        ("stem_1", 1, conv(64, 7, 2)),                                              # 112 x 112       64
        ("stem_2", 1, max_pool(3, 2)),                                              #  56 x  56       64
        ("residual_2", 2, basic_block(64)),                                         #  56 x  56       64
        ("residual_3_1", 1, basic_block(128, 2, normalize_shortcut)),               #  28 x  28      128
        ("residual_3_2", 1, basic_block(128)),                                      #  28 x  28      128
        ("residual_4_1", 1, basic_block(256, 2, normalize_shortcut)),               #  14 x  14      256
        ("residual_4_2", 1, basic_block(256)),                                      #  14 x  14      256
        ("residual_5_1", 1, basic_block(512, 2, normalize_shortcut)),               #   7 x   7      512
        ("residual_5_2", 1, basic_block(512)))                                      #   7 x   7      512
# fmt: on


STAGES = schema(normalize_shortcut=True)
CAFFE_STAGES: tuple[Stage, ...] = (
    *STAGES[:2],
    ("residual_2_1", 1, basic_block(64, project=True)),
    ("residual_2_2", 1, basic_block(64)),
    *STAGES[3:],
)
D2L_STAGES = schema(normalize_shortcut=False)


def ResNet18(
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
    name: str = "resnet18",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    The published weights take images less ImageNet's mean, over its deviation.
    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (the paper drops none). For `width` and
    `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`. There are no auxiliary
    heads to ask for. `ported_from` "caffe" projects the shortcut of the first block too, as all first blocks are in the
    larger networks of the paper, and lets the last window of the max pool hang over instead of padding it.

    Raises:
        ValueError: an argument outside its range; with "caffe", images below 3 x 3 pixels.
    """
    style = Style(width, normalization, momentum, 1e-5, scale, **SYMMETRIC)
    style = ported(style, ported_from, PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    minimum = 3 if ported_from == "caffe" else 1
    image = image_input(input_shape, default=(224, 224, 3), minimum=minimum, input_tensor=input_tensor)
    maps = run(CAFFE_STAGES if ported_from == "caffe" else STAGES, image, style)
    return network(image, finish(maps, top, style), "resnet18", name, weights)


def ResNet18D2L(
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
    name: str = "resnet18_d2l",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (96, 96, 1) -> probabilities (batch, classes).

    Arguments as for `ResNet18`.

    Raises:
        ValueError: an argument outside its range.
    """
    style = Style(width, normalization, momentum, 1e-5, scale, use_bias=True, **SYMMETRIC)
    style = ported(style, ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(96, 96, 1), minimum=1, input_tensor=input_tensor)
    maps = run(D2L_STAGES, image, style)
    return network(image, finish(maps, top, style), "resnet18_d2l", name, weights)
