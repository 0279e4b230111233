"""The pictures on a run's page are those that the network saw."""

import base64
import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import evaluation
from app.datasets.files.image_files import FileSplit
from app.images.preprocessing import Preprocessing
from app.recipe import Recipe
from app.reports import run_report
from app.run_folder.classifier import Classifier, DataRecord
from app.run_folder.folder import Run
from tests.makers.image_files import FILES, SMALL, by_pillow, encoded, exif

Array = np.ndarray[Any, Any]

PREPROCESSING = Preprocessing(height=32, width=32)
HISTORY = "epoch,loss,val_loss,accuracy,val_accuracy,seconds,images_per_second\n1,2,1,0.5,0.5,3,9\n"
LEVELS = np.asarray(SMALL.convert("L")).astype(np.uint16)
LARGE = SMALL.resize((610, 430))
FILES_SHOWN = {
    "JPEG, orientation 6": FILES["JPEG, orientation 6"],
    "PNG RGBA": FILES["PNG RGBA"],
    "PNG of 16 bits": encoded(Image.fromarray(LEVELS * 256 + 77), "PNG"),
    "JPEG CMYK": FILES["JPEG CMYK"],
    "larger, turned": encoded(LARGE, "JPEG", exif=exif(6)),
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Array]:
    """What a browser would draw of the pictures of a page, in order."""
    folder = tmp_path_factory.mktemp("page")
    paths = [folder / str(number) for number in range(len(FILES_SHOWN))]
    for path, content in zip(paths, FILES_SHOWN.values(), strict=True):
        path.write_bytes(content)
    classifier = Classifier(
        network="lenet_bn",
        arguments={},
        labels=("a", "b"),
        preprocessing=PREPROCESSING,
        recipe=Recipe(),
        versions={},
        seed=0,
        data=DataRecord(name="data", fingerprint="", train=5, validation=2, test=len(paths), unreadable=0),
    )
    run = Run(folder)
    run.history.write_text(HISTORY)
    truth = np.array([0, 1, 0, 1, 0])
    probabilities = np.eye(2)[truth] * 0.8 + 0.1  # all right, so that they are shown in their order
    split = FileSplit(tuple(map(str, paths)), tuple(truth.tolist()))
    figures = evaluation.metrics(probabilities, truth, classifier.labels, 1.0)
    run_report.write(run, classifier, figures, probabilities, truth, split)
    sources = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', run.report.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


@pytest.mark.parametrize("kind", list(FILES_SHOWN)[:-1])
def test_a_small_picture_is_shown_in_whole_pixels_as_the_network_sees_it(kind: str, shown: list[Array]) -> None:
    found = shown[list(FILES_SHOWN).index(kind)]
    pixels = PREPROCESSING.decode(FILES_SHOWN[kind]).numpy()
    assert max(found.shape) == run_report.LARGEST
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(found.shape[:2], pixels.shape[:2], strict=True)
    )
    np.testing.assert_array_equal(found, pixels[rows][:, columns])
    if "CMYK" not in kind:
        np.testing.assert_array_equal(pixels, by_pillow(FILES_SHOWN[kind]))


def test_pictures_stand_upright_on_white_in_their_own_greys(shown: list[Array]) -> None:
    turned, faded, grey, *_ = shown
    assert turned.shape[0] > turned.shape[1], "the camera was held upright"
    opaque = np.asarray(Image.open(io.BytesIO(FILES["PNG RGBA"])).convert("RGB"))
    assert faded.mean() > opaque.mean() + 30, "white shines through"
    assert abs(grey.mean() - LEVELS.mean()) < 1
    assert (grey == 255).mean() < 0.1


def test_a_large_picture_is_shown_smaller_and_upright(shown: list[Array]) -> None:
    found, pixels = shown[-1], PREPROCESSING.decode(FILES_SHOWN["larger, turned"]).numpy()
    assert pixels.shape == (610, 430, 3)
    assert found.shape == (160, 113, 3)
    small = Image.fromarray(pixels).resize((113, 160), Image.Resampling.LANCZOS)
    assert np.abs(found.astype(int) - np.asarray(small)).mean() < 3, "a JPEG of it"
