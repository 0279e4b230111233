"""What is counted on a network itself, and the networks of the family as they were published, to count on."""

import math

import keras

from app.networks.cards import CARDS
from models import NETWORKS


def published(name: str) -> keras.Model:
    """The network of that name at the size of its publication, its weights without values: shapes are all there is."""
    card = CARDS[name]
    # Giving them values takes most of a build.
    with keras.StatelessScope(initialize_variables=False):
        return NETWORKS[name](input_shape=(card.side, card.side, card.channels), classes=card.classes)


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
