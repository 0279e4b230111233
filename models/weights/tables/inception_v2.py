"""TF-slim's Inception-v2, and BN-Inception in Caffe and as Cadene took it over: the same places, two sets of widths."""

import re

from .notation import POOL, Release, Table, in_tensorflow, layers_of, module, slim, stem

MODULES = {  # ours: slim's
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
}
STRIDED = ("inception_3c", "inception_4e")

COLUMNS = slim(("0a_1x1",), ("0a_1x1", "0b_3x3"), ("0a_1x1", "0b_3x3", "0c_3x3"), (POOL, "0b_1x1"))
REDUCTION = slim(("0a_1x1", "1a_3x3"), ("0a_1x1", "0b_3x3", "1a_3x3"), (POOL,))
DOUBLE = ("_double_3x3_reduce", "_double_3x3_1", "_double_3x3_2")
CAFFE_COLUMNS = (("_1x1",), ("_3x3_reduce", "_3x3"), DOUBLE, (POOL, "_pool_proj"))
CAFFE_REDUCTION = (("_3x3_reduce", "_3x3"), DOUBLE, (POOL,))

slim_units = stem(POOL, POOL, "Conv2d_2b_1x1", "Conv2d_2c_3x3")
caffe_units = stem("conv1_7x7_s2", POOL, "conv2_3x3_reduce", "conv2_3x3")
for ours, theirs in MODULES.items():
    slim_units |= module(ours, theirs, REDUCTION if ours in STRIDED else COLUMNS)
    caffe_units |= module(ours, ours, CAFFE_REDUCTION if ours in STRIDED else CAFFE_COLUMNS)


def in_caffe(unit: str) -> tuple[str, str]:
    """Cadene's names have _ for the / of Caffe, which stands behind the module."""
    place = re.sub(r"^(conv\d|inception_\d\w)_", r"\1/", unit)
    return place, f"{place}_bn"


TABLES = (
    Table(
        "inception_v2",
        "slim",
        "tensorflow",
        {
            "stem_1_conv": "InceptionV2/Conv2d_1a_7x7",  # separable, with a bias and without normalisation
            **in_tensorflow(slim_units, "InceptionV2"),
            "predictions": "InceptionV2/Logits/Conv2d_1c_1x1",
        },
    ),
    Table(
        "bn_inception",
        "cadene",
        "pytorch",
        {**layers_of(caffe_units, lambda unit: (unit, f"{unit}_bn")), "predictions": "last_linear"},
        ported_from="cadene",
    ),
    Table(
        "bn_inception",
        "caffe",
        "caffe",
        {**layers_of(caffe_units, in_caffe), "predictions": "fc"},
        ported_from="caffe",
        release=Release(
            strided=frozenset(
                {"conv1/7x7_s2", *(f"{place}/{step}" for place in STRIDED for step in ("3x3", "double_3x3_2"))}
            ),
            between=frozenset({"MAX 3/2/0", "MAX 3/1/1", "AVE 3/1/1", "AVE 7/1/0", "AVE global"}),
        ),
    ),
)
