"""Inception-v4. Szegedy, Ioffe, Vanhoucke, Alemi 2016, https://arxiv.org/abs/1602.07261

Figures and tables are that paper's. Grid sizes are for 299 x 299 input.

Departures from the paper, those of TF-slim:
- concatenations are in the order of the published checkpoints, in which pools may stand last;
- there is an auxiliary head, on the last 17 x 17 module, of which the paper says nothing.
"""

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

# fmt: off

STEM: tuple[Stage, ...] = (        # Figure 3                       grid     channels
    ("stem_1", 1, conv(32, 3, 2, V)),                           # 149 x 149       32
    ("stem_2", 1, conv(32, 3, 1, V)),                           # 147 x 147       32
    ("stem_3", 1, conv(64, 3)),                                 # 147 x 147       64
    ("stem_4", 1, filter_concat(                                #  73 x  73      160
        max_pool(3, 2, V),
        conv(96, 3, 2, V))),
    ("stem_5", 1, filter_concat(                                #  71 x  71      192
        column(conv(64, 1), conv(96, 3, 1, V)),
        column(conv(64, 1), conv(64, (1, 7)), conv(64, (7, 1)), conv(96, 3, 1, V)))),
    ("stem_6", 1, filter_concat(                                #  35 x  35      384
        conv(192, 3, 2, V),
        max_pool(3, 2, V))))

INCEPTION_A = filter_concat(                                                        # Figure 4
    conv(96, 1),
    column(conv(64, 1), conv(96, 3)),
    column(conv(64, 1), conv(96, 3), conv(96, 3)),
    column(average_pool(3), conv(96, 1)))


def reduction_a(k: int, l: int, m: int, n: int) -> Op:                              # Figure 7, Table 1
    return filter_concat(
        conv(n, 3, 2, V),
        column(conv(k, 1), conv(l, 3), conv(m, 3, 2, V)),
        max_pool(3, 2, V))


INCEPTION_B = filter_concat(                                                        # Figure 5
    conv(384, 1),
    column(conv(192, 1), conv(224, (1, 7)), conv(256, (7, 1))),
    column(conv(192, 1), conv(192, (7, 1)), conv(224, (1, 7)), conv(224, (7, 1)), conv(256, (1, 7))),
    column(average_pool(3), conv(128, 1)))

REDUCTION_B = filter_concat(                                                        # Figure 8
    column(conv(192, 1), conv(192, 3, 2, V)),
    column(conv(256, 1), conv(256, (1, 7)), conv(320, (7, 1)), conv(320, 3, 2, V)),
    max_pool(3, 2, V))

FORK = filter_concat(conv(256, (1, 3)), conv(256, (3, 1)))
INCEPTION_C = filter_concat(                                                        # Figure 6
    conv(256, 1),
    column(conv(384, 1), FORK),
    column(conv(384, 1), conv(448, (3, 1)), conv(512, (1, 3)), FORK),
    column(average_pool(3), conv(256, 1)))

STAGES: tuple[Stage, ...] = (      # Figure 9                       grid     channels
    *STEM,                                                      #  35 x  35      384
    ("inception_a", 4, INCEPTION_A),                            #  35 x  35      384
    ("reduction_a", 1, reduction_a(192, 224, 256, 384)),        #  17 x  17     1024
    ("inception_b", 7, INCEPTION_B),                            #  17 x  17     1024
    ("reduction_b", 1, REDUCTION_B),                            #   8 x   8     1536
    ("inception_c", 3, INCEPTION_C))                            #   8 x   8     1536
# fmt: on
HEADS = {"auxiliary": ("inception_b_7", auxiliary_features)}


def InceptionV4(
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
    name: str = "inception_v4",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (299, 299, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (the paper keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    Without gamma (`scale=False`) the network is TF-slim's. With `auxiliary` the output is a dict of `predictions` and
    `auxiliary`, both (batch, classes); slim adds 0.4 times the loss of the latter. `ported_from` has no port.

    Raises:
        ValueError: images below 75 x 75 pixels, with the auxiliary head below 299 x 299; an argument outside its range.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary, HEADS)
    image = image_input(input_shape, default=(299, 299, 3), minimum=75, input_tensor=input_tensor)
    maps = run(STAGES, image, style)
    return network(image, finish(maps, top, style), "inception_v4", name, weights)
