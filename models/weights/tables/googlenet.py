"""BVLC's GoogLeNet, in Caffe: the paper's network, with its two auxiliary heads."""

from .notation import POOL, Pairs, Release, Table, module, stem

MODULES = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
COLUMNS = (("/1x1",), ("/3x3_reduce", "/3x3"), ("/5x5_reduce", "/5x5"), (POOL, "/pool_proj"))

units = stem("conv1/7x7_s2", POOL, POOL, "conv2/3x3_reduce", "conv2/3x3")
for place in MODULES:
    units |= module(f"inception_{place}", f"inception_{place}", COLUMNS)


def head(ours: str, theirs: str) -> Pairs:
    return {f"{ours}_projection_conv": f"{theirs}/conv", f"{ours}_dense": f"{theirs}/fc", ours: f"{theirs}/classifier"}


TABLES = (
    Table(
        "googlenet",
        "caffe",
        "caffe",
        {**{f"{ours}_conv": theirs for ours, theirs in units.items()}, "predictions": "loss3/classifier"},
        {**head("auxiliary_1", "loss1"), **head("auxiliary_2", "loss2")},
        heads=("loss1/", "loss2/"),
        ported_from="caffe",
        release=Release(
            strided=frozenset({"conv1/7x7_s2"}),
            between=frozenset(
                {"MAX 3/2/0", "MAX 3/1/1", "AVE 5/3/0", "AVE 7/1/0", "AVE global", "LRN 5 0.0001 0.75 1"}
            ),
            flattened={"loss1/fc": "loss1/conv", "loss2/fc": "loss2/conv"},
        ),
    ),
)
