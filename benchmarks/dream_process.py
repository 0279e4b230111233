"""One dream, for a process of its own.

    python -m benchmarks.dream_process NETWORK FORM SIDE OCTAVES STEPS

FORM is plain, laplacian, fourier, or bare: the same steps by a loop of gradients on the whole picture. From noise, by
the layers of the preset, on random weights. Prints a JSON object: `seconds`, with tracing, and `bytes`, the peak above
the loaded network, on Linux.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the program does

import keras
import numpy as np
import tensorflow as tf

from app.images.preprocessing import Preprocessing
from app.inside.dreaming import PRESETS, Dream, drawn, gradient_of
from app.inside.dreams.ascent import octave_sizes
from app.networks.cards import CARDS
from app.run_folder.trained import Trained
from models import NETWORKS

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "laplacian": {"laplacian": 4},
    "fourier": {"parametrization": "fourier"},
}


def bare(model: keras.Model, recipe: Dream) -> None:
    """What a tutorial's loop does, on the network as it is."""
    image = keras.Input((None, None, 3))
    upto = keras.Model(model.input, [model.get_layer(name).output for name in recipe.layers])
    probe = keras.models.clone_model(upto, input_tensors=image, clone_function=lambda layer: layer)

    @tf.function(input_signature=[tf.TensorSpec((1, None, None, 3))])
    def step(picture: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(picture)
            value = tf.add_n([tf.reduce_mean(tf.square(x)) for x in keras.tree.flatten(probe(picture, training=False))])
        gradient = tape.gradient(value, picture)
        gradient /= tf.math.reduce_std(gradient) + 1e-30
        return tf.clip_by_value(picture + recipe.rate / 127.5 * gradient, -1, 1)

    picture = tf.constant(np.random.default_rng(0).uniform(-0.2, 0.2, (1, 64, 64, 3)), tf.float32)
    for size in octave_sizes(recipe.size, recipe.size, recipe.octaves, recipe.octave_scale):
        picture = tf.image.resize(picture, size)
        for _ in range(recipe.steps):
            picture = step(picture)
    picture.numpy()


def memory(line: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) * 1024 for each in status if each.startswith(line))


def main(network: str, form: str, side: str, octaves: str, steps: str) -> None:
    keras.utils.set_random_seed(0)
    model = NETWORKS[network]()
    height, width = model.input.shape[1:3]
    trained = Trained(model, model, (), Preprocessing(height=height, width=width))
    choices: dict[str, Any] = {"size": int(side), "octaves": int(octaves), "steps": int(steps), **FORMS.get(form, {})}
    recipe = Dream(model="", layers=PRESETS[network], **choices)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, started = memory("VmRSS"), time.perf_counter()
    if form == "bare":
        bare(model, recipe)
    else:
        drawn(gradient_of(trained, recipe, smallest=CARDS[network].minimum), recipe)
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": memory("VmHWM") - before}))


if __name__ == "__main__":
    main(*sys.argv[1:])
