"""Batch normalisation. Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167

Algorithms and sections are that paper's. TensorFlow is named here because its fused kernel does in one pass over
the activations what the plain formula does in eight; every other backend runs the plain formula.
"""

import math
import operator
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # TensorFlow has no public question for either; Keras' trainer asks for the first in the same place.
    from tensorflow.python.framework.config import is_op_determinism_enabled
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

FUSED_DTYPES = ("float32", "float16", "bfloat16")
# Arguments that the layers of Keras 3 and 2 write into their configurations beside ours, and the values that ask for
# nothing; the rest of `renorm_` says how, and `fused` by which kernel.
SWITCHED_OFF = {"renorm": (None, False), "virtual_batch_size": (None,), "adjustment": (None,)}
WITHOUT_EFFECT = ("renorm_clipping", "renorm_momentum", "fused")


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

    Input: (batch, ..., channels) in any float type, of rank 2 or more. Output: same shape and type; that of integers
    has the layer's `compute_dtype`. Parameters, moving averages and the arithmetic on them are float32 (float64 for
    float64) even where the input is half precision. The normalised axis is the last one on the fused kernel; any other
    `axis`, float64 and XLA run the plain formula.

    A layer with `trainable = False` is in inference: it uses its moving averages and does not move them, whatever
    `training` says. A batch without values (m = 0) leaves the moving averages alone; with a single value per channel
    (m = 1) the variance is 0, since m / (m - 1) does not exist.

    `synchronized=True` takes the sums over all replicas of `tf.distribute`, which then normalise by the joint batch. m
    counts what each replica really has, so an uneven last batch is weighted rightly. With one replica, and outside of a
    strategy, nothing changes.

    `mask`, of the input's shape without its last axis, says which positions count in training. All are normalised.

    `momentum` is Keras' convention: the weight of the past. PyTorch's is one minus this.

    Weights, in this order: gamma (if `scale`), beta (if `center`), moving_mean, moving_variance; each (channels,).

    A configuration of `keras.layers.BatchNormalization` is read as well, also one of Keras 2.

    Raises:
        ValueError: `momentum` outside [0, 1], or `epsilon` not above 0; an axis that the input does not have, or of
            unknown size; a mask of another rank; `synchronized` on a backend other than TensorFlow; what Keras' layer
            can and this one cannot, batch renormalisation and virtual batches.
    """

    def __init__(
        self,
        axis: Any = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        unbiased: bool = True,
        synchronized: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        for name, nothing in SWITCHED_OFF.items():
            if (value := kwargs.pop(name, None)) not in nothing:
                raise ValueError(
                    f"{name}={value!r} is of keras.layers.BatchNormalization and makes it another algorithm, which "
                    "this layer does not have: leave it out, or take that layer."
                )
        super().__init__(**{name: value for name, value in kwargs.items() if name not in WITHOUT_EFFECT})
        try:
            (only,) = axis if isinstance(axis, list | tuple) else (axis,)  # Keras 2 writes [3]
            self.axis = operator.index(only)
        except (TypeError, ValueError):
            raise ValueError(
                f"axis={axis!r} must be an integer: the one axis whose entries are normalised apart."
            ) from None
        if isinstance(momentum, str) or not 0 <= momentum <= 1:
            raise ValueError(
                f"momentum={momentum} is outside [0, 1]. It is the weight of the past, as in Keras: "
                "PyTorch's 0.1 is 0.9 here."
            )
        if isinstance(epsilon, str) or not epsilon > 0:
            raise ValueError(f"epsilon={epsilon} must be above 0: a channel that is constant in a batch divides by it.")
        if synchronized and keras.backend.backend() != "tensorflow":
            raise ValueError("synchronized=True needs the TensorFlow backend: its replicas are those of tf.distribute.")
        self.supports_masking = True
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.unbiased = unbiased
        self.synchronized = synchronized
        self.beta_initializer = keras.initializers.get(beta_initializer)
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.moving_mean_initializer = keras.initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = keras.initializers.get(moving_variance_initializer)
        self.beta_regularizer = keras.regularizers.get(beta_regularizer)
        self.gamma_regularizer = keras.regularizers.get(gamma_regularizer)
        self.beta_constraint = keras.constraints.get(beta_constraint)
        self.gamma_constraint = keras.constraints.get(gamma_constraint)

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
            options = {"regularizer": self.gamma_regularizer, "constraint": self.gamma_constraint}
            self.gamma = self._vector("gamma", channels, self.gamma_initializer, **options)
        if self.center:
            options = {"regularizer": self.beta_regularizer, "constraint": self.beta_constraint}
            self.beta = self._vector("beta", channels, self.beta_initializer, **options)
        # Replicas of tf.distribute that are not synchronised each have their averages; what is kept is their mean.
        options = {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self._vector("moving_mean", channels, self.moving_mean_initializer, **options)
        self.moving_variance = self._vector("moving_variance", channels, self.moving_variance_initializer, **options)
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={self.axis: channels})

    def _vector(self, name: str, channels: int, initializer: Any, **options: Any) -> Any:
        # Never half precision: a moving average stops moving as soon as its steps fall below its rounding.
        dtype = "float64" if self.variable_dtype == "float64" else "float32"
        return self.add_weight(
            name=name, shape=(channels,), dtype=dtype, initializer=initializer, autocast=False, **options
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if "float" in keras.backend.standardize_dtype(inputs.dtype):
            return self._normalized(inputs, training, mask)
        # Keras brings floats to the compute type before this, and leaves integers, into which no answer would fit.
        outputs = self._normalized(ops.cast(inputs, self.moving_mean.dtype), training, mask)
        return ops.cast(outputs, self.compute_dtype)

    def _normalized(self, inputs: Any, training: bool | None, mask: Any) -> Any:
        # A frozen layer is inference, whatever the call says: its statistics belong to the weights it was trained with.
        from_batch = bool(training) and self.trainable
        on_the_kernel = self._fits_the_kernel(inputs, from_batch)
        if not from_batch:
            normalize = self._fused if on_the_kernel else self._plain
            return normalize(inputs, self.moving_mean, self.moving_variance)[0]
        replicas = self._replicas() if self.synchronized else None
        if on_the_kernel and replicas is None and mask is None:
            if self.unbiased:
                past = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
                outputs, *moved = self._fused(inputs, *past, share=1 - self.momentum)
                self._take_over(past, moved, inputs)
                return outputs
            m = self._values_per_channel(inputs)
            outputs, mean, unbiased = self._fused(inputs, self.moving_mean, self.moving_variance, share=1.0)
        else:
            # Cast once: the gradients of two casts would be rounded to half precision before they are added.
            x = ops.cast(inputs, self.moving_mean.dtype)
            mean, biased, m = self._moments(x, mask, replicas)
            outputs = ops.cast(self._plain(x, mean, biased)[0], inputs.dtype)
            unbiased = biased * (m / ops.maximum(m - 1, 1))
        self._move(mean, unbiased, m)
        return outputs

    def _replicas(self) -> Any:
        """Where this replica meets the others, or None where there are none."""
        context = tf.distribute.get_replica_context()
        return context if context is not None and context.num_replicas_in_sync > 1 else None

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

    def _fused(self, inputs: Any, mean: Any, variance: Any, share: float | None = None) -> tuple[Any, Any, Any]:
        """FusedBatchNormV3: half precision in and out, float32 inside. Normalises by the given figures; with a `share`
        by the batch's, towards which the given ones come back moved by so much: 1 is the batch's. Its variance is the
        unbiased one."""
        channels = inputs.shape[-1]
        image = inputs
        if len(inputs.shape) != 4:
            image = tf.reshape(inputs, (-1, 1, 1, channels))
        elif share is None and inputs.shape[0] == 1:
            # TensorFlow would join the kernel with the convolution below; for one image the joint one is ten times
            # slower than the two of oneDNN. What stands between them costs nothing.
            image = tf.ensure_shape(inputs, inputs.shape)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=tf.ones((channels,)) if self.gamma is None else tf.convert_to_tensor(self.gamma),
            offset=tf.zeros((channels,)) if self.beta is None else tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(mean),
            variance=tf.convert_to_tensor(variance),
            epsilon=self.epsilon,
            exponential_avg_factor=1.0 if share is None else share,
            is_training=share is not None,
        )
        if len(inputs.shape) != 4:
            outputs = tf.reshape(outputs, tf.shape(inputs))
            outputs.set_shape(inputs.shape)
        return outputs, mean, variance

    def _moments(self, x: Any, mask: Any, replicas: Any) -> tuple[Any, Any, Any]:
        """Mean and biased variance (channels,) of Algorithm 1, and m: a scalar, or (channels,) under a mask."""
        others, per_channel = self._axes(x)
        counts = None
        if mask is not None:
            if len(mask.shape) != len(x.shape) - 1:
                raise ValueError(
                    f"{self.name}: a mask of shape {mask.shape} does not fit an input of shape {x.shape}; "
                    "it must have all axes but the last."
                )
            counts = ops.broadcast_to(ops.cast(ops.expand_dims(mask, -1), "bool"), ops.shape(x))

        def over_all_replicas(value: Any) -> Any:
            # Its gradient is the sum of the replicas' gradients, as it has to be: each replica's loss depends on it.
            return value if replicas is None else replicas.all_reduce(tf.distribute.ReduceOp.SUM, value)

        m = self._values_per_channel(x) if counts is None else ops.sum(ops.cast(counts, x.dtype), axis=others)
        m = over_all_replicas(m)

        def mean_of(values: Any) -> Any:
            if counts is None and replicas is None:
                return ops.mean(values, axis=others)
            values = values if counts is None else ops.where(counts, values, ops.zeros_like(values))
            return over_all_replicas(ops.sum(values, axis=others)) / ops.maximum(m, 1)

        mean = mean_of(x)
        # Two passes: the mean of squares minus the square of the mean cancels for channels far from zero.
        return mean, mean_of(ops.square(x - ops.reshape(mean, per_channel))), m

    def _plain(self, inputs: Any, mean: Any, variance: Any) -> tuple[Any, Any, Any]:
        """Normalises by the given figures; these come back as from the kernel."""
        _, per_channel = self._axes(inputs)
        x = ops.cast(inputs, self.moving_mean.dtype)
        factor = ops.rsqrt(ops.convert_to_tensor(variance) + self.epsilon)
        if self.gamma is not None:
            factor = factor * self.gamma
        outputs = (x - ops.reshape(mean, per_channel)) * ops.reshape(factor, per_channel)
        if self.beta is not None:
            outputs = outputs + ops.reshape(self.beta, per_channel)
        return ops.cast(outputs, inputs.dtype), mean, variance

    def _axes(self, inputs: Any) -> tuple[list[int], list[int]]:
        """The axes that are summed over, and the shape that lays (channels,) along the normalised one."""
        rank = len(inputs.shape)
        axis = self.axis % rank
        per_channel = [1] * rank
        per_channel[axis] = -1
        return [i for i in range(rank) if i != axis], per_channel

    def _take_over(self, past: Any, moved: Any, inputs: Any) -> None:
        """Gives both averages the values that the kernel moved from those of the past, unless the batch was without
        values: then they are NaN."""
        if None in inputs.shape:
            has_values = tf.size(inputs, tf.int64) > 0
            moved = [tf.where(has_values, *values) for values in zip(moved, past, strict=True)]
        elif 0 in inputs.shape:
            return
        self.moving_mean.assign(moved[0])
        self.moving_variance.assign(moved[1])

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
            "synchronized": self.synchronized,
            "beta_initializer": keras.initializers.serialize(self.beta_initializer),
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": keras.initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": keras.initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": keras.regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": keras.regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": keras.constraints.serialize(self.beta_constraint),
            "gamma_constraint": keras.constraints.serialize(self.gamma_constraint),
        }
