"""The recipe keys `image.aspect` and `image.crop`: what a run's pictures become, and what training cuts out of them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app import recipe
from app.datasets import loading
from app.images.preprocessing import Preprocessing
from app.pipeline import augmentation
from app.recipe import Augmentation, Image, Recipe
from app.run_folder.folder import Run
from app.training import beginning


def prepared(pictures: Path, wanted: Recipe, start: Run | None = None, **found: object) -> tuple[str, float]:
    source = start.read_classifier() if start else None
    if source:
        source = source.model_copy(update={"preprocessing": source.preprocessing.model_copy(update=found)})
    there = beginning.describe(loading.load(str(pictures)), "lenet_bn", wanted, start.folder if start else None, source)
    return there.preprocessing.aspect, there.preprocessing.crop


def test_a_recipe_says_what_pictures_become(pictures: Path, finished_run: Run) -> None:
    assert prepared(pictures, recipe.load("default")) == ("squash", 1)
    assert prepared(pictures, recipe.load("photos")) == ("keep", 0.875)
    assert prepared(pictures, recipe.load("photos", ("image.aspect=pad", "image.crop=0.9"))) == ("pad", 0.9)
    # With weights come the pictures that they know, but for what is set.
    taken: list[tuple[list[str], tuple[str, float]]] = [
        ([], ("keep", 0.6)),
        (["image.aspect=pad"], ("pad", 0.6)),
        (["image.crop=1"], ("keep", 1.0)),
    ]
    for settings, right in taken:
        for name in ("photos", "default"):
            wanted = recipe.load(name, settings, from_weights=True)
            assert prepared(pictures, wanted, finished_run, aspect="keep", crop=0.6) == right


def test_a_recipe_of_before_is_read_as_it_was_meant() -> None:
    old = recipe.load("default").model_dump()
    del old["image"]
    assert Recipe.model_validate(old) == Recipe() == Recipe(image=Image(aspect=None, crop=None))


def test_recipes_for_photographs_keep_the_aspect() -> None:
    for name in (
        *("photos", "modern", "fine_tuning", "googlenet", "batch_norm_x5", "batch_norm_x30"),
        *("inception_v3", "inception_v4"),
    ):
        assert recipe.load(name).image == Image(aspect="keep", crop=0.875), name


@pytest.mark.parametrize("sides", [(200, 240), (240, 200), (60, 400)])
def test_where_the_aspect_is_kept_a_random_crop_has_about_the_shape_of_the_network(sides: tuple[int, int]) -> None:
    pixels = np.zeros((*sides, 3), np.uint8)
    keep = Preprocessing(height=60, width=30, aspect="keep")
    shape = tf.function(lambda key: tf.shape(augmentation.random_window(key, 0.1, keep).of(pixels)))
    areas, shapes = [], []
    for i in range(300):
        height, width, _ = shape(tf.constant([3, i], tf.int64)).numpy()
        areas.append(height * width / (sides[0] * sides[1]))
        shapes.append(width / height)
    largest = min(1, (4 / 3) * 0.5 * sides[0] / sides[1], sides[1] / sides[0] / (0.75 * 0.5))
    assert max(areas) <= largest + 0.01
    assert max(areas) >= 0.8 * largest, "up to the largest of the shape that there is"
    if largest > 0.5:
        assert min(areas) >= 0.1 - 0.02
    rounding = 0.03
    assert 0.75 * 0.5 - rounding <= min(shapes) <= 0.75 * 0.5 + 0.04
    assert 4 / 3 * 0.5 - 0.04 <= max(shapes) <= 4 / 3 * 0.5 + rounding


@pytest.mark.parametrize("aspect", ["squash", "keep", "pad"])
def test_a_random_crop_takes_the_place_of_the_evaluated_one(aspect: str) -> None:
    preprocessing = Preprocessing.model_validate({"height": 20, "width": 20, "aspect": aspect, "crop": 0.5})
    window = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    key = tf.constant([0, 1], tf.int64)
    found = augmentation.augmented(window, key, Augmentation(crop_area=0.5), preprocessing)
    right = Preprocessing(height=20, width=20, aspect="pad" if aspect == "pad" else "squash")(window)
    np.testing.assert_array_equal(found, right)
    evaluated = augmentation.augmented(window, key, Augmentation(), preprocessing)
    np.testing.assert_array_equal(evaluated, preprocessing(window))
