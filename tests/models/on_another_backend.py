"""What the networks and layers of `models` compute on the backend that KERAS_BACKEND names.

    KERAS_BACKEND=jax .backends/jax/bin/python -m tests.models.on_another_backend

answers a folder's name on standard input, once it has read `task.json` and `given.npz` there and has written
`answer.npz`, with a line. `test_backends` asks; it calls `network` itself, too, on TensorFlow.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

import models
from models import weights

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def numbers(value: Any) -> Array:
    """As NumPy has it, half precision as float32."""
    return ops.convert_to_numpy(ops.cast(value, "float32"))


# ---- a network


def network(folder: Path, name: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """The builder's network with `weights.weights.h5` of the folder: its logits in inference, and what one step of
    `fit` on `images` and `labels` without dropout finds, which is the loss, the gradients and the statistics."""
    model = models.NETWORKS[name](classifier_activation=None, weights=folder / "weights.weights.h5", **options)
    return {**logits(model, given["images"]), **one_step(model, given["images"], given["labels"])}


def saved(folder: Path, name: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """The same of `network.keras`, which holds how it is built, too."""
    model = keras.models.load_model(folder / "network.keras")
    return {**logits(model, given["images"]), **one_step(model, given["images"], given["labels"])}


def logits(model: keras.Model, images: Array) -> Arrays:
    found = model(images, training=False)
    found = found if isinstance(found, dict) else {"predictions": found}
    return {f"logits/{head}": numbers(value) for head, value in found.items()}


def one_step(model: keras.Model, images: Array, labels: Array) -> Arrays:
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    # After one step from rest the velocity is minus the gradient, times a rate of 1.
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # TensorFlow traces for longer than a step takes.
    model.compile(optimizer, loss, run_eagerly=keras.backend.backend() == "tensorflow")
    right = dict.fromkeys(model.output, labels) if isinstance(model.output, dict) else labels
    history = model.fit(images, right, batch_size=len(images), shuffle=False, verbose=0).history
    found = {"loss": np.array(history["loss"])}
    velocities = zip(model.trainable_weights, optimizer.momentums, strict=True)
    found |= {f"gradient/{weight.path}": -numbers(velocity) for weight, velocity in velocities}
    statistics = [weight for weight in model.non_trainable_weights if weight.name.startswith("moving_")]
    return found | {f"statistics/{weight.path}": numbers(weight) for weight in statistics}


# ---- a layer


def layer(folder: Path, kind: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """The layer `kind` with `weights` on `x`: in inference, then `outputs` in training, the gradients of
    sum(`upstream` * outputs) to x and to each trainable weight, and the weights after that."""
    made = getattr(models, kind)(**options)
    x = ops.cast(given["x"], made.compute_dtype)
    made.build(x.shape)
    made.set_weights([given[f"weights/{position}"] for position in range(len(made.weights))])
    called = {"training": True} if made.weights else {}
    if "mask" in given:
        called["mask"] = ops.convert_to_tensor(given["mask"])
    inference = numbers(made(x))
    outputs, gradients = outputs_and_gradients(made, x, ops.cast(given["upstream"], made.compute_dtype), called)
    found = {"inference": inference, "outputs": numbers(outputs), "dtype": np.array(str(outputs.dtype))}
    found |= {f"gradient/{position}": numbers(gradient) for position, gradient in enumerate(gradients)}
    return found | {weight.name: numbers(weight) for weight in made.weights}


def outputs_and_gradients(made: Any, x: Any, upstream: Any, called: dict[str, Any]) -> tuple[Any, list[Any]]:
    if keras.backend.backend() == "jax":
        jax: Any = importlib.import_module("jax")

        def loss(x: Any, trainable: list[Any], others: list[Any]) -> tuple[Any, Any]:
            outputs, others = made.stateless_call(trainable, others, x, **called)
            return ops.sum(outputs * upstream), (outputs, others)

        state = [[variable.value for variable in made.trainable_variables]]
        state.append([variable.value for variable in made.non_trainable_variables])
        step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
        (_, (outputs, others)), (to_x, to_weights) = step(x, *state)
        for variable, value in zip(made.non_trainable_variables, others, strict=True):
            variable.assign(value)
        return outputs, [to_x, *to_weights]
    x = x.detach().clone().requires_grad_()
    outputs = made(x, **called)
    (outputs * upstream).sum().backward()
    return outputs.detach(), [x.grad, *(variable.value.grad for variable in made.trainable_variables)]


# ---- chance


def dropout(folder: Path, name: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """What enters and leaves the dropout of an auxiliary head, twice in training and once in inference, and the loss
    of four steps at a rate of 0, which nothing but the dropout changes."""
    keras.utils.set_random_seed(1)
    model = models.NETWORKS[name](classifier_activation=None, weights=folder / "weights.weights.h5", **options)
    drops = model.get_layer("auxiliary_1_dropout")
    part = keras.Model(model.input, [drops.input, drops.output])
    found: Arrays = {}
    for place, training in (("first", True), ("second", True), ("inference", False)):
        before, after = part(given["images"], training=training)
        found |= {f"{place}/before": numbers(before), f"{place}/after": numbers(after)}
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    right = dict.fromkeys(model.output, given["labels"])
    history = model.fit(given["images"], right, batch_size=len(given["images"]), epochs=4, verbose=0).history
    return found | {"losses": np.array(history["loss"])}


# ---- files


def imported(folder: Path, name: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """The logits of a network that took `model.pth` or `model.safetensors` of torchvision."""
    (path,) = folder.glob("model.*")
    model = models.NETWORKS[name](classifier_activation=None, **options)
    weights.assign(model, weights.read(path, name, "torchvision"))
    return logits(model, given["images"])


def refused(folder: Path, name: str, options: dict[str, Any], given: Arrays) -> Arrays:
    """What is said to those who ask for what TensorFlow alone has, and whether anything has imported it."""
    said: Arrays = {}
    try:
        weights.read(folder / "model.ckpt", name, "slim")
    except weights.WeightsError as error:
        said["checkpoint"] = np.array(str(error))
    try:
        models.BatchNormalization(synchronized=True)
    except ValueError as error:
        said["synchronized"] = np.array(str(error))
    return said | {"imported": np.array("tensorflow" in sys.modules)}


def main() -> None:
    # What anything prints is no answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        folder = Path(line.rstrip("\n"))
        task = json.loads((folder / "task.json").read_text())
        with np.load(folder / "given.npz") as given:
            found = globals()[task["do"]](folder, task["what"], task["options"], dict(given))
        np.savez(folder / "answer.npz", allow_pickle=False, **found)
        print(flush=True, file=answers)


if __name__ == "__main__":
    main()
