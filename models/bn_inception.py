"""BN-Inception, also called Inception-v2. Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167

Figures are that paper's. Grid sizes are for 224 x 224 input.

Where the paper contradicts itself or its code, `BNInception` follows the widths of Figure 5 and the Caffe release:
- the stem is a full 7x7 convolution; the text speaks of a separable one with depth multiplier 8, as TF-slim has it;
- 4c and 4d project their pool to 128, which makes 608 channels; the figure's output column prints 576, and TF-slim
  narrows the projections to 96 to get there.
Without dropout: section 4.2.1 removes it.

Departures of `InceptionV2`, all of them those of TF-slim's checkpoint of that name:
- the stem is the separable 7x7 of the text, with a bias and without batch normalisation;
- 4c and 4d project their pool to 96, so that 4e makes 1024 channels where `BNInception` has 1056;
- dropout of 0.2.
The "Inception-v2" of 1512.00567 is another network.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import keras
from keras import layers

from . import imagenet
from .blocks import (
    LAST,
    Op,
    Stage,
    Style,
    Top,
    average_pool,
    column,
    conv,
    filter_concat,
    finish,
    image_input,
    max_pool,
    network,
    ported,
    run,
)

preprocess_input, decode_predictions = imagenet.scaled, imagenet.decode_predictions

CAFFE: Mapping[str, Any] = {
    "epsilon": 1e-5,
    "use_bias": True,
    "strided_convolutions": "symmetric",
    "strided_pools": "ceil",
    "count_padding": True,
}
PORTS: Mapping[str, Mapping[str, Any]] = {"cadene": CAFFE, "caffe": CAFFE}


def separable_stem(x: Any, name: str, style: Style) -> Any:
    """slim's stem, with `depth_multiplier` 8 whatever the width: a bias, a ReLU, and no batch normalisation."""
    x = layers.SeparableConv2D(
        style.scaled(64),
        7,
        2,
        "same",
        depth_multiplier=8,
        depthwise_initializer=style.initializer,
        pointwise_initializer=style.initializer,
        name=f"{name}_conv",
        **LAST,
    )(x)
    return layers.Activation(style.activation, name=name)(x)


# fmt: off


def inception(n1: int, r3: int, n3: int, r33: int, n33: int, pool: Op, projection: int) -> Op: # Figure 5
    return filter_concat(
        conv(n1, 1),
        column(conv(r3, 1), conv(n3, 3)),
        column(conv(r33, 1), conv(n33, 3), conv(n33, 3)),
        column(pool, conv(projection, 1)))


def reduction(r3: int, n3: int, r33: int, n33: int) -> Op:                          # Figure 5, "stride 2"
    return filter_concat(
        column(conv(r3, 1), conv(n3, 3, 2)),
        column(conv(r33, 1), conv(n33, 3), conv(n33, 3, 2)),
        max_pool(3, 2))


AVERAGE, MAX = average_pool(3), max_pool(3)


def schema(stem: Op, projection: int) -> tuple[Stage, ...]:
    return (                       # Figure 5                                              grid     channels
        ("stem_1", 1, stem),                                                            # 112 x 112       64
        ("stem_2", 1, max_pool(3, 2)),                                                  #  56 x  56       64
        ("stem_3", 1, conv(64, 1)),                                                     #  56 x  56       64
        ("stem_4", 1, conv(192, 3)),                                                    #  56 x  56      192
        ("stem_5", 1, max_pool(3, 2)),                                                  #  28 x  28      192
        ("inception_3a", 1, inception(64, 64, 64, 64, 96, AVERAGE, 32)),                #  28 x  28      256
        ("inception_3b", 1, inception(64, 64, 96, 64, 96, AVERAGE, 64)),                #  28 x  28      320
        ("inception_3c", 1, reduction(128, 160, 64, 96)),                               #  14 x  14      576
        ("inception_4a", 1, inception(224, 64, 96, 96, 128, AVERAGE, 128)),             #  14 x  14      576
        ("inception_4b", 1, inception(192, 96, 128, 96, 128, AVERAGE, 128)),            #  14 x  14      576
        ("inception_4c", 1, inception(160, 128, 160, 128, 160, AVERAGE, projection)),   #  14 x  14      608
        ("inception_4d", 1, inception(96, 128, 192, 160, 192, AVERAGE, projection)),    #  14 x  14      608
        ("inception_4e", 1, reduction(128, 192, 192, 256)),                             #   7 x   7     1056
        ("inception_5a", 1, inception(352, 192, 320, 160, 224, AVERAGE, 128)),          #   7 x   7     1024
        ("inception_5b", 1, inception(352, 192, 320, 192, 224, MAX, 128)))              #   7 x   7     1024


STAGES = schema(conv(64, 7, 2), projection=128)
SLIM_STAGES = schema(separable_stem, projection=96)                     # 4c and 4d: 576 channels, 4e: 1024
# fmt: on


def halves_evenly(side: int | None) -> bool:
    """Whether 3c and 4e meet maps of even sides in the ports, where the stem rounds up once and down twice."""
    return side is None or (side + 1) // 2 // 4 % 4 == 0


def BNInception(
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
    name: str = "bn_inception",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (the paper's ensemble: 0.05 or 0.1).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    `ported_from` "caffe" is the release, and "cadene" the same as PyTorch runs it: biases before batch normalisation,
    epsilon 1e-5, symmetric padding, average pools that count it, and max pools whose last window may hang over.

    Raises:
        ValueError: an argument outside its range, among them `auxiliary`, of which neither paper nor release says
            anything; with a port, sides on which its pools and convolutions end in maps of different sizes.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(224, 224, 3), minimum=31 if ported_from else 1, input_tensor=input_tensor)
    if ported_from and not all(halves_evenly(side) for side in image.shape[1:3]):
        raise ValueError(
            f"On images of {image.shape[1]} x {image.shape[2]} pixels the pools and convolutions of this port end in "
            "maps of different sizes: multiples of 32 work."
        )
    maps = run(STAGES, image, style)
    return network(image, finish(maps, top, style), "bn_inception", name, weights)


def InceptionV2(
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    dropout: float = 0.2,
    width: float = 1.0,
    normalization: Literal["batch"] | None = "batch",
    momentum: float = 0.99,
    scale: bool = True,
    auxiliary: bool = False,
    ported_from: str | None = None,
    name: str = "inception_v2",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (TF-slim keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    `ported_from` has no port.

    Raises:
        ValueError: an argument outside its range, among them `auxiliary`, of which slim has none.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    image = image_input(input_shape, default=(224, 224, 3), minimum=1, input_tensor=input_tensor)
    maps = run(SLIM_STAGES, image, style)
    return network(image, finish(maps, top, style), "inception_v2", name, weights)
