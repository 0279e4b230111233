"""Whatever is shown of a picture is what the network saw: upright, on white, in its own greys."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from app.datasets.files.image_files import FileSplit
from app.images import view
from app.images.preprocessing import Preprocessing
from app.inside import dreaming
from app.inside.survey import survey
from tests.makers.image_files import FILES, SMALL, by_pillow, encoded

LEVELS = np.asarray(SMALL.convert("L")).astype(np.uint16)
SHOWN = {
    "turned": FILES["JPEG, orientation 6"],
    "transparent": FILES["PNG RGBA"],
    "16 bits": encoded(Image.fromarray(LEVELS * 256 + 77), "PNG"),
}


@pytest.mark.parametrize("kind", SHOWN)
def test_explanations_activations_dreams_and_patches_show_what_the_network_saw(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    file.write_bytes(SHOWN[kind])
    truth = by_pillow(SHOWN[kind])
    height, width = truth.shape[:2]
    if kind == "turned":
        assert height > width
    elif kind == "transparent":
        assert truth.mean() > np.asarray(Image.open(file).convert("RGB")).mean() + 30
    else:
        assert abs(truth.mean() - LEVELS.mean()) < 1
    preprocessing = Preprocessing(height=height, width=width)
    np.testing.assert_array_equal(view.at_its_own_size(file, preprocessing), truth)
    np.testing.assert_array_equal(view.at_its_own_size(file, Preprocessing(height=7, width=9)), truth)
    seen = view.read(file, preprocessing)
    np.testing.assert_array_equal(seen.picture, truth)
    np.testing.assert_allclose(seen.image, truth / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(dreaming.read(file), truth)
    image = keras.Input((height, width, 3))
    layer = keras.layers.Conv2D(1, 1, kernel_initializer="ones", name="sum")
    model = keras.Model(image, layer(image))
    found: Any = survey(model, layer, FileSplit((str(file),), (0,)), preprocessing, (0,))
    (patch,) = found.patches[0]
    brightest = np.unravel_index(truth.sum(axis=-1, dtype=int).argmax(), (height, width))
    np.testing.assert_array_equal(patch.pixels, truth[brightest][np.newaxis, np.newaxis])
