"""Which layer of a published file goes to which of ours: one table per network, source and format."""

from . import densenet, googlenet, inception_resnet, inception_v1, inception_v2, inception_v3, inception_v4, resnet
from .notation import Format, Release, Table

TABLES: tuple[Table, ...] = (
    *googlenet.TABLES,
    *inception_v1.TABLES,
    *inception_v2.TABLES,
    *inception_v3.TABLES,
    *inception_v4.TABLES,
    *inception_resnet.TABLES,
    *resnet.TABLES,
    *densenet.TABLES,
)

__all__ = ["TABLES", "Format", "Release", "Table"]
