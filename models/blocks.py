"""What the papers draw with: convolutions, pools, columns, the filter concatenation on top of a module, the head.

A piece (`Op`) is a function of a tensor, the name of its place, and the `Style` of the network that is being built. It
makes fresh layers each time it is called, so one constant serves every repetition of a module. Names are generated from
the place and are public: `inception_a_2_b3_1` is the first step of the fourth column (columns count from 0) of the
second module A. The last step of a column carries the column's own name, the concatenation the module's. A convolution
`x` is the layers `x_conv`, `x_bn` and `x`, its activation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers

from .batch_normalization import BatchNormalization

Padding = Literal["same", "valid"]
Size = int | tuple[int, int]


@dataclass(frozen=True)
class Style:
    """What one call of a builder asks of all its layers.

    `width` scales every layer to max(1, round(width * n)). `normalization` is "batch", or None for convolutions with a
    bias and no normalisation. `momentum`, `epsilon` and `scale` are the arguments of `BatchNormalization`.
    `use_bias` keeps the bias before a batch normalisation, as some sources do. `initializer` is for every kernel.
    """

    width: float = 1.0
    normalization: Literal["batch"] | None = "batch"
    momentum: float = 0.99
    epsilon: float = 1e-3
    scale: bool = True
    use_bias: bool = False
    activation: str = "relu"
    initializer: str = "glorot_uniform"

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width={self.width} must be above 0; 1.0 is the published network.")
        if self.normalization not in ("batch", None):
            raise ValueError(f'normalization={self.normalization!r} is neither "batch" nor None.')

    def scaled(self, filters: int) -> int:
        return max(1, round(self.width * filters))

    def normalized(self, x: Any, name: str) -> Any:
        """`x` normalised (if the style says so) and activated; the activation carries `name`."""
        if self.normalization == "batch":
            x = BatchNormalization(momentum=self.momentum, epsilon=self.epsilon, scale=self.scale, name=f"{name}_bn")(x)
        return layers.Activation(self.activation, name=name)(x)

    @property
    def has_bias(self) -> bool:
        # beta does what the bias would, and the mean takes a constant away: the bias is dropped (section 3.2).
        return self.use_bias or self.normalization is None


Op = Callable[[Any, str, Style], Any]
Stage = tuple[str, int, Op]


def conv(filters: int, kernel: Size, stride: int = 1, padding: Padding = "same") -> Op:
    """Convolution, batch normalisation, activation. `kernel` is (rows, columns), or the side of a square."""

    def op(x: Any, name: str, style: Style) -> Any:
        x = layers.Conv2D(
            style.scaled(filters),
            kernel,
            stride,
            padding,
            use_bias=style.has_bias,
            kernel_initializer=style.initializer,
            name=f"{name}_conv",
        )(x)
        return style.normalized(x, name)

    return op


def max_pool(size: int, stride: int = 1, padding: Padding = "same") -> Op:
    return lambda x, name, style: layers.MaxPooling2D(size, stride, padding, name=name)(x)


def average_pool(size: int, stride: int = 1, padding: Padding = "same") -> Op:
    """Average pool that leaves the padding out of the mean, as TensorFlow does."""
    return lambda x, name, style: layers.AveragePooling2D(size, stride, padding, name=name)(x)


def column(*ops: Op) -> Op:
    """Steps one on top of the other, the first at the bottom."""

    def op(x: Any, name: str, style: Style) -> Any:
        for position, step in enumerate(ops[:-1], start=1):
            x = step(x, f"{name}_{position}", style)
        return ops[-1](x, name, style)

    return op


def filter_concat(*columns: Op) -> Op:
    """Columns side by side on the same input, their channels concatenated in the order given."""

    def op(x: Any, name: str, style: Style) -> Any:
        tops = [column(x, f"{name}_b{branch}", style) for branch, column in enumerate(columns)]
        return layers.Concatenate(name=name)(tops)

    return op


def run(stages: Sequence[Stage], x: Any, style: Style) -> Any:
    """The schema of a paper, from bottom to top: rows of (name, repetitions, piece). Repetitions count from 1."""
    for stage, repetitions, op in stages:
        for repetition in range(1, repetitions + 1):
            x = op(x, stage if repetitions == 1 else f"{stage}_{repetition}", style)
    return x


def image_input(input_shape: tuple[int | None, ...] | None, default: tuple[int, int, int], minimum: int) -> Any:
    """Input `image` of (height, width, channels); `default` where nothing is asked for.

    Raises:
        ValueError: another rank, unknown channels, or a side below `minimum`.
    """
    shape = default if input_shape is None else tuple(input_shape)
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(f"input_shape={shape} must be (height, width, channels), with the channels known.")
    for side in shape[:2]:
        if side is not None and side < minimum:
            raise ValueError(
                f"Images of {shape[0]} x {shape[1]} pixels are too small: "
                f"the smallest that work are {minimum} x {minimum}."
            )
    return keras.Input(shape, name="image")


@dataclass(frozen=True)
class Top:
    """What stands above the last map.

    With the top: global average, dropout, classifier. Without: `pooling` is None for the map itself, "avg" or "max" for
    its global pool.
    """

    include: bool
    pooling: str | None
    classes: int
    activation: str | None
    dropout: float

    def __post_init__(self) -> None:
        if self.pooling not in (None, "avg", "max"):
            raise ValueError(f'pooling={self.pooling!r} is none of None, "avg" and "max".')
        if self.include and self.classes < 1:
            raise ValueError(f"classes={self.classes} must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is outside [0, 1): it is the share of features that is dropped.")


def classify(x: Any, top: Top, style: Style) -> Any:
    """Dropout and the classifier `predictions` on features (batch, n)."""
    if top.dropout:
        x = layers.Dropout(top.dropout, name="dropout")(x)
    # float32 whatever the policy: a softmax over half-precision logits saturates.
    return layers.Dense(
        top.classes, top.activation, kernel_initializer=style.initializer, dtype="float32", name="predictions"
    )(x)


def finish(x: Any, top: Top, style: Style) -> Any:
    """The top on the last map `x`, (batch, height, width, channels)."""
    if top.include:
        return classify(layers.GlobalAveragePooling2D(name="average_pool")(x), top, style)
    if top.pooling == "avg":
        return layers.GlobalAveragePooling2D(name="average_pool")(x)
    if top.pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool")(x)
    return x


def network(image: Any, outputs: Any, name: str, weights: str | None) -> keras.Model:
    """The model from `image` to `outputs`, its weights read from a file of `Model.save_weights` unless None."""
    model = keras.Model(image, outputs, name=name)
    if weights is not None:
        model.load_weights(weights)
    return model
