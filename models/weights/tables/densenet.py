"""DenseNet-121: Keras, torchvision, and in Caffe, https://github.com/shicai/DenseNet-Caffe"""

from .notation import Pairs, Release, Table

LAYERS = (6, 12, 24, 16)


def table(stem: tuple[str, str], dense: tuple[str, str, str, str], transition: tuple[str, str], final: str) -> Pairs:
    """The pairs from their names; {b} and {l} are the dense block and its layer, counted from 1, {c} is {b} + 1."""
    layers: Pairs = dict(zip(("stem_1_conv", "stem_1_bn"), stem, strict=True))
    for block, count in enumerate(LAYERS, start=1):
        for layer in range(1, count + 1):
            for part, name in zip(("1_bn", "1_conv", "2_bn", "2_conv"), dense, strict=True):
                layers[f"dense_block_{block}_{layer}_{part}"] = name.format(b=block, c=block + 1, l=layer)
        if block < len(LAYERS):
            for part, name in zip(("bn", "conv"), transition, strict=True):
                layers[f"transition_{block}_{part}"] = name.format(b=block, c=block + 1)
    return {**layers, "final_bn": final}


KERAS = table(
    ("conv1_conv", "conv1_bn"),
    ("conv{c}_block{l}_0_bn", "conv{c}_block{l}_1_conv", "conv{c}_block{l}_1_bn", "conv{c}_block{l}_2_conv"),
    ("pool{c}_bn", "pool{c}_conv"),
    "bn",
)
LAYER = "features.denseblock{b}.denselayer{l}."
TORCHVISION = table(
    ("features.conv0", "features.norm0"),
    (f"{LAYER}norm1", f"{LAYER}conv1", f"{LAYER}norm2", f"{LAYER}conv2"),
    ("features.transition{b}.norm", "features.transition{b}.conv"),
    "features.norm5",
)
CAFFE = table(
    ("conv1", "conv1/bn"),
    ("conv{c}_{l}/x1/bn", "conv{c}_{l}/x1", "conv{c}_{l}/x2/bn", "conv{c}_{l}/x2"),
    ("conv{c}_blk/bn", "conv{c}_blk"),
    "conv5_blk/bn",
)

TABLES = (
    Table("densenet121", "keras", "keras", {**KERAS, "predictions": "predictions"}),
    Table(
        "densenet121",
        "torchvision",
        "pytorch",
        {**TORCHVISION, "predictions": "classifier"},
        ported_from="torchvision",
    ),
    Table(
        "densenet121",
        "caffe",
        "caffe",
        {**CAFFE, "predictions": "fc6"},
        ported_from="caffe",
        release=Release(
            strided=frozenset({"conv1"}),
            between=frozenset({"MAX 3/2/1", "AVE 2/2/0", "AVE global"}),
        ),
    ),
)
