"""What a training says before its first step: on what, how, how long, and what trains."""

import ctypes
import os

import keras
import tensorflow as tf

from app.progress import console
from app.recipe import Recipe


def show(model: keras.Model, recipe: Recipe, steps: int, total: int) -> None:
    """`steps` batches are an epoch, `total` the run."""
    trained = sum(int(keras.ops.size(weight)) for weight in model.trainable_weights)
    frozen = sum(int(keras.ops.size(weight)) for layer in model.layers for weight in _frozen(layer))
    rest = f", {frozen:,} are frozen" if frozen else ""
    console.print(f"{model.name}: of {model.count_params():,} parameters {trained:,} train{rest}")
    images = recipe.batch_size * recipe.optimizer.accumulate
    parts = f" in {recipe.optimizer.accumulate} parts" if recipe.optimizer.accumulate > 1 else ""
    console.print(
        f"{recipe.precision}, {images} images a step{parts}, {total // recipe.optimizer.accumulate} steps, "
        f"{total / steps:.3g} epochs"
    )


def _frozen(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What would train, but is told not to; moving averages are nothing of the kind."""
    return [] if layer.trainable else [weight for weight in layer.weights if weight.trainable]


def why_no_gpu() -> str:
    """The reason why TensorFlow finds none, as far as it can be told."""
    if not tf.test.is_built_with_cuda():
        return "this TensorFlow is built without CUDA"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed"
    return "TensorFlow finds no GPU, or not all CUDA libraries, which `pip install -e '.[app,cuda]'` brings"
