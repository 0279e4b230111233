"""Which layer explains an answer, which columns a map is made of, and what is said about layers that do not exist."""

import keras
import pytest
from keras import layers

from app.networks import feature_maps
from app.program.errors import UserError
from models import NETWORKS

# By hand from the tables at the top of models/*.py: the last row whose grid is 7 x 7 or more, at this side.
LAST = {
    ("lenet_bn", 28): "stem_3",
    ("googlenet", 224): "inception_5b",
    ("inception_v1", 224): "inception_5b",
    ("bn_inception", 224): "inception_5b",
    ("bn_inception", 64): "inception_3b",
    ("bn_inception", 128): "inception_4d",
    ("inception_v2", 224): "inception_5b",
    ("inception_v3", 299): "inception_c_2",
    ("inception_v4", 299): "inception_c_3",
    ("inception_resnet_v1", 299): "inception_resnet_c_6",
    ("inception_resnet_v2", 299): "final",
    ("inception_resnet_v2_paper", 299): "inception_resnet_c_5",
    ("resnet18", 224): "residual_5_2",
    ("resnet18", 64): "residual_3_2",
    ("densenet121", 224): "final",
    ("resnet18_d2l", 96): "residual_3_2",
    ("densenet_d2l", 96): "transition_2_relu",
}
QUICK = ("lenet_bn", "bn_inception", "resnet18_d2l")


@pytest.mark.parametrize(
    ("network", "side"),
    [row if row[0] in QUICK else pytest.param(*row, marks=pytest.mark.slow) for row in LAST],
    ids=str,
)
def test_the_last_stage_is_the_last_row_of_the_papers_table_with_enough_grid(network: str, side: int) -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS[network](input_shape=(side, side, 3), width=0.05, classes=3)
    found = feature_maps.last_stage(model)
    assert found.name == LAST[network, side]
    assert min(found.output.shape[1:3]) >= feature_maps.GRID


def test_every_network_has_its_row() -> None:
    assert {network for network, _ in LAST} == set(NETWORKS)


def test_the_branches_of_a_module_are_its_columns() -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS["bn_inception"](input_shape=(64, 64, 3), classes=3)
    assert feature_maps.branches(model.get_layer("inception_3a")) == {  # Figure 5 of 1502.03167
        "inception_3a_b0": slice(0, 64),
        "inception_3a_b1": slice(64, 128),
        "inception_3a_b2": slice(128, 224),
        "inception_3a_b3": slice(224, 256),
    }
    assert feature_maps.branches(model.get_layer("stem_1")) == {"stem_1": slice(0, 64)}


def test_a_layer_that_does_not_exist_is_answered_with_the_nearest() -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS["bn_inception"](input_shape=(64, 64, 3), width=0.05, classes=3)
    assert feature_maps.named(model, "inception_3a") is model.get_layer("inception_3a")
    with pytest.raises(UserError, match=r"no layer 'inception3a' with a map; the nearest names are inception_3a, "):
        feature_maps.named(model, "inception3a")
    # These exist, but have no map, or are the image itself.
    for name in ("average_pool", "predictions", "image"):
        with pytest.raises(UserError, match=f"no layer '{name}' with a map"):
            feature_maps.named(model, name)


def test_a_network_without_convolutions_is_answered_in_a_sentence() -> None:
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Rescaling(2.0)(image))
    model = keras.Model(image, layers.Dense(3)(x), name="perceptron")
    for look in (feature_maps.last_stage, lambda model: feature_maps.named(model, "rescaling")):
        with pytest.raises(UserError, match="The network perceptron has no convolutions"):
            look(model)
