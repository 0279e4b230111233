"""The family at a glance: what the papers publish about each network, and what is counted on the network itself."""

import math
from dataclasses import dataclass
from typing import Any

import keras

from app.errors import UserError, nearest
from models import NETWORKS


@dataclass(frozen=True)
class Card:
    """`side` is the input of the publication, `minimum` the smallest that works, in pixels. `top_1` and `top_5` are the
    single-crop accuracy on ImageNet's validation images, in 0..1, that `accuracy_source` publishes; `source` is who
    publishes weights."""

    paper: str
    side: int
    minimum: int
    channels: int = 3
    classes: int = 1000
    top_1: float | None = None
    top_5: float | None = None
    accuracy_source: str | None = None
    source: str | None = None


# A network that keeps one pixel however small the image is has the minimum 1.
CARDS = {
    "lenet_bn": Card("d2l.ai, chapter 8.5", side=28, minimum=16, channels=1, classes=10),
    "googlenet": Card("arXiv:1409.4842", 224, 1, top_1=0.687, top_5=0.889, accuracy_source="BVLC Caffe"),
    "inception_v1": Card(
        "arXiv:1409.4842", 224, 1, top_1=0.698, top_5=0.896, accuracy_source="TF-slim", source="TF-slim, torchvision"
    ),
    "bn_inception": Card(
        "arXiv:1502.03167", 224, 1, top_1=0.748, top_5=0.9218, accuracy_source="paper", source="Cadene (of Caffe)"
    ),
    "inception_v2": Card(
        "arXiv:1502.03167", 224, 1, top_1=0.739, top_5=0.918, accuracy_source="TF-slim", source="TF-slim"
    ),
    "inception_v3": Card(
        "arXiv:1512.00567",
        299,
        75,
        top_1=0.788,
        top_5=0.944,
        accuracy_source="paper",
        source="TF-slim, Keras, torchvision, timm",
    ),
    "inception_v4": Card(
        "arXiv:1602.07261", 299, 75, top_1=0.8, top_5=0.95, accuracy_source="paper", source="TF-slim, timm, Cadene"
    ),
    "inception_resnet_v1": Card(
        "arXiv:1602.07261", 299, 75, top_1=0.787, top_5=0.945, accuracy_source="paper", source="facenet (faces)"
    ),
    "inception_resnet_v2": Card(
        "arXiv:1602.07261",
        299,
        75,
        top_1=0.804,
        top_5=0.953,
        accuracy_source="TF-slim",
        source="TF-slim, Keras, timm, Cadene",
    ),
    "inception_resnet_v2_paper": Card("arXiv:1602.07261", 299, 75, top_1=0.801, top_5=0.951, accuracy_source="paper"),
    "resnet18": Card(
        "arXiv:1512.03385", 224, 1, top_1=0.69758, top_5=0.89078, accuracy_source="torchvision", source="torchvision"
    ),
    "densenet121": Card(
        "arXiv:1608.06993", 224, 29, top_1=0.7498, top_5=0.9229, accuracy_source="paper", source="Keras, torchvision"
    ),
    "resnet18_d2l": Card("d2l.ai, chapter 8.6", 96, 1, channels=1, classes=10),
    "densenet_d2l": Card("d2l.ai, chapter 8.7", 96, 29, channels=1, classes=10),
}


def check_name(name: str) -> None:
    """Refuses what is not the name of a network.

    Raises:
        UserError: there is none; offers the nearest names.
    """
    if name not in NETWORKS:
        raise UserError(
            f"There is no network '{name}'; the nearest names are {nearest(name, NETWORKS)}, and `networks` lists all."
        )


def describe() -> list[dict[str, Any]]:
    """A row per network, with the keys that `networks --json` prints. Builds every network at its published size."""
    rows = []
    for name, card in CARDS.items():
        # Shapes are all that is counted: in this scope no weight is given a value, which takes most of a build.
        with keras.StatelessScope(initialize_variables=False):
            model = NETWORKS[name](input_shape=(card.side, card.side, card.channels), classes=card.classes)
        rows.append(
            {
                "name": name,
                "paper": card.paper,
                "input": [card.side, card.side, card.channels],
                "parameters": model.count_params(),
                "trainable": sum(math.prod(weight.shape) for weight in model.trainable_weights),
                "multiply_adds": multiply_adds(model),
                "top_1": card.top_1,
                "top_5": card.top_5,
                "accuracy_source": card.accuracy_source,
                "source": card.source,
            }
        )
    return rows


def multiply_adds(model: keras.Model) -> int:
    """Multiplications with a weight, of convolutions and dense layers, for one image."""
    total = 0
    for layer in model.layers:
        pixels = math.prod(layer.output.shape[1:3]) if len(layer.output.shape) == 4 else 1
        if isinstance(layer, keras.layers.Conv2D):
            total += math.prod(layer.kernel.shape) * pixels
        elif isinstance(layer, keras.layers.SeparableConv2D):
            total += (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)) * pixels
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total
