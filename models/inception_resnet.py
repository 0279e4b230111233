"""Inception-ResNet-v1 and -v2. Szegedy, Ioffe, Vanhoucke, Alemi 2016, https://arxiv.org/abs/1602.07261

Figures and tables are that paper's. Grid sizes are for 299 x 299 input.

Batch normalisation stands on the ordinary convolutions and not on the sums, as section 3.2 has it; nor on the 1x1
convolutions, with a bias and without activation, that bring a block up to the width of its sum.

`InceptionResNetV2Paper` is the paper's second network. No checkpoint of it was published. Where a figure contradicts
its own arithmetic the sum has the width of the map that it is added to:
- 1152 in the 17 x 17 blocks, where Figure 17 prints 1154;
- 2144 in the 8 x 8 blocks, where Figure 19 prints 2048.

Departures of `InceptionResNetV2`, all of them those of the published checkpoints (TF-slim, Keras, timm, Cadene):
- the stem is that of Inception-v3, with an Inception module to 320 channels where Figure 3 gives 384;
- 10, 20 and 10 blocks where Figure 15 has 5, 10 and 5, on sums of 320, 1088 and 2080 channels;
- the last block is linear and its scale is 1;
- a 1x1 convolution to 1536 channels before the average pool;
- there is an auxiliary head, on the last 17 x 17 block.

Departures of `InceptionResNetV1`, those of facenet:
- a sixth 8 x 8 block, which is linear and has scale 1;
- `bottleneck`, a dense layer to an embedding before the classifier.
"""

from os import PathLike
from typing import Any, Literal

import keras
from keras import layers

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
    residual,
    run,
)
from .inception_v4 import STEM, reduction_a

preprocess_input, decode_predictions = imagenet.scaled, imagenet.decode_predictions

V: Literal["valid"] = "valid"
Scales = tuple[float, float, float]
PUBLISHED: Scales = (0.17, 0.10, 0.20)

# fmt: off


def inception_resnet_a(n32: int, n33: int, scale: float) -> Op:                     # Figures 10 and 16
    return residual(
        conv(32, 1),
        column(conv(32, 1), conv(32, 3)),
        column(conv(32, 1), conv(n32, 3), conv(n33, 3)),
        scale=scale)


def inception_resnet_b(n1: int, r7: int, n17: int, n71: int, scale: float) -> Op:   # Figures 11 and 17
    return residual(
        conv(n1, 1),
        column(conv(r7, 1), conv(n17, (1, 7)), conv(n71, (7, 1))),
        scale=scale)


def reduction_b(n3: int, m33: int, n33: int) -> Op:                                 # Figures 12 and 18
    return filter_concat(
        column(conv(256, 1), conv(384, 3, 2, V)),
        column(conv(256, 1), conv(n3, 3, 2, V)),
        column(conv(256, 1), conv(m33, 3), conv(n33, 3, 2, V)),
        max_pool(3, 2, V))


def inception_resnet_c(n13: int, n31: int, scale: float, linear: bool = False) -> Op:  # Figures 13 and 19
    return residual(
        conv(192, 1),
        column(conv(192, 1), conv(n13, (1, 3)), conv(n31, (3, 1))),
        scale=scale, linear=linear)


MIXED_A = filter_concat(
    conv(96, 1),
    column(conv(48, 1), conv(64, 5)),
    column(conv(64, 1), conv(96, 3), conv(96, 3)),
    column(average_pool(3), conv(64, 1)))


def stages_v1(a: float, b: float, c: float) -> tuple[Stage, ...]:
    return (                       # Figure 15, Figure 14 for the stem              grid     channels
        ("stem_1", 1, conv(32, 3, 2, V)),                                       # 149 x 149       32
        ("stem_2", 1, conv(32, 3, 1, V)),                                       # 147 x 147       32
        ("stem_3", 1, conv(64, 3)),                                             # 147 x 147       64
        ("stem_4", 1, max_pool(3, 2, V)),                                       #  73 x  73       64
        ("stem_5", 1, conv(80, 1)),                                             #  73 x  73       80
        ("stem_6", 1, conv(192, 3, 1, V)),                                      #  71 x  71      192
        ("stem_7", 1, conv(256, 3, 2, V)),                                      #  35 x  35      256
        ("inception_resnet_a", 5, inception_resnet_a(32, 32, a)),               #  35 x  35      256
        ("reduction_a", 1, reduction_a(192, 192, 256, 384)),                    #  17 x  17      896
        ("inception_resnet_b", 10, inception_resnet_b(128, 128, 128, 128, b)),  #  17 x  17      896
        ("reduction_b", 1, reduction_b(256, 256, 256)),                         #   8 x   8     1792
        ("inception_resnet_c", 5, inception_resnet_c(192, 192, c)),             #   8 x   8     1792
        ("inception_resnet_c_6", 1, inception_resnet_c(192, 192, 1.0, linear=True)))  # 8 x 8   1792


def stages_v2(a: float, b: float, c: float) -> tuple[Stage, ...]:
    return (                       # TF-slim                                        grid     channels
        ("stem_1", 1, conv(32, 3, 2, V)),                                       # 149 x 149       32
        ("stem_2", 1, conv(32, 3, 1, V)),                                       # 147 x 147       32
        ("stem_3", 1, conv(64, 3)),                                             # 147 x 147       64
        ("stem_4", 1, max_pool(3, 2, V)),                                       #  73 x  73       64
        ("stem_5", 1, conv(80, 1)),                                             #  73 x  73       80
        ("stem_6", 1, conv(192, 3, 1, V)),                                      #  71 x  71      192
        ("stem_7", 1, max_pool(3, 2, V)),                                       #  35 x  35      192
        ("inception_a", 1, MIXED_A),                                            #  35 x  35      320
        ("inception_resnet_a", 10, inception_resnet_a(48, 64, a)),              #  35 x  35      320
        ("reduction_a", 1, reduction_a(256, 256, 384, 384)),                    #  17 x  17     1088
        ("inception_resnet_b", 20, inception_resnet_b(192, 128, 160, 192, b)),  #  17 x  17     1088
        ("reduction_b", 1, reduction_b(288, 288, 320)),                         #   8 x   8     2080
        ("inception_resnet_c", 9, inception_resnet_c(224, 256, c)),             #   8 x   8     2080
        ("inception_resnet_c_10", 1, inception_resnet_c(224, 256, 1.0, linear=True)),  # 8 x 8  2080
        ("final", 1, conv(1536, 1)))                                            #   8 x   8     1536


def stages_v2_paper(a: float, b: float, c: float) -> tuple[Stage, ...]:
    return (                       # Figure 15                                      grid     channels
        *STEM,                                                                  #  35 x  35      384
        ("inception_resnet_a", 5, inception_resnet_a(48, 64, a)),               #  35 x  35      384
        ("reduction_a", 1, reduction_a(256, 256, 384, 384)),                    #  17 x  17     1152
        ("inception_resnet_b", 10, inception_resnet_b(192, 128, 160, 192, b)),  #  17 x  17     1152
        ("reduction_b", 1, reduction_b(288, 288, 320)),                         #   8 x   8     2144
        ("inception_resnet_c", 5, inception_resnet_c(224, 256, c)))             #   8 x   8     2144
# fmt: on
HEADS = {"auxiliary": ("inception_resnet_b_20", auxiliary_features)}


def checked(residual_scale: Scales) -> Scales:
    """Scales of the blocks A, B and C.

    Raises:
        ValueError: not three numbers above 0 and at most 1.
    """
    if len(residual_scale) != 3 or not all(0 < scale <= 1 for scale in residual_scale):
        raise ValueError(
            f"residual_scale={residual_scale} must be three numbers above 0 and at most 1, for the blocks A, B and C; "
            f"published are {PUBLISHED}."
        )
    return residual_scale


def embedding(units: int) -> Op:
    """facenet's bottleneck: a dense layer and its batch normalisation, without activation."""

    def op(x: Any, name: str, style: Style) -> Any:
        x = layers.Dense(units, use_bias=style.has_bias, kernel_initializer=style.initializer, name=f"{name}_dense")(x)
        return style.normalized(x, name)

    return op


def InceptionResNetV1(
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
    residual_scale: Scales = PUBLISHED,
    bottleneck: int | None = None,
    name: str = "inception_resnet_v1",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (299, 299, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications`; `weights` is None, "imagenet" or a path.
    `dropout` is the share of features that is dropped before the classifier (the paper keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    `residual_scale` as for `InceptionResNetV2`. `bottleneck` is the length of facenet's embedding (128; 512 in the
    models of 2018), whatever `width` says: the output of the layer `bottleneck_bn`, to be divided by its norm.
    facenet's images are 160 x 160. `ported_from` has no port.

    Raises:
        ValueError: images below 75 x 75 pixels; an argument outside its range, among them `auxiliary`, of which facenet
            has none.
    """
    if bottleneck is not None and bottleneck < 1:
        raise ValueError(f"bottleneck={bottleneck} must be at least 1, or None for no bottleneck.")
    if bottleneck is not None and not include_top:
        raise ValueError(
            f"bottleneck={bottleneck} belongs to the top: with include_top=False leave it None, or keep the top and "
            "take the output of its layer `bottleneck_bn`."
        )
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    schema = stages_v1(*checked(residual_scale))
    image = image_input(input_shape, default=(299, 299, 3), minimum=75, input_tensor=input_tensor)
    maps = run(schema, image, style)
    neck = None if bottleneck is None else embedding(bottleneck)
    return network(image, finish(maps, top, style, neck), "inception_resnet_v1", name, weights)


def InceptionResNetV2(
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
    residual_scale: Scales = PUBLISHED,
    name: str = "inception_resnet_v2",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (299, 299, 3) -> probabilities (batch, classes).

    Arguments up to `classifier_activation` are those of `keras.applications.InceptionResNetV2`; `weights` is None,
    "imagenet" or a path. `dropout` is the share of features that is dropped before the classifier (TF-slim keeps 0.8).
    For `width` and `normalization` see `blocks.Style`; `momentum` and `scale` are those of `BatchNormalization`.
    Without gamma (`scale=False`) the network is TF-slim's and Keras'. With `auxiliary` the output is a dict of
    `predictions` and `auxiliary`, both (batch, classes); slim adds 0.4 times the loss of the latter. `ported_from` has
    no port.

    `residual_scale` is what the blocks A, B and C multiply their residual by before they add it, in (0, 1]. Above 1000
    channels unscaled networks died early in training, with nothing but zeros before the average pool; lower rates and
    more batch normalisation did not help (section 3.3). The paper takes values from 0.1 to 0.3 and found that they
    never cost accuracy; the published weights were trained with 0.17, 0.10 and 0.20.

    Raises:
        ValueError: images below 75 x 75 pixels, with the auxiliary head below 299 x 299; an argument outside its range.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary, HEADS)
    schema = stages_v2(*checked(residual_scale))
    image = image_input(input_shape, default=(299, 299, 3), minimum=75, input_tensor=input_tensor)
    maps = run(schema, image, style)
    return network(image, finish(maps, top, style), "inception_resnet_v2", name, weights)


def InceptionResNetV2Paper(
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
    residual_scale: Scales = PUBLISHED,
    name: str = "inception_resnet_v2_paper",
) -> keras.Model:
    """Images in [-1, 1], (batch, height, width, channels), default (299, 299, 3) -> probabilities (batch, classes).

    Arguments as for `InceptionResNetV2`, which is the network to take where published weights are wanted.

    Raises:
        ValueError: images below 75 x 75 pixels; an argument outside its range, among them `auxiliary`, of which the
            paper says nothing.
    """
    style = ported(Style(width, normalization, momentum, scale=scale), ported_from, {})
    top = Top(include_top, pooling, classes, classifier_activation, dropout, auxiliary)
    schema = stages_v2_paper(*checked(residual_scale))
    image = image_input(input_shape, default=(299, 299, 3), minimum=75, input_tensor=input_tensor)
    maps = run(schema, image, style)
    return network(image, finish(maps, top, style), "inception_resnet_v2_paper", name, weights)
