"""Batch normalisation. Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167

Algorithms and sections are that paper's. TensorFlow is named here because its fused kernel does in one pass over
the activations what the plain formula does in eight; every other backend runs the plain formula.
"""

import math
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # TensorFlow has no public question for either; Keras' trainer asks for the first in the same place.
    from tensorflow.python.framework.config import is_op_determinism_enabled
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

FUSED_DTYPES = ("float32", "float16", "bfloat16")


@keras.saving.register_keras_serializable(package="inceptions")
class BatchNormalization(keras.layers.Layer):
    """Normalises every channel by its batch in training, by its population in inference.

    Training (Algorithm 1), over the m values that a channel has in the batch:

        mean = sum(x) / m                     variance = sum((x - mean)^2) / m
        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    For convolutions m counts batch, rows and columns, with one gamma and beta per feature map (section 3.2).
    Inference (Algorithm 2) is the same with the moving averages in place of the batch's figures:

        moving = momentum * moving + (1 - momentum) * of_the_batch

    where the variance that is averaged is the unbiased m / (m - 1) * variance, as step 10 of Algorithm 2 has it and as
    TF-slim and PyTorch do. `unbiased=False` averages the biased one, as `keras.layers.BatchNormalization` does.

    Input: (batch, ..., channels) in any float type, of rank 2 or more. Output: same shape and type. Parameters, moving
    averages and the arithmetic on them are float32 (float64 for float64) even where the input is half precision.
    The normalised axis is the last one on the fused kernel; any other `axis`, float64 and XLA run the plain formula.

    A layer with `trainable = False` is in inference: it uses its moving averages and does not move them, whatever
    `training` says. A batch without values (m = 0) leaves the moving averages alone; with a single value per channel
    (m = 1) the variance is 0, since m / (m - 1) does not exist.

    `momentum` is Keras' convention: the weight of the past. PyTorch's is one minus this.

    Weights, in this order: gamma (if `scale`), beta (if `center`), moving_mean, moving_variance; each (channels,).

    Raises:
        ValueError: `momentum` outside [0, 1], or `epsilon` not above 0; an axis that the input does not have, or of
            unknown size.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        unbiased: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum={momentum} is outside [0, 1]. It is the weight of the past, as in Keras: "
                "PyTorch's 0.1 is 0.9 here."
            )
        if not epsilon > 0:
            raise ValueError(f"epsilon={epsilon} must be above 0: a channel that is constant in a batch divides by it.")
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.unbiased = unbiased
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        rank = len(input_shape)
        if not -rank <= self.axis < rank:
            raise ValueError(f"{self.name}: axis {self.axis} does not exist in an input of shape {input_shape}.")
        channels = input_shape[self.axis]
        if channels is None:
            raise ValueError(
                f"{self.name}: axis {self.axis} of an input of shape {input_shape} must have a known size."
            )
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self._vector("gamma", channels, self.gamma_initializer, regularizer=self.gamma_regularizer)
        if self.center:
            self.beta = self._vector("beta", channels, self.beta_initializer, regularizer=self.beta_regularizer)
        self.moving_mean = self._vector("moving_mean", channels, self.moving_mean_initializer, trainable=False)
        self.moving_variance = self._vector(
            "moving_variance", channels, self.moving_variance_initializer, trainable=False
        )
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={self.axis: channels})

    def _vector(self, name: str, channels: int, initializer: Any, **options: Any) -> Any:
        # Never half precision: a moving average stops moving as soon as its steps fall below its rounding.
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return self.add_weight(
            name=name, shape=(channels,), dtype=dtype, initializer=initializer, autocast=False, **options
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        # A frozen layer is inference, whatever the call says: its statistics belong to the weights it was trained with.
        from_batch = bool(training) and self.trainable
        normalize = self._fused if self._fits_the_kernel(inputs, from_batch) else self._plain
        if not from_batch:
            return normalize(inputs, self.moving_mean, self.moving_variance)[0]
        outputs, mean, variance = normalize(inputs)
        self._move(mean, variance, self._values_per_channel(inputs))
        return outputs

    def _fits_the_kernel(self, inputs: Any, from_batch: bool) -> bool:
        rank = len(inputs.shape)
        return (
            keras.backend.backend() == "tensorflow"
            and self.axis in (-1, rank - 1)
            and keras.backend.standardize_dtype(inputs.dtype) in FUSED_DTYPES
            and self.moving_mean.dtype == "float32"
            # The kernel's gradient with fixed statistics has no deterministic form on a GPU, and TensorFlow refuses it.
            and (from_batch or not is_op_determinism_enabled())
            # XLA has its own kernel: the mean of squares minus the square of the mean, NaN at mean 4000, deviation 1.
            and not GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        )

    def _values_per_channel(self, inputs: Any) -> Any:
        """The m of Algorithm 1, a scalar tensor in the statistics' type."""
        axis = self.axis % len(inputs.shape)
        sizes = [size for i, size in enumerate(ops.shape(inputs)) if i != axis]
        return ops.convert_to_tensor(math.prod(sizes), self.moving_mean.dtype)

    def _fused(self, inputs: Any, mean: Any = None, variance: Any = None) -> tuple[Any, Any, Any]:
        """FusedBatchNormV3: half precision in and out, float32 inside. Its variance is the unbiased one."""
        channels = inputs.shape[-1]
        image = inputs
        if len(inputs.shape) != 4:
            image = tf.reshape(inputs, (-1, 1, 1, channels))
        empty = tf.zeros((0,), tf.float32)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=tf.ones((channels,)) if self.gamma is None else tf.convert_to_tensor(self.gamma),
            offset=tf.zeros((channels,)) if self.beta is None else tf.convert_to_tensor(self.beta),
            mean=empty if mean is None else tf.convert_to_tensor(mean),
            variance=empty if variance is None else tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            is_training=mean is None,
        )
        if len(inputs.shape) != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
            outputs.set_shape(inputs.shape)
        return outputs, mean, variance

    def _plain(self, inputs: Any, mean: Any = None, variance: Any = None) -> tuple[Any, Any, Any]:
        """The equations above. Its variance is the unbiased one, as the kernel's."""
        axis = self.axis % len(inputs.shape)
        others = [i for i in range(len(inputs.shape)) if i != axis]
        per_channel = [1] * len(inputs.shape)
        per_channel[axis] = -1
        x = ops.cast(inputs, self.moving_mean.dtype)
        if mean is None:
            mean = ops.mean(x, axis=others)
            # Two passes: the mean of squares minus the square of the mean cancels for channels far from zero.
            biased = ops.mean(ops.square(x - ops.reshape(mean, per_channel)), axis=others)
            m = self._values_per_channel(inputs)
            unbiased = biased * (m / ops.maximum(m - 1, 1))
        else:
            biased = unbiased = ops.convert_to_tensor(variance)
        factor = ops.rsqrt(biased + self.epsilon)
        if self.gamma is not None:
            factor = factor * self.gamma
        outputs = (x - ops.reshape(mean, per_channel)) * ops.reshape(factor, per_channel)
        if self.beta is not None:
            outputs = outputs + ops.reshape(self.beta, per_channel)
        return ops.cast(outputs, inputs.dtype), mean, unbiased

    def _move(self, mean: Any, variance: Any, m: Any) -> None:
        """Moves both averages towards the batch's figures, by `1 - momentum`."""
        if not self.unbiased:
            variance = variance * (ops.maximum(m - 1, 1) / ops.maximum(m, 1))
        for moving, of_the_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            past = ops.convert_to_tensor(moving)
            moved = past * self.momentum + ops.stop_gradient(of_the_batch) * (1 - self.momentum)
            moving.assign(ops.where(m > 0, moved, past))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "unbiased": self.unbiased,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": keras.initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": keras.initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
        }
