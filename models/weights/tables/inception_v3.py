"""Inception-v3: TF-slim, Keras, torchvision and timm."""

from .notation import POOL, Table, in_keras, in_pytorch, in_tensorflow, module, slim, stem

MODULES = {  # ours: slim's and torch's
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
}

A = slim(("0a_1x1",), ("0a_1x1", "0b_5x5"), ("0a_1x1", "0b_3x3", "0c_3x3"), (POOL, "0b_1x1"))
B = slim(
    ("0a_1x1",),
    ("0a_1x1", "0b_1x7", "0c_7x1"),
    ("0a_1x1", "0b_7x1", "0c_1x7", "0d_7x1", "0e_1x7"),
    (POOL, "0b_1x1"),
)
SLIM = {
    "inception_a_1": A,
    "inception_a_2": slim(  # the second column has a numbering of its own
        ("0a_1x1",), ("0b_1x1", "Conv_1_0c_5x5"), ("0a_1x1", "0b_3x3", "0c_3x3"), (POOL, "0b_1x1")
    ),
    "inception_a_3": A,
    "reduction_a": slim(("1a_1x1",), ("0a_1x1", "0b_3x3", "1a_1x1"), (POOL,)),  # both called 1a_1x1 are 3x3
    "inception_b_1": B,
    "inception_b_2": B,
    "inception_b_3": B,
    "inception_b_4": B,
    "reduction_b": slim(("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_1x7", "0c_7x1", "1a_3x3"), (POOL,)),
    "inception_c_1": slim(  # the fork of the second column is 0b twice
        ("0a_1x1",), ("0a_1x1", ("0b_1x3", "0b_3x1")), ("0a_1x1", "0b_3x3", ("0c_1x3", "0d_3x1")), (POOL, "0b_1x1")
    ),
    "inception_c_2": slim(
        ("0a_1x1",), ("0a_1x1", ("0b_1x3", "0c_3x1")), ("0a_1x1", "0b_3x3", ("0c_1x3", "0d_3x1")), (POOL, "0b_1x1")
    ),
}
TORCH = {
    "inception_a": (
        (".branch1x1",),
        (".branch5x5_1", ".branch5x5_2"),
        (".branch3x3dbl_1", ".branch3x3dbl_2", ".branch3x3dbl_3"),
        (POOL, ".branch_pool"),
    ),
    "reduction_a": ((".branch3x3",), (".branch3x3dbl_1", ".branch3x3dbl_2", ".branch3x3dbl_3"), (POOL,)),
    "inception_b": (
        (".branch1x1",),
        (".branch7x7_1", ".branch7x7_2", ".branch7x7_3"),
        (".branch7x7dbl_1", ".branch7x7dbl_2", ".branch7x7dbl_3", ".branch7x7dbl_4", ".branch7x7dbl_5"),
        (POOL, ".branch_pool"),
    ),
    "reduction_b": (
        (".branch3x3_1", ".branch3x3_2"),
        (".branch7x7x3_1", ".branch7x7x3_2", ".branch7x7x3_3", ".branch7x7x3_4"),
        (POOL,),
    ),
    "inception_c": (
        (".branch1x1",),
        (".branch3x3_1", (".branch3x3_2a", ".branch3x3_2b")),
        (".branch3x3dbl_1", ".branch3x3dbl_2", (".branch3x3dbl_3a", ".branch3x3dbl_3b")),
        (POOL, ".branch_pool"),
    ),
}

STEM = stem("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", POOL, "Conv2d_3b_1x1", "Conv2d_4a_3x3")
slim_units, torch_units = dict(STEM), dict(STEM)
for ours, theirs in MODULES.items():
    slim_units |= module(ours, theirs, SLIM[ours])
    torch_units |= module(ours, theirs, TORCH[ours.rstrip("_1234")])

torch_layers = {**in_pytorch(torch_units), "predictions": "fc"}
torch_auxiliary = {
    **in_pytorch({"auxiliary_projection": "AuxLogits.conv0", "auxiliary_reduction": "AuxLogits.conv1"}),
    "auxiliary": "AuxLogits.fc",
}

TABLES = (
    Table(
        "inception_v3",
        "slim",
        "tensorflow",
        {**in_tensorflow(slim_units, "InceptionV3"), "predictions": "InceptionV3/Logits/Conv2d_1c_1x1"},
        {
            **in_tensorflow(
                {"auxiliary_projection": "Conv2d_1b_1x1", "auxiliary_reduction": "Conv2d_2a_5x5"},
                "InceptionV3/AuxLogits",
            ),
            "auxiliary": "InceptionV3/AuxLogits/Conv2d_2b_1x1",
        },
        heads=("InceptionV3/AuxLogits/",),
    ),
    Table("inception_v3", "keras", "keras", {**in_keras(slim_units), "predictions": "predictions"}),
    *(
        Table(
            "inception_v3",
            source,
            "pytorch",
            torch_layers,
            torch_auxiliary,
            heads=("AuxLogits.",),
            ported_from=source,
        )
        for source in ("torchvision", "timm")
    ),
)
