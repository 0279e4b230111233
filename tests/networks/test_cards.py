"""The cards of the family: data, held against the networks that they describe."""

import math

import pytest

from app.networks import counting
from app.networks.cards import CARDS
from models import NETWORKS


def test_every_network_has_a_card() -> None:
    assert list(CARDS) == list(NETWORKS)


@pytest.mark.parametrize("name", CARDS)
def test_the_counts_of_a_card_are_those_of_its_network(name: str) -> None:
    model, card = counting.published(name), CARDS[name]
    assert card.parameters == model.count_params()
    assert card.trainable == sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert card.multiply_adds == counting.multiply_adds(model)
