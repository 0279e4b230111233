"""What convolutions cost: how fast this machine computes them, and how much of them a network is.

    python -m benchmarks.convolutions

prints a JSON object: `flops`, of a second, of the fastest of `SHAPES`, which is what a network's steps are held
against, and those of each shape. Float32, channels last, forward, on the first two cores.
"""

import json
import math
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras

BATCH, CALLS = 8, 20
# Pixels of a side, channels before and after, side of the kernel: convolutions of Inception-v3.
SHAPES = ((35, 64, 96, 3), (17, 192, 192, 3), (17, 768, 192, 1))


def elements(model: keras.Model) -> int:
    """Numbers that convolutions give for one picture; a separable one gives twice."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.SeparableConv2D):
            height, width, _ = layer.output.shape[1:]
            total += height * width * math.prod(layer.depthwise_kernel.shape[2:])
        if isinstance(layer, keras.layers.Conv2D | keras.layers.SeparableConv2D):
            total += math.prod(layer.output.shape[1:])
    return total


def seconds(side: int, before: int, after: int, kernel: int) -> float:
    """The median of one call."""
    import tensorflow as tf  # not for whoever only counts

    images = tf.random.stateless_normal((BATCH, side, side, before), seed=(0, 1))
    weights = tf.random.stateless_normal((kernel, kernel, before, after), seed=(0, 2))
    convolution = tf.function(lambda: tf.nn.conv2d(images, weights, 1, "SAME"), jit_compile=False, autograph=False)
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        convolution()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    rates = {}
    for side, before, after, kernel in SHAPES:
        flops = 2 * BATCH * side * side * before * after * kernel * kernel
        rates[f"{side} x {side}, {before} to {after}, {kernel} x {kernel}"] = flops / seconds(
            side, before, after, kernel
        )
    print(json.dumps({"flops": max(rates.values()), "shapes": rates}))


if __name__ == "__main__":
    main()
