"""Inception-v1: TF-slim's checkpoint and torchvision's googlenet, the same network (3x3 where the paper has 5x5)."""

from .notation import POOL, Table, in_pytorch, in_tensorflow, module, slim, stem

MODULES = {  # ours: slim's, which counts one letter further; torchvision calls them inception3a and so on
    "inception_3a": "Mixed_3b",
    "inception_3b": "Mixed_3c",
    "inception_4a": "Mixed_4b",
    "inception_4b": "Mixed_4c",
    "inception_4c": "Mixed_4d",
    "inception_4d": "Mixed_4e",
    "inception_4e": "Mixed_4f",
    "inception_5a": "Mixed_5b",
    "inception_5b": "Mixed_5c",
}

COLUMNS = slim(("0a_1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3"), (POOL, "0b_1x1"))
# The one 3x3 that slim calls 0a.
COLUMNS_5A = slim(("0a_1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0a_3x3"), (POOL, "0b_1x1"))
TORCH_COLUMNS = (
    (".branch1",),
    (".branch2.0", ".branch2.1"),
    (".branch3.0", ".branch3.1"),
    (POOL, ".branch4.1"),
)

slim_units = stem("Conv2d_1a_7x7", POOL, "Conv2d_2b_1x1", "Conv2d_2c_3x3")
torch_units = stem("conv1", POOL, "conv2", "conv3")
for ours, theirs in MODULES.items():
    slim_units |= module(ours, theirs, COLUMNS_5A if ours == "inception_5a" else COLUMNS)
    torch_units |= module(ours, ours.replace("_", ""), TORCH_COLUMNS)

TABLES = (
    Table(
        "inception_v1",
        "slim",
        "tensorflow",
        {**in_tensorflow(slim_units, "InceptionV1"), "predictions": "InceptionV1/Logits/Conv2d_0c_1x1"},
    ),
    Table(
        "inception_v1",
        "torchvision",
        "pytorch",
        {**in_pytorch(torch_units), "predictions": "fc"},
        # Two heads that the weights' TensorFlow original does not have, and that nobody trained.
        heads=("aux1.", "aux2."),
        ported_from="torchvision",
    ),
)
