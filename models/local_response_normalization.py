"""Local response normalisation. Krizhevsky, Sutskever, Hinton 2012, section 3.3, as GoogLeNet uses it."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inceptions")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides every value by the energy of the channels around its own, at the same pixel:

        y[c] = x[c] / (bias + alpha * sum(x[c - depth_radius : c + depth_radius + 1]^2)) ^ beta

    where channels that do not exist count 0. This is TensorFlow's form; Caffe's alpha is divided by the size of the
    window, so that GoogLeNet's 1e-4 over 5 channels is the 2e-5 of the defaults here.

    Input: (batch, ..., channels) in any float type. Output: same shape and type, that of integers has the layer's
    `compute_dtype`; squares are summed in float32 even where the input is half precision, whose range ends at 256
    squared.

    Raises:
        ValueError: `depth_radius` below 0, or `bias` not above 0.
    """

    def __init__(
        self, depth_radius: int = 2, bias: float = 1.0, alpha: float = 2e-5, beta: float = 0.75, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if depth_radius < 0:
            raise ValueError(f"depth_radius={depth_radius} must be at least 0: it counts the channels on either side.")
        if not bias > 0:
            raise ValueError(f"bias={bias} must be above 0: where all channels are 0 the output divides by it.")
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def call(self, inputs: Any) -> Any:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        x = inputs if dtype == "float64" else ops.cast(inputs, "float32")
        channels, window = ops.shape(x)[-1], 2 * self.depth_radius + 1
        beside = [(0, 0)] * (len(x.shape) - 1) + [(self.depth_radius, self.depth_radius)]
        squares = ops.pad(ops.square(x), beside)
        energy = sum(squares[..., shift : shift + channels] for shift in range(window))
        divided = x * (self.bias + self.alpha * energy) ** -self.beta
        return ops.cast(divided, dtype if "float" in dtype else self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
        }
