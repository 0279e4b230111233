"""The networks and layers on JAX and PyTorch: against TensorFlow, which writes the weights, and against float64.

Each backend has an environment, which `make backends` builds, and a process that imports it once and answers in turn.
"""

import json
import math
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from models import NETWORKS
from models.weights.tables import TABLES
from tests import ROOT
from tests.models import on_another_backend
from tests.models.test_batch_normalization import (
    IMAGE,
    MASK,
    SHAPES,
    Array,
    P,
    assert_gradients,
    assert_outputs,
    assert_statistics,
    assert_within,
    half_a_unit,
    moments,
    moved,
    normalized,
    tolerance,
    trained,
    training_gradients,
    uneven,
    uneven_noise,
)
from tests.models.test_weights import named_by
from tests.oracles.weight_files import write_torch

pytestmark = pytest.mark.slow
Arrays = dict[str, Array]
BATCH, CLASSES, WIDTH = 16, 5, 0.1
# The sides on which the last map measures 3 x 3; with fewer values batch normalisation amplifies rounding.
# Not here: the networks whose gradients were further than 1e-4 apart, or not measured; see docs/backends.md.
SIDES = {
    **dict.fromkeys(("googlenet", "inception_v1", "bn_inception", "resnet18", "resnet18_d2l"), 65),
    "densenet_d2l": 95,
    "lenet_bn": 28,
}
ONE_CHANNEL = ("lenet_bn", "resnet18_d2l", "densenet_d2l")
# The others take minutes, most of it XLA's compiler.
QUICK = ("lenet_bn",)


class Backend:
    """The process of a backend; it begins with the first question."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.python = ROOT / ".backends" / name / "bin" / "python"
        self.errors = folder / "errors.txt"
        self.process: subprocess.Popen[str] | None = None

    def ask(self, folder: Path, do: str, what: str, given: Arrays, **options: Any) -> Arrays:
        """What the function `do` of `on_another_backend` finds."""
        (folder / "task.json").write_text(json.dumps({"do": do, "what": what, "options": options}))
        np.savez(folder / "given.npz", allow_pickle=False, **given)
        if self.process is None or self.process.poll() is not None:
            self.process = self._started()
        to, answers = self.process.stdin, self.process.stdout
        assert to is not None
        assert answers is not None
        print(folder, file=to, flush=True)
        assert answers.readline(), f"{self.name}: {self.errors.read_text()[-3000:]}"
        with np.load(folder / "answer.npz") as arrays:
            return dict(arrays)

    def _started(self) -> "subprocess.Popen[str]":
        with self.errors.open("w") as errors:
            return subprocess.Popen(
                [self.python, "-m", "tests.models.on_another_backend"],
                cwd=ROOT,
                env={**os.environ, "KERAS_BACKEND": self.name, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backend]]:
    made = {name: Backend(name, tmp_path_factory.mktemp(name)) for name in ("jax", "torch")}
    yield made
    for backend in made.values():
        if backend.process is not None:
            backend.process.communicate()


@pytest.fixture(params=["jax", "torch"])
def backend(request: pytest.FixtureRequest, backends: dict[str, Backend]) -> Backend:
    found: Backend = backends[request.param]
    if not (found.python.parents[1] / "ready").exists():
        pytest.skip(f"there is no environment with Keras on {found.name}: `make backends` builds it")
    return found


# ---- networks


class Answer(NamedTuple):
    """What TensorFlow finds, and what it was given; the folder holds its weights."""

    folder: Path
    given: Arrays
    found: Arrays


@pytest.fixture(scope="module")
def tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Answer]:
    """Answers for a network once, for all backends."""

    @cache
    def answer(name: str, auxiliary: bool = False, seed: int = 0) -> Answer:
        folder, options = tmp_path_factory.mktemp(name), options_of(name, auxiliary)
        model = NETWORKS[name](classifier_activation=None, **options)
        disturb(model)
        model.save_weights(folder / "weights.weights.h5")
        model.save(folder / "network.keras")
        images = np.random.default_rng(seed).uniform(-1, 1, (BATCH, *options["input_shape"])).astype("float32")
        given = {"images": images, "labels": np.arange(BATCH) % CLASSES}
        found = on_another_backend.logits(model, images) | on_another_backend.one_step(model, **given)
        return Answer(folder, given, found)

    return answer


def options_of(name: str, auxiliary: bool = False) -> dict[str, Any]:
    side = SIDES[name]
    options: dict[str, Any] = {"input_shape": (side, side, 1 if name in ONE_CHANNEL else 3), "classes": CLASSES}
    if auxiliary:
        options["auxiliary"] = True
    return options | {"width": 1.0 if name == "lenet_bn" else WIDTH}


def disturb(model: keras.Model) -> None:
    """Weights of no fresh network, with kernels large enough for the images to reach the logits."""
    rng = np.random.default_rng(4)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name.endswith("kernel"):
                weight.assign(rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
            elif weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            else:
                weight.assign(rng.normal(0, 0.5, weight.shape))


def assert_same_logits(found: Arrays, right: Arrays) -> None:
    names = [name for name in right if name.startswith("logits/")]
    for name in names:
        assert right[name].std(axis=0).max() > 1e-3 * np.abs(right[name]).max(), "the images are told apart"
    worst = max(apart(found[name], right[name]) for name in names)
    print(f"logits {worst:.1e}", end="")
    assert worst <= 1e-5


def assert_same_step(found: Arrays, right: Arrays) -> None:
    """All but the gradients."""
    assert found.keys() == right.keys()
    assert_same_logits(found, right)
    statistics = max((apart(found[name], right[name]) for name in right if name.startswith("statistics/")), default=0)
    print(f", statistics {statistics:.1e}", end="")
    assert statistics <= 1e-5
    np.testing.assert_allclose(found["loss"], right["loss"], rtol=1e-5)


def gradients_apart(found: Arrays, right: Arrays) -> float:
    """How far they are from each other: all together, and those of each weight, in the larger of their norm and a
    hundredth of that of all. What beta makes idle has no gradient but rounding."""
    names = [name for name in right if name.startswith("gradient/")]
    size = norm(*(right[name] for name in names))
    each = {name: norm(found[name] - right[name]) / max(norm(right[name]), 1e-2 * size) for name in names}
    last = max(each, key=lambda name: each[name])
    together = norm(*(found[name] - right[name] for name in names)) / size
    print(f", gradients {together:.1e}, that of {last} {each[last]:.1e}")
    return max(together, each[last])


def apart(found: Array, right: Array) -> float:
    """The largest difference, in the largest value."""
    assert found.shape == right.shape
    return float(np.abs(found - right).max() / np.abs(right).max())


def norm(*arrays: Array) -> float:
    return math.sqrt(sum(float(np.square(array.astype("float64")).sum()) for array in arrays))


def marked(name: str) -> Any:
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.long)


@pytest.mark.parametrize("name", [marked(name) for name in SIDES])
def test_a_network_with_the_weights_of_tensorflow_answers_and_learns_as_there(
    name: str, backend: Backend, tensorflow: Callable[..., Answer]
) -> None:
    folder, given, right = tensorflow(name, seed=5)
    found = backend.ask(folder, "network", name, given, **options_of(name))
    assert_same_step(found, right)
    assert gradients_apart(found, right) <= 1e-4


def test_auxiliary_heads_learn_as_on_tensorflow(backend: Backend, tensorflow: Callable[..., Answer]) -> None:
    folder, given, right = tensorflow("googlenet", auxiliary=True, seed=5)
    assert "logits/auxiliary_2" in right
    found = backend.ask(folder, "network", "googlenet", given, **options_of("googlenet", auxiliary=True))
    assert_same_step(found, right)
    assert gradients_apart(found, right) <= 1e-4


def test_a_whole_network_that_tensorflow_saved_is_read(backend: Backend, tensorflow: Callable[..., Answer]) -> None:
    folder, given, right = tensorflow("lenet_bn", seed=5)
    found = backend.ask(folder, "saved", "lenet_bn", given)
    assert_same_step(found, right)
    assert gradients_apart(found, right) <= 1e-4


def test_dropout_drops_its_share_in_training_alone_and_another_one_each_time(
    backend: Backend, tensorflow: Callable[..., Answer]
) -> None:
    folder, given, _ = tensorflow("googlenet", auxiliary=True, seed=5)
    found = backend.ask(folder, "dropout", "googlenet", given, **options_of("googlenet", auxiliary=True))
    kept: Arrays = {}
    for place in ("first", "second"):
        before, after = found[f"{place}/before"], found[f"{place}/after"]
        seen = before > 0
        kept[place] = after[seen] > 0
        np.testing.assert_allclose(after[seen], np.where(kept[place], before[seen] / 0.3, 0), rtol=1e-6)
        # Five deviations of a binomial share.
        assert abs(kept[place].mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / kept[place].size)
    assert (kept["first"] != kept["second"]).mean() > 0.2
    np.testing.assert_array_equal(found["inference/before"], found["inference/after"])
    assert len(set(found["losses"])) == 4, "a step of `fit` drops what the one before it dropped"


# ---- batch normalisation


def batch_normalization(
    backend: Backend, folder: Path, x: Array, *, mask: Array | None = None, **options: Any
) -> tuple[Arrays, Array]:
    """What the layer finds on `x` with the parameters P, and the gradient that came from above."""
    upstream = uneven_noise(x.shape, 2).astype("float32")
    given = {"x": x, "upstream": upstream} | ({} if mask is None else {"mask": mask})
    given |= {f"weights/{position}": vector for position, vector in enumerate(P)}
    return backend.ask(folder, "layer", "BatchNormalization", given, **options), upstream


def gradients(found: Arrays) -> tuple[Array, ...]:
    return found["gradient/0"], found["gradient/1"], found["gradient/2"]


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
@pytest.mark.parametrize("rank", SHAPES)
def test_batch_normalization_is_algorithms_1_and_2(
    rank: str, epsilon: float, unbiased: bool, backend: Backend, tmp_path: Path
) -> None:
    x = uneven(SHAPES[rank])
    found, upstream = batch_normalization(backend, tmp_path, x, epsilon=epsilon, unbiased=unbiased, momentum=0.9)
    assert_within(tolerance(x), found["inference"], normalized(x, P.mean, P.variance, epsilon))
    assert_outputs(found["outputs"], x, epsilon)
    assert_gradients(gradients(found), x, training_gradients(x, upstream, epsilon))
    assert_statistics(SimpleNamespace(**found), *moved([x], 0.9, unbiased))


@pytest.mark.parametrize("axis", [1, -3])
def test_batch_normalization_of_another_axis_gives_the_same_numbers(
    axis: int, backend: Backend, tmp_path: Path
) -> None:
    x = uneven(IMAGE)
    found, upstream = batch_normalization(backend, tmp_path, np.moveaxis(x, -1, 1), axis=axis)
    assert_outputs(np.moveaxis(found["outputs"], 1, -1), x, 1e-3)
    to_x, *to_weights = gradients(found)
    right = training_gradients(x, np.moveaxis(upstream, 1, -1), 1e-3)
    assert_gradients((np.moveaxis(to_x, 1, -1), *to_weights), x, right)
    assert_statistics(SimpleNamespace(**found), *moved([x], 0.99, unbiased=True))


def test_what_a_mask_leaves_out_is_normalized_and_does_not_count(backend: Backend, tmp_path: Path) -> None:
    x = uneven(IMAGE)
    found, upstream = batch_normalization(backend, tmp_path, x, mask=MASK)
    counted, place = x[MASK], MASK[..., np.newaxis]
    mean, variance, m = moments(counted)
    assert_within(tolerance(counted), found["outputs"], normalized(x, mean, variance, 1e-3))
    assert_statistics(SimpleNamespace(**found), *moved([counted], 0.99, unbiased=True))
    # The statistics of what counts hang on all that they normalise.
    hat = (x - mean) / np.sqrt(variance + 1e-3)
    to_gamma, to_beta = (upstream * hat).sum((0, 1, 2)), upstream.sum((0, 1, 2), dtype="float64")
    to_x = P.gamma / np.sqrt(variance + 1e-3) * (upstream - place * (to_beta + hat * to_gamma) / m)
    assert_gradients(gradients(found), counted, (to_x, to_gamma, to_beta))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("shape", [(1, 5), (1, 1, 1, 5)])
def test_a_single_value_per_channel_has_no_variance(
    shape: tuple[int, ...], unbiased: bool, backend: Backend, tmp_path: Path
) -> None:
    x = uneven(shape)
    found, upstream = batch_normalization(backend, tmp_path, x, momentum=0.75, unbiased=unbiased)
    np.testing.assert_array_equal(found["outputs"], np.broadcast_to(P.beta, shape))
    assert_statistics(
        SimpleNamespace(**found), 0.75 * P.mean + 0.25 * x.reshape(5), 0.75 * P.variance.astype("float64")
    )
    for gradient, right in zip(gradients(found), (np.zeros(shape), np.zeros(5), upstream.reshape(5)), strict=True):
        np.testing.assert_array_equal(gradient, right)


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 3, 5)])
def test_a_batch_without_values_leaves_the_moving_averages_alone(
    shape: tuple[int, ...], backend: Backend, tmp_path: Path
) -> None:
    found, _ = batch_normalization(backend, tmp_path, np.zeros(shape, "float32"))
    assert found["outputs"].shape == shape
    np.testing.assert_array_equal(found["moving_mean"], P.mean)
    np.testing.assert_array_equal(found["moving_variance"], P.variance)


def test_far_from_zero_the_variance_does_not_cancel(backend: Backend, tmp_path: Path) -> None:
    x = np.random.default_rng(5).normal(4000, 1, (8, 12, 12, 5)).astype("float32")
    found, _ = batch_normalization(backend, tmp_path, x)
    assert_outputs(found["outputs"], x, 1e-3)


def test_a_frozen_layer_is_in_inference(backend: Backend, tmp_path: Path) -> None:
    found, _ = batch_normalization(backend, tmp_path, uneven(IMAGE), trainable=False)
    np.testing.assert_allclose(found["outputs"], found["inference"], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found["moving_mean"], P.mean)
    np.testing.assert_array_equal(found["moving_variance"], P.variance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_one_rounding_from_the_answer(dtype: str, backend: Backend, tmp_path: Path) -> None:
    # Small integers and halves, which both types hold; the squares of the last channel's are beyond float16's 65504.
    x = np.random.default_rng(6).integers(-8, 9, IMAGE).astype("float32") * np.array([0.5, 1, 2, 4, 64], "float32")
    found, _ = batch_normalization(backend, tmp_path, x, dtype=f"mixed_{dtype}", momentum=0.0)
    assert str(found["dtype"]).removeprefix("torch.") == dtype
    right = trained(x, 1e-3)
    assert_within(half_a_unit(right, dtype) + tolerance(x), found["outputs"], right)
    assert_statistics(SimpleNamespace(**found), *moved([x], 0.0, unbiased=True))


# ---- local response normalisation


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_local_response_normalization_divides_by_the_energy_beside(
    dtype: str, backend: Backend, tmp_path: Path
) -> None:
    # Energies of about 1, where the division bends most.
    x = np.random.default_rng(6).integers(-256, 257, (2, 3, 4, 7)).astype("float32")
    upstream = uneven_noise(x.shape, 7).astype("float16").astype("float32")
    found = backend.ask(
        tmp_path, "layer", "LocalResponseNormalization", {"x": x, "upstream": upstream}, dtype=dtype, alpha=2e-5
    )
    beside = np.abs(np.subtract.outer(np.arange(7), np.arange(7))) <= 2
    base = 1 + 2e-5 * np.square(x.astype("float64")) @ beside
    right = x * base**-0.75
    slope = upstream * base**-0.75 - 2 * 2e-5 * 0.75 * x * ((upstream * x * base**-1.75) @ beside)
    for name, expected in (("outputs", right), ("gradient/0", slope)):
        rounding = 1e-5 * np.abs(expected).max() + (0 if dtype == "float32" else half_a_unit(expected, "float16"))
        assert_within(rounding, found[name], expected)


# ---- files, and what is refused


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_torchvision_are_imported(
    suffix: str, backend: Backend, tensorflow: Callable[..., Answer], tmp_path: Path
) -> None:
    _, given, right = tensorflow("resnet18", seed=5)
    (table,) = [table for table in TABLES if (table.network, table.source) == ("resnet18", "torchvision")]
    model = NETWORKS["resnet18"](**options_of("resnet18"))
    disturb(model)
    tensors, path = named_by(table, model), tmp_path / f"model.{suffix}"
    if suffix == "pth":
        write_torch(path, tensors)
    else:
        save_file(tensors, path)
    found = backend.ask(tmp_path, "imported", "resnet18", given, **options_of("resnet18"))
    assert_same_logits(found, right)


def test_what_needs_tensorflow_says_so_without_it(backend: Backend, tmp_path: Path) -> None:
    found = backend.ask(tmp_path, "refused", "inception_v1", {})
    assert "model.ckpt is a checkpoint of TensorFlow, which reads it and is not installed" in str(found["checkpoint"])
    assert str(found["synchronized"]).startswith("synchronized=True needs the TensorFlow backend")
    assert not found["imported"]
