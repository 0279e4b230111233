"""The published figures that every network is held against.

A second transcription of the papers' tables and of slim's definitions, made without looking at `models/`: a slip of the
pen in one of the two shows as a difference. Nothing here is computed, so that no shared arithmetic can hide an error.

`columns` reads like the figures: a stage is its columns in the order in which they are concatenated (slim's Branch_0,
Branch_1, ...), a column its operations from bottom to top. Kernels are (rows, columns): (1, 7) is one row and seven
columns. Every convolution of the Inceptions is convolution without bias, batch normalisation, ReLU; average pools leave
the padding out of the mean.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "same"


@dataclass(frozen=True)
class Pool:
    kind: str  # "max" or "average"
    size: int
    stride: int = 1
    padding: str = "same"


# Ends a column: both short columns read the same map, their outputs are concatenated first then second.
Fork = tuple[tuple[Conv, ...], tuple[Conv, ...]]
Column = tuple[Conv | Pool | Fork, ...]


@dataclass(frozen=True)
class Counts:
    """`total` includes the moving mean and variance, `trainable` does not."""

    total: int
    trainable: int


@dataclass(frozen=True)
class Reference:
    """What is published about one network; dicts over stages run from bottom to top.

    The key None of the counts is the convolutional base alone, without any dense layer. `counts` are with gamma, as the
    builders make them, `counts_without_gamma` as slim and `keras.applications` do. `slim` gives the endpoint at that
    place and is empty where slim has no such network. `conv_weights` counts kernels, no biases. `multiply_adds` are
    those of the convolutions and dense layers, for one image of `input_shape` and 1000 classes (lenet_bn: 10), the two
    Inceptions' rounded to four figures. `minimum` is the smallest side that leaves at least one pixel at the top.
    """

    source: str
    input_shape: tuple[int, int, int]
    minimum: int
    grid: dict[str, tuple[int, int, int]]
    counts: dict[int | None, Counts]
    counts_without_gamma: dict[int | None, Counts]
    columns: dict[str, tuple[Column, ...]]
    slim: dict[str, str]
    conv_weights: dict[str, int]
    multiply_adds: float
    dense: tuple[int, ...] = ()


LENET_BN = Reference(
    source=(
        "Dive into Deep Learning, section Batch Normalization: LeNet without the padding of its first convolution, "
        "batch normalisation before every sigmoid; convolutions and dense layers keep their biases"
    ),
    input_shape=(28, 28, 1),
    minimum=16,
    grid={
        "stem_1": (24, 24, 6),
        "stem_2": (12, 12, 6),
        "stem_3": (8, 8, 16),
        "stem_4": (4, 4, 16),
    },
    # None leaves out all three dense layers, not only the classification: what `include_top=False` gives.
    counts={
        None: Counts(2_660, 2_616),
        10: Counts(45_330, 44_878),
    },
    counts_without_gamma={
        None: Counts(2_638, 2_594),
        10: Counts(45_104, 44_652),
    },
    columns={
        "stem_1": ((Conv(6, (5, 5), padding="valid"),),),
        "stem_2": ((Pool("average", 2, stride=2, padding="valid"),),),
        "stem_3": ((Conv(16, (5, 5), padding="valid"),),),
        "stem_4": ((Pool("average", 2, stride=2, padding="valid"),),),
    },
    slim={},
    conv_weights={
        "stem_1": 150,
        "stem_2": 0,
        "stem_3": 2_400,
        "stem_4": 0,
    },
    multiply_adds=281_640,
    dense=(120, 84, 10),  # on 256 features; batch normalisation and sigmoid after the first two
)


BN_INCEPTION = Reference(
    # The paper's output column prints 576 for 4c and 4d and 1024 for 4e; the widths printed beside it add up to 608,
    # 608 and 1056, and so the Caffe release has them. slim's inception_v2 projects to 96 in both and comes to 576.
    source=(
        "1502.03167 figure 5, widths as printed and as in the Caffe release (Cadene bninception: 11,295,240 trainable "
        "parameters, of which 10,016 are convolution biases); ordinary 7x7 stem; padding as in slim inception_v2"
    ),
    input_shape=(224, 224, 3),
    minimum=1,
    grid={
        "stem_1": (112, 112, 64),
        "stem_2": (56, 56, 64),
        "stem_3": (56, 56, 64),
        "stem_4": (56, 56, 192),
        "stem_5": (28, 28, 192),
        "inception_3a": (28, 28, 256),
        "inception_3b": (28, 28, 320),
        "inception_3c": (14, 14, 576),
        "inception_4a": (14, 14, 576),
        "inception_4b": (14, 14, 576),
        "inception_4c": (14, 14, 608),
        "inception_4d": (14, 14, 608),
        "inception_4e": (7, 7, 1056),
        "inception_5a": (7, 7, 1024),
        "inception_5b": (7, 7, 1024),
    },
    counts={
        None: Counts(10_280_256, 10_260_224),
        1000: Counts(11_305_256, 11_285_224),
        1001: Counts(11_306_281, 11_286_249),
    },
    counts_without_gamma={
        None: Counts(10_270_240, 10_250_208),
        1000: Counts(11_295_240, 11_275_208),
        1001: Counts(11_296_265, 11_276_233),
    },
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2),),),
        "stem_2": ((Pool("max", 3, stride=2),),),
        "stem_3": ((Conv(64, (1, 1)),),),
        "stem_4": ((Conv(192, (3, 3)),),),
        "stem_5": ((Pool("max", 3, stride=2),),),
        "inception_3a": (
            (Conv(64, (1, 1)),),
            (Conv(64, (1, 1)), Conv(64, (3, 3))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(32, (1, 1))),
        ),
        "inception_3b": (
            (Conv(64, (1, 1)),),
            (Conv(64, (1, 1)), Conv(96, (3, 3))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(64, (1, 1))),
        ),
        "inception_3c": (
            (Conv(128, (1, 1)), Conv(160, (3, 3), stride=2)),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3), stride=2)),
            (Pool("max", 3, stride=2),),
        ),
        "inception_4a": (
            (Conv(224, (1, 1)),),
            (Conv(64, (1, 1)), Conv(96, (3, 3))),
            (Conv(96, (1, 1)), Conv(128, (3, 3)), Conv(128, (3, 3))),
            (Pool("average", 3), Conv(128, (1, 1))),
        ),
        "inception_4b": (
            (Conv(192, (1, 1)),),
            (Conv(96, (1, 1)), Conv(128, (3, 3))),
            (Conv(96, (1, 1)), Conv(128, (3, 3)), Conv(128, (3, 3))),
            (Pool("average", 3), Conv(128, (1, 1))),
        ),
        "inception_4c": (
            (Conv(160, (1, 1)),),
            (Conv(128, (1, 1)), Conv(160, (3, 3))),
            (Conv(128, (1, 1)), Conv(160, (3, 3)), Conv(160, (3, 3))),
            (Pool("average", 3), Conv(128, (1, 1))),
        ),
        "inception_4d": (
            (Conv(96, (1, 1)),),
            (Conv(128, (1, 1)), Conv(192, (3, 3))),
            (Conv(160, (1, 1)), Conv(192, (3, 3)), Conv(192, (3, 3))),
            (Pool("average", 3), Conv(128, (1, 1))),
        ),
        "inception_4e": (
            (Conv(128, (1, 1)), Conv(192, (3, 3), stride=2)),
            (Conv(192, (1, 1)), Conv(256, (3, 3)), Conv(256, (3, 3), stride=2)),
            (Pool("max", 3, stride=2),),
        ),
        "inception_5a": (
            (Conv(352, (1, 1)),),
            (Conv(192, (1, 1)), Conv(320, (3, 3))),
            (Conv(160, (1, 1)), Conv(224, (3, 3)), Conv(224, (3, 3))),
            (Pool("average", 3), Conv(128, (1, 1))),
        ),
        "inception_5b": (
            (Conv(352, (1, 1)),),
            (Conv(192, (1, 1)), Conv(320, (3, 3))),
            (Conv(192, (1, 1)), Conv(224, (3, 3)), Conv(224, (3, 3))),
            (Pool("max", 3), Conv(128, (1, 1))),
        ),
    },
    # slim counts its modules one further: it has the stem's second pool as 3a and calls the strided 3c Mixed_4a.
    slim={
        "stem_1": "Conv2d_1a_7x7",
        "stem_2": "MaxPool_2a_3x3",
        "stem_3": "Conv2d_2b_1x1",
        "stem_4": "Conv2d_2c_3x3",
        "stem_5": "MaxPool_3a_3x3",
        "inception_3a": "Mixed_3b",
        "inception_3b": "Mixed_3c",
        "inception_3c": "Mixed_4a",
        "inception_4a": "Mixed_4b",
        "inception_4b": "Mixed_4c",
        "inception_4c": "Mixed_4d",
        "inception_4d": "Mixed_4e",
        "inception_4e": "Mixed_5a",
        "inception_5a": "Mixed_5b",
        "inception_5b": "Mixed_5c",
    },
    conv_weights={
        "stem_1": 9_408,
        "stem_2": 0,
        "stem_3": 4_096,
        "stem_4": 110_592,
        "stem_5": 0,
        "inception_3a": 218_112,
        "inception_3b": 259_072,
        "inception_3c": 384_000,
        "inception_4a": 608_256,
        "inception_4b": 663_552,
        "inception_4c": 912_384,
        "inception_4d": 1_140_736,
        "inception_4e": 1_447_936,
        "inception_5a": 2_205_696,
        "inception_5b": 2_276_352,
    },
    multiply_adds=2.033e9,
)


INCEPTION_V3 = Reference(
    source=(
        "1512.00567 in the form of slim's inception_v3, whose test pins 21,802,784 parameters without head and gamma; "
        "keras.applications 23,851,784; timm 23,834,568 trainable with gamma; torchvision 5.713 G multiply-adds"
    ),
    input_shape=(299, 299, 3),
    minimum=75,
    grid={
        "stem_1": (149, 149, 32),
        "stem_2": (147, 147, 32),
        "stem_3": (147, 147, 64),
        "stem_4": (73, 73, 64),
        "stem_5": (73, 73, 80),
        "stem_6": (71, 71, 192),
        "stem_7": (35, 35, 192),
        "inception_a_1": (35, 35, 256),
        "inception_a_2": (35, 35, 288),
        "inception_a_3": (35, 35, 288),
        "reduction_a": (17, 17, 768),
        "inception_b_1": (17, 17, 768),
        "inception_b_2": (17, 17, 768),
        "inception_b_3": (17, 17, 768),
        "inception_b_4": (17, 17, 768),
        "reduction_b": (8, 8, 1280),
        "inception_c_1": (8, 8, 2048),
        "inception_c_2": (8, 8, 2048),
    },
    counts={
        None: Counts(21_820_000, 21_785_568),
        1000: Counts(23_869_000, 23_834_568),
        1001: Counts(23_871_049, 23_836_617),
    },
    counts_without_gamma={
        None: Counts(21_802_784, 21_768_352),
        1000: Counts(23_851_784, 23_817_352),
        1001: Counts(23_853_833, 23_819_401),
    },
    columns={
        "stem_1": ((Conv(32, (3, 3), stride=2, padding="valid"),),),
        "stem_2": ((Conv(32, (3, 3), padding="valid"),),),
        "stem_3": ((Conv(64, (3, 3)),),),
        "stem_4": ((Pool("max", 3, stride=2, padding="valid"),),),
        "stem_5": ((Conv(80, (1, 1), padding="valid"),),),
        "stem_6": ((Conv(192, (3, 3), padding="valid"),),),
        "stem_7": ((Pool("max", 3, stride=2, padding="valid"),),),
        "inception_a_1": (
            (Conv(64, (1, 1)),),
            (Conv(48, (1, 1)), Conv(64, (5, 5))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(32, (1, 1))),
        ),
        "inception_a_2": (
            (Conv(64, (1, 1)),),
            (Conv(48, (1, 1)), Conv(64, (5, 5))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(64, (1, 1))),
        ),
        "inception_a_3": (
            (Conv(64, (1, 1)),),
            (Conv(48, (1, 1)), Conv(64, (5, 5))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(64, (1, 1))),
        ),
        "reduction_a": (
            (Conv(384, (3, 3), stride=2, padding="valid"),),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3), stride=2, padding="valid")),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        "inception_b_1": (
            (Conv(192, (1, 1)),),
            (Conv(128, (1, 1)), Conv(128, (1, 7)), Conv(192, (7, 1))),
            (Conv(128, (1, 1)), Conv(128, (7, 1)), Conv(128, (1, 7)), Conv(128, (7, 1)), Conv(192, (1, 7))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
        "inception_b_2": (
            (Conv(192, (1, 1)),),
            (Conv(160, (1, 1)), Conv(160, (1, 7)), Conv(192, (7, 1))),
            (Conv(160, (1, 1)), Conv(160, (7, 1)), Conv(160, (1, 7)), Conv(160, (7, 1)), Conv(192, (1, 7))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
        "inception_b_3": (
            (Conv(192, (1, 1)),),
            (Conv(160, (1, 1)), Conv(160, (1, 7)), Conv(192, (7, 1))),
            (Conv(160, (1, 1)), Conv(160, (7, 1)), Conv(160, (1, 7)), Conv(160, (7, 1)), Conv(192, (1, 7))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
        "inception_b_4": (
            (Conv(192, (1, 1)),),
            (Conv(192, (1, 1)), Conv(192, (1, 7)), Conv(192, (7, 1))),
            (Conv(192, (1, 1)), Conv(192, (7, 1)), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, (1, 7))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
        "reduction_b": (
            (Conv(192, (1, 1)), Conv(320, (3, 3), stride=2, padding="valid")),
            (
                Conv(192, (1, 1)),
                Conv(192, (1, 7)),
                Conv(192, (7, 1)),
                Conv(192, (3, 3), stride=2, padding="valid"),
            ),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        "inception_c_1": (
            (Conv(320, (1, 1)),),
            (Conv(384, (1, 1)), ((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))),
            (Conv(448, (1, 1)), Conv(384, (3, 3)), ((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
        "inception_c_2": (
            (Conv(320, (1, 1)),),
            (Conv(384, (1, 1)), ((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))),
            (Conv(448, (1, 1)), Conv(384, (3, 3)), ((Conv(384, (1, 3)),), (Conv(384, (3, 1)),))),
            (Pool("average", 3), Conv(192, (1, 1))),
        ),
    },
    slim={
        "stem_1": "Conv2d_1a_3x3",
        "stem_2": "Conv2d_2a_3x3",
        "stem_3": "Conv2d_2b_3x3",
        "stem_4": "MaxPool_3a_3x3",
        "stem_5": "Conv2d_3b_1x1",
        "stem_6": "Conv2d_4a_3x3",
        "stem_7": "MaxPool_5a_3x3",
        "inception_a_1": "Mixed_5b",
        "inception_a_2": "Mixed_5c",
        "inception_a_3": "Mixed_5d",
        "reduction_a": "Mixed_6a",
        "inception_b_1": "Mixed_6b",
        "inception_b_2": "Mixed_6c",
        "inception_b_3": "Mixed_6d",
        "inception_b_4": "Mixed_6e",
        "reduction_b": "Mixed_7a",
        "inception_c_1": "Mixed_7b",
        "inception_c_2": "Mixed_7c",
    },
    conv_weights={
        "stem_1": 864,
        "stem_2": 9_216,
        "stem_3": 18_432,
        "stem_4": 0,
        "stem_5": 5_120,
        "stem_6": 138_240,
        "stem_7": 0,
        "inception_a_1": 254_976,
        "inception_a_2": 276_480,
        "inception_a_3": 284_160,
        "reduction_a": 1_152_000,
        "inception_b_1": 1_294_336,
        "inception_b_2": 1_687_552,
        "inception_b_3": 1_687_552,
        "inception_b_4": 2_138_112,
        "reduction_b": 1_695_744,
        "inception_c_1": 5_038_080,
        "inception_c_2": 6_070_272,
    },
    multiply_adds=5.713e9,
)


REFERENCES: dict[str, Reference] = {
    "lenet_bn": LENET_BN,
    "bn_inception": BN_INCEPTION,
    "inception_v3": INCEPTION_V3,
}
