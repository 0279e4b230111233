"""Whether a picture is like those a network was trained on, as its first batch normalisations tell: they know the mean
and the deviation that their inputs had then.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from export import folding

# Few, of the first layers: what a picture is, colours, light, edges, and not yet what is on it.
LAYERS = 5
# Pictures of the test images differ from the population, too, and by how much differs from data to data: those of the
# run are the measure. With this factor the warning comes for 1.1 % of the test images of a BN-Inception of the digits,
# and for all noise, flat grey and inverted digits, 93 % of photographs and 85 % of CIFAR-10's pictures. One of CIFAR-10
# has it for 0.2 % of its own, and for all noise, flat grey and pictures of a seventh of the light; hardly for other
# photographs (8 %), which are of the kind that it knows, nor for its own inverted.
FACTOR = 1.25
FEWEST = 8  # pictures from which the measure is taken


class Likeness:
    """`own` are test images as `model` takes them, (height, width, 3) each."""

    def __init__(self, model: keras.Model, own: Sequence[NDArray[np.float32]]) -> None:
        self._layers = [layer for layer in model.layers if _has_map(layer)][:LAYERS]
        self.limit: float | None = None
        self._own = len(own)
        if not self._layers:
            return
        probe = keras.Model(model.inputs, [layer.input for layer in self._layers])

        def moments(images: Any) -> list[tuple[Any, Any]]:
            found = []
            for layer, x in zip(self._layers, keras.tree.flatten(probe(images, training=False)), strict=True):
                others = [axis for axis in range(1, len(x.shape)) if axis != layer.axis % len(x.shape)]
                found.append(tf.nn.moments(tf.cast(x, tf.float64), others))
            return found

        kind = model.inputs[0]
        self._moments = tf.function(moments, input_signature=[tf.TensorSpec(kind.shape, kind.dtype)], autograph=False)
        if self._own >= FEWEST:
            self.limit = FACTOR * max(max(self.distances(image).values()) for image in own)

    def distances(self, image: NDArray[np.float32]) -> dict[str, float]:
        """By layer, how far the picture's activations are from the population's: the difference of the means, in
        deviations, plus the logarithm of the ratio of the deviations; the root of the mean square over channels."""
        found = {}
        for layer, (mean, variance) in zip(self._layers, self._moments(image[np.newaxis]), strict=True):
            usual = np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
            ours = np.sqrt(variance.numpy()[0] + layer.epsilon)
            apart = np.abs(mean.numpy()[0] - np.asarray(layer.moving_mean)) / usual + np.abs(np.log(ours / usual))
            found[layer.name] = float(np.sqrt(np.mean(np.square(apart))))
        return found

    def told(self, image: NDArray[np.float32]) -> tuple[str, bool]:
        """A sentence, empty where nothing can be said; and whether the picture is like those of the training."""
        if self.limit is None:
            return "", True
        distances = self.distances(image)
        name = max(distances, key=lambda name: distances[name])
        measured = f"its activations lie {distances[name]:.1f} deviations from the population's in {name}"
        if distances[name] > self.limit:
            usual = f"those of the run's {self._own} test images {self.limit / FACTOR:.1f} at most"
            return f"This picture is unlike what the network was trained on: {measured}, {usual}.", False
        told = "To its first layers this picture is like what the network was trained on"
        return f"{told}: {measured}; above {self.limit:.1f} there would be a warning.", True


def _has_map(layer: keras.layers.Layer) -> bool:
    """Whether it normalises a map: of a vector, one picture has one value per channel, and no deviation."""
    return folding.is_batch_normalization(layer) and len(layer.input.shape) == 4 and max(layer.input.shape[1:3]) > 1
