"""1 x 1 convolutions, trained as the matrix products that they are.

A 1 x 1 convolution of stride 1 multiplies the pixels, (batch * height * width, channels), by its kernel, (channels,
filters). As convolutions TensorFlow brings the kernel into another order and back in every step, and takes up to twice
as long for the gradient of the kernel.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inceptions")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, its arguments and weights, for kernels of 1 and strides of 1, channels last.

    Training on TensorFlow's CPU in float32 or float64 computes a matrix product, with the convolution's outputs and
    gradients but for rounding. Everything else is the convolution: inference, of which TensorFlow makes one operation
    with what follows, other backends, GPUs, half precision, and layers whose arguments make them another convolution.

    It has the name of Keras' class because Keras' files find the weights of a layer by that of its class.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not (training and self._is_a_product(inputs)):
            return super().call(inputs)
        channels, filters = inputs.shape[-1], self.filters
        pixels, kernel = ops.reshape(inputs, (-1, channels)), ops.reshape(self.kernel, (channels, filters))
        products = ops.matmul(pixels, kernel)
        if self.use_bias:
            products = ops.add(products, self.bias)
        sides = inputs.shape[:-1]
        if list(sides).count(None) > 1:
            sides = ops.shape(inputs)[:-1]
        outputs = ops.reshape(products, (*(-1 if side is None else side for side in sides), filters))
        return outputs if self.activation is None else self.activation(outputs)

    def _is_a_product(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and self.kernel_size == self.strides == (1, 1)
            and self.groups == 1
            and self.data_format == "channels_last"
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "float64")
            and not keras.distribution.list_devices("gpu")
        )
