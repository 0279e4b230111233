"""A SavedModel for TensorFlow Serving: bytes of image files in, names and scores out.

    serving_default   image_bytes string [N]              -> classes string [N, k], scores float32 [N, k], best first
    classify          inputs string [N]                   -> the same, of tf.train.Example with `image/encoded`
    predict_pixels    images uint8 [N, height, width, 3]  -> probabilities float32 [N, classes], in label order
    features          image_bytes string [N]              -> embedding float32 [N, d]: what the classifier is given

k is the smaller of 10 and the number of classes. Files of different formats and sizes may be in one batch. Of several
networks, an ensemble, the probabilities are the arithmetic mean and the embeddings follow each other.

The weights are constants of the graph, which TensorFlow brings once into the order that its kernels want; variables it
would bring there at every request.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from .preprocessing import Preprocessing

TOP = 10


class Servable(tf.Module):
    """Networks that give probabilities, each with its preprocessing, and their labels as one TensorFlow module."""

    def __init__(
        self, networks: Sequence[tuple[keras.Model, Preprocessing]], labels: Sequence[str], labels_file: Path
    ) -> None:
        super().__init__()
        self.labels = tf.constant(labels)
        self.top = min(TOP, len(labels))
        self.labels_file = tf.saved_model.Asset(str(labels_file))
        self.networks = [
            (_frozen(model), preprocessing, model.inputs[0].shape[1:]) for model, preprocessing in networks
        ]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes: Any) -> dict[str, Any]:
        probabilities, _ = self._on_files(image_bytes)
        scores, indices = tf.math.top_k(probabilities, k=self.top)
        return {"classes": tf.gather(self.labels, indices), "scores": scores}

    # `inputs` is the name that TensorFlow Serving's :classify looks for.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        features = {"image/encoded": tf.io.FixedLenFeature((), tf.string)}
        return self.serving_default(tf.io.parse_example(inputs, features)["image/encoded"])

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def predict_pixels(self, images: Any) -> dict[str, Any]:
        return {"probabilities": self._answers(images, lambda preprocessing, one: preprocessing(one))[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def features(self, image_bytes: Any) -> dict[str, Any]:
        return {"embedding": self._on_files(image_bytes)[1]}

    def _on_files(self, image_bytes: Any) -> Any:
        return self._answers(image_bytes, lambda preprocessing, one: preprocessing(preprocessing.decode(one)))

    def _answers(self, batch: Any, prepare: Callable[[Preprocessing, Any], tf.Tensor]) -> tuple[Any, Any]:
        """Probabilities and embedding of a batch."""
        prepared: list[tuple[Preprocessing, tf.Tensor]] = []
        answers = []
        for network, preprocessing, shape in self.networks:
            images = next((images for known, images in prepared if known == preprocessing), None)
            if images is None:
                images = _each(partial(prepare, preprocessing), batch, shape)
                prepared.append((preprocessing, images))
            answers.append(network(images))
        if len(answers) == 1:
            return answers[0]
        return tf.reduce_mean([answer[0] for answer in answers], 0), tf.concat([answer[1] for answer in answers], 1)


def _each(prepare: Callable[[Any], tf.Tensor], batch: Any, shape: tuple[int, ...]) -> tf.Tensor:
    # Resized inside the map: only images of one size can be stacked.
    return tf.map_fn(prepare, batch, fn_output_signature=tf.TensorSpec(shape, tf.float32))


def _frozen(model: keras.Model) -> Any:
    """The network as a function: prepared images (N, height, width, 3) -> [probabilities, embedding], both float32."""
    both = keras.Model(model.input, [model.output, _before_the_classifier(model)])

    @tf.function(input_signature=[tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)])
    def network(images: Any) -> list[Any]:
        return [tf.cast(output, tf.float32) for output in both(images, training=False)]

    # One function, which all signatures call, so that the weights are in the file once.
    return convert_variables_to_constants_v2(network.get_concrete_function())


def _before_the_classifier(model: keras.Model) -> Any:
    """The tensor (batch, d) that the last dense layer is given."""
    return next(layer for layer in reversed(model.layers) if isinstance(layer, keras.layers.Dense)).input


def write(networks: Sequence[tuple[keras.Model, Preprocessing]], labels: Sequence[str], folder: Path) -> None:
    """Writes the SavedModel `folder`, with the labels inside the graph and as `assets/labels.txt`, one a line.

    Each network takes images of its preprocessing and gives probabilities (batch, len(labels)).
    """
    folder.mkdir(parents=True, exist_ok=True)
    labels_file = folder / "labels.txt"
    labels_file.write_text("".join(f"{label}\n" for label in labels))
    servable = Servable(networks, labels, labels_file)
    names = ("serving_default", "classify", "predict_pixels", "features")
    signatures = {name: getattr(servable, name) for name in names}
    tf.saved_model.save(servable, str(folder), signatures=signatures)
    labels_file.unlink()
