"""Inception-v4: TF-slim, timm and Cadene, the last two with the same names."""

from .notation import POOL, Table, in_pytorch, in_tensorflow, module, numbered, slim, stem

A = slim(("0a_1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"), (POOL, "0b_1x1"))
B = slim(
    ("0a_1x1",),
    ("0a_1x1", "0b_1x7", "0c_7x1"),
    ("0a_1x1", "0b_7x1", "0c_1x7", "0d_7x1", "0e_1x7"),
    (POOL, "0b_1x1"),
)
C = slim(
    ("0a_1x1",),
    ("0a_1x1", ("0b_1x3", "0c_3x1")),
    ("0a_1x1", "0b_3x1", "0c_1x3", ("0d_1x3", "0e_3x1")),
    (POOL, "0b_1x1"),
)
TORCH_C = (
    (".branch0",),
    (".branch1_0", (".branch1_1a", ".branch1_1b")),
    (".branch2_0", ".branch2_1", ".branch2_2", (".branch2_3a", ".branch2_3b")),
    (POOL, ".branch3.1"),
)
MODULES = (  # ours, slim's, slim's columns, torch's, torch's columns
    ("stem_4", "Mixed_3a", slim((POOL,), ("0a_3x3",)), "features.3", ((POOL,), (".conv",))),
    (
        "stem_5",
        "Mixed_4a",
        slim(("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_1x7", "0c_7x1", "1a_3x3")),
        "features.4",
        numbered(2, 4),
    ),
    ("stem_6", "Mixed_5a", slim(("1a_3x3",), (POOL,)), "features.5", ((".conv",), (POOL,))),
    *((f"inception_a_{i}", f"Mixed_5{'abcde'[i]}", A, f"features.{5 + i}", numbered(1, 2, 3, -2)) for i in range(1, 5)),
    (
        "reduction_a",
        "Mixed_6a",
        slim(("1a_3x3",), ("0a_1x1", "0b_3x3", "1a_3x3"), (POOL,)),
        "features.10",
        numbered(1, 3, 0),
    ),
    *(
        (f"inception_b_{i}", f"Mixed_6{'abcdefgh'[i]}", B, f"features.{10 + i}", numbered(1, 3, 5, -2))
        for i in range(1, 8)
    ),
    (
        "reduction_b",
        "Mixed_7a",
        slim(("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_1x7", "0c_7x1", "1a_3x3"), (POOL,)),
        "features.18",
        numbered(2, 4, 0),
    ),
    *((f"inception_c_{i}", f"Mixed_7{'abcd'[i]}", C, f"features.{18 + i}", TORCH_C) for i in range(1, 4)),
)

slim_units = stem("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
torch_units = stem("features.0", "features.1", "features.2")
for ours, theirs, columns, torch_theirs, torch_columns in MODULES:
    slim_units |= module(ours, theirs, columns)
    torch_units |= module(ours, torch_theirs, torch_columns)

TABLES = (
    Table(
        "inception_v4",
        "slim",
        "tensorflow",
        {**in_tensorflow(slim_units, "InceptionV4"), "predictions": "InceptionV4/Logits/Logits"},
        {
            **in_tensorflow(
                # The second has no kernel in its name: it covers whatever map there is.
                {"auxiliary_projection": "Conv2d_1b_1x1", "auxiliary_reduction": "Conv2d_2a"},
                "InceptionV4/AuxLogits",
            ),
            "auxiliary": "InceptionV4/AuxLogits/Aux_logits",
        },
        heads=("InceptionV4/AuxLogits/",),
    ),
    *(
        Table("inception_v4", source, "pytorch", {**in_pytorch(torch_units), "predictions": "last_linear"})
        for source in ("timm", "cadene")
    ),
)
