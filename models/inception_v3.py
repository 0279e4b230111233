"""Inception-v3. Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, https://arxiv.org/abs/1512.00567

Figures and tables are that paper's. Grid sizes are for 299 x 299 input.

Departures from Table 1, all of them those of the published checkpoints (TF-slim, Keras, torchvision, timm):
- the stem is 1x1 to 80, 3x3 to 192 and a max pool where the table has three 3x3 convolutions to 80, 192 and 288;
- the first 35 x 35 module gives 256 channels, its pool being projected to 32;
- the 35 x 35 modules keep one 5x5 where Figure 5 has two 3x3;
- the auxiliary head has TF-slim's widths, 1x1 to 128 and 5x5 to 768.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Literal

import keras

from . import imagenet
from .blocks import (
    Op,
    Stage,
    Style,
    Top,
    auxiliary_features,
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

V: Literal["valid"] = "valid"
PORTS: Mapping[str, Mapping[str, Any]] = {"torchvision": {"count_padding": True}, "timm": {"count_padding": True}}

# fmt: off

def inception_a(pool: int) -> Op:                                                   # Figure 5
    return filter_concat(
        conv(64, 1),
        column(conv(48, 1), conv(64, 5)),
        column(conv(64, 1), conv(96, 3), conv(96, 3)),
        column(average_pool(3), conv(pool, 1)))


REDUCTION_A = filter_concat(                                                        # Figure 10
    conv(384, 3, 2, V),
    column(conv(64, 1), conv(96, 3), conv(96, 3, 2, V)),
    max_pool(3, 2, V))


def inception_b(n: int) -> Op:                                                      # Figure 6, with 7 for its n
    return filter_concat(
        conv(192, 1),
        column(conv(n, 1), conv(n, (1, 7)), conv(192, (7, 1))),
        column(conv(n, 1), conv(n, (7, 1)), conv(n, (1, 7)), conv(n, (7, 1)), conv(192, (1, 7))),
        column(average_pool(3), conv(192, 1)))


REDUCTION_B = filter_concat(                                                        # Figure 10
    column(conv(192, 1), conv(320, 3, 2, V)),
    column(conv(192, 1), conv(192, (1, 7)), conv(192, (7, 1)), conv(192, 3, 2, V)),
    max_pool(3, 2, V))

FORK = filter_concat(conv(384, (1, 3)), conv(384, (3, 1)))
INCEPTION_C = filter_concat(                                                        # Figure 7
    conv(320, 1),
    column(conv(384, 1), FORK),
    column(conv(448, 1), conv(384, 3), FORK),
    column(average_pool(3), conv(192, 1)))

STAGES: tuple[Stage, ...] = (      # Table 1                  grid     channels
    ("stem_1", 1, conv(32, 3, 2, V)),                   # 149 x 149       32
    ("stem_2", 1, conv(32, 3, 1, V)),                   # 147 x 147       32
    ("stem_3", 1, conv(64, 3)),                         # 147 x 147       64
    ("stem_4", 1, max_pool(3, 2, V)),                   #  73 x  73       64
    ("stem_5", 1, conv(80, 1)),                         #  73 x  73       80
    ("stem_6", 1, conv(192, 3, 1, V)),                  #  71 x  71      192
    ("stem_7", 1, max_pool(3, 2, V)),                   #  35 x  35      192
    ("inception_a_1", 1, inception_a(pool=32)),         #  35 x  35      256
    ("inception_a_2", 1, inception_a(pool=64)),         #  35 x  35      288
    ("inception_a_3", 1, inception_a(pool=64)),         #  35 x  35      288
    ("reduction_a", 1, REDUCTION_A),                    #  17 x  17      768
    ("inception_b_1", 1, inception_b(128)),             #  17 x  17      768
    ("inception_b_2", 1, inception_b(160)),             #  17 x  17      768
    ("inception_b_3", 1, inception_b(160)),             #  17 x  17      768
    ("inception_b_4", 1, inception_b(192)),             #  17 x  17      768
    ("reduction_b", 1, REDUCTION_B),                    #   8 x   8     1280
    ("inception_c", 2, INCEPTION_C))                    #   8 x   8     2048
# fmt: on
HEADS = {"auxiliary": ("inception_b_4", auxiliary_features)}


def InceptionV3(
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
    name: str = "inception_v3",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (299, 299, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications.InceptionV3`; `weights` is None, "imagenet"
    or a path. `dropout` is the share of features that is dropped before the classifier (TF-slim keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    Without gamma (`scale=False`) the network is TF-slim's and Keras'. With `auxiliary` the output is a dict of
    `predictions` and `auxiliary`, both (batch, classes); slim adds 0.4 times the loss of the latter.
    `ported_from` "torchvision" or "timm" counts the zeros around the map in average pools.

    Raises:
        ValueError: images below 75 x 75 pixels, with the auxiliary head below 299 x 299; an argument outside its range.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, PORTS)
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary, HEADS)
    image = image_input(input_shape, default=(299, 299, 3), minimum=75, input_tensor=input_tensor)
    maps = run(STAGES, image, style)
    return network(image, finish(maps, top, style), "inception_v3", name, weights)
