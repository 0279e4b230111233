"""What a network learns where pictures have several labels: of each, whether it is there, whatever the others are."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("inceptions")
class SumOfBinaryCrossentropies(keras.losses.Loss):
    """Of logits (batch, labels): the sum over the labels of their binary cross-entropies, in nats a picture.

    The sum, since its gradient by a logit is probability - target, as that of the cross-entropy of a softmax is: the
    rates of the recipes stay right. By the mean a network of twenty labels would have a twentieth of them.
    `label_smoothing` s makes 1 - s/2 of a target of 1, and s/2 of 0.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "binary_crossentropies", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        smooth = y_true * (1 - self.label_smoothing) + self.label_smoothing / 2
        return keras.ops.sum(keras.ops.binary_crossentropy(smooth, y_pred, from_logits=True), axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
