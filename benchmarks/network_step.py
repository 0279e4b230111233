"""A training step of a whole network with one kind of batch normalisation, for a process of its own.

    python -m benchmarks.network_step NETWORK KIND PRECISION STEPS

KIND is none (convolutions with a bias), fused (ours) or stock (Keras' own); 149 pixels, batches of 16, SGD with
momentum, as `Model.train_on_batch` does it. Prints a JSON object: `milliseconds`, the median of STEPS steps, and
`bytes`, the peak of the process, on Linux.
"""

import json
import os
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np

from benchmarks import stepping
from models import NETWORKS, BatchNormalization

SIDE, BATCH, WARM_UP = 149, 16, 3


def network(name: str, kind: str) -> keras.Model:
    options = {"normalization": None} if kind == "none" else {}
    model = NETWORKS[name](input_shape=(SIDE, SIDE, 3), **options)
    if kind != "stock":
        return model

    def stock(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, BatchNormalization):
            return layer.__class__.from_config(layer.get_config())
        return keras.layers.BatchNormalization(
            momentum=layer.momentum, epsilon=layer.epsilon, scale=layer.scale, name=layer.name, dtype=layer.dtype_policy
        )

    return keras.models.clone_model(model, clone_function=stock)


def main(name: str, kind: str, precision: str, steps: str) -> None:
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    model = network(name, kind)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (BATCH, SIDE, SIDE, 3)).astype(np.float32)
    labels = rng.integers(0, 1000, BATCH)
    seconds = []
    for _ in range(WARM_UP + int(steps)):
        started = time.perf_counter()
        model.train_on_batch(images, labels)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"milliseconds": 1000 * statistics.median(seconds[WARM_UP:]), "bytes": stepping.peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
