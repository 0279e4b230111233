"""What Caffe computes, layer by layer in NumPy: channels first, convolutions as one product of matrices, pools that
round up, as its `src/caffe/layers` say. It shares nothing with the networks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.oracles.caffe_files import MAX, Array, Part


def answers(parts: Sequence[Part], images: Array) -> dict[str, Array]:
    """Every map of the network by its name, after the last layer that wrote it; `images` are (batch, 3, rows, columns).
    In float64."""
    maps: dict[str, Array] = {"data": images.astype(np.float64)}
    for part in parts:
        maps[part.top] = LAYERS[part.kind](part, *(maps[name] for name in part.bottoms))
    return maps


def convolution(part: Part, x: Array) -> Array:
    kernel = part.blobs[0].astype(np.float64)
    groups, stride = part.settings.get("group", 1), part.settings.get("stride", [1])[0]
    pad = part.settings.get("pad", [0])[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    made = []
    for some, of_some in zip(np.split(x, groups, 1), np.split(kernel, groups, 0), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(some, kernel.shape[2:], (2, 3))[:, :, ::stride, ::stride]
        made.append(np.tensordot(windows, of_some, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2))
    y = np.concatenate(made, 1)
    return y + part.blobs[1].reshape(-1, 1, 1) if len(part.blobs) > 1 else y


def pooling(part: Part, x: Array) -> Array:
    settings = part.settings
    if settings.get("global_pooling"):
        return x.mean((2, 3), keepdims=True)
    side, stride, pad = settings["kernel_size"], settings.get("stride", 1), settings.get("pad", 0)
    rounded = math.ceil if settings.get("ceil_mode", True) else math.floor
    sides = [rounded((size + 2 * pad - side) / stride) + 1 for size in x.shape[2:]]
    if pad:  # the last window begins on the map
        sides = [n - ((n - 1) * stride >= size + pad) for n, size in zip(sides, x.shape[2:], strict=True)]
    y = np.zeros((*x.shape[:2], *sides))
    for row in range(sides[0]):
        for column in range(sides[1]):
            top, left = row * stride - pad, column * stride - pad
            bottom, right = min(top + side, x.shape[2] + pad), min(left + side, x.shape[3] + pad)
            window = x[:, :, max(top, 0) : bottom, max(left, 0) : right]
            if settings["pool"] == MAX:
                y[:, :, row, column] = window.max((2, 3))
            else:
                y[:, :, row, column] = window.sum((2, 3)) / ((bottom - top) * (right - left))
    return y


def response(part: Part, x: Array) -> Array:
    size, alpha, beta = part.settings["local_size"], part.settings["alpha"], part.settings["beta"]
    energy = np.pad(x**2, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0)))
    summed = sum(energy[:, shift : shift + x.shape[1]] for shift in range(size))
    return x * (part.settings.get("k", 1.0) + alpha / size * summed) ** -beta


def batch_norm(part: Part, x: Array) -> Array:
    mean, variance, factor = (blob.astype(np.float64) for blob in part.blobs)
    by = 1 / factor[0] if factor[0] else 0.0
    deviation = np.sqrt(variance * by + part.settings.get("eps", 1e-5))
    return (x - (mean * by).reshape(-1, 1, 1)) / deviation.reshape(-1, 1, 1)


def fork_s_bn(part: Part, x: Array) -> Array:
    gamma, beta, mean, variance = (blob.astype(np.float64).reshape(-1, 1, 1) for blob in part.blobs)
    return gamma * (x - mean) / np.sqrt(variance + part.settings.get("eps", 1e-5)) + beta


def scale(part: Part, x: Array) -> Array:
    gamma, beta = (blob.reshape(-1, 1, 1) for blob in part.blobs)
    return gamma * x + beta


def dense(part: Part, x: Array) -> Array:
    return x.reshape(len(x), -1) @ part.blobs[0].astype(np.float64).T + part.blobs[1]


LAYERS: dict[str, Any] = {
    "BN": fork_s_bn,
    "BatchNorm": batch_norm,
    "Concat": lambda part, *maps: np.concatenate(maps, 1),
    "Convolution": convolution,
    "Eltwise": lambda part, a, b: a + b,
    "InnerProduct": dense,
    "LRN": response,
    "Pooling": pooling,
    "ReLU": lambda part, x: np.maximum(x, 0),
    "Scale": scale,
}
