"""What `serve` tells of a run's answer to one picture: Grad-CAM over it, and whether it is like those before it."""

from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

from app import run_folder
from app.inside import explaining
from app.inside.explanation_figure import HEAT, laid_over
from app.inside.likeness import FACTOR, LAYERS, Likeness
from app.inside.one_picture import Looking
from models import BatchNormalization

if TYPE_CHECKING:
    from app.run_folder.folder import Run

MEAN, VARIANCE = (1.0, 2.0), (4.0, 9.0)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A batch normalisation of two channels, whose population has MEAN and VARIANCE."""
    images = keras.Input((4, 4, 2))
    layer = BatchNormalization(epsilon=1e-9, name="first")
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(layer(images)))
    layer.moving_mean.assign(MEAN)
    layer.moving_variance.assign(VARIANCE)
    return model


def image(mean: tuple[float, float], deviation: tuple[float, float]) -> np.ndarray:
    signs = np.indices((4, 4)).sum(axis=0) % 2 * 2 - 1
    return np.asarray(mean + signs[..., np.newaxis] * np.array(deviation), np.float32)


def test_a_picture_is_as_far_away_as_its_means_and_deviations_are(network: keras.Model) -> None:
    likeness = Likeness(network, [])
    assert likeness.distances(image(MEAN, (2.0, 3.0)))["first"] == pytest.approx(0.0, abs=1e-6)
    # One deviation of the mean, and e times the deviation, in one of two channels.
    found = likeness.distances(image((3.0, 2.0), (2.0 * np.e, 3.0)))
    assert found["first"] == pytest.approx(np.sqrt(4.0 / 2), rel=1e-5)


def test_what_is_further_away_than_the_runs_own_pictures_is_said_to_be_unlike(network: keras.Model) -> None:
    own = [image((1.0 + shift, 2.0), (2.0, 3.0)) for shift in np.linspace(0, 2, 8)]
    likeness = Likeness(network, own)
    assert likeness.limit == pytest.approx(FACTOR * np.sqrt(0.5), rel=1e-5)
    said, is_like = likeness.told(image((3.1, 2.0), (2.0, 3.0)))
    assert (is_like, said.split(":")[0]) == (
        True,
        "To its first layers this picture is like what the network was trained on",
    )
    assert "0.7 deviations from the population's in first; above 0.9 there" in said
    said, is_like = likeness.told(image((1.0, 2.0), (2.0, 3.0 * np.e**2)))
    assert not is_like
    assert said == (
        "This picture is unlike what the network was trained on: its activations lie 1.4 deviations from the "
        "population's in first, those of the run's 8 test images 0.7 at most."
    )


def test_without_pictures_of_its_own_or_statistics_nothing_is_said(network: keras.Model) -> None:
    picture = image(MEAN, (2.0, 3.0))
    assert Likeness(network, [picture] * 7).told(picture) == ("", True)
    plain = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Flatten()])
    assert Likeness(plain, [picture] * 8).told(picture) == ("", True)


def test_heat_lies_over_a_darker_grey_picture() -> None:
    picture = np.full((10, 100, 3), (30, 60, 90), np.uint8)
    heat = np.zeros((10, 100))
    heat[0, :10] = 1
    over = laid_over(picture, heat)
    assert over[5, 5].tolist() == [36, 36, 36]
    hottest = np.array(HEAT(1.0)[:3])
    np.testing.assert_allclose(over[0, 0], 0.15 * 36 + 0.85 * 255 * hottest, atol=1)


@pytest.mark.slow
def test_a_run_tells_what_speaks_for_its_answer_and_that_flat_grey_is_unlike(
    finished_run: "Run", pictures: Path
) -> None:
    trained = run_folder.load(finished_run.folder)
    golden = sorted(file for file in finished_run.golden.iterdir() if file.suffix != ".json")
    looking = Looking(trained, [file.read_bytes() for file in golden])
    assert len(looking._likeness._layers) <= LAYERS
    told = []
    for file in golden:
        pixels = trained.preprocessing.decode(file.read_bytes()).numpy()
        look = looking.at(pixels)
        seen = trained.preprocessing(pixels).numpy()
        scores = trained.model.predict_on_batch(seen[np.newaxis])[0]
        assert look.label == trained.labels[int(scores.argmax())]
        heat = explaining.heat_map(trained.logits_model, seen, int(scores.argmax()))
        brightest = np.unravel_index(heat.argmax(), heat.shape)
        assert look.heat.shape == (32, 32, 3)
        assert heat.max() == 0 or look.heat[brightest].max() > 200
        told.append(look.is_like)
    assert all(told), "the run's own are the measure"
    assert not looking.at(np.full((64, 64, 3), 128, np.uint8)).is_like
