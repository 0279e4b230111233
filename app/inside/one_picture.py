"""What goes on inside for one picture: what speaks for the answer, and whether the picture is like those before it."""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.images.preprocessing import Preprocessing
from app.inside import explaining, explanation_figure, likeness
from app.run_folder.trained import Trained


class Look(NamedTuple):
    """`heat` is uint8 RGB (height, width, 3), at the network's size: Grad-CAM for the best class, `label`, over the
    picture. `like` is a sentence, see `likeness.Likeness.told`, and `is_like` what it says."""

    heat: NDArray[np.uint8]
    label: str
    like: str
    is_like: bool


class Looking:
    """At one picture after the other, by any thread. `own` are the files of pictures that the network was tested on."""

    def __init__(self, trained: Trained, own: Sequence[bytes]) -> None:
        self._trained = trained
        self._turn = threading.Lock()
        seen = [_network_sees(trained.preprocessing, trained.preprocessing.decode(one))[0] for one in own]
        self._likeness = likeness.Likeness(trained.model, seen)

    def at(self, pixels: NDArray[np.uint8]) -> Look:
        """`pixels` (rows, columns, 3), RGB and upright, of any size."""
        image, picture = _network_sees(self._trained.preprocessing, pixels)
        with self._turn:
            number = int(self._trained.model.predict_on_batch(image[np.newaxis])[0].argmax())
            heat = explaining.heat_map(self._trained.logits_model, image, number)
            like, is_like = self._likeness.told(image)
        return Look(explanation_figure.laid_over(picture, heat), self._trained.labels[number], like, is_like)


def _network_sees(
    preprocessing: Preprocessing, pixels: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    resized = preprocessing.resized(tf.constant(pixels))
    return preprocessing.scaled(resized).numpy(), tf.saturate_cast(tf.round(resized), tf.uint8).numpy()
