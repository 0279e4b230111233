"""Published weights of other code bases, read without those code bases.

    checkpoint = read("inception_v4.ckpt", "inception_v4", "slim")
    model = InceptionV4(**checkpoint.arguments)
    report = assign(model, checkpoint)

`imagenet` fetches what Keras and TF-slim publish; it is the only thing here that uses the network.
"""

from .assignment import Report, Row, assign
from .channels import take_channels
from .checkpoint import SOURCES, Checkpoint, read
from .loading import load
from .published import imagenet, is_published
from .tensors import WeightsError

__all__ = [
    "SOURCES",
    "Checkpoint",
    "Report",
    "Row",
    "WeightsError",
    "assign",
    "imagenet",
    "is_published",
    "load",
    "read",
    "take_channels",
]
