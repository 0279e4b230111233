"""The second description of slim's networks is right: against published totals and `keras.applications`."""

import math
import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

from tests.oracles.references import REFERENCES, Conv
from tests.oracles.slim_networks import NETWORKS, Array, auxiliary_logits, endpoints, logits, made_up, variables

EVERY = pytest.mark.parametrize("name", NETWORKS)
WITH_HEAD = pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.auxiliary])
BOTTLENECK: dict[str, Any] = {"classes": 8631, "bottleneck": 512}


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (2, height, width, 3)).astype("float32")


def elements(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("inception_v1", {}, 230),
        ("inception_v2", {}, 277),
        ("inception_v3", {}, 378),
        ("inception_v3", {"auxiliary": True}, 388),
        ("inception_v4", {}, 598),
        ("inception_v4", {"auxiliary": True}, 608),
        ("inception_resnet_v2", {}, 898),
        ("inception_resnet_v2", {"auxiliary": True}, 908),
        ("inception_resnet_v1", BOTTLENECK, 492),
    ],
)
def test_there_are_as_many_variables_as_in_the_checkpoint(name: str, options: dict[str, Any], expected: int) -> None:
    assert len(variables(name, **options)) == expected


@EVERY
@pytest.mark.parametrize("classes", [1000, 1001])
def test_the_variables_hold_as_many_numbers_as_published(name: str, classes: int) -> None:
    assert elements(variables(name, classes)) == REFERENCES[name].counts_without_gamma[classes].total


@WITH_HEAD
@pytest.mark.parametrize("classes", [1000, 1001])
def test_the_side_head_holds_as_many_numbers_as_published(name: str, classes: int) -> None:
    expected = REFERENCES[name].counts_with_auxiliary_without_gamma[classes].total
    assert elements(variables(name, classes, auxiliary=True)) == expected


def test_facenet_s_bottleneck_holds_as_many_numbers_as_published() -> None:
    expected = REFERENCES["inception_resnet_v1"].counts_with_bottleneck_without_gamma[512, 8631].total
    assert elements(variables("inception_resnet_v1", **BOTTLENECK)) == expected


@EVERY
def test_every_scope_has_the_published_number_of_weights(name: str) -> None:
    reference, shapes = REFERENCES[name], variables(name)
    for stage, scope in reference.slim.items():
        place = f"{NETWORKS[name].scope}/{scope}/"
        kernels = [shape for key, shape in shapes.items() if key.startswith(place) and key.endswith("weights")]
        assert sum(math.prod(shape) for shape in kernels) == reference.conv_weights[stage], scope


@EVERY
def test_every_scope_has_the_published_kernels_in_their_order(name: str) -> None:
    reference, shapes = REFERENCES[name], variables(name)

    def convolutions(steps: Any) -> Iterator[Conv]:
        for step in steps:
            if isinstance(step, Conv):
                yield step
            elif isinstance(step, tuple):
                yield from convolutions(step)

    for stage, scope in reference.slim.items():
        place = f"{NETWORKS[name].scope}/{scope}/"
        kernels = [shape for key, shape in shapes.items() if key.startswith(place) and key.endswith("/weights")]
        expected = [*convolutions(reference.columns[stage])]
        if stage in reference.sums:
            expected += convolutions((reference.sums[stage].up,))
        assert [(shape[3], shape[:2]) for shape in kernels] == [(step.filters, step.kernel) for step in expected], scope


@pytest.mark.parametrize(
    ("name", "variable", "shape"),
    [
        ("inception_v1", "InceptionV1/Mixed_5b/Branch_2/Conv2d_0a_3x3/weights", (3, 3, 32, 128)),
        ("inception_v2", "InceptionV2/Conv2d_1a_7x7/depthwise_weights", (7, 7, 3, 8)),
        ("inception_v2", "InceptionV2/Conv2d_1a_7x7/pointwise_weights", (1, 1, 24, 64)),
        ("inception_v2", "InceptionV2/Conv2d_1a_7x7/biases", (64,)),
        ("inception_v3", "InceptionV3/Mixed_5c/Branch_1/Conv2d_0b_1x1/weights", (1, 1, 256, 48)),
        ("inception_v3", "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights", (5, 5, 48, 64)),
        ("inception_v3", "InceptionV3/Mixed_6a/Branch_0/Conv2d_1a_1x1/weights", (3, 3, 288, 384)),
        ("inception_v3", "InceptionV3/Mixed_6a/Branch_1/Conv2d_1a_1x1/weights", (3, 3, 96, 96)),
        ("inception_v3", "InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1/weights", (3, 1, 384, 384)),
        ("inception_v3", "InceptionV3/Mixed_7c/Branch_1/Conv2d_0c_3x1/weights", (3, 1, 384, 384)),
        ("inception_v3", "InceptionV3/Logits/Conv2d_1c_1x1/weights", (1, 1, 2048, 1001)),
        ("inception_v3", "InceptionV3/AuxLogits/Conv2d_2b_1x1/weights", (1, 1, 768, 1001)),
        ("inception_v4", "InceptionV4/AuxLogits/Conv2d_2a/weights", (5, 5, 128, 768)),
        ("inception_v4", "InceptionV4/AuxLogits/Aux_logits/biases", (1001,)),
        ("inception_v4", "InceptionV4/Logits/Logits/weights", (1536, 1001)),
        ("inception_resnet_v2", "InceptionResnetV2/Mixed_5b/Branch_0/Conv2d_1x1/weights", (1, 1, 192, 96)),
        ("inception_resnet_v2", "InceptionResnetV2/Repeat/block35_10/Conv2d_1x1/biases", (320,)),
        ("inception_resnet_v2", "InceptionResnetV2/AuxLogits/Logits/weights", (768, 1001)),
    ],
)
def test_irregular_names_are_spelt_as_in_slim(name: str, variable: str, shape: tuple[int, ...]) -> None:
    assert variables(name, auxiliary=bool(NETWORKS[name].auxiliary))[variable] == shape


def test_facenet_s_classifier_stands_outside_the_network_s_scope() -> None:
    shapes = variables("inception_resnet_v1", **BOTTLENECK)
    assert shapes["Logits/weights"] == (512, 8631)
    assert shapes["InceptionResnetV1/Bottleneck/weights"] == (1792, 512)
    assert "InceptionResnetV1/Bottleneck/biases" not in shapes
    assert shapes["InceptionResnetV1/Bottleneck/BatchNorm/beta"] == (512,)


@pytest.mark.parametrize(
    ("name", "application", "height", "width"),
    [
        ("inception_v3", "InceptionV3", 107, 91),
        pytest.param("inception_resnet_v2", "InceptionResNetV2", 91, 75, marks=pytest.mark.slow),
    ],
)
def test_the_forward_pass_is_that_of_keras(name: str, application: str, height: int, width: int) -> None:
    """Their anonymous layers are numbered in the order of creation, which is slim's; the others are found by name."""
    shapes = variables(name, classes=10)
    tensors = made_up(shapes)
    keras.utils.set_random_seed(0)
    theirs = getattr(keras.applications, application)(
        weights=None, classes=10, classifier_activation=None, input_shape=(height, width, 3)
    )

    def anonymous(kind: str) -> list[Any]:
        found = {re.fullmatch(rf"{kind}_?(\d*)", layer.name): layer for layer in theirs.layers}
        return [layer for number, layer in sorted((int(m[1] or 0), layer) for m, layer in found.items() if m)]

    convolutions, normalizations = iter(anonymous("conv2d")), iter(anonymous("batch_normalization"))
    for scope in (key.removesuffix("/weights") for key in shapes if key.endswith("/weights")):
        block = re.search(r"(?:/(block\d+_\d+)|/(Block8))/Conv2d_1x1$", scope)
        statistics = [tensors.get(f"{scope}/BatchNorm/{part}") for part in ("beta", "moving_mean", "moving_variance")]
        if scope == NETWORKS[name].classifier:
            kernel = tensors[f"{scope}/weights"].reshape(-1, 10)
            theirs.get_layer("predictions").set_weights([kernel, tensors[f"{scope}/biases"]])
        elif block:
            layer = theirs.get_layer(f"{block[1] or 'block8_10'}_conv")
            layer.set_weights([tensors[f"{scope}/weights"], tensors[f"{scope}/biases"]])
        elif scope.endswith("Conv2d_7b_1x1"):
            theirs.get_layer("conv_7b").set_weights([tensors[f"{scope}/weights"]])
            theirs.get_layer("conv_7b_bn").set_weights(statistics)
        else:
            next(convolutions).set_weights([tensors[f"{scope}/weights"]])
            next(normalizations).set_weights(statistics)
    assert [*convolutions, *normalizations] == []
    x = noise(height, width)
    right = keras.ops.convert_to_numpy(theirs(x, training=False))
    found = logits(name, tensors, x)
    assert found.dtype == np.float64
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()


@EVERY
def test_the_forward_pass_reads_every_variable(name: str) -> None:
    """One that it leaves out could hold anything."""
    bottleneck = 16 if name == "inception_resnet_v1" else None
    tensors, read = made_up(variables(name, classes=7, bottleneck=bottleneck)), set()

    class Watched(dict[str, Array]):
        def __getitem__(self, key: str) -> Array:
            read.add(key)
            return super().__getitem__(key)

    found = logits(name, Watched(tensors), noise(80, 76))
    assert found.shape == (2, 7)
    assert np.isfinite(found).all()
    assert read == set(tensors)


@EVERY
def test_every_endpoint_has_the_published_grid(name: str) -> None:
    reference, tensors = REFERENCES[name], made_up(variables(name, classes=7))
    found = endpoints(name, tensors, noise(*reference.input_shape[:2])[:1])
    assert {place: x.shape[1:] for place, x in found.items()} == {
        scope: reference.grid[stage] for stage, scope in reference.slim.items()
    }


def test_the_side_head_gives_logits_at_the_published_size() -> None:
    tensors = made_up(variables("inception_v3", classes=7, auxiliary=True))
    found = auxiliary_logits("inception_v3", tensors, noise(299, 299)[:1])
    assert found.shape == (1, 7)
    assert np.isfinite(found).all()
