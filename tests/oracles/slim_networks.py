"""What TF-slim's and facenet's checkpoints hold, and what their networks compute from it, without Keras or `models`.

The importers are held against this: the tables below are slim's definitions written down once more, its odd scope names
letter by letter, and a small interpreter runs them with plain TensorFlow operations in float64.

A line is an endpoint or a scope, then " | " before each of its branches (slim's Branch_0, Branch_1, ... in the order in
which they are concatenated), a branch its steps from bottom to top with " > " between them:

    0b_3x3:96           scope Conv2d_0b_3x3, 96 filters, the kernel that the scope names; names with Conv are literal
    1a_1x1:384(k=3x3)   the kernel is not the one that the scope names
    /2  V               stride 2; "valid" instead of "same" padding
    max3/2V  avg3       pools; they hold no variables and are named, in braces, only where they stand alone
    [a || b]            both read the same map, their outputs are concatenated
    up 320 * 0.17       the residual up-projection Conv2d_1x1 with its scale, "linear" where no ReLU follows the sum
    name_{1..10}        so many blocks one after the other, or one for every letter
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Slim:
    scope: str
    rows: str
    classifier: str  # in full: facenet's stands outside the network's scope
    convolutional: bool = False  # the classifier is a 1x1 convolution, (1, 1, features, classes)
    auxiliary: str = ""  # the scope that the side head reads, then its steps under AuxLogits
    auxiliary_classifier: str = ""


NETWORKS = {
    "inception_v1": Slim(
        scope="InceptionV1",
        rows="""
            Conv2d_1a_7x7:64/2
            max3/2{MaxPool_2a_3x3}
            Conv2d_2b_1x1:64
            Conv2d_2c_3x3:192
            max3/2{MaxPool_3a_3x3}
            Mixed_3b | 0a_1x1:64 | 0a_1x1:96 > 0b_3x3:128 | 0a_1x1:16 > 0b_3x3:32 | max3 > 0b_1x1:32
            Mixed_3c | 0a_1x1:128 | 0a_1x1:128 > 0b_3x3:192 | 0a_1x1:32 > 0b_3x3:96 | max3 > 0b_1x1:64
            max3/2{MaxPool_4a_3x3}
            Mixed_4b | 0a_1x1:192 | 0a_1x1:96 > 0b_3x3:208 | 0a_1x1:16 > 0b_3x3:48 | max3 > 0b_1x1:64
            Mixed_4c | 0a_1x1:160 | 0a_1x1:112 > 0b_3x3:224 | 0a_1x1:24 > 0b_3x3:64 | max3 > 0b_1x1:64
            Mixed_4d | 0a_1x1:128 | 0a_1x1:128 > 0b_3x3:256 | 0a_1x1:24 > 0b_3x3:64 | max3 > 0b_1x1:64
            Mixed_4e | 0a_1x1:112 | 0a_1x1:144 > 0b_3x3:288 | 0a_1x1:32 > 0b_3x3:64 | max3 > 0b_1x1:64
            Mixed_4f | 0a_1x1:256 | 0a_1x1:160 > 0b_3x3:320 | 0a_1x1:32 > 0b_3x3:128 | max3 > 0b_1x1:128
            max2/2{MaxPool_5a_2x2}
            Mixed_5b | 0a_1x1:256 | 0a_1x1:160 > 0b_3x3:320 | 0a_1x1:32 > 0a_3x3:128 | max3 > 0b_1x1:128
            Mixed_5c | 0a_1x1:384 | 0a_1x1:192 > 0b_3x3:384 | 0a_1x1:48 > 0b_3x3:128 | max3 > 0b_1x1:128
        """,
        classifier="InceptionV1/Logits/Conv2d_0c_1x1",
        convolutional=True,
    ),
    "inception_v2": Slim(
        scope="InceptionV2",
        # The stem is depthwise (8 kernels per channel), then 1x1, with bias and ReLU and without batch normalisation.
        rows="""
            separable Conv2d_1a_7x7:64/2 * 8
            max3/2{MaxPool_2a_3x3}
            Conv2d_2b_1x1:64
            Conv2d_2c_3x3:192
            max3/2{MaxPool_3a_3x3}
            Mixed_3b | 0a_1x1:64 | 0a_1x1:64 > 0b_3x3:64 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:32
            Mixed_3c | 0a_1x1:64 | 0a_1x1:64 > 0b_3x3:96 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:64
            Mixed_4a | 0a_1x1:128 > 1a_3x3:160/2 | 0a_1x1:64 > 0b_3x3:96 > 1a_3x3:96/2 | max3/2
            Mixed_4b | 0a_1x1:224 | 0a_1x1:64 > 0b_3x3:96 | 0a_1x1:96 > 0b_3x3:128 > 0c_3x3:128 | avg3 > 0b_1x1:128
            Mixed_4c | 0a_1x1:192 | 0a_1x1:96 > 0b_3x3:128 | 0a_1x1:96 > 0b_3x3:128 > 0c_3x3:128 | avg3 > 0b_1x1:128
            Mixed_4d | 0a_1x1:160 | 0a_1x1:128 > 0b_3x3:160 | 0a_1x1:128 > 0b_3x3:160 > 0c_3x3:160 | avg3 > 0b_1x1:96
            Mixed_4e | 0a_1x1:96 | 0a_1x1:128 > 0b_3x3:192 | 0a_1x1:160 > 0b_3x3:192 > 0c_3x3:192 | avg3 > 0b_1x1:96
            Mixed_5a | 0a_1x1:128 > 1a_3x3:192/2 | 0a_1x1:192 > 0b_3x3:256 > 1a_3x3:256/2 | max3/2
            Mixed_5b | 0a_1x1:352 | 0a_1x1:192 > 0b_3x3:320 | 0a_1x1:160 > 0b_3x3:224 > 0c_3x3:224 | avg3 > 0b_1x1:128
            Mixed_5c | 0a_1x1:352 | 0a_1x1:192 > 0b_3x3:320 | 0a_1x1:192 > 0b_3x3:224 > 0c_3x3:224 | max3 > 0b_1x1:128
        """,
        classifier="InceptionV2/Logits/Conv2d_1c_1x1",
        convolutional=True,
    ),
    "inception_v3": Slim(
        scope="InceptionV3",
        rows="""
            Conv2d_1a_3x3:32/2V
            Conv2d_2a_3x3:32V
            Conv2d_2b_3x3:64
            max3/2V{MaxPool_3a_3x3}
            Conv2d_3b_1x1:80V
            Conv2d_4a_3x3:192V
            max3/2V{MaxPool_5a_3x3}
            Mixed_5b | 0a_1x1:64 | 0a_1x1:48 > 0b_5x5:64 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:32
            Mixed_5c | 0a_1x1:64 | 0b_1x1:48 > Conv_1_0c_5x5:64 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:64
            Mixed_5d | 0a_1x1:64 | 0a_1x1:48 > 0b_5x5:64 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:64
            Mixed_6a | 1a_1x1:384(k=3x3)/2V | 0a_1x1:64 > 0b_3x3:96 > 1a_1x1:96(k=3x3)/2V | max3/2V
            Mixed_6b | 0a_1x1:192 | 0a_1x1:128 > 0b_1x7:128 > 0c_7x1:192 \
                     | 0a_1x1:128 > 0b_7x1:128 > 0c_1x7:128 > 0d_7x1:128 > 0e_1x7:192 | avg3 > 0b_1x1:192
            Mixed_6c | 0a_1x1:192 | 0a_1x1:160 > 0b_1x7:160 > 0c_7x1:192 \
                     | 0a_1x1:160 > 0b_7x1:160 > 0c_1x7:160 > 0d_7x1:160 > 0e_1x7:192 | avg3 > 0b_1x1:192
            Mixed_6d | 0a_1x1:192 | 0a_1x1:160 > 0b_1x7:160 > 0c_7x1:192 \
                     | 0a_1x1:160 > 0b_7x1:160 > 0c_1x7:160 > 0d_7x1:160 > 0e_1x7:192 | avg3 > 0b_1x1:192
            Mixed_6e | 0a_1x1:192 | 0a_1x1:192 > 0b_1x7:192 > 0c_7x1:192 \
                     | 0a_1x1:192 > 0b_7x1:192 > 0c_1x7:192 > 0d_7x1:192 > 0e_1x7:192 | avg3 > 0b_1x1:192
            Mixed_7a | 0a_1x1:192 > 1a_3x3:320/2V | 0a_1x1:192 > 0b_1x7:192 > 0c_7x1:192 > 1a_3x3:192/2V | max3/2V
            Mixed_7b | 0a_1x1:320 | 0a_1x1:384 > [0b_1x3:384 || 0b_3x1:384] \
                     | 0a_1x1:448 > 0b_3x3:384 > [0c_1x3:384 || 0d_3x1:384] | avg3 > 0b_1x1:192
            Mixed_7c | 0a_1x1:320 | 0a_1x1:384 > [0b_1x3:384 || 0c_3x1:384] \
                     | 0a_1x1:448 > 0b_3x3:384 > [0c_1x3:384 || 0d_3x1:384] | avg3 > 0b_1x1:192
        """,
        classifier="InceptionV3/Logits/Conv2d_1c_1x1",
        convolutional=True,
        auxiliary="Mixed_6e | avg5/3V > 1b_1x1:128 > 2a_5x5:768V",
        auxiliary_classifier="InceptionV3/AuxLogits/Conv2d_2b_1x1",
    ),
    "inception_v4": Slim(
        scope="InceptionV4",
        # Mixed_3a has the pool first, Mixed_5a the convolution. Conv2d_2a of the side head covers its whole map.
        rows="""
            Conv2d_1a_3x3:32/2V
            Conv2d_2a_3x3:32V
            Conv2d_2b_3x3:64
            Mixed_3a | max3/2V | 0a_3x3:96/2V
            Mixed_4a | 0a_1x1:64 > 1a_3x3:96V | 0a_1x1:64 > 0b_1x7:64 > 0c_7x1:64 > 1a_3x3:96V
            Mixed_5a | 1a_3x3:192/2V | max3/2V
            Mixed_5{bcde} | 0a_1x1:96 | 0a_1x1:64 > 0b_3x3:96 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:96
            Mixed_6a | 1a_3x3:384/2V | 0a_1x1:192 > 0b_3x3:224 > 1a_3x3:256/2V | max3/2V
            Mixed_6{bcdefgh} | 0a_1x1:384 | 0a_1x1:192 > 0b_1x7:224 > 0c_7x1:256 \
                     | 0a_1x1:192 > 0b_7x1:192 > 0c_1x7:224 > 0d_7x1:224 > 0e_1x7:256 | avg3 > 0b_1x1:128
            Mixed_7a | 0a_1x1:192 > 1a_3x3:192/2V | 0a_1x1:256 > 0b_1x7:256 > 0c_7x1:320 > 1a_3x3:320/2V | max3/2V
            Mixed_7{bcd} | 0a_1x1:256 | 0a_1x1:384 > [0b_1x3:256 || 0c_3x1:256] \
                     | 0a_1x1:384 > 0b_3x1:448 > 0c_1x3:512 > [0d_1x3:256 || 0e_3x1:256] | avg3 > 0b_1x1:256
        """,
        classifier="InceptionV4/Logits/Logits",
        auxiliary="Mixed_6h | avg5/3V > 1b_1x1:128 > 2a:768(k=5x5)V",
        auxiliary_classifier="InceptionV4/AuxLogits/Aux_logits",
    ),
    "inception_resnet_v1": Slim(
        scope="InceptionResnetV1",
        rows="""
            Conv2d_1a_3x3:32/2V
            Conv2d_2a_3x3:32V
            Conv2d_2b_3x3:64
            max3/2V{MaxPool_3a_3x3}
            Conv2d_3b_1x1:80V
            Conv2d_4a_3x3:192V
            Conv2d_4b_3x3:256/2V
            Repeat/block35_{1..5} | 1x1:32 | 0a_1x1:32 > 0b_3x3:32 | 0a_1x1:32 > 0b_3x3:32 > 0c_3x3:32 | up 256 * 0.17
            Mixed_6a | 1a_3x3:384/2V | 0a_1x1:192 > 0b_3x3:192 > 1a_3x3:256/2V | max3/2V
            Repeat_1/block17_{1..10} | 1x1:128 | 0a_1x1:128 > 0b_1x7:128 > 0c_7x1:128 | up 896 * 0.10
            Mixed_7a | 0a_1x1:256 > 1a_3x3:384/2V | 0a_1x1:256 > 1a_3x3:256/2V \
                     | 0a_1x1:256 > 0b_3x3:256 > 1a_3x3:256/2V | max3/2V
            Repeat_2/block8_{1..5} | 1x1:192 | 0a_1x1:192 > 0b_1x3:192 > 0c_3x1:192 | up 1792 * 0.20
            Block8 | 1x1:192 | 0a_1x1:192 > 0b_1x3:192 > 0c_3x1:192 | up 1792 * 1.00 linear
        """,
        classifier="Logits",
    ),
    "inception_resnet_v2": Slim(
        scope="InceptionResnetV2",
        rows="""
            Conv2d_1a_3x3:32/2V
            Conv2d_2a_3x3:32V
            Conv2d_2b_3x3:64
            max3/2V{MaxPool_3a_3x3}
            Conv2d_3b_1x1:80V
            Conv2d_4a_3x3:192V
            max3/2V{MaxPool_5a_3x3}
            Mixed_5b | 1x1:96 | 0a_1x1:48 > 0b_5x5:64 | 0a_1x1:64 > 0b_3x3:96 > 0c_3x3:96 | avg3 > 0b_1x1:64
            Repeat/block35_{1..10} | 1x1:32 | 0a_1x1:32 > 0b_3x3:32 | 0a_1x1:32 > 0b_3x3:48 > 0c_3x3:64 | up 320 * 0.17
            Mixed_6a | 1a_3x3:384/2V | 0a_1x1:256 > 0b_3x3:256 > 1a_3x3:384/2V | max3/2V
            Repeat_1/block17_{1..20} | 1x1:192 | 0a_1x1:128 > 0b_1x7:160 > 0c_7x1:192 | up 1088 * 0.10
            Mixed_7a | 0a_1x1:256 > 1a_3x3:384/2V | 0a_1x1:256 > 1a_3x3:288/2V \
                     | 0a_1x1:256 > 0b_3x3:288 > 1a_3x3:320/2V | max3/2V
            Repeat_2/block8_{1..9} | 1x1:192 | 0a_1x1:192 > 0b_1x3:224 > 0c_3x1:256 | up 2080 * 0.20
            Block8 | 1x1:192 | 0a_1x1:192 > 0b_1x3:224 > 0c_3x1:256 | up 2080 * 1.00 linear
            Conv2d_7b_1x1:1536
        """,
        classifier="InceptionResnetV2/Logits/Logits",
        auxiliary="Repeat_1/block17_20 | avg5/3V > 1b_1x1:128 > 2a_5x5:768V",
        auxiliary_classifier="InceptionResnetV2/AuxLogits/Logits",
    ),
}


# ---- the two things that a walk over a table can do with it


class Inventory:
    """Collects the variables; a map is only its number of channels."""

    def __init__(self) -> None:
        self.shapes: dict[str, Shape] = {}

    def conv(self, x: int, scope: str, filters: int, kernel: tuple[int, int], stride: int, padding: str) -> int:
        self.shapes[f"{scope}/weights"] = (*kernel, x, filters)
        self.normalize(filters, scope)
        return filters

    def normalize(self, x: int, scope: str) -> int:
        for name in ("beta", "moving_mean", "moving_variance"):
            self.shapes[f"{scope}/BatchNorm/{name}"] = (x,)
        return x

    def separable(self, x: int, scope: str, filters: int, kernel: tuple[int, int], stride: int, multiplier: int) -> int:
        self.shapes[f"{scope}/depthwise_weights"] = (*kernel, x, multiplier)
        self.shapes[f"{scope}/pointwise_weights"] = (1, 1, x * multiplier, filters)
        self.shapes[f"{scope}/biases"] = (filters,)
        return filters

    def pool(self, x: int, kind: str, size: int, stride: int, padding: str) -> int:
        return x

    def concatenate(self, maps: list[int]) -> int:
        return sum(maps)

    def residual(self, x: int, branches: int, scope: str, filters: int, scale: float, relu: bool) -> int:
        assert filters == x, scope
        self.shapes[f"{scope}/weights"] = (1, 1, branches, filters)
        self.shapes[f"{scope}/biases"] = (filters,)
        return x

    def dense(self, x: int, scope: str, units: int, convolutional: bool = False, bias: bool = True) -> int:
        self.shapes[f"{scope}/weights"] = (1, 1, x, units) if convolutional else (x, units)
        if bias:
            self.shapes[f"{scope}/biases"] = (units,)
        return units


def _double(values: Array) -> Any:
    return tf.constant(np.asarray(values, dtype=np.float64))


class Forward:
    """Computes, with what a checkpoint holds; a map is a tensor. TensorFlow has all of it in float64 on the CPU."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors

    def tensor(self, name: str) -> Any:
        return _double(self.tensors[name])

    def conv(self, x: Any, scope: str, filters: int, kernel: tuple[int, int], stride: int, padding: str) -> Any:
        return tf.nn.relu(self.normalize(tf.nn.conv2d(x, self.tensor(f"{scope}/weights"), stride, padding), scope))

    def normalize(self, x: Any, scope: str) -> Any:
        beta, mean, variance = (
            self.tensor(f"{scope}/BatchNorm/{name}") for name in ("beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / tf.sqrt(variance + 1e-3) + beta

    def separable(self, x: Any, scope: str, filters: int, kernel: tuple[int, int], stride: int, multiplier: int) -> Any:
        x = tf.nn.depthwise_conv2d(x, self.tensor(f"{scope}/depthwise_weights"), (1, stride, stride, 1), "SAME")
        x = tf.nn.conv2d(x, self.tensor(f"{scope}/pointwise_weights"), 1, "SAME")
        return tf.nn.relu(x + self.tensor(f"{scope}/biases"))

    def pool(self, x: Any, kind: str, size: int, stride: int, padding: str) -> Any:
        return {"max": tf.nn.max_pool2d, "avg": tf.nn.avg_pool2d}[kind](x, size, stride, padding)

    def concatenate(self, maps: list[Any]) -> Any:
        return tf.concat(maps, axis=-1)

    def residual(self, x: Any, branches: Any, scope: str, filters: int, scale: float, relu: bool) -> Any:
        up = tf.nn.conv2d(branches, self.tensor(f"{scope}/weights"), 1, "SAME") + self.tensor(f"{scope}/biases")
        return tf.nn.relu(x + scale * up) if relu else x + scale * up

    def dense(self, x: Any, scope: str, units: int, convolutional: bool = False, bias: bool = True) -> Any:
        weights = self.tensor(f"{scope}/weights")
        if convolutional:
            weights = tf.squeeze(weights, axis=(0, 1))
        x = tf.matmul(x, weights)
        return x + self.tensor(f"{scope}/biases") if bias else x


# ---- the walk


_CONV = re.compile(r"(\w+):(\d+)(?:\(k=(\dx\d)\))?(?:/(\d))?(V?)")
_POOL = re.compile(r"(max|avg)(\d)(?:/(\d))?(V?)(?:\{(\w+)\})?")
_SEPARABLE = re.compile(r"separable (\w+_(\d)x(\d)):(\d+)/(\d) \* (\d)")
_UP = re.compile(r"up (\d+) \* ([\d.]+)( linear)?")


def _padding(valid: str) -> str:
    return "VALID" if valid else "SAME"


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    assert found, text
    return found


def _step(to: Any, x: Any, scope: str, text: str) -> Any:
    if text.startswith("["):
        return to.concatenate([_step(to, x, scope, part) for part in text.strip("[]").split(" || ")])
    if pool := _POOL.fullmatch(text):
        kind, size, stride, valid, _ = pool.groups()
        return to.pool(x, kind, int(size), int(stride or 1), _padding(valid))
    name, filters, kernel, stride, valid = _matched(_CONV, text).groups()
    rows, columns = (kernel or name[-3:]).split("x")
    name = name if name.startswith("Conv") else f"Conv2d_{name}"
    return to.conv(x, f"{scope}/{name}", int(filters), (int(rows), int(columns)), int(stride or 1), _padding(valid))


def _column(to: Any, x: Any, scope: str, text: str) -> Any:
    for step in text.split(" > "):
        x = _step(to, x, scope, step)
    return x


def _module(to: Any, x: Any, scope: str, branches: list[str]) -> Any:
    up = _UP.fullmatch(branches[-1])
    columns = branches[:-1] if up else branches
    top = to.concatenate([_column(to, x, f"{scope}/Branch_{i}", column) for i, column in enumerate(columns)])
    if not up:
        return top
    filters, scale, linear = up.groups()
    return to.residual(x, top, f"{scope}/Conv2d_1x1", int(filters), float(scale), relu=not linear)


def _rows(text: str) -> Iterator[list[str]]:
    """The lines' cells, a line with a repetition as often as it says."""
    for line in text.strip().splitlines():
        name, *branches = (re.sub(r" +", " ", cell.strip()) for cell in line.split(" | "))
        repetition = re.search(r"_\{1\.\.(\d+)\}$|\{([a-z]+)\}$", name) if branches else None
        if repetition is None:
            yield [name, *branches]
        elif repetition[1]:
            for number in range(1, int(repetition[1]) + 1):
                yield [f"{name[: repetition.start()]}_{number}", *branches]
        else:
            for letter in repetition[2]:
                yield [f"{name[: repetition.start()]}{letter}", *branches]


def _maps(to: Any, x: Any, network: Slim) -> dict[str, Any]:
    """Every endpoint or scope that a line names, from bottom to top."""
    found = {}
    for name, *branches in _rows(network.rows):
        if branches:
            x = _module(to, x, f"{network.scope}/{name}", branches)
        elif separable := _SEPARABLE.fullmatch(name):
            rows, columns, filters, stride, multiplier = map(int, separable.groups()[1:])
            scope = f"{network.scope}/{separable[1]}"
            x = to.separable(x, scope, filters, (rows, columns), stride, multiplier)
        else:
            x = _step(to, x, network.scope, name)
        pool = _POOL.fullmatch(name)
        found[pool[5] if pool else name.removeprefix("separable ").split(":")[0]] = x
    return found


def _auxiliary(to: Any, maps: dict[str, Any], network: Slim) -> Any:
    reads, column = network.auxiliary.split(" | ")
    return _column(to, maps[reads], f"{network.scope}/AuxLogits", column)


# ---- what the tests use


def variables(
    name: str, classes: int = 1001, auxiliary: bool = False, bottleneck: int | None = None
) -> dict[str, Shape]:
    """Every variable of a checkpoint in the order of its creation, the side head's last, without `global_step`.

    `bottleneck` is the width of facenet's embedding; without it the classifier reads the pooled features.
    """
    network, to = NETWORKS[name], Inventory()
    maps = _maps(to, 3, network)
    *_, x = maps.values()
    if bottleneck:
        assert name == "inception_resnet_v1"
        x = to.dense(x, f"{network.scope}/Bottleneck", bottleneck, bias=False)
        to.normalize(x, f"{network.scope}/Bottleneck")
    to.dense(x, network.classifier, classes, network.convolutional)
    if auxiliary:
        to.dense(_auxiliary(to, maps, network), network.auxiliary_classifier, classes, network.convolutional)
    return to.shapes


def endpoints(name: str, tensors: Mapping[str, Array], images: Array) -> dict[str, Array]:
    """The map at every line of the table, to find where two networks part."""
    maps = _maps(Forward(tensors), _double(images), NETWORKS[name])
    return {place: x.numpy() for place, x in maps.items()}


def logits(name: str, tensors: Mapping[str, Array], images: Array) -> Array:
    """What the network computes for images as it takes them, (batch, rows, columns, 3), without dropout."""
    network, to = NETWORKS[name], Forward(tensors)
    *_, top = _maps(to, _double(images), network).values()
    x = tf.reduce_mean(top, axis=(1, 2))
    if f"{network.scope}/Bottleneck/weights" in tensors:
        x = to.dense(x, f"{network.scope}/Bottleneck", 0, bias=False)
        x = to.normalize(x, f"{network.scope}/Bottleneck")
    computed: Array = to.dense(x, network.classifier, 0, network.convolutional).numpy()
    return computed


def auxiliary_logits(name: str, tensors: Mapping[str, Array], images: Array) -> Array:
    """The side head's; its 5x5 convolution leaves one pixel of images of 299 to 346 pixels."""
    network, to = NETWORKS[name], Forward(tensors)
    x = tf.squeeze(_auxiliary(to, _maps(to, _double(images), network), network), axis=(1, 2))
    computed: Array = to.dense(x, network.auxiliary_classifier, 0, network.convolutional).numpy()
    return computed


def made_up(shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Array]:
    """Random tensors of these shapes that keep activations of ordinary size and let no mistake cancel."""
    rng = np.random.default_rng(seed)

    def tensor(name: str, shape: Shape) -> Array:
        if name.endswith("moving_variance"):
            return rng.uniform(0.5, 1.5, shape)
        if len(shape) == 1:
            return rng.normal(0, 0.3, shape)
        fan_in = shape[0] * shape[1] if name.endswith("depthwise_weights") else int(np.prod(shape[:-1]))
        return rng.normal(0, np.sqrt(2 / fan_in), shape)

    return {name: tensor(name, shape).astype("float32") for name, shape in shapes.items()}
