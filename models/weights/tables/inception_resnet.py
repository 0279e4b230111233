"""The Inception-ResNets: v1 as facenet has it, in TensorFlow and in PyTorch; v2 of TF-slim, Keras, timm and Cadene."""

from collections.abc import Mapping

from .notation import POOL, Column, Pairs, Table, in_keras, in_pytorch, in_tensorflow, module, numbered, slim, stem

# Of both networks. The first step of every block is Conv2d_1x1, without a number.
BLOCK_A = slim(("1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"))
BLOCK_B = slim(("1x1",), ("0a_1x1", "0b_1x7", "0c_7x1"))
BLOCK_C = slim(("1x1",), ("0a_1x1", "0b_1x3", "0c_3x1"))
REDUCTION_A = slim(("1a_3x3",), ("0a_1x1", "0b_3x3", "1a_3x3"), (POOL,))
REDUCTION_B = slim(("0a_1x1", "1a_3x3"), ("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_3x3", "1a_3x3"), (POOL,))
V2_MIXED_5B = slim(("1x1",), ("0a_1x1", "0b_5x5"), ("0a_1x1", "0b_3x3", "0c_3x3"), (POOL, "0b_1x1"))

V1_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", POOL, "Conv2d_3b_1x1", "Conv2d_4a_3x3", "Conv2d_4b_3x3")
V2_STEM = V1_STEM[:-1]
TORCH_V1_STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", POOL, "conv2d_3b", "conv2d_4a", "conv2d_4b")
TORCH_V2_STEM = TORCH_V1_STEM[:-1]


def blocks(ours: str, theirs: list[str], columns: tuple[Column, ...]) -> Pairs:
    units: Pairs = {}
    for place, block in enumerate(theirs, start=1):
        units |= module(f"{ours}_{place}", block, columns)
    return units


def up_projections(theirs: Mapping[str, list[str]], name: str) -> Pairs:
    """The residual blocks' convolutions with a bias and without normalisation."""
    return {
        f"{ours}_{place}_up_conv": f"{block}{name}"
        for ours, named in theirs.items()
        for place, block in enumerate(named, start=1)
    }


def slim_blocks(a: int, b: int, c: int) -> dict[str, list[str]]:
    """The last C, the linear one, stands outside the repetitions."""
    return {
        "inception_resnet_a": [f"Repeat/block35_{i}" for i in range(1, a + 1)],
        "inception_resnet_b": [f"Repeat_1/block17_{i}" for i in range(1, b + 1)],
        "inception_resnet_c": [*(f"Repeat_2/block8_{i}" for i in range(1, c)), "Block8"],
    }


def torch_blocks(a: int, b: int, c: int, repeats: tuple[str, str, str]) -> dict[str, list[str]]:
    return {
        "inception_resnet_a": [f"{repeats[0]}.{i}" for i in range(a)],
        "inception_resnet_b": [f"{repeats[1]}.{i}" for i in range(b)],
        "inception_resnet_c": [*(f"{repeats[2]}.{i}" for i in range(c - 1)), "block8"],
    }


def slim_units(repeats: Mapping[str, list[str]], first: Pairs) -> Pairs:
    """In the order of their creation, which Keras' numbers rely on."""
    return {
        **first,
        **blocks("inception_resnet_a", repeats["inception_resnet_a"], BLOCK_A),
        **module("reduction_a", "Mixed_6a", REDUCTION_A),
        **blocks("inception_resnet_b", repeats["inception_resnet_b"], BLOCK_B),
        **module("reduction_b", "Mixed_7a", REDUCTION_B),
        **blocks("inception_resnet_c", repeats["inception_resnet_c"], BLOCK_C),
    }


def torch_units(repeats: Mapping[str, list[str]], first: Pairs) -> Pairs:
    return {
        **first,
        **blocks("inception_resnet_a", repeats["inception_resnet_a"], numbered(1, 2, 3)),
        **module("reduction_a", "mixed_6a", numbered(1, 3, 0)),
        **blocks("inception_resnet_b", repeats["inception_resnet_b"], numbered(1, 3)),
        **module("reduction_b", "mixed_7a", numbered(2, 2, 3, 0)),
        **blocks("inception_resnet_c", repeats["inception_resnet_c"], numbered(1, 3)),
    }


V1 = slim_blocks(5, 10, 6)
V2 = slim_blocks(10, 20, 10)
# Off by one: facenet-pytorch's repeat_1 is timm's repeat.
TORCH_V1 = torch_blocks(5, 10, 6, ("repeat_1", "repeat_2", "repeat_3"))
TORCH_V2 = torch_blocks(10, 20, 10, ("repeat", "repeat_1", "repeat_2"))

v2_units = slim_units(V2, {**stem(*V2_STEM), **module("inception_a", "Mixed_5b", V2_MIXED_5B)})
torch_v2_layers = {
    **in_pytorch(
        {
            **torch_units(
                TORCH_V2, {**stem(*TORCH_V2_STEM), **module("inception_a", "mixed_5b", numbered(1, 2, 3, -2))}
            ),
            "final": "conv2d_7b",
        }
    ),
    **up_projections(TORCH_V2, ".conv2d"),
}
KERAS_V2 = {
    "inception_resnet_a": [f"block35_{i}" for i in range(1, 11)],
    "inception_resnet_b": [f"block17_{i}" for i in range(1, 21)],
    "inception_resnet_c": [f"block8_{i}" for i in range(1, 11)],
}

TABLES = (
    Table(
        "inception_resnet_v1",
        "facenet",
        "tensorflow",
        {
            **in_tensorflow(slim_units(V1, stem(*V1_STEM)), "InceptionResnetV1"),
            **up_projections(
                {ours: [f"InceptionResnetV1/{block}" for block in named] for ours, named in V1.items()}, "/Conv2d_1x1"
            ),
            "bottleneck_dense": "InceptionResnetV1/Bottleneck",
            "bottleneck_bn": "InceptionResnetV1/Bottleneck/BatchNorm",
            "predictions": "Logits",  # the one layer outside the network's scope
        },
    ),
    Table(
        "inception_resnet_v1",
        "facenet",
        "pytorch",
        {
            **in_pytorch(torch_units(TORCH_V1, stem(*TORCH_V1_STEM))),
            **up_projections(TORCH_V1, ".conv2d"),
            "bottleneck_dense": "last_linear",
            "bottleneck_bn": "last_bn",
            "predictions": "logits",
        },
    ),
    Table(
        "inception_resnet_v2",
        "slim",
        "tensorflow",
        {
            **in_tensorflow({**v2_units, "final": "Conv2d_7b_1x1"}, "InceptionResnetV2"),
            **up_projections(
                {ours: [f"InceptionResnetV2/{block}" for block in named] for ours, named in V2.items()}, "/Conv2d_1x1"
            ),
            "predictions": "InceptionResnetV2/Logits/Logits",
        },
        {
            **in_tensorflow(
                {"auxiliary_projection": "Conv2d_1b_1x1", "auxiliary_reduction": "Conv2d_2a_5x5"},
                "InceptionResnetV2/AuxLogits",
            ),
            "auxiliary": "InceptionResnetV2/AuxLogits/Logits",
        },
        heads=("InceptionResnetV2/AuxLogits/",),
    ),
    Table(
        "inception_resnet_v2",
        "keras",
        "keras",
        {
            **in_keras(v2_units),
            **up_projections(KERAS_V2, "_conv"),
            "final_conv": "conv_7b",
            "final_bn": "conv_7b_bn",
            "predictions": "predictions",
        },
    ),
    Table("inception_resnet_v2", "timm", "pytorch", {**torch_v2_layers, "predictions": "classif"}),
    Table("inception_resnet_v2", "cadene", "pytorch", {**torch_v2_layers, "predictions": "last_linear"}),
)
