"""ResNet-18 of torchvision."""

from .notation import Pairs, Table

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

TABLES = (Table("resnet18", "torchvision", "pytorch", {**layers, "predictions": "fc"}),)
