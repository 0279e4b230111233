"""ResNet-18 of torchvision, and as it was trained in Caffe, https://github.com/HolmesShuan/ResNet-18-Caffemodel-on-ImageNet"""

from .notation import Pairs, Release, Table

layers: Pairs = {"stem_1_conv": "conv1", "stem_1_bn": "bn1"}
for stage in range(1, 5):
    for place in range(2):
        ours, theirs = f"residual_{stage + 1}_{place + 1}", f"layer{stage}.{place}"
        layers |= {
            f"{ours}_1_conv": f"{theirs}.conv1",
            f"{ours}_1_bn": f"{theirs}.bn1",
            f"{ours}_2_conv": f"{theirs}.conv2",
            f"{ours}_2_bn": f"{theirs}.bn2",
        }
        if stage > 1 and place == 0:  # only where the map shrinks
            layers |= {
                f"{ours}_shortcut_conv": f"{theirs}.downsample.0",
                f"{ours}_shortcut_bn": f"{theirs}.downsample.1",
            }

# The names of https://github.com/KaimingHe/deep-residual-networks: res2a_branch1 is the projection of the first block,
# which in this port has one too.
caffe_layers: Pairs = {"stem_1_conv": "conv1", "stem_1_bn": "bn_conv1"}
for stage in range(2, 6):
    for place, letter in enumerate("ab", start=1):
        branches = {"1": "branch2a", "2": "branch2b", **({"shortcut": "branch1"} if letter == "a" else {})}
        for ours, theirs in branches.items():
            caffe_layers[f"residual_{stage}_{place}_{ours}_conv"] = f"res{stage}{letter}_{theirs}"
            caffe_layers[f"residual_{stage}_{place}_{ours}_bn"] = f"bn{stage}{letter}_{theirs}"

TABLES = (
    Table("resnet18", "torchvision", "pytorch", {**layers, "predictions": "fc"}),
    Table(
        "resnet18",
        "caffe",
        "caffe",
        {**caffe_layers, "predictions": "fc1000"},
        ported_from="caffe",
        release=Release(
            strided=frozenset(
                {"conv1", *(f"res{stage}a_{branch}" for stage in (3, 4, 5) for branch in ("branch1", "branch2a"))}
            ),
            between=frozenset({"MAX 3/2/0", "AVE 7/1/0", "AVE global"}),
        ),
    ),
)
