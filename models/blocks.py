"""What the papers draw with: convolutions, pools, columns, the filter concatenation on top of a module, the head.

A piece (`Op`) is a function of a tensor, the name of its place, and the `Style` of the network that is being built. It
makes fresh layers each time it is called, so one constant serves every repetition of a module. Names are generated from
the place and are public: `inception_a_2_b3_1` is the first step of the fourth column (columns count from 0) of the
second module A. The last step of a column carries the column's own name, the concatenation the module's. A convolution
`x` is the layers `x_conv`, `x_bn` and `x`, its activation; zeros that are padded beforehand are `x_pad`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Literal

import keras
from keras import layers

from .batch_normalization import BatchNormalization
from .pointwise import Conv2D as PointwiseConv2D

Padding = Literal["same", "valid"]
Size = int | tuple[int, int]


@dataclass(frozen=True)
class Style:
    """What one call of a builder asks of all its layers.

    `width` scales every layer to max(1, round(width * n)). `normalization` is "batch", or None for convolutions with a
    bias and no normalisation. `momentum`, `epsilon` and `scale` are the arguments of `BatchNormalization`.
    `use_bias` keeps the bias before a batch normalisation, as some sources do. `initializer` is for every kernel,
    by its name in Keras or serialized: an instance would give all kernels of one shape the same values.

    The rest is what ports compute differently. On a side of even length TensorFlow's "same" pads a strided 3 x 3 by
    nothing before and one after. `strided_convolutions` "symmetric" pads by half the kernel on either side instead, and
    `strided_pools` "symmetric" likewise; "ceil" pads pools after only, so that the last window may hang over.
    `count_padding` counts the zeros around the map in average pools.
    """

    width: float = 1.0
    normalization: Literal["batch"] | None = "batch"
    momentum: float = 0.99
    epsilon: float = 1e-3
    scale: bool = True
    use_bias: bool = False
    activation: str = "relu"
    initializer: str | Mapping[str, Any] = "glorot_uniform"
    strided_convolutions: Literal["same", "symmetric"] = "same"
    strided_pools: Literal["same", "symmetric", "ceil"] = "same"
    count_padding: bool = False

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width={self.width} must be above 0; 1.0 is the published network.")
        if self.normalization not in ("batch", None):
            raise ValueError(f'normalization={self.normalization!r} is neither "batch" nor None.')

    def scaled(self, filters: int) -> int:
        return max(1, round(self.width * filters))

    def normalized(self, x: Any, name: str) -> Any:
        """`x` normalised, if the style says so."""
        if self.normalization is None:
            return x
        return BatchNormalization(momentum=self.momentum, epsilon=self.epsilon, scale=self.scale, name=f"{name}_bn")(x)

    def activated(self, x: Any, name: str) -> Any:
        """`x` normalised and activated; the activation carries `name`."""
        return layers.Activation(self.activation, name=name)(self.normalized(x, name))

    @property
    def has_bias(self) -> bool:
        # beta does what the bias would, and the mean takes a constant away: the bias is dropped (section 3.2).
        return self.use_bias or self.normalization is None


# Padded by half the kernel on either side, as PyTorch pads: fields of `Style`.
SYMMETRIC: Mapping[str, Any] = {"strided_convolutions": "symmetric", "strided_pools": "symmetric"}
# The networks are channels last whatever `keras.config.image_data_format()` says, as their normalisations are.
LAST: Mapping[str, Any] = {"data_format": "channels_last"}
Op = Callable[[Any, str, Style], Any]
Stage = tuple[str, int, Op]


def ported(style: Style, ported_from: str | None, ports: Mapping[str, Mapping[str, Any]]) -> Style:
    """`style` with what the port of that name computes differently; `ports` maps names to fields of `Style`.

    Raises:
        ValueError: a name that is not in `ports`.
    """
    if ported_from is None:
        return style
    if not ports:
        raise ValueError(f"ported_from={ported_from!r} has to be None: all ports of this network compute the same.")
    if ported_from not in ports:
        known = " or ".join(f'"{port}"' for port in ports)
        raise ValueError(f"ported_from={ported_from!r} is not {known}; None is the network as TensorFlow computes it.")
    return replace(style, **ports[ported_from])


def convolution(
    x: Any, name: str, style: Style, filters: int, kernel: Size, stride: int = 1, padding: Padding = "same"
) -> Any:
    """The convolution `name`_conv alone, to exactly `filters` channels."""
    if (style.strided_convolutions, padding) == ("symmetric", "same") and stride > 1 and kernel != 1:
        rows, columns = (kernel, kernel) if isinstance(kernel, int) else kernel
        x, padding = layers.ZeroPadding2D((rows // 2, columns // 2), name=f"{name}_pad", **LAST)(x), "valid"
    kind = PointwiseConv2D if kernel == stride == 1 else layers.Conv2D
    return kind(
        filters,
        kernel,
        stride,
        padding,
        use_bias=style.has_bias,
        kernel_initializer=style.initializer,
        name=f"{name}_conv",
        **LAST,
    )(x)


def conv(filters: int, kernel: Size, stride: int = 1, padding: Padding = "same") -> Op:
    """Convolution, batch normalisation, activation. `kernel` is (rows, columns), or the side of a square."""

    def op(x: Any, name: str, style: Style) -> Any:
        return style.activated(convolution(x, name, style, style.scaled(filters), kernel, stride, padding), name)

    return op


def max_pool(size: int, stride: int = 1, padding: Padding = "same") -> Op:
    """Max pool. Where its style pads with zeros they change nothing: maps come from a ReLU and are never below 0."""

    def op(x: Any, name: str, style: Style) -> Any:
        if stride == 1 or padding == "valid" or style.strided_pools == "same":
            return layers.MaxPooling2D(size, stride, padding, name=name, **LAST)(x)
        sides = (size // 2, size // 2) if style.strided_pools == "symmetric" else (0, stride - 1)
        x = layers.ZeroPadding2D((sides, sides), name=f"{name}_pad", **LAST)(x)
        return layers.MaxPooling2D(size, stride, "valid", name=name, **LAST)(x)

    return op


def average_pool(size: int, stride: int = 1, padding: Padding = "same") -> Op:
    """Average pool that leaves the padding out of the mean, as TensorFlow does, unless the style counts it."""

    def op(x: Any, name: str, style: Style) -> Any:
        if padding == "valid" or not style.count_padding:
            return layers.AveragePooling2D(size, stride, padding, name=name, **LAST)(x)
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad", **LAST)(x)
        return layers.AveragePooling2D(size, stride, "valid", name=name, **LAST)(x)

    return op


def column(*ops: Op) -> Op:
    """Steps one on top of the other, the first at the bottom."""

    def op(x: Any, name: str, style: Style) -> Any:
        for position, step in enumerate(ops[:-1], start=1):
            x = step(x, f"{name}_{position}", style)
        return ops[-1](x, name, style)

    return op


def side_by_side(columns: Sequence[Op], x: Any, name: str, style: Style) -> list[Any]:
    """The tops of columns that stand on the same map."""
    return [column(x, f"{name}_b{branch}", style) for branch, column in enumerate(columns)]


def filter_concat(*columns: Op) -> Op:
    """Columns side by side on the same input, their channels concatenated in the order given."""
    return lambda x, name, style: layers.Concatenate(name=name)(side_by_side(columns, x, name, style))


def residual(*columns: Op, scale: float, linear: bool = False) -> Op:
    """x + scale * up(columns side by side), where `up` is a 1 x 1 convolution to the channels of x.

    `up` has a bias and neither normalisation nor activation; the sum is activated unless `linear`.
    1602.07261, section 3.2 and Figure 20.
    """

    def op(x: Any, name: str, style: Style) -> Any:
        branches = layers.Concatenate(name=f"{name}_concat")(side_by_side(columns, x, name, style))
        options = {"kernel_initializer": style.initializer, "name": f"{name}_up_conv", **LAST}
        up = PointwiseConv2D(x.shape[-1], 1, **options)(branches)
        scaled = layers.Rescaling(scale, name=f"{name}_scale")(up)
        if linear:
            return layers.Add(name=name)([x, scaled])
        return layers.Activation(style.activation, name=name)(layers.Add(name=f"{name}_sum")([x, scaled]))

    return op


def run(stages: Sequence[Stage], x: Any, style: Style) -> dict[str, Any]:
    """The map of every stage of a schema, which has rows of (name, repetitions, piece), from bottom to top.

    Repetitions count from 1.
    """
    maps: dict[str, Any] = {}
    for stage, repetitions, op in stages:
        for repetition in range(1, repetitions + 1):
            place = stage if repetitions == 1 else f"{stage}_{repetition}"
            x = maps[place] = op(x, place, style)
    return maps


def smallest_image(x: Any, side: int) -> int:
    """The side of the smallest square image whose map `x` measures at least `side` x `side`.

    Goes down one path from `x`: where columns meet all of them have the same size, so any path will do.
    """
    layer = x._keras_history.operation
    while not isinstance(layer, layers.InputLayer) and layer.name != "image":
        if isinstance(layer, layers.ZeroPadding2D):
            side -= sum(layer.padding[0])
        else:
            window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
            if window is not None:
                side = (side - 1) * layer.strides[0] + (window[0] if layer.padding == "valid" else 1)
        x = layer.input[0] if isinstance(layer.input, list) else layer.input
        layer = x._keras_history.operation
    return side


def require(x: Any, side: int, what: str) -> None:
    """That the map `x`, (batch, height, width, channels), is large enough for `what`; unknown sides pass.

    Raises:
        ValueError: a side of `x` is below `side`; names the smallest image that works.
    """
    if any(found is not None and found < side for found in x.shape[1:3]):
        smallest = smallest_image(x, side)
        raise ValueError(
            f"{what} needs a map of {side} x {side} pixels and gets {x.shape[1]} x {x.shape[2]}: "
            f"the smallest images that work are {smallest} x {smallest}."
        )


def auxiliary_features(x: Any, name: str, style: Style) -> Any:
    """Features (batch, 768) of the auxiliary head on a map of 17 x 17: 1512.00567, Figure 8, as TF-slim has it.

    On larger maps the mean over what is left, as torchvision takes it. slim shrinks the convolution on smaller ones,
    which makes another network: they are refused.

    Raises:
        ValueError: a map below 17 x 17.
    """
    require(x, 17, "The auxiliary head")
    x = average_pool(5, 3, "valid")(x, f"{name}_pool", style)
    x = conv(128, 1)(x, f"{name}_projection", style)
    x = conv(768, 5, padding="valid")(x, f"{name}_reduction", style)
    return layers.GlobalAveragePooling2D(name=f"{name}_average_pool", **LAST)(x)


def image_input(
    input_shape: tuple[int | None, ...] | None, default: tuple[int, int, int], minimum: int, input_tensor: Any = None
) -> Any:
    """What the network stands on, (batch, height, width, channels): an input `image` of its own, of `default` where
    nothing is asked for, or a Keras tensor, on which `image` stands unless it is an input itself.

    Raises:
        ValueError: another rank, unknown channels, or a side below `minimum`; something else than a Keras tensor, or
            one that contradicts `input_shape`.
    """
    shape = default if input_shape is None else tuple(input_shape)
    what = "input_shape"
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise ValueError(
                f"input_tensor is of type {type(input_tensor).__name__}, and has to be a Keras tensor: what "
                "keras.Input and layers give. Images themselves are given to the network when it is built."
            )
        asked, what = shape, "input_tensor's shape without the batch"
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and asked != shape:
            raise ValueError(f"input_shape={asked} and an input_tensor of {shape} contradict: leave input_shape out.")
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(f"{what}={shape} must be (height, width, channels), with the channels known.")
    for side in shape[:2]:
        if side is not None and side < minimum:
            raise ValueError(
                f"Images of {shape[0]} x {shape[1]} pixels are too small: "
                f"the smallest that work are {minimum} x {minimum}."
            )
    if input_tensor is None:
        return keras.Input(shape, name="image")
    if isinstance(input_tensor._keras_history.operation, layers.InputLayer):
        return input_tensor
    return layers.Identity(name="image")(input_tensor)


@dataclass(frozen=True)
class Top:
    """What stands above the last map, and beside it.

    With the top: global average, dropout, classifier. Without: `pooling` is None for the map itself, "avg" or "max" for
    its global pool. `heads` are the auxiliary classifiers of the publication, name -> (stage, features on its map);
    `auxiliary` asks for them.
    """

    include: bool
    pooling: str | None
    classes: int
    activation: str | None
    dropout: float
    auxiliary: bool = False
    heads: Mapping[str, tuple[str, Op]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pooling not in (None, "avg", "max"):
            raise ValueError(f'pooling={self.pooling!r} is none of None, "avg" and "max".')
        if self.include and self.classes < 1:
            raise ValueError(f"classes={self.classes} must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} is outside [0, 1): it is the share of features that is dropped.")
        if self.auxiliary and not self.heads:
            raise ValueError("This network was published without auxiliary heads: leave auxiliary=False.")
        if self.auxiliary and not self.include:
            raise ValueError("auxiliary=True asks for classifiers, include_top=False for none: one of them has to go.")


def classifier(x: Any, top: Top, style: Style, name: str) -> Any:
    # float32 whatever the policy: a softmax over half-precision logits saturates.
    options = {"kernel_initializer": style.initializer, "dtype": "float32", "name": name}
    return layers.Dense(top.classes, top.activation, **options)(x)


def classify(x: Any, top: Top, style: Style, neck: Op | None = None) -> Any:
    """Dropout, the piece `neck` and the classifier `predictions` on features (batch, n)."""
    if top.dropout:
        x = layers.Dropout(top.dropout, name="dropout")(x)
    if neck is not None:
        x = neck(x, "bottleneck", style)
    return classifier(x, top, style, "predictions")


def finish(maps: Mapping[str, Any], top: Top, style: Style, neck: Op | None = None) -> Any:
    """The top on the last of `maps`, (batch, height, width, channels).

    A tensor; with auxiliary heads a dict of `predictions` and the heads' names.
    """
    *_, x = maps.values()
    if not top.include:
        if top.pooling == "avg":
            return layers.GlobalAveragePooling2D(name="average_pool", **LAST)(x)
        if top.pooling == "max":
            return layers.GlobalMaxPooling2D(name="max_pool", **LAST)(x)
        return x
    predictions = classify(layers.GlobalAveragePooling2D(name="average_pool", **LAST)(x), top, style, neck)
    if not top.auxiliary:
        return predictions
    return {"predictions": predictions} | {
        name: classifier(features(maps[stage], name, style), top, style, name)
        for name, (stage, features) in top.heads.items()
    }


def network(image: Any, outputs: Any, published: str, name: str, weights: str | PathLike[str] | None) -> keras.Model:
    """The model `name` from what `image` comes from to `outputs`, with `weights` as those of the network `published`.

    Raises:
        ValueError: `weights` is not None, and `weights.load` cannot load it.
    """
    inputs = keras.utils.get_source_inputs(image)
    model = keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs, name=name)
    if weights is not None:
        from .weights import load  # it reads checkpoints, which those who build a network need not import

        load(model, published, weights)
    return model
