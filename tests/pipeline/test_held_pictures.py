"""Pictures in memory are the pictures that decoding gives, and only those that fit."""

import numpy as np
import pytest
import tensorflow as tf

from app.images.formats.window import Window
from app.images.preprocessing import Preprocessing
from app.pipeline import held_pictures
from app.pipeline.held_pictures import HeldPictures
from tests.makers.image_files import FILES, SMALL, encoded

PREPROCESSING = Preprocessing(height=40, width=40)
WINDOW = Window(tf.constant([0.5, 0.7]), tf.constant([0.3, 0.9]))
CONTENTS = [
    FILES[kind] for kind in ("JPEG 4:2:0", "PNG RGBA", "WebP, orientation 6", "JPEG, orientation 7", "JPEG larger")
]


def passed_twice(held: HeldPictures) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Whole pictures and windows, of a pipeline that shows every picture twice."""
    pictures = tf.data.Dataset.from_tensor_slices(CONTENTS).repeat(2)
    return list(pictures.map(lambda content: (held.decode(content), held.decode_window(content, WINDOW))))


def test_held_pictures_are_what_decoding_gives() -> None:
    held = HeldPictures(len(CONTENTS), PREPROCESSING)
    found = passed_twice(held)
    assert held.table.size() == len(CONTENTS)
    for (whole, window), content in zip(found, CONTENTS * 2, strict=True):
        right = PREPROCESSING.decode(content)
        np.testing.assert_array_equal(whole, right)
        np.testing.assert_array_equal(window, WINDOW.of(right))


def test_a_held_picture_is_not_decoded_again() -> None:
    held = HeldPictures(1, PREPROCESSING)
    content = encoded(SMALL, "PNG")
    held.decode(tf.constant(content))
    (key,), (pixels,) = (part.numpy() for part in held.table.export())
    held.table.insert(key, tf.io.serialize_tensor(255 - tf.io.parse_tensor(pixels, tf.uint8)))
    np.testing.assert_array_equal(held.decode(tf.constant(content)), 255 - np.asarray(SMALL))


def test_pictures_that_all_fit_can_be_decoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    right = [PREPROCESSING.decode(content) for content in CONTENTS * 2]
    held = HeldPictures(len(CONTENTS), PREPROCESSING)
    held.fill(tf.data.Dataset.from_tensor_slices((CONTENTS, range(len(CONTENTS)))))
    monkeypatch.delattr(Preprocessing, "decode")
    monkeypatch.delattr(Preprocessing, "decode_window")
    for (whole, window), pixels in zip(passed_twice(held), right, strict=True):
        np.testing.assert_array_equal(whole, pixels)
        np.testing.assert_array_equal(window, WINDOW.of(pixels))


@pytest.mark.parametrize("other", [FILES["JPEG larger"], FILES["JPEG 4:2:0"][:100], b""], ids=["large", "cut", "empty"])
def test_none_is_decoded_ahead_where_one_may_not_fit(other: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_pictures, "MEMORY", 2 * 61 * 43 * 3)
    held = HeldPictures(2, PREPROCESSING)
    held.fill(tf.data.Dataset.from_tensor_slices(([encoded(SMALL, "PNG"), other], [0, 1])))
    assert not held.filled
    assert held.table.size() == 0


def test_what_does_not_fit_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_pictures, "MEMORY", len(CONTENTS) * 61 * 43 * 3)
    held = HeldPictures(len(CONTENTS), PREPROCESSING)
    for (whole, window), content in zip(passed_twice(held), CONTENTS * 2, strict=True):
        np.testing.assert_array_equal(whole, PREPROCESSING.decode(content))
        np.testing.assert_array_equal(window, PREPROCESSING.decode_window(content, WINDOW))
    assert held.table.size() == len(CONTENTS) - 1, "all but the larger one"
