"""What training does to pictures: against Pillow and float64, and as functions of (seed, epoch, index) alone."""

import colorsys
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from app.datasets import loading
from app.datasets.dataset import Split
from app.images.preprocessing import Preprocessing
from app.pipeline import augmentation, input_pipeline, mixing, randaugment
from app.recipe import Augmentation, RandAugment, Recipe

Array = np.ndarray[Any, Any]

RNG = np.random.default_rng(5)
PICTURES = {
    "photograph": np.ascontiguousarray(sklearn.datasets.load_sample_images().images[1][100:221, 200:351]),
    "noise": RNG.integers(0, 256, (61, 43, 3), dtype=np.uint8),
    "one colour": np.full((9, 8, 3), (77, 0, 255), np.uint8),
    "three levels": RNG.integers(100, 103, (20, 21, 3), dtype=np.uint8),
    "five by seven": RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8),
}
CASES = [(pixels, strength) for pixels in PICTURES.values() for strength in (0.0, 0.3, -0.3, 0.9, -0.9, 1.0, -1.0)]


def keys(count: int, seed: int = 3) -> tf.Tensor:
    return tf.stack([tf.fill((count,), tf.constant(seed, tf.int64)), tf.range(count, dtype=tf.int64)], axis=1)


def of_each(function: Callable[[tf.Tensor], Any], inputs: Any) -> list[Any]:
    """The function's values in a pipeline, as NumPy arrays."""
    return list(tf.data.Dataset.from_tensor_slices(inputs).map(function, num_parallel_calls=2).as_numpy_iterator())


# ---- RandAugment


def enhanced(kind: Callable[[Image.Image], Any]) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, strength: kind(picture).enhance(1 + 0.9 * strength)


def transformed(
    coefficients: Callable[[Image.Image, float], tuple[float, ...]],
) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, strength: picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        coefficients(picture, strength),
        Image.Resampling.NEAREST,
        fillcolor=(128, 128, 128),
    )


# The fourteen of 1909.13719, section 3, with the ranges of 1805.09501, Table 6.
BY_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda picture, _: picture,
    "autocontrast": lambda picture, _: ImageOps.autocontrast(picture),
    "equalize": lambda picture, _: ImageOps.equalize(picture),
    "rotate": lambda picture, s: picture.rotate(30 * s, Image.Resampling.NEAREST, fillcolor=(128, 128, 128)),
    "solarize": lambda picture, s: ImageOps.solarize(picture, 256 * (1 - abs(s))),  # type: ignore[arg-type]
    "color": enhanced(ImageEnhance.Color),
    "posterize": lambda picture, s: ImageOps.posterize(picture, 8 - round(4 * abs(s))),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
    "shear_x": transformed(lambda picture, s: (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": transformed(lambda picture, s: (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": transformed(lambda picture, s: (1, 0, round(150 / 331 * s * picture.width), 0, 1, 0)),
    "translate_y": transformed(lambda picture, s: (1, 0, 0, 0, 1, round(150 / 331 * s * picture.height))),
}
OPERATIONS = {operation.__name__: operation for operation in randaugment.OPERATIONS}


def test_the_operations_are_the_fourteen_of_the_paper() -> None:
    assert len(randaugment.OPERATIONS) == 14
    assert set(OPERATIONS) == set(BY_PILLOW)


@pytest.mark.parametrize("name", BY_PILLOW)
def test_an_operation_gives_what_pillow_gives_eagerly_and_in_a_pipeline(name: str) -> None:
    # The pipeline sees no more than (height, width, 3) of unknown size.
    signature = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.float32))
    piped = tf.data.Dataset.from_generator(lambda: CASES, output_signature=signature).map(OPERATIONS[name])
    for (pixels, strength), inside in zip(CASES, piped.as_numpy_iterator(), strict=True):
        found = OPERATIONS[name](tf.constant(pixels), tf.constant(strength)).numpy()
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(inside, found)
        right = np.asarray(BY_PILLOW[name](Image.fromarray(pixels), strength))
        difference = np.abs(found.astype(int) - right).max(axis=2)
        if name == "rotate":
            # Between two pixels a point in float32 may fall to the other side than in fixed point.
            assert (difference > 0).sum() <= 2 + 0.002 * difference.size
        elif name in ("color", "contrast", "brightness", "sharpness"):
            # Pillow may blend in one rounding where this has two.
            assert difference.max() <= 1
            assert (difference > 0).mean() < 0.02
        else:
            np.testing.assert_array_equal(found, right)


def test_without_a_magnitude_nothing_but_the_histogram_changes() -> None:
    pixels = tf.constant(PICTURES["photograph"])
    changed = {
        name for name, operation in OPERATIONS.items() if (operation(pixels, tf.constant(0.0)) != pixels).numpy().any()
    }
    assert changed == {"autocontrast", "equalize"}


def test_every_operation_is_drawn_alike_in_both_directions_at_the_magnitude() -> None:
    pixels = tf.constant(PICTURES["photograph"][:40, :48])
    named: dict[bytes, set[tuple[str, int]]] = {}
    for name, operation in OPERATIONS.items():
        for sign in (1, -1):
            found = operation(pixels, tf.constant(0.7 * sign)).numpy().tobytes()
            named.setdefault(found, set()).add((name, sign))
    assert len(named) == 14 + 9, "some operations cannot be told apart"
    options = RandAugment(layers=1, magnitude=7)
    found = of_each(lambda key: randaugment.randaugment(pixels, key, options), keys(1400))
    counts = Counter(min(named[image.tobytes()]) for image in found)
    both = Counter(name for (name, _), count in counts.items() for _ in range(count))
    assert set(both) == set(OPERATIONS)
    assert all(abs(count - 100) < 5 * (100 * 13 / 14) ** 0.5 for count in both.values()), both
    signed = [(counts[name, 1], counts[name, -1]) for name in OPERATIONS if counts[name, 1] and counts[name, -1]]
    assert len(signed) == 9
    ahead, back = np.sum(signed, axis=0)
    assert abs(ahead - back) < 5 * (ahead + back) ** 0.5


def test_layers_are_applied_after_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = tf.constant(PICTURES["noise"])
    chosen = (randaugment.rotate, randaugment.solarize, randaugment.posterize)
    monkeypatch.setattr(randaugment, "OPERATIONS", chosen)
    ways = {
        second(first(pixels, tf.constant(0.5 * a)), tf.constant(0.5 * b)).numpy().tobytes()
        for first in chosen
        for second in chosen
        for a in (1, -1)
        for b in (1, -1)
    }
    options = RandAugment(layers=2, magnitude=5)
    found = {image.tobytes() for image in of_each(lambda key: randaugment.randaugment(pixels, key, options), keys(400))}
    assert found == ways


def test_randaugment_sees_the_resized_picture_in_whole_levels() -> None:
    pixels = PICTURES["photograph"]
    preprocessing = Preprocessing(height=30, width=40, colour="BGR", mean=(1.0, 2.0, 3.0), deviation=(2.0, 2.0, 4.0))
    options = Augmentation(randaugment=RandAugment(layers=1))
    levels = np.rint(preprocessing.resized(pixels)).astype(np.uint8)
    possible = {
        preprocessing.scaled(tf.cast(operation(tf.constant(levels), tf.constant(0.9 * sign)), tf.float32))
        .numpy()
        .tobytes()
        for operation in randaugment.OPERATIONS
        for sign in (1, -1)
    }
    found = of_each(lambda key: augmentation.augmented(pixels, key, options, preprocessing), keys(30))
    assert {image.shape for image in found} == {(30, 40, 3)}
    assert {image.tobytes() for image in found} <= possible


# ---- colours


def in_float64(pixels: Array, order: tuple[str, ...], amounts: dict[str, float]) -> Array:
    """Pixels of 0 to 255 with these changes after each other, through HSV as the standard library has it."""
    x = pixels / 255
    for name in order:
        amount = amounts[name]
        if name == "brightness":
            x = x + amount
        elif name == "contrast":
            mean = x.mean(axis=(0, 1))
            x = (x - mean) * amount + mean
        else:
            hsv = [colorsys.rgb_to_hsv(*rgb) for rgb in x.reshape(-1, 3)]
            turned = [((h + amount) % 1, s, v) if name == "hue" else (h, min(s * amount, 1), v) for h, s, v in hsv]
            x = np.reshape([colorsys.hsv_to_rgb(*colour) for colour in turned], x.shape)
    return np.asarray(np.clip(x, 0, 1) * 255)


@pytest.mark.parametrize("kind", ["fast", "full"])
def test_colours_change_as_in_float64_in_every_order(kind: Any) -> None:
    # Orders differ by what saturation cuts off: dark values beside others that stay above 0, where hue has a meaning.
    pixels = np.random.default_rng(1).integers(5, 200, (6, 7, 3)).astype(np.float32)
    pixels[:, :, 1] = np.maximum(pixels[:, :, 1], 120)
    orders = augmentation.ORDERS[kind]
    seen = set()
    for key in keys(24):
        _, *draws = tf.unstack(tf.random.split(key, 5))
        ranges = {"brightness": (-32 / 255, 32 / 255), "saturation": (0.5, 1.5), "hue": (-0.2, 0.2)}
        ranges["contrast"] = (0.5, 1.5)
        amounts = {
            name: float(tf.random.stateless_uniform((), draw, low, high))
            for (name, (low, high)), draw in zip(ranges.items(), draws, strict=True)
        }
        found = augmentation._distorted_colours(tf.constant(pixels), key, orders).numpy()
        right = [order for order in orders if np.abs(found - in_float64(pixels, order, amounts)).max() < 0.01]
        assert right
        if len(right) == 1:
            seen.update(right)
    assert seen == set(orders)
    # TF-slim's: two of the cheap changes, or four of all.
    assert {frozenset(order) for order in orders} == {frozenset(list(ranges)[: {"fast": 2, "full": 4}[kind]])}
    assert len(set(orders)) == {"fast": 2, "full": 4}[kind]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_changed_colours_stay_in_range(level: int) -> None:
    pixels = np.full((4, 4, 3), level, np.uint8)
    preprocessing = Preprocessing(height=4, width=4)
    options = Augmentation(colour="full")
    found = of_each(lambda key: augmentation.augmented(pixels, key, options, preprocessing), keys(500))
    assert np.abs(found).max() <= 1 + 1e-6
    # One grey has no colour and no contrast: only brightness moves it, by up to 32 levels to both sides.
    moved = np.array([(image[0, 0, 0] + 1) * 127.5 - level for image in found])
    if level == 128:
        assert -32.01 <= moved.min() < -31
        assert 31 < moved.max() <= 32.01
        assert abs(moved.mean()) < 5 * 32 / 3**0.5 / 500**0.5
    else:
        assert 200 < (np.abs(moved) < 1e-4).sum() < 300, "half of the changes are clipped"


# ---- MixUp and CutMix


def coded(count: int, height: int = 12, width: int = 20) -> tuple[tf.Tensor, tf.Tensor]:
    """Images that are their index all over, and one-hot labels that say the same."""
    index = tf.range(count, dtype=tf.float32)
    return tf.tile(index[:, None, None, None], (1, height, width, 3)), tf.eye(count)


@pytest.mark.parametrize(
    ("alpha", "distribution"),
    [
        (0.5, lambda x: 2 / np.pi * np.arcsin(np.sqrt(x))),
        (1.0, lambda x: x),
        (2.0, lambda x: 3 * x**2 - 2 * x**3),
    ],
)
def test_shares_have_the_beta_distribution(alpha: float, distribution: Callable[[Array], Array]) -> None:
    draws = np.sort(of_each(lambda key: mixing._beta(key, alpha), keys(2000))).astype(np.float64)
    assert 0 <= draws[0] <= draws[-1] <= 1
    # Kolmogorov and Smirnov: above 1.95 in one of a thousand.
    assert np.abs(distribution(draws) - (np.arange(2000) + 0.5) / 2000).max() * 2000**0.5 < 1.95


def test_the_smallest_alpha_mixes_nothing_and_breaks_nothing() -> None:
    draws = np.array(of_each(lambda key: mixing._beta(key, 1e-5), keys(200)))
    assert set(draws.round(3)) == {0.0, 1.0}


def test_mixup_mixes_images_and_labels_in_the_same_shares() -> None:
    rng = np.random.default_rng(4)
    images = rng.uniform(-1, 1, (5, 8, 9, 3)).astype(np.float32)
    labels = np.eye(7, dtype=np.float32)[[0, 3, 3, 6, 1]]
    shares = set()
    for key in keys(20):
        found, mixed_labels = (x.numpy() for x in mixing.mixup(tf.constant(images), tf.constant(labels), key, 1.0))
        kept = mixed_labels[0, 0].astype(np.float64)
        shares.add(float(kept))
        for i in range(5):
            np.testing.assert_allclose(found[i], kept * images[i] + (1 - kept) * images[(i + 1) % 5], atol=1e-6)
            right = kept * labels[i] + (1 - kept) * labels[(i + 1) % 5]
            np.testing.assert_allclose(mixed_labels[i], right, atol=1e-7)
        assert (mixed_labels.sum(axis=1) == 1).all()
    assert len(shares) == 20


def test_cutmix_labels_are_the_shares_of_the_pixels() -> None:
    batch = coded(4)
    shares, touched = [], Counter[str]()
    for images, labels in of_each(lambda key: mixing.cutmix(*batch, key, 1.0), keys(800)):
        window = images[0, :, :, 0] == 1
        shares.append(window.mean())
        for i in range(4):
            np.testing.assert_array_equal(images[i], np.where(window, (i + 1) % 4, i)[:, :, None] * np.ones(3))
            assert labels[i, i] == np.float32(1) - np.float32(window.sum()) / np.float32(12 * 20)
            assert labels[i, (i + 1) % 4] == np.float32(1) - labels[i, i]
        assert (labels.sum(axis=1) == 1).all()
        rows, columns = window.any(axis=1), window.any(axis=0)
        assert window.sum() == rows.sum() * columns.sum(), "not a rectangle"
        if window.any():
            borders = {"top": rows[0], "bottom": rows[-1], "left": columns[0], "right": columns[-1]}
            touched.update(name for name, at in borders.items() if at)
            if not any(borders.values()):
                touched["none"] += 1
                # The picture's shape, to the pixel that halves leave out on both sides.
                assert abs(rows.sum() / 12 - columns.sum() / 20) < 2 / 12
    assert min(touched[name] for name in ("top", "bottom", "left", "right", "none")) > 60, touched
    # The same experiment with a continuous window in float64.
    rng = np.random.default_rng(0)
    half = np.sqrt(rng.uniform(size=(200_000, 1))) / 2
    centre = rng.uniform(size=(200_000, 2))
    area = (np.minimum(centre + half, 1) - np.maximum(centre - half, 0)).prod(axis=1)
    assert np.mean(shares) == pytest.approx(area.mean(), abs=5 * area.std() / 800**0.5 + 0.06)


def test_with_both_kinds_each_batch_has_one() -> None:
    options = Augmentation(mixup=1.0, cutmix=1.0)
    kinds: Counter[str] = Counter()
    for images, labels in of_each(lambda key: mixing.mixed(*coded(3), key, options), keys(400)):
        blended = np.unique(images[0]).size == 1 and images[0, 0, 0, 0] not in (0, 1)
        kinds["mixup" if blended else "cutmix"] += 1
        assert images[0].mean() == pytest.approx(labels[0, 1], abs=1e-5)
    assert 150 <= kinds["mixup"] <= 250, kinds


def test_a_batch_of_one_image_stays_that_image() -> None:
    images, labels = tf.constant(RNG.uniform(-1, 1, (1, 6, 6, 3)), tf.float32), tf.constant([[0.0, 1.0]])
    for key in keys(10):
        for mix in (mixing.mixup, mixing.cutmix):
            found = mix(images, labels, key, 1.0)
            np.testing.assert_allclose(found[0], images, atol=1e-6)
            np.testing.assert_array_equal(found[1], labels)


# ---- batches of training


def batches(split: Split, options: Augmentation, first_step: int, count: int, seed: int = 0) -> list[Any]:
    wanted = Recipe(batch_size=16, seed=seed, augmentation=options)
    made = input_pipeline.training_batches(split, Preprocessing(height=24, width=31), wanted, 3, first_step)
    return list(made.take(count).as_numpy_iterator())


def digest(pictures: str) -> str:
    """Of six batches with everything at once."""
    options = Augmentation(
        flip=True, crop_area=0.3, colour="full", randaugment=RandAugment(layers=1), mixup=0.2, cutmix=1.0
    )
    made = batches(loading.load(pictures).train, options, 3, 6)
    return hashlib.sha256(b"".join(part.tobytes() for batch in made for part in batch)).hexdigest()


@pytest.fixture(scope="module")
def train(pictures: Path) -> Split:
    return loading.load(str(pictures)).train


@pytest.mark.slow
def test_another_process_with_other_threads_makes_the_same_bytes(
    pictures: Path, fresh_process: Callable[..., str]
) -> None:
    script = """
import sys

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(5)
from tests.pipeline.test_augmentation import digest

print(digest(sys.argv[1]))
"""
    assert fresh_process(script, pictures).split()[-1] == digest(str(pictures))


def test_a_run_that_goes_on_mixes_as_it_would_have(train: Split) -> None:
    steps = input_pipeline.steps_per_epoch(train, Recipe(batch_size=16))
    options = Augmentation(mixup=0.2, cutmix=1.0)
    whole, rest = batches(train, options, 0, 2 * steps), batches(train, options, 2, 2 * steps - 2)
    assert steps > 2
    for (images, labels), (right, right_labels) in zip(rest, whole[2:], strict=True):
        np.testing.assert_array_equal(images, right)
        np.testing.assert_array_equal(labels, right_labels)
    others = batches(train, options, 0, steps, seed=1)
    assert not {labels.tobytes() for _, labels in others} & {labels.tobytes() for _, labels in whole}


@pytest.mark.parametrize(("wanted", "steps"), [(0, 4), (4, 4), (5, 8), (12, 12)])
def test_few_images_are_gone_through_several_times_in_an_epoch(wanted: int, steps: int, train: Split) -> None:
    """75 images in batches of 16: four steps are a pass."""
    assert train.count == 75
    assert input_pipeline.steps_per_epoch(train, Recipe(batch_size=16, epoch_steps=wanted)) == steps


def test_the_second_pass_of_an_epoch_sees_the_images_in_another_order_and_augmented_otherwise(train: Split) -> None:
    """As if it were an epoch of its own."""
    options = Augmentation(flip=True, crop_area=0.5)
    wanted = Recipe(batch_size=16, augmentation=options, epoch_steps=8)
    made = input_pipeline.training_batches(train, Preprocessing(height=24, width=31), wanted, 3, 0)
    found = list(made.take(8).as_numpy_iterator())
    for (images, _), (right, _) in zip(found, batches(train, options, 0, 8), strict=True):
        np.testing.assert_array_equal(images, right)
    seen = {image.tobytes() for images, _ in found for image in images}
    assert len(seen) > 120, "128 pictures, of 75"


def test_what_is_mixed_are_the_augmented_images(train: Split) -> None:
    plain = batches(train, Augmentation(flip=True, crop_area=0.3), 1, 5)
    found = batches(train, Augmentation(flip=True, crop_area=0.3, mixup=1.0), 1, 5)
    shares = set()
    for (images, labels), (mixed_images, mixed_labels) in zip(plain, found, strict=True):
        following = np.roll(labels, -1, axis=0)
        place = int(np.argmax((labels != following).any(axis=1)))
        kept = mixed_labels[place][labels[place] == 1].item()
        shares.add(kept)
        np.testing.assert_allclose(mixed_labels, kept * labels + (1 - kept) * following, atol=1e-6)
        np.testing.assert_allclose(mixed_images, kept * images + (1 - kept) * np.roll(images, -1, axis=0), atol=1e-5)
        np.testing.assert_array_equal(mixed_labels.sum(axis=1), 1)
    assert len(shares) == 5, "batches are mixed alike"


@pytest.mark.parametrize("options", [{"colour": "fast"}, {"colour": "full"}, {"randaugment": {"layers": 1}}], ids=str)
def test_the_key_alone_decides_and_another_decides_otherwise(options: dict[str, Any]) -> None:
    pixels, preprocessing = PICTURES["photograph"], Preprocessing(height=33, width=44)
    wanted = Augmentation.model_validate(options)
    made = of_each(
        lambda key: augmentation.augmented(pixels, key, wanted, preprocessing), tf.concat([keys(40)] * 2, axis=0)
    )
    first, again = ([image.tobytes() for image in part] for part in (made[:40], made[40:]))
    assert first == again
    # One layer of RandAugment has 23 ways to change a picture.
    assert len(set(first)) == 40 if "colour" in options else 12 < len(set(first)) <= 23
