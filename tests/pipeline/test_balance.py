"""Classes drawn equally often, and weights for those that are not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.utils.class_weight
import tensorflow as tf

from app.datasets import loading
from app.datasets.prepared import records
from app.images.preprocessing import Preprocessing
from app.pipeline import balance
from app.pipeline.balance import EqualClasses
from app.pipeline.input_pipeline import Share, training_batches
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Augmentation, Recipe
from tests.makers.image_folders import fill, order


@dataclass(frozen=True)
class Numbers:
    """A split whose images are the numbers of their places."""

    labels: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.labels)

    def in_order(self) -> tf.data.Dataset:
        return self.drawn(tf.data.Dataset.range(self.count), self.count)

    def drawn(self, order: tf.data.Dataset, count: Any) -> tf.data.Dataset:
        labels = tf.constant(self.labels, tf.int64)
        return order.map(lambda i: (tf.strings.as_string(i), labels[i]))

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        raise NotImplementedError

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        raise NotImplementedError


LABELS = tuple(np.random.default_rng(0).permutation([0] * 50 + [1] * 7 + [3] * 4).tolist())  # of 2 there are none


def drawn(labels: tuple[int, ...], epochs: int, seed: int = 5) -> list[list[int]]:
    split = EqualClasses(Numbers(labels), np.array(labels))
    return [[int(one) for one in order(split, seed, epoch)] for epoch in range(epochs)]


def test_every_class_is_drawn_equally_often_in_every_part_of_an_epoch() -> None:
    for epoch in drawn(LABELS, 6):
        assert len(epoch) == len(LABELS) == 61
        for end in range(1, 62):
            counts = Counter(LABELS[place] for place in epoch[:end])
            assert max(counts.values()) - min(counts[label] for label in (0, 1, 3)) <= 1
    first, other = drawn(LABELS, 2)
    assert first != other
    assert drawn(LABELS, 1, seed=6)[0] != first
    classes = [[LABELS[place] for place in epoch] for epoch in (first, other)]
    assert classes[0] != classes[1], "an epoch is no fixed row of classes"
    assert len({tuple(classes[0][i : i + 3]) for i in range(0, 60, 3)}) > 3


def test_a_class_gives_all_its_images_before_one_comes_again() -> None:
    labels = LABELS[:-1]  # 60: no round is cut off
    counts = Counter(place for epoch in drawn(labels, 7) for place in epoch)
    for label in (0, 1, 3):
        times = [counts[place] for place, one in enumerate(labels) if one == label]
        assert sum(times) == 7 * 20
        assert max(times) - min(times) <= 1, label
    small = [place for epoch in drawn(labels, 3) for place in epoch if labels[place] == 3]
    size = labels.count(3)
    passes = [tuple(small[i : i + size]) for i in range(0, 12 * size, size)]
    assert all(set(one) == set(passes[0]) for one in passes)
    assert len(set(passes)) > 5, "in a new order each time"


def test_what_is_skipped_is_the_beginning_of_the_same_epoch() -> None:
    split = EqualClasses(Numbers(LABELS), np.array(LABELS))
    whole = order(split, 3, 4)
    assert [order(split, 3, 4, skipped) for skipped in (1, 30, 60)] == [whole[1:], whole[30:], whole[60:]]


def unequal(root: Path) -> Path:
    for place, (name, count) in enumerate({"ant": 40, "bee": 12}.items()):
        fill(root / "train" / name, range(place * 100, place * 100 + count))
        fill(root / "test" / name, range(place * 100 + 50, place * 100 + 55))
        fill(root / "validation" / name, range(place * 100 + 60, place * 100 + 65))
    return root


def test_files_and_records_are_drawn_in_one_order(tmp_path: Path) -> None:
    recipe = Recipe(balance="sample")
    files = loading.load(str(unequal(tmp_path / "files")))
    records.write(files, tmp_path / "records", unwatched)
    written = loading.load(f"records:{tmp_path / 'records'}")
    found = [order(balance.of(data, recipe).train, 2, 1) for data in (files, written)]
    assert found[0] == found[1]
    labels = dict(files.train.in_order().as_numpy_iterator())
    assert Counter(int(labels[one]) for one in found[0]) == {0: 26, 1: 26}
    assert balance.of(files, Recipe()) is files


def test_batches_of_equal_classes_are_the_same_in_shares_and_after_going_on(tmp_path: Path) -> None:
    mixing = Augmentation(flip=True, crop_area=0.5, mixup=0.2)
    recipe = Recipe(balance="sample", batch_size=8, seed=5, augmentation=mixing)
    data = balance.of(loading.load(str(unequal(tmp_path))), recipe)
    small = Preprocessing(height=9, width=9)

    def batches(first: int = 0, share: Share | None = None) -> list[Any]:
        found = training_batches(data.train, small, recipe, 2, first, share or Share())
        return list(found.take(9 - first).as_numpy_iterator())

    whole = batches()
    for mine, right in zip(batches(4), whole[4:], strict=True):
        np.testing.assert_array_equal(mine[0], right[0])
    for batch, *halves in zip(whole, batches(0, Share(0, 2)), batches(0, Share(1, 2)), strict=True):
        for part in (0, 1):
            np.testing.assert_array_equal(np.concatenate([half[part] for half in halves]), batch[part])
        np.testing.assert_allclose(batch[1].sum(axis=0), [4, 4], atol=1e-5)


def test_data_without_random_access_is_refused_with_the_way_out() -> None:
    data = loading.load("digits")
    with pytest.raises(UserError, match=r"`python -m app records digits --to FOLDER` writes a copy that does; or take"):
        balance.check(data, Recipe(balance="sample"))
    balance.check(data, Recipe(balance="weights"))
    balance.check(replace(data, train=Numbers(LABELS)), Recipe(balance="sample"))
    assert len(balance.labels_of(data.train)) == data.train.count
    assert {*balance.labels_of(data.train).tolist()} == {*range(10)}


@pytest.mark.parametrize("way", ["weights", "sample"])
def test_several_labels_a_picture_are_not_balanced(way: Any) -> None:
    data = replace(loading.load("digits"), label_sets=((0,), (0, 1)))
    with pytest.raises(UserError, match=f"balance={way} is for one label a picture, and in digits some have several"):
        balance.check(data, Recipe(balance=way))


def test_weights_are_those_that_scikit_learn_calls_balanced() -> None:
    right = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=LABELS)
    found = balance.class_weights(np.array(LABELS), 5)
    assert found == pytest.approx([right[0], right[1], 1.0, right[2], 1.0])
    assert np.mean([found[label] for label in LABELS]) == pytest.approx(1)
