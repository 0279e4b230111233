"""What the battery over all networks does not ask: values against the libraries that publish weights, the auxiliary
heads, the ports, residual scaling, local response normalisation.

Layers are paired by the order in which they are first called, kernels, averages and the rest are random: two networks
that compute the same give the same logits, and a wrong width, order, padding or epsilon does not.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from models import NETWORKS, BatchNormalization, LocalResponseNormalization, densenet
from models.weights import loading
from tests import ROOT
from tests.oracles.references import REFERENCES

Array = np.ndarray[Any, Any]
KINDS = (layers.Conv2D, (layers.BatchNormalization, BatchNormalization), layers.Dense)


@contextmanager
def called() -> Iterator[dict[int, Any]]:
    """The layers that are called inside, by their `id`, in the order of their first call."""
    found: dict[int, Any] = {}
    call = layers.Layer.__call__

    def record(self: Any, *arguments: Any, **options: Any) -> Any:
        found.setdefault(id(self), self)
        return call(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.Layer, "__call__", record)
        yield found


def built(builder: Callable[..., keras.Model], **options: Any) -> tuple[keras.Model, list[list[Any]]]:
    """A network, and its convolutions, batch normalisations and dense layers as they were made."""
    with called() as found:
        model = builder(**options)
    return model, [[layer for layer in found.values() if isinstance(layer, kind)] for kind in KINDS]


def noise(*shape: int) -> Array:
    """Images in [-1, 1], each of half the contrast of the one before it."""
    rng = np.random.default_rng(5)
    return np.stack([rng.uniform(-1, 1, shape[1:]) / 2**i for i in range(shape[0])]).astype("float32")


def disturb(of_kind: Sequence[Sequence[Any]]) -> None:
    """Random statistics, gammas, betas and biases; kernels large enough for the image to reach the logits."""
    rng = np.random.default_rng(4)
    for layer in (layer for kind in of_kind for layer in kind):
        for weight in layer.weights:
            if weight.name == "kernel":
                weight.assign(rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
            elif weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
            else:
                weight.assign(rng.normal(0, 0.5, weight.shape))


def outputs(model: keras.Model, x: Array) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(x, training=False))


def assert_same(found: Array, right: Array) -> None:
    """The same logits, for two images that are told apart."""
    first, second = right
    assert np.abs(first - second).max() > 0.02 * np.abs(right).max()
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


# ---- against keras.applications


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("inception_v3", "InceptionV3", {"scale": False}),
        pytest.param("inception_resnet_v2", "InceptionResNetV2", {"scale": False}, marks=pytest.mark.slow),
        pytest.param("densenet121", "DenseNet121", {}, marks=pytest.mark.slow),
    ],
)
def test_the_network_computes_what_that_of_keras_computes(name: str, theirs: str, options: dict[str, Any]) -> None:
    keras.utils.set_random_seed(6)
    shape = (101, 115, 3)
    right, sources = built(
        getattr(keras.applications, theirs), weights=None, classifier_activation=None, input_shape=shape
    )
    disturb(sources)
    model, targets = built(NETWORKS[name], classifier_activation=None, input_shape=(None, None, 3), **options)
    for of_kind, ours in zip(sources, targets, strict=True):
        for source, target in zip(of_kind, ours, strict=True):
            target.set_weights(source.get_weights())
    x = noise(2, *shape)
    assert_same(outputs(model, x), outputs(right, x))


# ---- against PyTorch


def in_pytorch(library: str, theirs: str, settings: dict[str, Any], x: Array, folder: Path) -> dict[str, Array]:
    """What a network of PyTorch answers to `x`, and the weights it has: see `oracles/pytorch_forward.py`."""
    for needed in ("torch", *({library.split(".")[0]} - {"cadene"})):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed: the requirements of this project do without it")
    images, answers = folder / "images.npy", folder / "answers.npz"
    np.save(images, x)
    program = ROOT / "tests" / "oracles" / "pytorch_forward.py"
    command: list[str | Path] = [sys.executable, program, library, theirs, json.dumps(settings), images, answers]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(answers) as arrays:
        found = dict(arrays)
    answers.unlink()  # up to 230 MB, which pytest would keep
    return found


def load(targets: Sequence[Sequence[Any]], arrays: dict[str, Array]) -> None:
    """The arrays of `pytorch_forward.py` into layers, every one of them into its own place."""
    left = dict(arrays)
    for kind, of_kind in zip(("convolutions", "normalizations", "dense"), targets, strict=True):
        for number, layer in enumerate(of_kind):
            layer.set_weights([left.pop(f"{kind}/{number}/{position}") for position in range(len(layer.weights))])
    assert set(left) <= {"predictions", "auxiliary"}


QUIET = {"weights": None, "transform_input": False, "init_weights": False}


@pytest.mark.parametrize(
    ("name", "library", "theirs", "settings", "options", "sides"),
    [
        (
            "inception_v1",
            "torchvision.models",
            "googlenet",
            {**QUIET, "init_weights": True, "aux_logits": False},
            {"ported_from": "torchvision"},
            (98, 116),
        ),
        ("bn_inception", "cadene", "bninception", {}, {"ported_from": "cadene"}, (96, 68)),
        (
            "inception_v3",
            "torchvision.models",
            "inception_v3",
            QUIET,
            {"ported_from": "torchvision", "auxiliary": True},
            (299, 317),
        ),
        ("inception_v3", "timm", "inception_v3", {"pretrained": False}, {"ported_from": "timm"}, (115, 99)),
        ("inception_v4", "timm", "inception_v4", {"pretrained": False}, {}, (139, 115)),
        ("inception_resnet_v2", "timm", "inception_resnet_v2", {"pretrained": False}, {}, (139, 115)),
        ("resnet18", "torchvision.models", "resnet18", {"weights": None}, {}, (96, 117)),
        (
            "densenet121",
            "torchvision.models",
            "densenet121",
            {"weights": None},
            {"ported_from": "torchvision"},
            (96, 117),
        ),
    ],
)
def test_the_network_computes_what_that_of_pytorch_computes(
    name: str,
    library: str,
    theirs: str,
    settings: dict[str, Any],
    options: dict[str, Any],
    sides: tuple[int, int],
    tmp_path: Path,
) -> None:
    x = noise(2, *sides, 3)
    right = in_pytorch(library, theirs, settings, x, tmp_path)
    model, targets = built(NETWORKS[name], classifier_activation=None, input_shape=(*sides, 3), **options)
    load(targets, right)
    found = outputs(model, x)
    if not isinstance(found, dict):
        found = {"predictions": found}
    for head, logits in found.items():
        assert_same(logits, right[head])


# ---- GoogLeNet


def test_googlenet_computes_what_its_figure_draws() -> None:
    """Figure 3 and section 5 in TensorFlow's functions."""
    keras.utils.set_random_seed(11)
    shape = (79, 66, 3)
    model, (convolutions, normalizations, dense) = built(
        NETWORKS["googlenet"], classifier_activation=None, input_shape=shape, auxiliary=True
    )
    assert normalizations == []
    disturb((convolutions, dense))
    rest = iter(convolutions)
    classifier, *heads = dense

    def conv(x: Any, stride: int = 1, padding: Any = "SAME") -> Any:
        layer = next(rest)
        return tf.nn.relu(tf.nn.conv2d(x, layer.kernel, stride, padding) + layer.bias)

    def inception(x: Any) -> Any:
        return tf.concat([conv(x), conv(conv(x)), conv(conv(x)), conv(tf.nn.max_pool2d(x, 3, 1, "SAME"))], -1)

    def halved(x: Any) -> Any:
        return tf.nn.max_pool2d(x, 3, 2, "SAME")

    def normalized(x: Any) -> Any:
        return tf.nn.local_response_normalization(x, depth_radius=2, bias=1, alpha=1e-4 / 5, beta=0.75)

    def affine(x: Any, layer: Any) -> Any:
        return x @ layer.kernel + layer.bias

    images = noise(2, *shape)
    x = normalized(halved(conv(images, 2, [[0, 0], [3, 3], [3, 3], [0, 0]])))
    x = halved(normalized(conv(conv(x))))
    maps = {}
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        maps[module] = x = inception(halved(x) if module in ("4a", "5a") else x)
    right = {"predictions": affine(tf.reduce_mean(x, (1, 2)), classifier)}
    for name, module, hidden, top in (("auxiliary_1", "4a", *heads[:2]), ("auxiliary_2", "4d", *heads[2:])):
        x = conv(tf.nn.avg_pool2d(maps[module], 5, 3, "VALID"))
        right[name] = affine(tf.nn.relu(affine(tf.reshape(x, (2, -1)), hidden)), top)
    assert list(rest) == []
    found = outputs(model, images)
    assert set(found) == set(right)
    for name, logits in right.items():
        assert_same(found[name], logits.numpy())


@pytest.mark.parametrize(("radius", "bias", "alpha", "beta"), [(2, 1.0, 2e-5, 0.75), (1, 2.0, 0.3, 0.5), (4, 1, 1, 1)])
@pytest.mark.parametrize("shape", [(2, 5, 4, 7), (3, 2, 2, 2)])
def test_local_response_normalization_is_that_of_tensorflow(
    radius: int, bias: float, alpha: float, beta: float, shape: tuple[int, ...]
) -> None:
    x = 10 * noise(*shape)
    found = LocalResponseNormalization(radius, bias, alpha, beta)(x)
    right = tf.nn.local_response_normalization(x, radius, bias, alpha, beta)
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_local_response_normalization_sums_squares_beyond_half_precision() -> None:
    x = np.full((1, 2, 2, 8), 400, "float16")
    layer = LocalResponseNormalization(dtype="float16")
    assert layer(x).dtype == "float16"
    right = tf.nn.local_response_normalization(x.astype("float32"), 2, 1, 2e-5, 0.75)
    np.testing.assert_allclose(layer(x), right, rtol=2e-3)


def test_local_response_normalization_keeps_its_settings() -> None:
    layer = LocalResponseNormalization(depth_radius=3, bias=2.0, alpha=0.5, beta=0.25, name="normalized")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert keras.saving.get_registered_name(LocalResponseNormalization) == "inceptions>LocalResponseNormalization"


@pytest.mark.parametrize(("options", "words"), [({"depth_radius": -1}, "depth_radius=-1"), ({"bias": 0}, "bias=0")])
def test_local_response_normalization_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LocalResponseNormalization(**options)


# ---- auxiliary heads

HEADS = {
    name: (tuple(reference.auxiliary), max(head.minimum for head in reference.auxiliary.values()))
    for name, reference in REFERENCES.items()
    if reference.auxiliary
}
LARGE = ("inception_resnet_v2", "inception_v4")  # these take seconds each


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in HEADS]
)
def test_the_smallest_image_with_heads_works_and_one_pixel_less_is_refused(name: str) -> None:
    heads, side = HEADS[name]
    model = NETWORKS[name](auxiliary=True, width=0.05, classes=7, input_shape=(side, side + 2, 1))
    found = outputs(model, noise(2, side, side + 2, 1))
    assert set(found) == {"predictions", *heads}
    for head in found.values():
        np.testing.assert_allclose(head.sum(-1), np.ones(2), rtol=1e-5)
    assert all(model.get_layer(head).compute_dtype == "float32" for head in found)
    for shape in ((side - 1, side, 1), (side, side - 1, 1)):
        with pytest.raises(ValueError, match=f"the smallest images that work are {side} x {side}"):
            NETWORKS[name](auxiliary=True, width=0.05, classes=7, input_shape=shape)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in HEADS]
)
def test_the_heads_leave_the_predictions_alone(name: str) -> None:
    _, side = HEADS[name]
    options = {"width": 0.05, "classes": 7, "input_shape": (side, side, 3)}
    model, plain = NETWORKS[name](auxiliary=True, **options), NETWORKS[name](**options)
    assert not isinstance(plain.output, dict)
    for layer in plain.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    x = noise(2, side, side, 3)
    np.testing.assert_array_equal(outputs(plain, x), outputs(model, x)["predictions"])


def test_heads_on_larger_maps_take_the_mean() -> None:
    model = NETWORKS["inception_v3"](auxiliary=True, width=0.05, classes=7, input_shape=(None, None, 3))
    assert outputs(model, noise(1, 420, 299, 3))["auxiliary"].shape == (1, 7)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in HEADS])
def test_heads_are_refused_where_none_was_published(name: str) -> None:
    with pytest.raises(ValueError, match="published without auxiliary heads"):
        NETWORKS[name](auxiliary=True)


@pytest.mark.parametrize("name", HEADS)
def test_heads_need_the_top(name: str) -> None:
    with pytest.raises(ValueError, match="include_top=False"):
        NETWORKS[name](auxiliary=True, include_top=False)


def test_a_flattening_head_needs_a_known_size() -> None:
    with pytest.raises(ValueError, match="needs a height and a width"):
        NETWORKS["googlenet"](auxiliary=True, input_shape=(None, 224, 3))


# ---- ports

PORTS = {
    "googlenet": ("caffe",),
    "inception_v1": ("torchvision",),
    "bn_inception": ("cadene", "caffe"),
    "inception_v3": ("torchvision", "timm"),
    "resnet18": ("caffe",),
    "densenet121": ("torchvision", "caffe"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unknown_port_is_refused_with_the_known_ones(name: str) -> None:
    words = " or ".join(f'"{port}"' for port in PORTS[name]) if name in PORTS else "has to be None"
    with pytest.raises(ValueError, match=re.escape(words)):
        NETWORKS[name](ported_from="caffe2")


@pytest.mark.parametrize(
    ("name", "port", "smallest"),
    [
        ("googlenet", "caffe", 31),
        ("inception_v1", "torchvision", 15),
        ("bn_inception", "cadene", 31),
        ("resnet18", "caffe", 3),
    ],
)
def test_ports_have_their_own_smallest_image(name: str, port: str, smallest: int) -> None:
    options = {"ported_from": port, "width": 0.1, "classes": 7}
    model = NETWORKS[name](input_shape=(smallest, smallest, 3), **options)
    np.testing.assert_allclose(outputs(model, noise(1, smallest, smallest, 3)).sum(), 1, rtol=1e-5)
    with pytest.raises(ValueError, match=f"the smallest that work are {smallest} x {smallest}"):
        NETWORKS[name](input_shape=(smallest - 1, smallest, 3), **options)


def test_cadenes_port_refuses_images_on_which_its_columns_end_in_different_sizes() -> None:
    options = {"ported_from": "cadene", "width": 0.1, "classes": 7}
    for side in (31, 38, 39, 62, 63, 70, 71, 100):
        if (side + 1) % 32 < 8:
            NETWORKS["bn_inception"](input_shape=(side, 32, 3), **options)
        else:
            with pytest.raises(ValueError, match="multiples of 32 work"):
                NETWORKS["bn_inception"](input_shape=(side, 32, 3), **options)


def test_caffes_port_refuses_images_on_which_densenets_average_pools_leave_a_row_over() -> None:
    for side in range(29, 100):
        first = ((side + 1) // 2 + 1) // 2
        assert densenet.halves_evenly(side) is all(first // by % 2 == 0 for by in (1, 2, 4)), side
    with pytest.raises(ValueError, match=r"100 x 64 .* meet maps of odd sides: multiples of 32 work"):
        NETWORKS["densenet121"](input_shape=(100, 64, 3), ported_from="caffe")


# ---- the Inception-ResNets

RESIDUAL = ("inception_resnet_v1", "inception_resnet_v2", "inception_resnet_v2_paper")
LINEAR = ("inception_resnet_c_6", "inception_resnet_c_10", None)


@pytest.mark.parametrize(("name", "linear"), [*zip(RESIDUAL, LINEAR, strict=True)])
@pytest.mark.parametrize("scales", [None, (0.1, 0.3, 1.0)])
def test_residuals_are_scaled_before_they_are_added(
    name: str, linear: str | None, scales: tuple[float, float, float] | None
) -> None:
    options = {} if scales is None else {"residual_scale": scales}
    model = NETWORKS[name](width=0.05, input_shape=(75, 75, 3), **options)
    a, b, c = (0.17, 0.10, 0.20) if scales is None else scales
    found = {layer.name: layer.scale for layer in model.layers if isinstance(layer, layers.Rescaling)}
    blocks = {"inception_resnet_v1": (5, 10, 6), "inception_resnet_v2": (10, 20, 10)}.get(name, (5, 10, 5))
    expected = {
        f"inception_resnet_{kind}_{k}_scale": scale
        for kind, count, scale in zip("abc", blocks, (a, b, c), strict=True)
        for k in range(1, count + 1)
    }
    if linear is not None:
        expected[f"{linear}_scale"] = 1.0
        assert isinstance(model.get_layer(linear), layers.Add)
    assert found == expected


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize(
    "scales", [(0, 0.1, 0.2), (0.1, -0.1, 0.2), (0.1, 0.1, 1.01), (0.1, 0.1), (0.1, float("nan"), 0.1)]
)
def test_a_scale_outside_its_range_is_refused(name: str, scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be three numbers above 0 and at most 1, .* \(0.17, 0.1, 0.2\)"):
        NETWORKS[name](residual_scale=scales)


def test_facenets_bottleneck_stands_between_the_pool_and_the_classifier() -> None:
    model = NETWORKS["inception_resnet_v1"](width=0.05, input_shape=(75, 75, 3), bottleneck=512)
    dense, normalization, predictions = (
        model.get_layer(name) for name in ("bottleneck_dense", "bottleneck_bn", "predictions")
    )
    assert not dense.use_bias
    assert dense.input is model.get_layer("dropout").output
    assert normalization.input is dense.output
    assert predictions.input is normalization.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bottleneck": 0}, "bottleneck=0 must be at least 1"),
        ({"bottleneck": 128, "include_top": False}, "bottleneck=128 belongs to the top"),
    ],
)
def test_a_bottleneck_out_of_place_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NETWORKS["inception_resnet_v1"](**options)


# ---- published weights


@pytest.mark.slow
def test_published_weights_are_asked_for_by_the_name_of_the_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(loading, "imagenet", lambda model, name: asked.append((model.name, name)))
    for name, builder in NETWORKS.items():
        builder(weights="imagenet", width=0.02, input_shape=(75, 75, 3), name="mine")
        assert asked.pop() == ("mine", name)
