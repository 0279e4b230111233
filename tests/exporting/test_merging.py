"""Convolutions on one map as one: the same answers, from fewer of them, and nothing merged that has to stay apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from export import folding, half_precision, merging, saved_model
from models import NETWORKS
from tests.makers.networks import disturb
from tests.oracles.references import REFERENCES

Array = np.ndarray[Any, Any]
SIDE_BY_SIDE = {  # on how many maps of a network convolutions stand that are one
    "googlenet": 9,
    "inception_v1": 9,
    "inception_v2": 10,
    "bn_inception": 10,
    "inception_v3": 10,
    "inception_v4": 16,
    "inception_resnet_v1": 22,
    "inception_resnet_v2": 42,
    "inception_resnet_v2_paper": 22,
}


def network(top: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(6)
    image = keras.Input((5, 6, 4))
    return disturb(keras.Model(image, top(image), name="small"))


def conv(filters: int, kernel: int = 1, activation: str | None = "relu", **options: Any) -> Callable[[Any], Any]:
    """A convolution and the activation behind it, as folded networks have them."""

    def apply(x: Any) -> Any:
        y = layers.Conv2D(filters, kernel, padding="same", **options)(x)
        return layers.Activation(activation)(y) if activation else y

    return apply


def joined(*columns: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: layers.Flatten()(layers.Concatenate()([column(x) for column in columns]))


def split(x: Any) -> Any:
    return layers.Concatenate()([x, x * 2])


def convolutions(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]


def assert_same_outputs(merged: keras.Model, model: keras.Model, limit: float = 2e-6) -> None:
    """Within `limit` of the largest output."""
    x = np.random.default_rng(5).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
    found, right = (
        np.concatenate([np.ravel(y) for y in keras.tree.flatten(each(x, training=False))]) for each in (merged, model)
    )
    assert np.isfinite(right).all()
    assert np.abs(found - right).max() <= limit * np.abs(right).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_merged_network_computes_the_same_with_fewer_convolutions(name: str) -> None:
    keras.utils.set_random_seed(3)
    side = max(32, REFERENCES[name].minimum)
    model = NETWORKS[name](input_shape=(side, side, 3), classes=7, width=0.25, classifier_activation=None)
    folded = folding.fold(disturb(model))
    groups = merging.mergeable(folded)
    merged = merging.merge(folded)
    assert len(groups) == SIDE_BY_SIDE.get(name, 0)
    assert len(convolutions(folded)) - len(convolutions(merged)) == sum(len(group) - 1 for group in groups)
    assert merging.mergeable(merged) == []
    assert merged.count_params() == folded.count_params()
    assert_same_outputs(merged, folded, limit=1e-5)
    features = [keras.Model(each.input, saved_model._before_the_classifier(each)) for each in (merged, folded)]
    assert_same_outputs(features[0], features[1], limit=1e-5)


def test_the_merged_kernels_and_biases_follow_each_other_and_give_the_products_of_each() -> None:
    model = network(joined(conv(3), conv(2), conv(4)))
    merged = merging.merge(model)
    apart, (one,) = convolutions(model), convolutions(merged)
    kernel, bias = one.get_weights()
    np.testing.assert_array_equal(kernel, np.concatenate([layer.get_weights()[0] for layer in apart], axis=-1))
    np.testing.assert_array_equal(bias, np.concatenate([layer.get_weights()[1] for layer in apart]))
    x = np.random.default_rng(7).normal(size=(3, 5, 6, 4))
    columns = [
        np.maximum(x @ layer.get_weights()[0][0, 0].astype(np.float64) + layer.get_weights()[1], 0) for layer in apart
    ]
    right = np.concatenate(columns, axis=-1).reshape(3, -1)
    assert (right == 0).any(), "the activation does something"
    np.testing.assert_allclose(merged(x.astype(np.float32)), right, rtol=0, atol=1e-6)


MERGED: dict[str, tuple[Callable[[Any], Any], int]] = {  # how many convolutions are left
    "of 1 x 1": (joined(conv(3), conv(2)), 1),
    "of 3 x 3": (joined(conv(3, 3), conv(2, 3)), 1),
    "without an activation": (joined(conv(3, activation=None), conv(2, activation=None)), 1),
    "with the activation inside": (
        joined(layers.Conv2D(3, 1, activation="relu"), layers.Conv2D(2, 1, activation="relu")),
        1,
    ),
    "without a bias": (joined(conv(3, use_bias=False), conv(2, use_bias=False)), 1),
    "two pairs on one map": (joined(conv(3), conv(2), conv(3, 3), conv(2, 3)), 2),
    "in the middle of columns": (joined(lambda x: conv(5, 3)(conv(3)(x)), conv(2), lambda x: conv(6)(conv(4)(x))), 3),
    "one whose activation others read too": (joined(lambda x: split(conv(3)(x)), conv(2)), 1),
}


@pytest.mark.parametrize("kind", MERGED)
def test_convolutions_alike_on_one_map_become_one(kind: str) -> None:
    top, left = MERGED[kind]
    model = network(top)
    merged = merging.merge(model)
    assert len(convolutions(merged)) == left < len(convolutions(model))
    assert_same_outputs(merged, model)


def shared(x: Any) -> Any:
    layer = layers.Conv2D(3, 1)
    return joined(lambda y: layer(y), lambda y: layer(y * 2), conv(2, activation=None))(x)


def shown(x: Any) -> list[Any]:
    y, z = layers.Conv2D(3, 1)(x), layers.Conv2D(2, 1)(x)
    return [y, layers.Flatten()(layers.Concatenate()([layers.Activation("relu")(y), layers.Activation("relu")(z)]))]


APART: dict[str, Callable[[Any], Any]] = {
    "of other sizes": joined(conv(3), conv(3, 3)),
    "of other strides": lambda x: [conv(3, strides=1)(x), conv(3, strides=2)(x)],
    "of other padding": lambda x: [layers.Conv2D(3, 3)(x), layers.Conv2D(3, 3, padding="same")(x)],
    "of other dilation": joined(conv(3, 3), conv(3, 3, dilation_rate=2)),
    "of other activations": joined(conv(3, activation="relu"), conv(3, activation="tanh")),
    "one with a bias": joined(conv(3), conv(3, use_bias=False)),
    "one in half precision": joined(conv(3), conv(3, dtype="mixed_bfloat16")),
    "of groups": joined(conv(4, groups=2), conv(4, groups=2)),
    "on two maps": joined(conv(3), lambda x: conv(3)(x * 2)),
    "with a softmax inside": joined(
        layers.Conv2D(3, 1, activation="softmax"), layers.Conv2D(2, 1, activation="softmax")
    ),
    "one called twice": shared,
    "one that is an output": shown,
}


@pytest.mark.parametrize("kind", APART)
def test_what_is_not_alike_stays_apart(kind: str) -> None:
    model = network(APART[kind])
    assert len(convolutions(model)) >= 2
    assert merging.mergeable(model) == []
    assert merging.merge(model) is model


def test_a_softmax_behind_convolutions_is_not_merged_with_them() -> None:
    """It sums over the channels; the convolutions themselves are one."""
    model = network(joined(conv(3, activation="softmax"), conv(2, activation="softmax")))
    merged = merging.merge(model)
    assert len(convolutions(merged)) == 1
    assert_same_outputs(merged, model)


def test_merging_leaves_the_network_it_was_given_alone_and_keeps_the_names_of_its_maps() -> None:
    model = network(joined(conv(3), lambda x: conv(5, 3)(conv(2)(x))))
    x = np.random.default_rng(5).normal(size=(2, 5, 6, 4)).astype("float32")
    right, before = model(x).numpy(), model.get_weights()
    merged = merging.merge(model)
    for now, was in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, was)
    np.testing.assert_array_equal(model(x), right)
    maps = [layer.name for layer in model.layers if isinstance(layer, layers.Activation)]
    for name in maps:
        found, wanted = (keras.Model(each.input, each.get_layer(name).output)(x) for each in (merged, model))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_a_merged_network_survives_a_file_and_half_precision(tmp_path: Path) -> None:
    columns = joined(conv(3), conv(2))
    merged = merging.merge(network(lambda x: layers.Dense(2)(columns(x))))
    merged.save(tmp_path / "merged.keras")
    assert_same_outputs(keras.models.load_model(tmp_path / "merged.keras"), merged, 0)
    half = half_precision.in_bfloat16(network(lambda x: layers.Dense(2)(columns(x))))
    narrow = merging.merge(half)
    assert [layer.dtype_policy.name for layer in convolutions(narrow)] == ["bfloat16"]
    assert_same_outputs(narrow, half, 0.02)
