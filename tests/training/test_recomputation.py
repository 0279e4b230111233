"""Training in less memory: what is kept, and that nothing else changes."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import recipe, training
from app.program.progress import unwatched
from app.run_folder import folder
from app.run_folder.folder import Run
from app.training.callbacks import epochs
from app.training.checkpoints import checkpoint
from app.training.recomputation import RecomputingModel, kept_maps, recomputing
from models import NETWORKS
from models.blocks import Style, column, conv, filter_concat, max_pool, residual
from tests.training.test_devices import MIRRORED, Workers, alone, assert_same_history, assert_same_weights, command

BATCH, SIDE = 4, 12
WITH_HEADS = ("googlenet", "inception_v3", "inception_v4", "inception_resnet_v2")


def network(trainable: bool = True) -> keras.Model:
    """Columns of several lengths, a sum, Dropout between convolutions, a head beside the classifier."""
    keras.utils.set_random_seed(1)
    style = Style(momentum=0.5)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = conv(8, 3)(image, "stem_1", style)
    x = max_pool(3, 2)(keras.layers.Dropout(0.5, name="between")(x), "stem_2", style)
    x = filter_concat(conv(8, 1), column(conv(4, 1), conv(8, 3), conv(8, 3)))(x, "module", style)
    head = keras.layers.Dense(3, name="auxiliary")(keras.layers.GlobalAveragePooling2D()(x))
    x = residual(conv(8, 1), column(conv(8, 1), conv(8, 3)), scale=0.5)(x, "block", style)
    x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, {"auxiliary": head, "predictions": keras.layers.Dense(3, name="predictions")(x)})
    model.get_layer("module_b1_bn").trainable = trainable
    return model


def trained(model: keras.Model, steps: int = 4) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), {"auxiliary": loss, "predictions": loss}, jit_compile=False)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(BATCH, SIDE, SIDE, 3)).astype(np.float32), rng.integers(0, 3, BATCH)
    for _ in range(steps):
        model.train_on_batch(images, {"auxiliary": labels, "predictions": labels})
    return model


@pytest.mark.slow
def test_weights_averages_and_seeds_are_those_of_a_training_that_keeps_all_maps() -> None:
    """A second mask, or averages that move twice, would give others after the first step."""
    begun, usual, found = network(trainable=False), network(trainable=False), recomputing(network(trainable=False))
    trained(usual)
    trained(found)
    moved = set()
    for before, wanted, got in zip(begun.variables, usual.variables, found.variables, strict=True):
        assert got.path.split("/")[1:] == wanted.path.split("/")[1:]
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-4, atol=1e-6, err_msg=got.path)
        if not np.array_equal(before.numpy(), wanted.numpy()):
            moved.add(wanted.path.rpartition("/")[2])
    assert moved == {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "seed_generator_state"}
    for mine, theirs in zip(found.optimizer.variables, usual.optimizer.variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6, err_msg=mine.path)
    frozen = found.get_layer("module_b1_bn")
    assert not np.any(frozen.moving_mean.numpy()), "a layer that is frozen does not move"


def kept(model: keras.Model) -> dict[str, tuple[int, ...]]:
    """The shapes of the maps that a step computes on the way up and needs on the way back, by their names."""

    @tf.function(autograph=False)
    def step(images: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            answers = model(images, training=True)
            loss = tf.add_n([tf.reduce_sum(answer**2) for answer in answers.values()])
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    loss, *gradients = step.get_concrete_function(tf.TensorSpec((BATCH, SIDE, SIDE, 3))).graph.outputs
    up = needed([loss])
    back = needed(gradients) - up
    return {
        tensor.name: tuple(tensor.shape)
        for operation in back
        for tensor in operation.inputs
        if tensor.op in up and tensor.op.type != "Placeholder" and tensor.shape.rank == 4 and tensor.shape[0] == BATCH
    }


def needed(tensors: list[Any]) -> set[Any]:
    """The operations that these depend on."""
    found: set[Any] = set()
    waiting = [tensor.op for tensor in tensors]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [tensor.op for tensor in operation.inputs] + [*operation.control_inputs]
    return found


def test_a_step_keeps_the_maps_between_the_pieces_alone() -> None:
    model = recomputing(network())
    names = [tensor._keras_history.operation.name for tensor in kept_maps(model)]
    assert names == ["stem_1_conv", "module", "block_sum"]
    usual, found = kept(network()), kept(model)
    *between, last = ((BATCH, *tensor.shape[1:]) for tensor in kept_maps(model))
    assert sorted(found.values()) == sorted([*between, last]), "of the last its activation, which belongs to the top"
    assert sum(map(math.prod, found.values())) < 0.4 * sum(map(math.prod, usual.values()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_in_one_piece(name: str) -> None:
    heads = {"auxiliary": True} if name in WITH_HEADS else {}
    model = NETWORKS[name](width=0.1, **heads)
    maps = kept_maps(model)
    pieces = [keras.Model(*ends) for ends in pairwise([model.input, *maps])]
    layers = [layer for piece in [*pieces, keras.Model(maps, model.output)] for layer in piece.layers]
    found = [layer.name for layer in layers if not isinstance(layer, keras.layers.InputLayer)]
    wanted = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    assert sorted(found) == sorted(wanted)
    assert len(maps) >= 2


SETTINGS = ("image_size=32", "batch_size=8", "dropout=0.5", "epochs=2", "seed=1", "augmentation.flip=true")


def train(data: Path, to: Path, *settings: str) -> Run:
    wanted = recipe.load("default", (*SETTINGS, *settings))
    return training.train(str(data), "lenet_bn", to, wanted, unwatched)


@pytest.mark.slow
def test_a_run_goes_on_as_if_nothing_had_happened_and_has_the_weights_of_one_that_keeps_all_maps(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = train(pictures, tmp_path / "usual")
    unbroken = train(pictures, tmp_path / "unbroken", "remat=true")
    count = epochs.EndEpochs.on_train_batch_end

    def stop(self: Any, batch: int, logs: Any = None) -> None:
        count(self, batch, logs)
        if self.step == 14:
            raise KeyboardInterrupt

    settings = ("remat=true", "checkpoint.every=4")
    with monkeypatch.context() as context:
        context.setattr(epochs.EndEpochs, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(pictures, tmp_path / "broken", *settings)
    state = checkpoint.newest(Run(tmp_path / "broken").checkpoints)
    assert state
    assert 0 < state.state.step < 14
    broken = train(pictures, tmp_path / "broken", *settings)
    ends = [keras.models.load_model(run.checkpoints / "last.keras") for run in (unbroken, broken, usual)]
    assert isinstance(ends[0], RecomputingModel)
    assert not isinstance(ends[2], RecomputingModel)
    variables = [[*end.weights, *end.optimizer.variables] for end in ends]
    for mine, gone_on, theirs in zip(*variables, strict=True):
        np.testing.assert_array_equal(gone_on.numpy(), mine.numpy(), err_msg=mine.path)
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-2, atol=1e-3, err_msg=mine.path)
    for mine, theirs in zip(*(folder.read_history(run.history) for run in (unbroken, usual)), strict=True):
        assert mine["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-2)


@pytest.mark.slow
def test_two_devices_train_as_one_does(pictures: Path, tmp_path: Path, fresh_process: Callable[..., str]) -> None:
    settings = ("image_size=32", "batch_size=24", "seed=3", "steps=3", "remat=true")
    fresh_process(MIRRORED, pictures, tmp_path, *settings)
    assert_same_weights(Run(tmp_path / "1"), Run(tmp_path / "2"))


@pytest.mark.slow
def test_two_workers_train_as_one_does(pictures: Path, tmp_path: Path) -> None:
    settings = ("image_size=32", "batch_size=24", "seed=3", "steps=3", "remat=true")
    one, two = alone(pictures, tmp_path / "one", *settings), Run(tmp_path / "two")
    arguments = command(pictures, two.folder, *settings)
    for code, _, err in Workers(arguments, arguments).end():
        assert code == 0, err
    assert_same_weights(one, two)
    assert_same_history(one, two, 1e-4)
