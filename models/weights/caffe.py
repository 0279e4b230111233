"""The blobs of a `.caffemodel` as weights with names: `conv1/kernel`, `conv1/bn/moving_mean`.

What Caffe's users split is joined: a BatchNorm normalises alone, and the Scale on top of it gives it gamma and beta.
Its first two blobs are sums, and the third is the factor that divides them into mean and variance; so does Caffe with
`use_global_stats`, as every network answers in use. The BN of https://github.com/yjxiong/caffe holds gamma, beta, mean
and variance; from 17 December 2015 to 27 April 2016 it held the inverse deviation in place of the variance, and no file
says which.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .caffe_layers import Blob, Layer, layers
from .tables import Table
from .tensors import Array, Shape, Tensor, WeightsError, possible

ROLES = {
    "BatchNorm": ("moving_mean", "moving_variance", "factor"),
    "BN": ("gamma", "beta", "moving_mean", "moving_variance"),
    "Convolution": ("kernel", "bias"),
    "InnerProduct": ("kernel", "bias"),
}
# Caffe's own, and that of all networks here: what another epsilon is more than this is added to the variance.
EPSILON = 1e-5
POOLS = {0: "MAX", 1: "AVE"}
# A channel with a large kernel varies much. Over all channels of three BN-Inceptions that were trained here, the
# logarithms of both go together with 0.36 to 0.47; those of inverse deviations go against each other by as much.
OPPOSED = -0.2


def tensors(path: Path, table: Table) -> dict[str, Tensor]:
    """The weights of `path` as `layer/weight`, by the names of `table`. A classifier that was given another name, as
    those do who fine-tune with Caffe, is found as the only dense layer that the table does not name.

    Raises:
        WeightsError: no such file, one of another format or cut off; a layer that computes something else than its like
            in `table.release`, or of which the number of blobs is not known.
    """
    found = layers(path)
    _check_release(path, found, table)
    names = _names(found, table)
    below = _below(found)
    scaled = _scales(found, below)
    inverse = _has_inverse_deviations(found, below)
    weights: dict[str, Tensor] = {}
    for layer in found:
        name = scaled.get(layer.name) or names.get(layer.name, layer.name)
        roles = ("gamma", "beta") if layer.name in scaled else ROLES.get(layer.kind, ())
        if layer.kind in ("BatchNorm", "BN") and len(layer.blobs) not in (0, len(roles)):
            raise WeightsError(
                f"{path}: {layer.name} is a {layer.kind} of {len(layer.blobs)} blobs, as a fork writes it that is not "
                f"known here; one of {len(roles)} can be read."
            )
        for place, blob in enumerate(layer.blobs):
            role = roles[place] if place < len(roles) else f"blob_{place}"
            key = f"{name}/{role}"
            if key in weights:
                raise WeightsError(f"{path} has two layers of the name {layer.name}; the file is damaged.")
            weights[key] = _tensor(path, layer, role, blob, inverse)
    for dense, convolution in (table.release.flattened if table.release else {}).items():
        kernel, below_it = weights.get(f"{dense}/kernel"), weights.get(f"{convolution}/kernel")
        if kernel is not None and below_it is not None and len(kernel.shape) == 2 and below_it.shape:
            weights[f"{dense}/kernel"] = _channels_last(kernel, below_it.shape[0])
    return weights


def wording(layer: Layer) -> str:
    """What a pool or a response normalisation computes: kind, sides, strides and padding, or the numbers of its sum.

    How the sides of its map are rounded is left out: the forks disagree about the number of that field.
    """
    if layer.kind == "LRN":
        numbers = [layer.setting(number, otherwise) for number, otherwise in ((1, 5), (2, 1.0), (3, 0.75), (5, 1.0))]
        region = ["within channels"] if layer.setting(4, 0) == 1 else []
        return " ".join(["LRN", *(f"{number:g}" for number in numbers), *region])
    kind = POOLS.get(int(layer.setting(1, 0)), "STOCHASTIC")
    if layer.setting(12, 0):
        return f"{kind} global"
    parts = (layer.sides(2, 5, 6, 0), layer.sides(3, 7, 8, 1), layer.sides(4, 9, 10, 0))
    return f"{kind} " + "/".join(f"{a:g}" if a == b else f"{a:g}x{b:g}" for a, b in parts)


def _check_release(path: Path, found: Sequence[Layer], table: Table) -> None:
    """Refuses what has the names and shapes of the network and computes something else."""
    known = {*table.layers.values(), *table.auxiliary.values()}
    release = table.release
    if release is None or 2 * len(known & {layer.name for layer in found}) < len(known):
        return  # its names will show that it is another network, and which
    for layer in found:
        if layer.settings is None:
            continue
        if layer.kind in ("LRN", "Pooling") and wording(layer) not in release.between:
            raise WeightsError(
                f"{path}: {layer.name} is {wording(layer)}, where {table.network} of {table.source} has "
                f"{', '.join(sorted(release.between))}: it is another network."
            )
        if layer.kind == "Convolution" and layer.name in known and layer.blobs:
            kernel = layer.blobs[0].shape[-2:]
            stride = 2 if layer.name in release.strided else 1
            right = [(stride, stride), tuple(side // 2 for side in kernel), (1, 1)]
            is_ = [layer.sides(6, 13, 14, 1), layer.sides(3, 9, 10, 0), layer.sides(18, 0, 0, 1)]
            if is_ != right:
                raise WeightsError(
                    f"{path}: {layer.name} has stride, padding and dilation {_numbers(is_)}, where {table.network} of "
                    f"{table.source} has {_numbers(right)}: it is another network."
                )


def _numbers(pairs: Sequence[tuple[float, ...]]) -> str:
    return ", ".join(f"{pair[0]:g}" if len({*pair}) == 1 else "x".join(f"{side:g}" for side in pair) for pair in pairs)


def _names(found: Sequence[Layer], table: Table) -> dict[str, str]:
    """The table's name for each classifier that has another one in the file."""
    every = {**table.layers, **table.auxiliary}
    held = {layer.name for layer in found}
    dense = [
        layer.name
        for layer in found
        if layer.blobs and layer.kind in ("Convolution", "InnerProduct") and layer.name not in every.values()
    ]
    names = {}
    for ours, theirs in every.items():
        if theirs in held or ours.rstrip("_0123456789") not in ("predictions", "auxiliary"):
            continue
        head = [head for head in table.heads if theirs.startswith(head)]
        candidates = [name for name in dense if [head for head in table.heads if name.startswith(head)] == head]
        if len(candidates) == 1:
            names[candidates[0]] = theirs
    return names


def _below(found: Sequence[Layer]) -> dict[str, Layer]:
    """The layer that each layer stands on: the last that wrote what it reads, which may be in its own place. A file
    that does not say what is read has its layers in their order."""
    wrote: dict[str, Layer] = {}
    below = {}
    previous = Layer()
    for layer in found:
        below[layer.name] = wrote.get(layer.bottoms[0], Layer()) if layer.bottoms else previous
        wrote.update(dict.fromkeys(layer.tops, layer))
        previous = layer
    return below


def _scales(found: Sequence[Layer], below: dict[str, Layer]) -> dict[str, str]:
    """The BatchNorm that each Scale belongs to."""
    scaled: dict[str, str] = {}
    for layer in found:
        under = below[layer.name]
        if layer.kind == "Scale" and under.kind == "BatchNorm" and under.name not in scaled.values():
            scaled[layer.name] = under.name
    return scaled


def _has_inverse_deviations(found: Sequence[Layer], below: dict[str, Layer]) -> bool:
    """Whether the last blobs of all BN go against the kernels below them."""
    products = squares = others = 0.0
    for layer in found:
        convolution = below[layer.name]
        if layer.kind != "BN" or len(layer.blobs) != 4 or convolution.kind != "Convolution" or not convolution.blobs:
            continue
        kernel, spread = convolution.blobs[0].read(), layer.blobs[3].read().ravel()
        if kernel.ndim != 4 or len(kernel) != len(spread):
            continue
        with np.errstate(all="ignore"):
            a = np.log(np.square(kernel, dtype="float64").sum(axis=(1, 2, 3)))
            b = np.log(spread.astype("float64"))
        of_use = np.isfinite(a) & np.isfinite(b)
        if of_use.any():
            a, b = a[of_use] - a[of_use].mean(), b[of_use] - b[of_use].mean()
            products, squares, others = products + a @ b, squares + a @ a, others + b @ b
    return products < OPPOSED * math.sqrt(squares * others)


def _tensor(path: Path, layer: Layer, role: str, blob: Blob, inverse: bool) -> Tensor:
    if role == "kernel":
        tensor = Tensor(blob.name, _with_axes(blob.shape, 4 if layer.kind == "Convolution" else 2), blob.read)
        groups = int(layer.setting(5, 1)) if layer.kind == "Convolution" else 1
        return _as_one_group(path, _in_shape(tensor), groups)
    tensor = _in_shape(Tensor(blob.name, _with_axes(blob.shape, 1), blob.read))
    if layer.kind == "BatchNorm" and role != "factor":
        tensor = _divided(path, tensor, layer.blobs[2])
    if role != "moving_variance":
        return tensor
    epsilon = layer.setting(3 if layer.kind == "BatchNorm" else 4, EPSILON)
    if layer.kind == "BN" and inverse:
        tensor = _changed(
            tensor, lambda values: values.astype("float64") ** -2 - epsilon, "inverse deviation to variance"
        )
    if abs(epsilon - EPSILON) > 1e-9:
        tensor = _changed(tensor, lambda values: values + (epsilon - EPSILON), f"epsilon {epsilon:g} as {EPSILON:g}")
    return tensor


def _with_axes(shape: Shape, axes: int) -> Shape:
    """`shape` without the axes of 1 before its last `axes`: old files have four axes for everything."""
    spare = max(0, len(shape) - axes)
    return shape[spare:] if set(shape[:spare]) <= {1} else shape


def _in_shape(tensor: Tensor) -> Tensor:
    return replace(tensor, read=lambda: tensor.read().reshape(tensor.shape))


def _changed(tensor: Tensor, change: Callable[[Array], Array], done: str) -> Tensor:
    def read() -> Array:
        with np.errstate(all="ignore"):
            return change(tensor.read())

    return replace(tensor, read=read, done=(*tensor.done, done))


def _divided(path: Path, tensor: Tensor, factor: Blob) -> Tensor:
    """A sum of a BatchNorm as the mean or variance. A factor of 0 makes both 0: it has seen no batch."""
    if math.prod(factor.shape) != 1:
        raise WeightsError(f"{path}: {factor.name} has the shape {factor.shape}, and is the one factor of its layer.")
    by = float(factor.read().ravel()[0])
    if not (by >= 0 and math.isfinite(by)):
        raise WeightsError(f"{path}: {factor.name} is {by:g}, by which no sum is divided; the file is damaged.")
    if by == 1:
        return tensor
    return _changed(tensor, lambda values: values * (1 / by if by else 0.0), f"divided by {by:g}")


def _as_one_group(path: Path, tensor: Tensor, groups: int) -> Tensor:
    """A kernel (outputs, inputs of a group, height, width) for all inputs, with zeros where a group does not look."""
    if groups == 1 or len(tensor.shape) != 4:
        return tensor
    outputs, inputs, *sides = tensor.shape
    if not 0 < groups <= outputs or outputs % groups:
        raise WeightsError(f"{path}: {tensor.name} has {outputs} outputs in {groups} groups; the file is damaged.")
    whole = possible(path, tensor.name, (outputs, inputs * groups, *sides))

    def read() -> Array:
        values, kernel = tensor.read(), np.zeros(whole, "float32")
        for group, rows in enumerate(np.split(np.arange(outputs), groups)):
            kernel[rows, group * inputs : (group + 1) * inputs] = values[rows]
        return kernel

    return replace(tensor, shape=whole, read=read, done=(f"{groups} groups as one, with zeros",))


def _channels_last(tensor: Tensor, channels: int) -> Tensor:
    """The kernel (outputs, inputs) of a dense layer on a flattened map of so many channels. Caffe goes through it one
    channel after the other, Keras one pixel after the other."""
    outputs, inputs = tensor.shape
    if inputs % channels:
        return tensor  # it stands on no such map, and its shape will show it

    def order(values: Array) -> Array:
        return values.reshape(outputs, channels, -1).swapaxes(1, 2).reshape(outputs, inputs)

    return _changed(tensor, order, "channels last")
