"""The family at a glance: what the papers publish about each network, and what is counted on the network itself."""

import math
from dataclasses import dataclass
from typing import Any

import keras

from models import NETWORKS


@dataclass(frozen=True)
class Card:
    """`side` is the input of the publication, `minimum` the smallest that works, in pixels. `top_1` and `top_5` are the
    publication's single-crop accuracy on ImageNet's validation images, in 0..1; `source` is who publishes weights."""

    paper: str
    side: int
    minimum: int
    channels: int = 3
    classes: int = 1000
    top_1: float | None = None
    top_5: float | None = None
    source: str | None = None


CARDS = {
    "lenet_bn": Card("d2l.ai, chapter 8.5", side=28, minimum=16, channels=1, classes=10),
    "bn_inception": Card(
        "arXiv:1502.03167", side=224, minimum=1, top_1=0.748, top_5=0.9218, source="Caffe release, ported by Cadene"
    ),
    "inception_v3": Card(
        "arXiv:1512.00567", side=299, minimum=75, top_1=0.788, top_5=0.944, source="TF-slim, Keras, torchvision, timm"
    ),
}


def describe() -> list[dict[str, Any]]:
    """A row per network, with the keys that `networks --json` prints. Builds every network at its published size."""
    rows = []
    for name, card in CARDS.items():
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
                "source": card.source,
            }
        )
    return rows


def multiply_adds(model: keras.Model) -> int:
    """Multiplications with a weight, of convolutions and dense layers, for one image."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            total += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total
