"""The published figures that every network is held against.

A second transcription of the papers' tables and of slim's definitions, made without looking at `models/`: a slip of the
pen in one of the two shows as a difference. Nothing here is computed, so that no shared arithmetic can hide an error;
identical blocks share their columns, and only their numbers are counted up.

`columns` reads like the figures: a stage is its columns in the order in which they are concatenated (slim's Branch_0,
Branch_1, ...), a column its operations from bottom to top; an empty column passes the stage's input on. Kernels are
(rows, columns): (1, 7) is one row and seven columns. Average pools leave the padding out of the mean.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Conv:
    """`unit` is what stands there in this order; the Inceptions' convolutions have no bias, and nearly all are this.

    Where the padding is a number, that many zeros go on every side and the convolution itself is "valid".
    """

    filters: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str | int = "same"
    unit: str = "conv bn relu"
    bias: bool = False


@dataclass(frozen=True)
class Separable:
    """`multiplier` depthwise kernels per input channel, then a 1x1 convolution over all of them."""

    filters: int
    kernel: tuple[int, int]
    stride: int
    multiplier: int
    padding: str = "same"
    unit: str = "conv relu"
    bias: bool = True


@dataclass(frozen=True)
class Pool:
    kind: str  # "max" or "average"
    size: int
    stride: int = 1
    padding: str | int = "same"


@dataclass(frozen=True)
class LocalResponse:
    """Local response normalisation as TensorFlow writes it: the sum runs over 2 * radius + 1 channels, undivided."""

    radius: int
    bias: float
    alpha: float
    beta: float


@dataclass(frozen=True)
class Activation:
    """Batch normalisation and ReLU without a convolution of their own."""


# Ends a column: both short columns read the same map, their outputs are concatenated first then second.
Fork = tuple[tuple[Conv, ...], tuple[Conv, ...]]
Column = tuple[Conv | Separable | Pool | LocalResponse | Activation | Fork, ...]


@dataclass(frozen=True)
class Sum:
    """How a residual stage ends.

    With `up`, the columns are concatenated, projected by it, multiplied by `scale` and added to the stage's input.
    Without, the columns are added to each other. Then ReLU, but for the linear last block.
    """

    up: Conv | None = None
    scale: float = 1.0
    relu: bool = True


@dataclass(frozen=True)
class Counts:
    """`total` includes the moving mean and variance, `trainable` does not."""

    total: int
    trainable: int


@dataclass(frozen=True)
class Auxiliary:
    """A side classifier: the stage that it reads, its operations, its hidden dense layers with ReLU, its dropout.

    The classification follows. `counts` is what one such head adds for so many classes. `minimum` is the smallest side
    of the image at which all its kernels fit as they are published; `weight` that of its loss.
    """

    reads: str
    column: Column
    minimum: int
    weight: float
    counts: dict[int, Counts]
    counts_without_gamma: dict[int, Counts]
    dense: tuple[int, ...] = ()
    dropout: float | None = None


@dataclass(frozen=True)
class Reference:
    """What is published about one network; dicts over stages run from bottom to top.

    The key None of the counts is the convolutional base alone, without any dense layer. `counts` are with gamma, as the
    builders make them, `counts_without_gamma` as slim and `keras.applications` do (empty where there is no batch
    normalisation). `slim` gives slim's or facenet's endpoint at that place, or the scope where no endpoint is named,
    and is empty where they have no such network. `conv_weights` counts kernels, up-projections too, no biases.
    `multiply_adds` are those of the convolutions and dense layers, for one image of `input_shape` and 1000 classes
    (teaching networks: 10), rounded but for lenet_bn. `minimum` is the smallest side that leaves at least one pixel at
    the top. `sums` has the stages that do not concatenate. The counts with auxiliary heads are of the network with all
    of them.
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
    dropout: float | None = None  # before the classification
    epsilon: float = 1e-3
    momentum: float = 0.99  # Keras' default: what was trained with varies from code to code
    sums: dict[str, Sum] = field(default_factory=dict)
    auxiliary: dict[str, Auxiliary] = field(default_factory=dict)
    counts_with_auxiliary: dict[int, Counts] = field(default_factory=dict)
    counts_with_auxiliary_without_gamma: dict[int, Counts] = field(default_factory=dict)
    # Of facenet's form with a bottleneck before the classification: (its width, classes), None without classification.
    counts_with_bottleneck: dict[tuple[int, int | None], Counts] = field(default_factory=dict)
    counts_with_bottleneck_without_gamma: dict[tuple[int, int | None], Counts] = field(default_factory=dict)


def _biased(filters: int, kernel: tuple[int, int], stride: int = 1, padding: str | int = "same") -> Conv:
    """GoogLeNet's convolution."""
    return Conv(filters, kernel, stride, padding, unit="conv relu", bias=True)


def _up(filters: int) -> Conv:
    """The up-projection of the Inception-ResNets: linear, with bias, without batch normalisation."""
    return Conv(filters, (1, 1), unit="conv", bias=True)


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
        "stem_1": ((Conv(6, (5, 5), padding="valid", unit="conv bn sigmoid", bias=True),),),
        "stem_2": ((Pool("average", 2, stride=2, padding="valid"),),),
        "stem_3": ((Conv(16, (5, 5), padding="valid", unit="conv bn sigmoid", bias=True),),),
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
    epsilon=1e-5,
    momentum=0.9,
    dense=(120, 84, 10),  # on 256 features; batch normalisation and sigmoid after the first two
)


GOOGLENET = Reference(
    # At even sizes Caffe's rounded-up 3x3/2 pools are "same" pools. The stem's padding is Caffe's, three on every side.
    source=(
        "1409.4842 table 1 with the figure's 5x5, biases and local response normalisation (Caffe: size 5, alpha 1e-4, "
        "divided by the size; beta 0.75), no batch normalisation; 6,998,552 parameters, 13,378,280 with both heads; "
        "the paper's 2.7 K for the stem are not those of its convolution"
    ),
    input_shape=(224, 224, 3),
    minimum=1,
    grid={
        "stem_1": (112, 112, 64),
        "stem_2": (56, 56, 64),
        "stem_3": (56, 56, 64),
        "stem_4": (56, 56, 64),
        "stem_5": (56, 56, 192),
        "stem_6": (56, 56, 192),
        "stem_7": (28, 28, 192),
        "inception_3a": (28, 28, 256),
        "inception_3b": (28, 28, 480),
        "pool_3": (14, 14, 480),
        "inception_4a": (14, 14, 512),
        "inception_4b": (14, 14, 512),
        "inception_4c": (14, 14, 512),
        "inception_4d": (14, 14, 528),
        "inception_4e": (14, 14, 832),
        "pool_4": (7, 7, 832),
        "inception_5a": (7, 7, 832),
        "inception_5b": (7, 7, 1024),
    },
    counts={
        None: Counts(5_973_552, 5_973_552),
        1000: Counts(6_998_552, 6_998_552),
        1001: Counts(6_999_577, 6_999_577),
    },
    counts_without_gamma={},
    columns={
        "stem_1": ((_biased(64, (7, 7), stride=2, padding=3),),),
        "stem_2": ((Pool("max", 3, stride=2),),),
        "stem_3": ((LocalResponse(radius=2, bias=1.0, alpha=2e-5, beta=0.75),),),
        "stem_4": ((_biased(64, (1, 1)),),),
        "stem_5": ((_biased(192, (3, 3)),),),
        "stem_6": ((LocalResponse(radius=2, bias=1.0, alpha=2e-5, beta=0.75),),),
        "stem_7": ((Pool("max", 3, stride=2),),),
        "inception_3a": (
            (_biased(64, (1, 1)),),
            (_biased(96, (1, 1)), _biased(128, (3, 3))),
            (_biased(16, (1, 1)), _biased(32, (5, 5))),
            (Pool("max", 3), _biased(32, (1, 1))),
        ),
        "inception_3b": (
            (_biased(128, (1, 1)),),
            (_biased(128, (1, 1)), _biased(192, (3, 3))),
            (_biased(32, (1, 1)), _biased(96, (5, 5))),
            (Pool("max", 3), _biased(64, (1, 1))),
        ),
        "pool_3": ((Pool("max", 3, stride=2),),),
        "inception_4a": (
            (_biased(192, (1, 1)),),
            (_biased(96, (1, 1)), _biased(208, (3, 3))),
            (_biased(16, (1, 1)), _biased(48, (5, 5))),
            (Pool("max", 3), _biased(64, (1, 1))),
        ),
        "inception_4b": (
            (_biased(160, (1, 1)),),
            (_biased(112, (1, 1)), _biased(224, (3, 3))),
            (_biased(24, (1, 1)), _biased(64, (5, 5))),
            (Pool("max", 3), _biased(64, (1, 1))),
        ),
        "inception_4c": (
            (_biased(128, (1, 1)),),
            (_biased(128, (1, 1)), _biased(256, (3, 3))),
            (_biased(24, (1, 1)), _biased(64, (5, 5))),
            (Pool("max", 3), _biased(64, (1, 1))),
        ),
        "inception_4d": (
            (_biased(112, (1, 1)),),
            (_biased(144, (1, 1)), _biased(288, (3, 3))),
            (_biased(32, (1, 1)), _biased(64, (5, 5))),
            (Pool("max", 3), _biased(64, (1, 1))),
        ),
        "inception_4e": (
            (_biased(256, (1, 1)),),
            (_biased(160, (1, 1)), _biased(320, (3, 3))),
            (_biased(32, (1, 1)), _biased(128, (5, 5))),
            (Pool("max", 3), _biased(128, (1, 1))),
        ),
        "pool_4": ((Pool("max", 3, stride=2),),),
        "inception_5a": (
            (_biased(256, (1, 1)),),
            (_biased(160, (1, 1)), _biased(320, (3, 3))),
            (_biased(32, (1, 1)), _biased(128, (5, 5))),
            (Pool("max", 3), _biased(128, (1, 1))),
        ),
        "inception_5b": (
            (_biased(384, (1, 1)),),
            (_biased(192, (1, 1)), _biased(384, (3, 3))),
            (_biased(48, (1, 1)), _biased(128, (5, 5))),
            (Pool("max", 3), _biased(128, (1, 1))),
        ),
    },
    slim={},
    conv_weights={
        "stem_1": 9_408,
        "stem_2": 0,
        "stem_3": 0,
        "stem_4": 4_096,
        "stem_5": 110_592,
        "stem_6": 0,
        "stem_7": 0,
        "inception_3a": 163_328,
        "inception_3b": 388_096,
        "pool_3": 0,
        "inception_4a": 375_552,
        "inception_4b": 448_512,
        "inception_4c": 509_440,
        "inception_4d": 604_672,
        "inception_4e": 867_328,
        "pool_4": 0,
        "inception_5a": 1_042_432,
        "inception_5b": 1_442_816,
    },
    multiply_adds=1.583e9,
    dropout=0.4,
    # The dense layer of 1024 reads the 2,048 features of the published head at sides from 209 to 256 only: fewer in
    # smaller images, more in larger ones.
    auxiliary={
        "auxiliary_1": Auxiliary(
            reads="inception_4a",
            column=(Pool("average", 5, stride=3, padding="valid"), _biased(128, (1, 1))),
            dense=(1024,),
            dropout=0.7,
            minimum=65,
            weight=0.3,
            counts={
                1000: Counts(3_188_840, 3_188_840),
                1001: Counts(3_189_865, 3_189_865),
            },
            counts_without_gamma={},
        ),
        "auxiliary_2": Auxiliary(
            reads="inception_4d",
            column=(Pool("average", 5, stride=3, padding="valid"), _biased(128, (1, 1))),
            dense=(1024,),
            dropout=0.7,
            minimum=65,
            weight=0.3,
            counts={
                1000: Counts(3_190_888, 3_190_888),
                1001: Counts(3_191_913, 3_191_913),
            },
            counts_without_gamma={},
        ),
    },
    counts_with_auxiliary={
        1000: Counts(13_378_280, 13_378_280),
        1001: Counts(13_381_355, 13_381_355),
    },
)


INCEPTION_V1 = Reference(
    source=(
        "slim inception_v1, whose test pins 5,607,184 parameters without head and gamma: GoogLeNet with batch "
        "normalisation, a 3x3 where the paper has 5x5, and a 2x2 pool before 5a; torchvision googlenet 6,624,904 "
        "trainable with gamma, 1.498 G multiply-adds"
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
        "inception_3b": (28, 28, 480),
        "pool_3": (14, 14, 480),
        "inception_4a": (14, 14, 512),
        "inception_4b": (14, 14, 512),
        "inception_4c": (14, 14, 512),
        "inception_4d": (14, 14, 528),
        "inception_4e": (14, 14, 832),
        "pool_4": (7, 7, 832),
        "inception_5a": (7, 7, 832),
        "inception_5b": (7, 7, 1024),
    },
    counts={
        None: Counts(5_614_464, 5_599_904),
        1000: Counts(6_639_464, 6_624_904),
        1001: Counts(6_640_489, 6_625_929),
    },
    counts_without_gamma={
        None: Counts(5_607_184, 5_592_624),
        1000: Counts(6_632_184, 6_617_624),
        1001: Counts(6_633_209, 6_618_649),
    },
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2),),),
        "stem_2": ((Pool("max", 3, stride=2),),),
        "stem_3": ((Conv(64, (1, 1)),),),
        "stem_4": ((Conv(192, (3, 3)),),),
        "stem_5": ((Pool("max", 3, stride=2),),),
        "inception_3a": (
            (Conv(64, (1, 1)),),
            (Conv(96, (1, 1)), Conv(128, (3, 3))),
            (Conv(16, (1, 1)), Conv(32, (3, 3))),
            (Pool("max", 3), Conv(32, (1, 1))),
        ),
        "inception_3b": (
            (Conv(128, (1, 1)),),
            (Conv(128, (1, 1)), Conv(192, (3, 3))),
            (Conv(32, (1, 1)), Conv(96, (3, 3))),
            (Pool("max", 3), Conv(64, (1, 1))),
        ),
        "pool_3": ((Pool("max", 3, stride=2),),),
        "inception_4a": (
            (Conv(192, (1, 1)),),
            (Conv(96, (1, 1)), Conv(208, (3, 3))),
            (Conv(16, (1, 1)), Conv(48, (3, 3))),
            (Pool("max", 3), Conv(64, (1, 1))),
        ),
        "inception_4b": (
            (Conv(160, (1, 1)),),
            (Conv(112, (1, 1)), Conv(224, (3, 3))),
            (Conv(24, (1, 1)), Conv(64, (3, 3))),
            (Pool("max", 3), Conv(64, (1, 1))),
        ),
        "inception_4c": (
            (Conv(128, (1, 1)),),
            (Conv(128, (1, 1)), Conv(256, (3, 3))),
            (Conv(24, (1, 1)), Conv(64, (3, 3))),
            (Pool("max", 3), Conv(64, (1, 1))),
        ),
        "inception_4d": (
            (Conv(112, (1, 1)),),
            (Conv(144, (1, 1)), Conv(288, (3, 3))),
            (Conv(32, (1, 1)), Conv(64, (3, 3))),
            (Pool("max", 3), Conv(64, (1, 1))),
        ),
        "inception_4e": (
            (Conv(256, (1, 1)),),
            (Conv(160, (1, 1)), Conv(320, (3, 3))),
            (Conv(32, (1, 1)), Conv(128, (3, 3))),
            (Pool("max", 3), Conv(128, (1, 1))),
        ),
        "pool_4": ((Pool("max", 2, stride=2),),),
        "inception_5a": (
            (Conv(256, (1, 1)),),
            (Conv(160, (1, 1)), Conv(320, (3, 3))),
            (Conv(32, (1, 1)), Conv(128, (3, 3))),
            (Pool("max", 3), Conv(128, (1, 1))),
        ),
        "inception_5b": (
            (Conv(384, (1, 1)),),
            (Conv(192, (1, 1)), Conv(384, (3, 3))),
            (Conv(48, (1, 1)), Conv(128, (3, 3))),
            (Pool("max", 3), Conv(128, (1, 1))),
        ),
    },
    slim={
        "stem_1": "Conv2d_1a_7x7",
        "stem_2": "MaxPool_2a_3x3",
        "stem_3": "Conv2d_2b_1x1",
        "stem_4": "Conv2d_2c_3x3",
        "stem_5": "MaxPool_3a_3x3",
        "inception_3a": "Mixed_3b",
        "inception_3b": "Mixed_3c",
        "pool_3": "MaxPool_4a_3x3",
        "inception_4a": "Mixed_4b",
        "inception_4b": "Mixed_4c",
        "inception_4c": "Mixed_4d",
        "inception_4d": "Mixed_4e",
        "inception_4e": "Mixed_4f",
        "pool_4": "MaxPool_5a_2x2",
        "inception_5a": "Mixed_5b",
        "inception_5b": "Mixed_5c",
    },
    conv_weights={
        "stem_1": 9_408,
        "stem_2": 0,
        "stem_3": 4_096,
        "stem_4": 110_592,
        "stem_5": 0,
        "inception_3a": 155_136,
        "inception_3b": 338_944,
        "pool_3": 0,
        "inception_4a": 363_264,
        "inception_4b": 423_936,
        "inception_4c": 484_864,
        "inception_4d": 571_904,
        "inception_4e": 801_792,
        "pool_4": 0,
        "inception_5a": 976_896,
        "inception_5b": 1_344_512,
    },
    multiply_adds=1.498e9,
    dropout=0.2,
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


INCEPTION_V2 = Reference(
    # Against bn_inception: the separable stem (with bias and ReLU, outside slim's batch normalisation), and projections
    # to 96 in 4c and 4d, so that 5a reads 1024 channels.
    source="slim inception_v2, whose test pins 10,173,112 parameters without head and gamma",
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
        "inception_4c": (14, 14, 576),
        "inception_4d": (14, 14, 576),
        "inception_4e": (7, 7, 1024),
        "inception_5a": (7, 7, 1024),
        "inception_5b": (7, 7, 1024),
    },
    counts={
        None: Counts(10_183_000, 10_163_224),
        1000: Counts(11_208_000, 11_188_224),
        1001: Counts(11_209_025, 11_189_249),
    },
    counts_without_gamma={
        None: Counts(10_173_112, 10_153_336),
        1000: Counts(11_198_112, 11_178_336),
        1001: Counts(11_199_137, 11_179_361),
    },
    columns={
        "stem_1": ((Separable(64, (7, 7), stride=2, multiplier=8),),),
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
            (Pool("average", 3), Conv(96, (1, 1))),
        ),
        "inception_4d": (
            (Conv(96, (1, 1)),),
            (Conv(128, (1, 1)), Conv(192, (3, 3))),
            (Conv(160, (1, 1)), Conv(192, (3, 3)), Conv(192, (3, 3))),
            (Pool("average", 3), Conv(96, (1, 1))),
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
        "stem_1": 2_712,
        "stem_2": 0,
        "stem_3": 4_096,
        "stem_4": 110_592,
        "stem_5": 0,
        "inception_3a": 218_112,
        "inception_3b": 259_072,
        "inception_3c": 384_000,
        "inception_4a": 608_256,
        "inception_4b": 663_552,
        "inception_4c": 893_952,
        "inception_4d": 1_105_920,
        "inception_4e": 1_437_696,
        "inception_5a": 2_179_072,
        "inception_5b": 2_276_352,
    },
    multiply_adds=1.935e9,
    dropout=0.2,
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
    dropout=0.2,
    auxiliary={
        "auxiliary": Auxiliary(
            reads="inception_b_4",
            column=(
                Pool("average", 5, stride=3, padding="valid"),
                Conv(128, (1, 1)),
                Conv(768, (5, 5), padding="valid"),
            ),
            minimum=299,
            weight=0.4,
            counts={
                1000: Counts(3_328_488, 3_326_696),
                1001: Counts(3_329_257, 3_327_465),
            },
            counts_without_gamma={
                1000: Counts(3_327_592, 3_325_800),
                1001: Counts(3_328_361, 3_326_569),
            },
        ),
    },
    counts_with_auxiliary={
        1000: Counts(27_197_488, 27_161_264),
        1001: Counts(27_200_306, 27_164_082),
    },
    counts_with_auxiliary_without_gamma={
        1000: Counts(27_179_376, 27_143_152),
        1001: Counts(27_182_194, 27_145_970),
    },
)


# Inception-v4's three modules, each repeated without a change.
INCEPTION_V4_A: tuple[Column, ...] = (
    (Conv(96, (1, 1)),),
    (Conv(64, (1, 1)), Conv(96, (3, 3))),
    (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
    (Pool("average", 3), Conv(96, (1, 1))),
)
INCEPTION_V4_B: tuple[Column, ...] = (
    (Conv(384, (1, 1)),),
    (Conv(192, (1, 1)), Conv(224, (1, 7)), Conv(256, (7, 1))),
    (Conv(192, (1, 1)), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))),
    (Pool("average", 3), Conv(128, (1, 1))),
)
INCEPTION_V4_C: tuple[Column, ...] = (
    (Conv(256, (1, 1)),),
    (Conv(384, (1, 1)), ((Conv(256, (1, 3)),), (Conv(256, (3, 1)),))),
    (Conv(384, (1, 1)), Conv(448, (3, 1)), Conv(512, (1, 3)), ((Conv(256, (1, 3)),), (Conv(256, (3, 1)),))),
    (Pool("average", 3), Conv(256, (1, 1))),
)

# Figure 3 of 1602.07261: pool first in stem_4, convolution first in stem_6.
INCEPTION_V4_STEM: dict[str, tuple[Column, ...]] = {
    "stem_1": ((Conv(32, (3, 3), stride=2, padding="valid"),),),
    "stem_2": ((Conv(32, (3, 3), padding="valid"),),),
    "stem_3": ((Conv(64, (3, 3)),),),
    "stem_4": (
        (Pool("max", 3, stride=2, padding="valid"),),
        (Conv(96, (3, 3), stride=2, padding="valid"),),
    ),
    "stem_5": (
        (Conv(64, (1, 1)), Conv(96, (3, 3), padding="valid")),
        (Conv(64, (1, 1)), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, (3, 3), padding="valid")),
    ),
    "stem_6": (
        (Conv(192, (3, 3), stride=2, padding="valid"),),
        (Pool("max", 3, stride=2, padding="valid"),),
    ),
}

INCEPTION_V4 = Reference(
    source=(
        "1602.07261 figures 3 to 9 in the form of slim's inception_v4 (the paper has no auxiliary head); timm "
        "42,679,816 trainable with gamma"
    ),
    input_shape=(299, 299, 3),
    minimum=75,
    grid={
        "stem_1": (149, 149, 32),
        "stem_2": (147, 147, 32),
        "stem_3": (147, 147, 64),
        "stem_4": (73, 73, 160),
        "stem_5": (71, 71, 192),
        "stem_6": (35, 35, 384),
        **{f"inception_a_{number}": (35, 35, 384) for number in range(1, 5)},
        "reduction_a": (17, 17, 1024),
        **{f"inception_b_{number}": (17, 17, 1024) for number in range(1, 8)},
        "reduction_b": (8, 8, 1536),
        **{f"inception_c_{number}": (8, 8, 1536) for number in range(1, 4)},
    },
    counts={
        None: Counts(41_205_984, 41_142_816),
        1000: Counts(42_742_984, 42_679_816),
        1001: Counts(42_744_521, 42_681_353),
    },
    counts_without_gamma={
        None: Counts(41_174_400, 41_111_232),
        1000: Counts(42_711_400, 42_648_232),
        1001: Counts(42_712_937, 42_649_769),
    },
    columns={
        **INCEPTION_V4_STEM,
        **{f"inception_a_{number}": INCEPTION_V4_A for number in range(1, 5)},
        "reduction_a": (
            (Conv(384, (3, 3), stride=2, padding="valid"),),
            (Conv(192, (1, 1)), Conv(224, (3, 3)), Conv(256, (3, 3), stride=2, padding="valid")),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        **{f"inception_b_{number}": INCEPTION_V4_B for number in range(1, 8)},
        "reduction_b": (
            (Conv(192, (1, 1)), Conv(192, (3, 3), stride=2, padding="valid")),
            (
                Conv(256, (1, 1)),
                Conv(256, (1, 7)),
                Conv(320, (7, 1)),
                Conv(320, (3, 3), stride=2, padding="valid"),
            ),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        **{f"inception_c_{number}": INCEPTION_V4_C for number in range(1, 4)},
    },
    slim={
        "stem_1": "Conv2d_1a_3x3",
        "stem_2": "Conv2d_2a_3x3",
        "stem_3": "Conv2d_2b_3x3",
        "stem_4": "Mixed_3a",
        "stem_5": "Mixed_4a",
        "stem_6": "Mixed_5a",
        "inception_a_1": "Mixed_5b",
        "inception_a_2": "Mixed_5c",
        "inception_a_3": "Mixed_5d",
        "inception_a_4": "Mixed_5e",
        "reduction_a": "Mixed_6a",
        "inception_b_1": "Mixed_6b",
        "inception_b_2": "Mixed_6c",
        "inception_b_3": "Mixed_6d",
        "inception_b_4": "Mixed_6e",
        "inception_b_5": "Mixed_6f",
        "inception_b_6": "Mixed_6g",
        "inception_b_7": "Mixed_6h",
        "reduction_b": "Mixed_7a",
        "inception_c_1": "Mixed_7b",
        "inception_c_2": "Mixed_7c",
        "inception_c_3": "Mixed_7d",
    },
    conv_weights={
        "stem_1": 864,
        "stem_2": 9_216,
        "stem_3": 18_432,
        "stem_4": 55_296,
        "stem_5": 188_416,
        "stem_6": 331_776,
        **{f"inception_a_{number}": 316_416 for number in range(1, 5)},
        "reduction_a": 2_304_000,
        **{f"inception_b_{number}": 2_931_712 for number in range(1, 8)},
        "reduction_b": 2_744_320,
        **{f"inception_c_{number}": 4_546_560 for number in range(1, 4)},
    },
    multiply_adds=12.25e9,
    dropout=0.2,
    auxiliary={
        "auxiliary": Auxiliary(
            reads="inception_b_7",
            column=(
                Pool("average", 5, stride=3, padding="valid"),
                Conv(128, (1, 1)),
                Conv(768, (5, 5), padding="valid"),
            ),
            minimum=299,
            weight=0.4,
            counts={
                1000: Counts(3_361_256, 3_359_464),
                1001: Counts(3_362_025, 3_360_233),
            },
            counts_without_gamma={
                1000: Counts(3_360_360, 3_358_568),
                1001: Counts(3_361_129, 3_359_337),
            },
        ),
    },
    counts_with_auxiliary={
        1000: Counts(46_104_240, 46_039_280),
        1001: Counts(46_106_546, 46_041_586),
    },
    counts_with_auxiliary_without_gamma={
        1000: Counts(46_071_760, 46_006_800),
        1001: Counts(46_074_066, 46_009_106),
    },
)


# The three residual blocks of facenet's Inception-ResNet-v1: what stands below their up-projection.
INCEPTION_RESNET_V1_A: tuple[Column, ...] = (
    (Conv(32, (1, 1)),),
    (Conv(32, (1, 1)), Conv(32, (3, 3))),
    (Conv(32, (1, 1)), Conv(32, (3, 3)), Conv(32, (3, 3))),
)
INCEPTION_RESNET_V1_B: tuple[Column, ...] = (
    (Conv(128, (1, 1)),),
    (Conv(128, (1, 1)), Conv(128, (1, 7)), Conv(128, (7, 1))),
)
INCEPTION_RESNET_V1_C: tuple[Column, ...] = (
    (Conv(192, (1, 1)),),
    (Conv(192, (1, 1)), Conv(192, (1, 3)), Conv(192, (3, 1))),
)

INCEPTION_RESNET_V1 = Reference(
    # The paper has no sixth block 8 and no bottleneck; facenet's images have 160 pixels (1.419 G multiply-adds).
    source=(
        "facenet's inception_resnet_v1 without its bottleneck; with it 22,808,144 parameters (128 wide, without "
        "classification and gamma), facenet-pytorch 27,910,327 trainable (512 wide, 8631 classes, with gamma)"
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
        "stem_7": (35, 35, 256),
        **{f"inception_resnet_a_{number}": (35, 35, 256) for number in range(1, 6)},
        "reduction_a": (17, 17, 896),
        **{f"inception_resnet_b_{number}": (17, 17, 896) for number in range(1, 11)},
        "reduction_b": (8, 8, 1792),
        **{f"inception_resnet_c_{number}": (8, 8, 1792) for number in range(1, 7)},
    },
    counts={
        None: Counts(22_592_672, 22_564_096),
        1000: Counts(24_385_672, 24_357_096),
        1001: Counts(24_387_465, 24_358_889),
    },
    counts_without_gamma={
        None: Counts(22_578_384, 22_549_808),
        1000: Counts(24_371_384, 24_342_808),
        1001: Counts(24_373_177, 24_344_601),
    },
    columns={
        "stem_1": ((Conv(32, (3, 3), stride=2, padding="valid"),),),
        "stem_2": ((Conv(32, (3, 3), padding="valid"),),),
        "stem_3": ((Conv(64, (3, 3)),),),
        "stem_4": ((Pool("max", 3, stride=2, padding="valid"),),),
        "stem_5": ((Conv(80, (1, 1), padding="valid"),),),
        "stem_6": ((Conv(192, (3, 3), padding="valid"),),),
        "stem_7": ((Conv(256, (3, 3), stride=2, padding="valid"),),),
        **{f"inception_resnet_a_{number}": INCEPTION_RESNET_V1_A for number in range(1, 6)},
        "reduction_a": (
            (Conv(384, (3, 3), stride=2, padding="valid"),),
            (Conv(192, (1, 1)), Conv(192, (3, 3)), Conv(256, (3, 3), stride=2, padding="valid")),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        **{f"inception_resnet_b_{number}": INCEPTION_RESNET_V1_B for number in range(1, 11)},
        "reduction_b": (
            (Conv(256, (1, 1)), Conv(384, (3, 3), stride=2, padding="valid")),
            (Conv(256, (1, 1)), Conv(256, (3, 3), stride=2, padding="valid")),
            (Conv(256, (1, 1)), Conv(256, (3, 3)), Conv(256, (3, 3), stride=2, padding="valid")),
            (Pool("max", 3, stride=2, padding="valid"),),
        ),
        **{f"inception_resnet_c_{number}": INCEPTION_RESNET_V1_C for number in range(1, 7)},
    },
    slim={
        "stem_1": "Conv2d_1a_3x3",
        "stem_2": "Conv2d_2a_3x3",
        "stem_3": "Conv2d_2b_3x3",
        "stem_4": "MaxPool_3a_3x3",
        "stem_5": "Conv2d_3b_1x1",
        "stem_6": "Conv2d_4a_3x3",
        "stem_7": "Conv2d_4b_3x3",
        **{f"inception_resnet_a_{number}": f"Repeat/block35_{number}" for number in range(1, 6)},
        "reduction_a": "Mixed_6a",
        **{f"inception_resnet_b_{number}": f"Repeat_1/block17_{number}" for number in range(1, 11)},
        "reduction_b": "Mixed_7a",
        **{f"inception_resnet_c_{number}": f"Repeat_2/block8_{number}" for number in range(1, 6)},
        "inception_resnet_c_6": "Block8",
    },
    conv_weights={
        "stem_1": 864,
        "stem_2": 9_216,
        "stem_3": 18_432,
        "stem_4": 0,
        "stem_5": 5_120,
        "stem_6": 138_240,
        "stem_7": 442_368,
        **{f"inception_resnet_a_{number}": 76_800 for number in range(1, 6)},
        "reduction_a": 1_708_032,
        **{f"inception_resnet_b_{number}": 688_128 for number in range(1, 11)},
        "reduction_b": 3_342_336,
        **{f"inception_resnet_c_{number}": 1_597_440 for number in range(1, 7)},
    },
    multiply_adds=6.31e9,
    dropout=0.2,
    sums={
        **{f"inception_resnet_a_{number}": Sum(up=_up(256), scale=0.17) for number in range(1, 6)},
        **{f"inception_resnet_b_{number}": Sum(up=_up(896), scale=0.10) for number in range(1, 11)},
        **{f"inception_resnet_c_{number}": Sum(up=_up(1792), scale=0.20) for number in range(1, 6)},
        "inception_resnet_c_6": Sum(up=_up(1792), scale=1.0, relu=False),
    },
    # A dense layer without bias, then batch normalisation; nothing else stands between it and the classification.
    counts_with_bottleneck={
        (128, None): Counts(22_822_560, 22_793_728),
        (128, 1000): Counts(22_951_560, 22_922_728),
        (512, None): Counts(23_512_224, 23_482_624),
        (512, 8631): Counts(27_939_927, 27_910_327),
    },
    counts_with_bottleneck_without_gamma={
        (128, None): Counts(22_808_144, 22_779_312),
        (128, 1000): Counts(22_937_144, 22_908_312),
        (512, None): Counts(23_497_424, 23_467_824),
        (512, 8631): Counts(27_925_127, 27_895_527),
    },
)


# The three residual blocks of Inception-ResNet-v2: what stands below their up-projection.
INCEPTION_RESNET_V2_A: tuple[Column, ...] = (
    (Conv(32, (1, 1)),),
    (Conv(32, (1, 1)), Conv(32, (3, 3))),
    (Conv(32, (1, 1)), Conv(48, (3, 3)), Conv(64, (3, 3))),
)
INCEPTION_RESNET_V2_B: tuple[Column, ...] = (
    (Conv(192, (1, 1)),),
    (Conv(128, (1, 1)), Conv(160, (1, 7)), Conv(192, (7, 1))),
)
INCEPTION_RESNET_V2_C: tuple[Column, ...] = (
    (Conv(192, (1, 1)),),
    (Conv(192, (1, 1)), Conv(224, (1, 3)), Conv(256, (3, 1))),
)

INCEPTION_RESNET_V2_REDUCTION_A: tuple[Column, ...] = (
    (Conv(384, (3, 3), stride=2, padding="valid"),),
    (Conv(256, (1, 1)), Conv(256, (3, 3)), Conv(384, (3, 3), stride=2, padding="valid")),
    (Pool("max", 3, stride=2, padding="valid"),),
)
INCEPTION_RESNET_V2_REDUCTION_B: tuple[Column, ...] = (
    (Conv(256, (1, 1)), Conv(384, (3, 3), stride=2, padding="valid")),
    (Conv(256, (1, 1)), Conv(288, (3, 3), stride=2, padding="valid")),
    (Conv(256, (1, 1)), Conv(288, (3, 3)), Conv(320, (3, 3), stride=2, padding="valid")),
    (Pool("max", 3, stride=2, padding="valid"),),
)

INCEPTION_RESNET_V2 = Reference(
    source=(
        "slim inception_resnet_v2, which is larger than the paper's figures; keras.applications 55,873,736 parameters "
        "without gamma, 54,336,736 without head; timm 55,843,464 trainable with gamma"
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
        "inception_a": (35, 35, 320),
        **{f"inception_resnet_a_{number}": (35, 35, 320) for number in range(1, 11)},
        "reduction_a": (17, 17, 1088),
        **{f"inception_resnet_b_{number}": (17, 17, 1088) for number in range(1, 21)},
        "reduction_b": (8, 8, 2080),
        **{f"inception_resnet_c_{number}": (8, 8, 2080) for number in range(1, 11)},
        "final": (8, 8, 1536),
    },
    counts={
        None: Counts(54_367_008, 54_306_464),
        1000: Counts(55_904_008, 55_843_464),
        1001: Counts(55_905_545, 55_845_001),
    },
    counts_without_gamma={
        None: Counts(54_336_736, 54_276_192),
        1000: Counts(55_873_736, 55_813_192),
        1001: Counts(55_875_273, 55_814_729),
    },
    columns={
        "stem_1": ((Conv(32, (3, 3), stride=2, padding="valid"),),),
        "stem_2": ((Conv(32, (3, 3), padding="valid"),),),
        "stem_3": ((Conv(64, (3, 3)),),),
        "stem_4": ((Pool("max", 3, stride=2, padding="valid"),),),
        "stem_5": ((Conv(80, (1, 1), padding="valid"),),),
        "stem_6": ((Conv(192, (3, 3), padding="valid"),),),
        "stem_7": ((Pool("max", 3, stride=2, padding="valid"),),),
        "inception_a": (
            (Conv(96, (1, 1)),),
            (Conv(48, (1, 1)), Conv(64, (5, 5))),
            (Conv(64, (1, 1)), Conv(96, (3, 3)), Conv(96, (3, 3))),
            (Pool("average", 3), Conv(64, (1, 1))),
        ),
        **{f"inception_resnet_a_{number}": INCEPTION_RESNET_V2_A for number in range(1, 11)},
        "reduction_a": INCEPTION_RESNET_V2_REDUCTION_A,
        **{f"inception_resnet_b_{number}": INCEPTION_RESNET_V2_B for number in range(1, 21)},
        "reduction_b": INCEPTION_RESNET_V2_REDUCTION_B,
        **{f"inception_resnet_c_{number}": INCEPTION_RESNET_V2_C for number in range(1, 11)},
        "final": ((Conv(1536, (1, 1)),),),
    },
    slim={
        "stem_1": "Conv2d_1a_3x3",
        "stem_2": "Conv2d_2a_3x3",
        "stem_3": "Conv2d_2b_3x3",
        "stem_4": "MaxPool_3a_3x3",
        "stem_5": "Conv2d_3b_1x1",
        "stem_6": "Conv2d_4a_3x3",
        "stem_7": "MaxPool_5a_3x3",
        "inception_a": "Mixed_5b",
        **{f"inception_resnet_a_{number}": f"Repeat/block35_{number}" for number in range(1, 11)},
        "reduction_a": "Mixed_6a",
        **{f"inception_resnet_b_{number}": f"Repeat_1/block17_{number}" for number in range(1, 21)},
        "reduction_b": "Mixed_7a",
        **{f"inception_resnet_c_{number}": f"Repeat_2/block8_{number}" for number in range(1, 10)},
        "inception_resnet_c_10": "Block8",
        "final": "Conv2d_7b_1x1",
    },
    conv_weights={
        "stem_1": 864,
        "stem_2": 9_216,
        "stem_3": 18_432,
        "stem_4": 0,
        "stem_5": 5_120,
        "stem_6": 138_240,
        "stem_7": 0,
        "inception_a": 267_264,
        **{f"inception_resnet_a_{number}": 122_368 for number in range(1, 11)},
        "reduction_a": 2_662_400,
        **{f"inception_resnet_b_{number}": 1_124_352 for number in range(1, 21)},
        "reduction_b": 3_876_864,
        **{f"inception_resnet_c_{number}": 2_031_616 for number in range(1, 11)},
        "final": 3_194_880,
    },
    multiply_adds=13.16e9,
    dropout=0.2,
    sums={
        **{f"inception_resnet_a_{number}": Sum(up=_up(320), scale=0.17) for number in range(1, 11)},
        **{f"inception_resnet_b_{number}": Sum(up=_up(1088), scale=0.10) for number in range(1, 21)},
        **{f"inception_resnet_c_{number}": Sum(up=_up(2080), scale=0.20) for number in range(1, 10)},
        "inception_resnet_c_10": Sum(up=_up(2080), scale=1.0, relu=False),
    },
    auxiliary={
        "auxiliary": Auxiliary(
            reads="inception_resnet_b_20",
            column=(
                Pool("average", 5, stride=3, padding="valid"),
                Conv(128, (1, 1)),
                Conv(768, (5, 5), padding="valid"),
            ),
            minimum=299,
            weight=0.4,
            counts={
                1000: Counts(3_369_448, 3_367_656),
                1001: Counts(3_370_217, 3_368_425),
            },
            counts_without_gamma={
                1000: Counts(3_368_552, 3_366_760),
                1001: Counts(3_369_321, 3_367_529),
            },
        ),
    },
    counts_with_auxiliary={
        1000: Counts(59_273_456, 59_211_120),
        1001: Counts(59_275_762, 59_213_426),
    },
    counts_with_auxiliary_without_gamma={
        1000: Counts(59_242_288, 59_179_952),
        1001: Counts(59_244_594, 59_182_258),
    },
)


INCEPTION_RESNET_V2_PAPER = Reference(
    # The figures print linear widths of 1154 and 2048; the concatenations below them add up to 1152 and 2144.
    source=(
        "1602.07261 figures 3 and 15 to 19: Inception-v4's stem, 5, 10 and 5 blocks with the branch widths of slim's, "
        "no linear last block, no 1x1 convolution at the end; no checkpoint exists"
    ),
    input_shape=(299, 299, 3),
    minimum=75,
    grid={
        "stem_1": (149, 149, 32),
        "stem_2": (147, 147, 32),
        "stem_3": (147, 147, 64),
        "stem_4": (73, 73, 160),
        "stem_5": (71, 71, 192),
        "stem_6": (35, 35, 384),
        **{f"inception_resnet_a_{number}": (35, 35, 384) for number in range(1, 6)},
        "reduction_a": (17, 17, 1152),
        **{f"inception_resnet_b_{number}": (17, 17, 1152) for number in range(1, 11)},
        "reduction_b": (8, 8, 2144),
        **{f"inception_resnet_c_{number}": (8, 8, 2144) for number in range(1, 6)},
    },
    counts={
        None: Counts(30_321_792, 30_288_928),
        1000: Counts(32_466_792, 32_433_928),
        1001: Counts(32_468_937, 32_436_073),
    },
    counts_without_gamma={
        None: Counts(30_305_360, 30_272_496),
        1000: Counts(32_450_360, 32_417_496),
        1001: Counts(32_452_505, 32_419_641),
    },
    columns={
        **INCEPTION_V4_STEM,
        **{f"inception_resnet_a_{number}": INCEPTION_RESNET_V2_A for number in range(1, 6)},
        "reduction_a": INCEPTION_RESNET_V2_REDUCTION_A,
        **{f"inception_resnet_b_{number}": INCEPTION_RESNET_V2_B for number in range(1, 11)},
        "reduction_b": INCEPTION_RESNET_V2_REDUCTION_B,
        **{f"inception_resnet_c_{number}": INCEPTION_RESNET_V2_C for number in range(1, 6)},
    },
    slim={},
    conv_weights={
        "stem_1": 864,
        "stem_2": 9_216,
        "stem_3": 18_432,
        "stem_4": 55_296,
        "stem_5": 188_416,
        "stem_6": 331_776,
        "inception_resnet_a_1": 136_704,
        "inception_resnet_a_2": 136_704,
        "inception_resnet_a_3": 136_704,
        "inception_resnet_a_4": 136_704,
        "inception_resnet_a_5": 136_704,
        "reduction_a": 2_899_968,
        "inception_resnet_b_1": 1_169_408,
        "inception_resnet_b_2": 1_169_408,
        "inception_resnet_b_3": 1_169_408,
        "inception_resnet_b_4": 1_169_408,
        "inception_resnet_b_5": 1_169_408,
        "inception_resnet_b_6": 1_169_408,
        "inception_resnet_b_7": 1_169_408,
        "inception_resnet_b_8": 1_169_408,
        "inception_resnet_b_9": 1_169_408,
        "inception_resnet_b_10": 1_169_408,
        "reduction_b": 3_926_016,
        "inception_resnet_c_1": 2_084_864,
        "inception_resnet_c_2": 2_084_864,
        "inception_resnet_c_3": 2_084_864,
        "inception_resnet_c_4": 2_084_864,
        "inception_resnet_c_5": 2_084_864,
    },
    multiply_adds=9.258e9,
    dropout=0.2,
    sums={
        **{f"inception_resnet_a_{number}": Sum(up=_up(384), scale=0.17) for number in range(1, 6)},
        **{f"inception_resnet_b_{number}": Sum(up=_up(1152), scale=0.10) for number in range(1, 11)},
        **{f"inception_resnet_c_{number}": Sum(up=_up(2144), scale=0.20) for number in range(1, 6)},
    },
)


RESNET18 = Reference(
    # Zeros on every side, so that a strided 3x3 begins one pixel further up and left than "same" would.
    source="1512.03385 table 1 in the form of torchvision's resnet18: 11,689,512 trainable parameters, 1.814 G",
    input_shape=(224, 224, 3),
    minimum=1,
    grid={
        "stem_1": (112, 112, 64),
        "stem_2": (56, 56, 64),
        "residual_2_1": (56, 56, 64),
        "residual_2_2": (56, 56, 64),
        "residual_3_1": (28, 28, 128),
        "residual_3_2": (28, 28, 128),
        "residual_4_1": (14, 14, 256),
        "residual_4_2": (14, 14, 256),
        "residual_5_1": (7, 7, 512),
        "residual_5_2": (7, 7, 512),
    },
    counts={
        None: Counts(11_186_112, 11_176_512),
        1000: Counts(11_699_112, 11_689_512),
        1001: Counts(11_699_625, 11_690_025),
    },
    counts_without_gamma={
        None: Counts(11_181_312, 11_171_712),
        1000: Counts(11_694_312, 11_684_712),
        1001: Counts(11_694_825, 11_685_225),
    },
    # The block's two convolutions, then the shortcut.
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2, padding=3),),),
        "stem_2": ((Pool("max", 3, stride=2, padding=1),),),
        "residual_2_1": ((Conv(64, (3, 3), padding=1), Conv(64, (3, 3), padding=1, unit="conv bn")), ()),
        "residual_2_2": ((Conv(64, (3, 3), padding=1), Conv(64, (3, 3), padding=1, unit="conv bn")), ()),
        "residual_3_1": (
            (Conv(128, (3, 3), stride=2, padding=1), Conv(128, (3, 3), padding=1, unit="conv bn")),
            (Conv(128, (1, 1), stride=2, padding="valid", unit="conv bn"),),
        ),
        "residual_3_2": ((Conv(128, (3, 3), padding=1), Conv(128, (3, 3), padding=1, unit="conv bn")), ()),
        "residual_4_1": (
            (Conv(256, (3, 3), stride=2, padding=1), Conv(256, (3, 3), padding=1, unit="conv bn")),
            (Conv(256, (1, 1), stride=2, padding="valid", unit="conv bn"),),
        ),
        "residual_4_2": ((Conv(256, (3, 3), padding=1), Conv(256, (3, 3), padding=1, unit="conv bn")), ()),
        "residual_5_1": (
            (Conv(512, (3, 3), stride=2, padding=1), Conv(512, (3, 3), padding=1, unit="conv bn")),
            (Conv(512, (1, 1), stride=2, padding="valid", unit="conv bn"),),
        ),
        "residual_5_2": ((Conv(512, (3, 3), padding=1), Conv(512, (3, 3), padding=1, unit="conv bn")), ()),
    },
    slim={},
    conv_weights={
        "stem_1": 9_408,
        "stem_2": 0,
        "residual_2_1": 73_728,
        "residual_2_2": 73_728,
        "residual_3_1": 229_376,
        "residual_3_2": 294_912,
        "residual_4_1": 917_504,
        "residual_4_2": 1_179_648,
        "residual_5_1": 3_670_016,
        "residual_5_2": 4_718_592,
    },
    multiply_adds=1.814e9,
    epsilon=1e-5,
    sums={f"residual_{stage}_{block}": Sum() for stage in range(2, 6) for block in range(1, 3)},
)


RESNET18_D2L = Reference(
    source=(
        "Dive into Deep Learning, section Residual Networks: ResNet-18 whose convolutions keep their biases and whose "
        "shortcuts have no batch normalisation, on one channel; padding and epsilon as in its PyTorch form"
    ),
    input_shape=(96, 96, 1),
    minimum=1,
    grid={
        "stem_1": (48, 48, 64),
        "stem_2": (24, 24, 64),
        "residual_2_1": (24, 24, 64),
        "residual_2_2": (24, 24, 64),
        "residual_3_1": (12, 12, 128),
        "residual_3_2": (12, 12, 128),
        "residual_4_1": (6, 6, 256),
        "residual_4_2": (6, 6, 256),
        "residual_5_1": (3, 3, 512),
        "residual_5_2": (3, 3, 512),
    },
    counts={
        None: Counts(11_181_056, 11_173_248),
        10: Counts(11_186_186, 11_178_378),
    },
    counts_without_gamma={
        None: Counts(11_177_152, 11_169_344),
        10: Counts(11_182_282, 11_174_474),
    },
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2, padding=3, bias=True),),),
        "stem_2": ((Pool("max", 3, stride=2, padding=1),),),
        "residual_2_1": (
            (Conv(64, (3, 3), padding=1, bias=True), Conv(64, (3, 3), padding=1, unit="conv bn", bias=True)),
            (),
        ),
        "residual_2_2": (
            (Conv(64, (3, 3), padding=1, bias=True), Conv(64, (3, 3), padding=1, unit="conv bn", bias=True)),
            (),
        ),
        "residual_3_1": (
            (
                Conv(128, (3, 3), stride=2, padding=1, bias=True),
                Conv(128, (3, 3), padding=1, unit="conv bn", bias=True),
            ),
            (Conv(128, (1, 1), stride=2, padding="valid", unit="conv", bias=True),),
        ),
        "residual_3_2": (
            (Conv(128, (3, 3), padding=1, bias=True), Conv(128, (3, 3), padding=1, unit="conv bn", bias=True)),
            (),
        ),
        "residual_4_1": (
            (
                Conv(256, (3, 3), stride=2, padding=1, bias=True),
                Conv(256, (3, 3), padding=1, unit="conv bn", bias=True),
            ),
            (Conv(256, (1, 1), stride=2, padding="valid", unit="conv", bias=True),),
        ),
        "residual_4_2": (
            (Conv(256, (3, 3), padding=1, bias=True), Conv(256, (3, 3), padding=1, unit="conv bn", bias=True)),
            (),
        ),
        "residual_5_1": (
            (
                Conv(512, (3, 3), stride=2, padding=1, bias=True),
                Conv(512, (3, 3), padding=1, unit="conv bn", bias=True),
            ),
            (Conv(512, (1, 1), stride=2, padding="valid", unit="conv", bias=True),),
        ),
        "residual_5_2": (
            (Conv(512, (3, 3), padding=1, bias=True), Conv(512, (3, 3), padding=1, unit="conv bn", bias=True)),
            (),
        ),
    },
    slim={},
    conv_weights={
        "stem_1": 3_136,
        "stem_2": 0,
        "residual_2_1": 73_728,
        "residual_2_2": 73_728,
        "residual_3_1": 229_376,
        "residual_3_2": 294_912,
        "residual_4_1": 917_504,
        "residual_4_2": 1_179_648,
        "residual_5_1": 3_670_016,
        "residual_5_2": 4_718_592,
    },
    multiply_adds=318.7e6,
    epsilon=1e-5,
    sums={f"residual_{stage}_{block}": Sum() for stage in range(2, 6) for block in range(1, 3)},
)


# What a layer of a dense block adds to the maps that it passes on; a transition between blocks.
DENSENET_LAYER: tuple[Column, ...] = (
    (),
    (Conv(128, (1, 1), unit="bn relu conv"), Conv(32, (3, 3), unit="bn relu conv")),
)

DENSENET121 = Reference(
    source=(
        "1608.06993 table 1 in the form of keras.applications' DenseNet121: 8,062,504 parameters, 7,037,504 without "
        "head; torchvision 7,978,856 trainable, 2.834 G multiply-adds"
    ),
    input_shape=(224, 224, 3),
    minimum=29,
    grid={
        "stem_1": (112, 112, 64),
        "stem_2": (56, 56, 64),
        "dense_block_1_1": (56, 56, 96),
        "dense_block_1_2": (56, 56, 128),
        "dense_block_1_3": (56, 56, 160),
        "dense_block_1_4": (56, 56, 192),
        "dense_block_1_5": (56, 56, 224),
        "dense_block_1_6": (56, 56, 256),
        "transition_1": (28, 28, 128),
        "dense_block_2_1": (28, 28, 160),
        "dense_block_2_2": (28, 28, 192),
        "dense_block_2_3": (28, 28, 224),
        "dense_block_2_4": (28, 28, 256),
        "dense_block_2_5": (28, 28, 288),
        "dense_block_2_6": (28, 28, 320),
        "dense_block_2_7": (28, 28, 352),
        "dense_block_2_8": (28, 28, 384),
        "dense_block_2_9": (28, 28, 416),
        "dense_block_2_10": (28, 28, 448),
        "dense_block_2_11": (28, 28, 480),
        "dense_block_2_12": (28, 28, 512),
        "transition_2": (14, 14, 256),
        "dense_block_3_1": (14, 14, 288),
        "dense_block_3_2": (14, 14, 320),
        "dense_block_3_3": (14, 14, 352),
        "dense_block_3_4": (14, 14, 384),
        "dense_block_3_5": (14, 14, 416),
        "dense_block_3_6": (14, 14, 448),
        "dense_block_3_7": (14, 14, 480),
        "dense_block_3_8": (14, 14, 512),
        "dense_block_3_9": (14, 14, 544),
        "dense_block_3_10": (14, 14, 576),
        "dense_block_3_11": (14, 14, 608),
        "dense_block_3_12": (14, 14, 640),
        "dense_block_3_13": (14, 14, 672),
        "dense_block_3_14": (14, 14, 704),
        "dense_block_3_15": (14, 14, 736),
        "dense_block_3_16": (14, 14, 768),
        "dense_block_3_17": (14, 14, 800),
        "dense_block_3_18": (14, 14, 832),
        "dense_block_3_19": (14, 14, 864),
        "dense_block_3_20": (14, 14, 896),
        "dense_block_3_21": (14, 14, 928),
        "dense_block_3_22": (14, 14, 960),
        "dense_block_3_23": (14, 14, 992),
        "dense_block_3_24": (14, 14, 1024),
        "transition_3": (7, 7, 512),
        "dense_block_4_1": (7, 7, 544),
        "dense_block_4_2": (7, 7, 576),
        "dense_block_4_3": (7, 7, 608),
        "dense_block_4_4": (7, 7, 640),
        "dense_block_4_5": (7, 7, 672),
        "dense_block_4_6": (7, 7, 704),
        "dense_block_4_7": (7, 7, 736),
        "dense_block_4_8": (7, 7, 768),
        "dense_block_4_9": (7, 7, 800),
        "dense_block_4_10": (7, 7, 832),
        "dense_block_4_11": (7, 7, 864),
        "dense_block_4_12": (7, 7, 896),
        "dense_block_4_13": (7, 7, 928),
        "dense_block_4_14": (7, 7, 960),
        "dense_block_4_15": (7, 7, 992),
        "dense_block_4_16": (7, 7, 1024),
        "final": (7, 7, 1024),
    },
    counts={
        None: Counts(7_037_504, 6_953_856),
        1000: Counts(8_062_504, 7_978_856),
        1001: Counts(8_063_529, 7_979_881),
    },
    counts_without_gamma={
        None: Counts(6_995_680, 6_912_032),
        1000: Counts(8_020_680, 7_937_032),
        1001: Counts(8_021_705, 7_938_057),
    },
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2, padding=3),),),
        "stem_2": ((Pool("max", 3, stride=2, padding=1),),),
        **{f"dense_block_1_{number}": DENSENET_LAYER for number in range(1, 7)},
        "transition_1": ((Conv(128, (1, 1), unit="bn relu conv"), Pool("average", 2, stride=2, padding="valid")),),
        **{f"dense_block_2_{number}": DENSENET_LAYER for number in range(1, 13)},
        "transition_2": ((Conv(256, (1, 1), unit="bn relu conv"), Pool("average", 2, stride=2, padding="valid")),),
        **{f"dense_block_3_{number}": DENSENET_LAYER for number in range(1, 25)},
        "transition_3": ((Conv(512, (1, 1), unit="bn relu conv"), Pool("average", 2, stride=2, padding="valid")),),
        **{f"dense_block_4_{number}": DENSENET_LAYER for number in range(1, 17)},
        "final": ((Activation(),),),
    },
    slim={},
    conv_weights={
        "stem_1": 9_408,
        "stem_2": 0,
        "dense_block_1_1": 45_056,
        "dense_block_1_2": 49_152,
        "dense_block_1_3": 53_248,
        "dense_block_1_4": 57_344,
        "dense_block_1_5": 61_440,
        "dense_block_1_6": 65_536,
        "transition_1": 32_768,
        "dense_block_2_1": 53_248,
        "dense_block_2_2": 57_344,
        "dense_block_2_3": 61_440,
        "dense_block_2_4": 65_536,
        "dense_block_2_5": 69_632,
        "dense_block_2_6": 73_728,
        "dense_block_2_7": 77_824,
        "dense_block_2_8": 81_920,
        "dense_block_2_9": 86_016,
        "dense_block_2_10": 90_112,
        "dense_block_2_11": 94_208,
        "dense_block_2_12": 98_304,
        "transition_2": 131_072,
        "dense_block_3_1": 69_632,
        "dense_block_3_2": 73_728,
        "dense_block_3_3": 77_824,
        "dense_block_3_4": 81_920,
        "dense_block_3_5": 86_016,
        "dense_block_3_6": 90_112,
        "dense_block_3_7": 94_208,
        "dense_block_3_8": 98_304,
        "dense_block_3_9": 102_400,
        "dense_block_3_10": 106_496,
        "dense_block_3_11": 110_592,
        "dense_block_3_12": 114_688,
        "dense_block_3_13": 118_784,
        "dense_block_3_14": 122_880,
        "dense_block_3_15": 126_976,
        "dense_block_3_16": 131_072,
        "dense_block_3_17": 135_168,
        "dense_block_3_18": 139_264,
        "dense_block_3_19": 143_360,
        "dense_block_3_20": 147_456,
        "dense_block_3_21": 151_552,
        "dense_block_3_22": 155_648,
        "dense_block_3_23": 159_744,
        "dense_block_3_24": 163_840,
        "transition_3": 524_288,
        "dense_block_4_1": 102_400,
        "dense_block_4_2": 106_496,
        "dense_block_4_3": 110_592,
        "dense_block_4_4": 114_688,
        "dense_block_4_5": 118_784,
        "dense_block_4_6": 122_880,
        "dense_block_4_7": 126_976,
        "dense_block_4_8": 131_072,
        "dense_block_4_9": 135_168,
        "dense_block_4_10": 139_264,
        "dense_block_4_11": 143_360,
        "dense_block_4_12": 147_456,
        "dense_block_4_13": 151_552,
        "dense_block_4_14": 155_648,
        "dense_block_4_15": 159_744,
        "dense_block_4_16": 163_840,
        "final": 0,
    },
    multiply_adds=2.834e9,
    epsilon=1.001e-5,
)


DENSENET_D2L_LAYER: tuple[Column, ...] = ((), (Conv(32, (3, 3), unit="bn relu conv", bias=True),))

DENSENET_D2L = Reference(
    source=(
        "Dive into Deep Learning, section Densely Connected Networks: four blocks of four layers without a 1x1 "
        "bottleneck, biases kept, on one channel, average pool at the end; padding and epsilon as in its PyTorch form"
    ),
    input_shape=(96, 96, 1),
    minimum=29,
    grid={
        "stem_1": (48, 48, 64),
        "stem_2": (24, 24, 64),
        "dense_block_1_1": (24, 24, 96),
        "dense_block_1_2": (24, 24, 128),
        "dense_block_1_3": (24, 24, 160),
        "dense_block_1_4": (24, 24, 192),
        "transition_1": (12, 12, 96),
        "dense_block_2_1": (12, 12, 128),
        "dense_block_2_2": (12, 12, 160),
        "dense_block_2_3": (12, 12, 192),
        "dense_block_2_4": (12, 12, 224),
        "transition_2": (6, 6, 112),
        "dense_block_3_1": (6, 6, 144),
        "dense_block_3_2": (6, 6, 176),
        "dense_block_3_3": (6, 6, 208),
        "dense_block_3_4": (6, 6, 240),
        "transition_3": (3, 3, 120),
        "dense_block_4_1": (3, 3, 152),
        "dense_block_4_2": (3, 3, 184),
        "dense_block_4_3": (3, 3, 216),
        "dense_block_4_4": (3, 3, 248),
        "final": (3, 3, 248),
    },
    counts={
        None: Counts(762_344, 755_736),
        10: Counts(764_834, 758_226),
    },
    counts_without_gamma={
        None: Counts(759_040, 752_432),
        10: Counts(761_530, 754_922),
    },
    columns={
        "stem_1": ((Conv(64, (7, 7), stride=2, padding=3, bias=True),),),
        "stem_2": ((Pool("max", 3, stride=2, padding=1),),),
        **{f"dense_block_1_{number}": DENSENET_D2L_LAYER for number in range(1, 5)},
        "transition_1": (
            (Conv(96, (1, 1), unit="bn relu conv", bias=True), Pool("average", 2, stride=2, padding="valid")),
        ),
        **{f"dense_block_2_{number}": DENSENET_D2L_LAYER for number in range(1, 5)},
        "transition_2": (
            (Conv(112, (1, 1), unit="bn relu conv", bias=True), Pool("average", 2, stride=2, padding="valid")),
        ),
        **{f"dense_block_3_{number}": DENSENET_D2L_LAYER for number in range(1, 5)},
        "transition_3": (
            (Conv(120, (1, 1), unit="bn relu conv", bias=True), Pool("average", 2, stride=2, padding="valid")),
        ),
        **{f"dense_block_4_{number}": DENSENET_D2L_LAYER for number in range(1, 5)},
        "final": ((Activation(),),),
    },
    slim={},
    conv_weights={
        "stem_1": 3_136,
        "stem_2": 0,
        "dense_block_1_1": 18_432,
        "dense_block_1_2": 27_648,
        "dense_block_1_3": 36_864,
        "dense_block_1_4": 46_080,
        "transition_1": 18_432,
        "dense_block_2_1": 27_648,
        "dense_block_2_2": 36_864,
        "dense_block_2_3": 46_080,
        "dense_block_2_4": 55_296,
        "transition_2": 25_088,
        "dense_block_3_1": 32_256,
        "dense_block_3_2": 41_472,
        "dense_block_3_3": 50_688,
        "dense_block_3_4": 59_904,
        "transition_3": 28_800,
        "dense_block_4_1": 34_560,
        "dense_block_4_2": 43_776,
        "dense_block_4_3": 52_992,
        "dense_block_4_4": 62_208,
        "final": 0,
    },
    multiply_adds=129.1e6,
    epsilon=1e-5,
)


REFERENCES: dict[str, Reference] = {
    "lenet_bn": LENET_BN,
    "googlenet": GOOGLENET,
    "inception_v1": INCEPTION_V1,
    "bn_inception": BN_INCEPTION,
    "inception_v2": INCEPTION_V2,
    "inception_v3": INCEPTION_V3,
    "inception_v4": INCEPTION_V4,
    "inception_resnet_v1": INCEPTION_RESNET_V1,
    "inception_resnet_v2": INCEPTION_RESNET_V2,
    "inception_resnet_v2_paper": INCEPTION_RESNET_V2_PAPER,
    "resnet18": RESNET18,
    "densenet121": DENSENET121,
    "resnet18_d2l": RESNET18_D2L,
    "densenet_d2l": DENSENET_D2L,
}
