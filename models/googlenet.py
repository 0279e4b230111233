"""GoogLeNet, Inception-v1. Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2014,
https://arxiv.org/abs/1409.4842

Figures and tables are that paper's. Grid sizes are for 224 x 224 input.

`GoogLeNet` is the paper's network. Where the paper leaves a figure open it follows the authors' other releases:
- local response normalisation with the constants of the Caffe release, on five channels;
- the stem is padded by 3 on every side, as in the Caffe release, where TensorFlow's "same" pads by 2 and 3;
- the auxiliary heads stand on 4a and 4d, as the text says.

Departures of `InceptionV1`, all of them those of the published checkpoints (TF-slim, torchvision):
- every convolution is batch-normalised and has no bias; no local response normalisation;
- the third column has a 3x3 where the paper has a 5x5;
- the pool before 5a is 2x2;
- dropout of 0.2 where the paper has 0.4;
- no auxiliary heads. torchvision's own are of another form, and its published file holds them untrained.
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
    require,
    run,
)
from .local_response_normalization import LocalResponseNormalization

preprocess_input, decode_predictions = imagenet.scaled, imagenet.decode_predictions

PORTS: Mapping[str, Mapping[str, Any]] = {
    "torchvision": {"strided_convolutions": "symmetric", "strided_pools": "ceil"},
}
PAPER_PORTS: Mapping[str, Mapping[str, Any]] = {"caffe": {"strided_pools": "ceil"}}

# fmt: off


def inception(side: int, n1: int, r3: int, n3: int, r5: int, n5: int, projection: int) -> Op:  # Figure 2(b)
    return filter_concat(
        conv(n1, 1),
        column(conv(r3, 1), conv(n3, 3)),
        column(conv(r5, 1), conv(n5, side)),
        column(max_pool(3), conv(projection, 1)))


def modules(side: int, pool: int) -> tuple[Stage, ...]:
    return (                       # Table 1                                            grid     channels
        ("inception_3a", 1, inception(side, 64, 96, 128, 16, 32, 32)),              #  28 x  28      256
        ("inception_3b", 1, inception(side, 128, 128, 192, 32, 96, 64)),            #  28 x  28      480
        ("pool_3", 1, max_pool(3, 2)),                                              #  14 x  14      480
        ("inception_4a", 1, inception(side, 192, 96, 208, 16, 48, 64)),             #  14 x  14      512
        ("inception_4b", 1, inception(side, 160, 112, 224, 24, 64, 64)),            #  14 x  14      512
        ("inception_4c", 1, inception(side, 128, 128, 256, 24, 64, 64)),            #  14 x  14      512
        ("inception_4d", 1, inception(side, 112, 144, 288, 32, 64, 64)),            #  14 x  14      528
        ("inception_4e", 1, inception(side, 256, 160, 320, 32, 128, 128)),          #  14 x  14      832
        ("pool_4", 1, max_pool(pool, 2)),                                           #   7 x   7      832
        ("inception_5a", 1, inception(side, 256, 160, 320, 32, 128, 128)),          #   7 x   7      832
        ("inception_5b", 1, inception(side, 384, 192, 384, 48, 128, 128)))          #   7 x   7     1024


def response_normalization(x: Any, name: str, style: Style) -> Any:
    return LocalResponseNormalization(name=name)(x)


STAGES: tuple[Stage, ...] = (      # Figure 3                   grid     channels
    ("stem_1", 1, conv(64, 7, 2)),                          # 112 x 112       64
    ("stem_2", 1, max_pool(3, 2)),                          #  56 x  56       64
    ("stem_3", 1, response_normalization),                  #  56 x  56       64
    ("stem_4", 1, conv(64, 1)),                             #  56 x  56       64
    ("stem_5", 1, conv(192, 3)),                            #  56 x  56      192
    ("stem_6", 1, response_normalization),                  #  56 x  56      192
    ("stem_7", 1, max_pool(3, 2)),                          #  28 x  28      192
    *modules(side=5, pool=3))

SLIM_STAGES: tuple[Stage, ...] = (                          #    grid     channels
    ("stem_1", 1, conv(64, 7, 2)),                          # 112 x 112       64
    ("stem_2", 1, max_pool(3, 2)),                          #  56 x  56       64
    ("stem_3", 1, conv(64, 1)),                             #  56 x  56       64
    ("stem_4", 1, conv(192, 3)),                            #  56 x  56      192
    ("stem_5", 1, max_pool(3, 2)),                          #  28 x  28      192
    *modules(side=3, pool=2))
# fmt: on


def auxiliary_features(x: Any, name: str, style: Style) -> Any:
    """Features (batch, 1024) of an auxiliary head: section 5, "the exact structure of the extra network on the side".

    Raises:
        ValueError: a map below 5 x 5, or of unknown size.
    """
    if None in x.shape[1:3]:
        raise ValueError(
            f"The head `{name}` flattens its map: with auxiliary=True input_shape needs a height and a width."
        )
    require(x, 5, f"The head `{name}`")
    x = average_pool(5, 3, "valid")(x, f"{name}_pool", style)
    x = conv(128, 1)(x, f"{name}_projection", style)
    x = layers.Flatten(name=f"{name}_flatten", **LAST)(x)
    options = {"kernel_initializer": style.initializer, "name": f"{name}_dense"}
    x = layers.Dense(style.scaled(1024), style.activation, **options)(x)
    return layers.Dropout(0.7, name=f"{name}_dropout")(x)


HEADS = {"auxiliary_1": ("inception_4a", auxiliary_features), "auxiliary_2": ("inception_4d", auxiliary_features)}


def GoogLeNet(
    include_top: bool = True,
    weights: str | PathLike[str] | None = None,
    input_tensor: Any = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | None = "softmax",
    *,
    dropout: float = 0.4,
    width: float = 1.0,
    auxiliary: bool = False,
    ported_from: str | None = None,
    name: str = "googlenet",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier; before those of the heads it is 0.7.
    For `width` see `blocks.Style`. With `auxiliary` the output is a dict of `predictions`, `auxiliary_1` and
    `auxiliary_2`, all (batch, classes); the paper adds 0.3 times the loss of either head. `ported_from` "caffe" lets
    the last window of strided max pools hang over, which on the paper's images makes no difference.

    Raises:
        ValueError: an argument outside its range; with the heads, images below 65 x 65 pixels or of unknown size; with
            "caffe", images below 31 x 31 pixels.
    """
    style = Style(width, normalization=None, strided_convolutions="symmetric")
    style = ported(style, ported_from, PAPER_PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary, HEADS)
    minimum = 31 if ported_from == "caffe" else 1
    image = image_input(input_shape, default=(224, 224, 3), minimum=minimum, input_tensor=input_tensor)
    maps = run(STAGES, image, style)
    return network(image, finish(maps, top, style), "googlenet", name, weights)


def InceptionV1(
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
    name: str = "inception_v1",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (224, 224, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (TF-slim keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    `ported_from` "torchvision" pads the stem by 3 on every side, so that it stands one pixel further, and lets the last
    window of strided max pools hang over.

    Raises:
        ValueError: an argument outside its range, among them `auxiliary`, of which slim has none; with "torchvision",
            images below 15 x 15 pixels.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    minimum = 15 if ported_from == "torchvision" else 1
    image = image_input(input_shape, default=(224, 224, 3), minimum=minimum, input_tensor=input_tensor)
    maps = run(SLIM_STAGES, image, style)
    return network(image, finish(maps, top, style), "inception_v1", name, weights)
