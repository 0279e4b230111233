"""The loss of a training, and what is shown beside it."""

from collections.abc import Sequence
from typing import Any

import keras

from app.datasets.dataset import Data
from app.pipeline import balance
from app.recipe import Recipe
from app.training.callbacks.epochs import AVERAGE_PRECISION
from app.training.several_labels import SumOfBinaryCrossentropies


def of(data: Data, recipe: Recipe) -> keras.losses.Loss:
    """For logits (batch, classes) and labels of the same shape, whose rows have the sum 1, unless pictures have several
    labels."""
    if data.label_sets:
        return SumOfBinaryCrossentropies(recipe.label_smoothing)
    if recipe.balance != "weights":
        return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing)
    weights = balance.class_weights(balance.labels_of(data.train), len(data.labels))
    return WeightedCrossentropy(weights, recipe.label_smoothing)


def shown_with(data: Data) -> keras.metrics.Metric:
    """The accuracy; or of several labels their mean average precision, to the two hundredth of a probability. Their
    accuracy would say little: most labels are absent from most pictures, and a network that names none is right nearly
    always."""
    if not data.label_sets:
        return keras.metrics.CategoricalAccuracy(name="accuracy")
    return keras.metrics.AUC(
        curve="PR", multi_label=True, num_labels=len(data.labels), from_logits=True, name=AVERAGE_PRECISION
    )


@keras.saving.register_keras_serializable(package="inceptions")
class WeightedCrossentropy(keras.losses.Loss):
    """The cross-entropy with each label times the weight of its class, all above 0. Of a mixed image it is the mix of
    what both labels give: sum_k share_k * weight_k * crossentropy(label k)."""

    def __init__(self, weights: Sequence[float], label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.weights = [*weights]
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        weighted = y_true * keras.ops.convert_to_tensor(self.weights, y_pred.dtype)
        # The labels with the sum 1 again: TensorFlow's gradient takes that for granted.
        total = keras.ops.sum(weighted, axis=-1, keepdims=True)
        of_each = keras.losses.categorical_crossentropy(
            weighted / total, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )
        return total[..., 0] * of_each

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weights": self.weights, "label_smoothing": self.label_smoothing}
