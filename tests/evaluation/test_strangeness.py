"""What shows none of the classes: the score by formulas written a second time, its file, and the same in every form."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.special import logsumexp

from app import exporting, run_folder
from app.artefacts import predicting
from app.commands import printing
from app.datasets import loading
from app.evaluation import evaluating, prediction, strangeness
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from export import certificate, run_artefact, tflite
from export.strangeness import Strangeness
from models import NETWORKS

STRIPES = "stripes.png"  # of bright colours


@pytest.fixture(scope="module")
def run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A copy of the session's run, whose training images stand for validation images: of those it has too few."""
    copy = Run(tmp_path_factory.mktemp("strange") / "pictures")
    shutil.copytree(finished_run.folder, copy.folder)
    trained = run_folder.load(copy.folder)
    split = loading.of_run(finished_run).train
    reading = strangeness.Reading(trained.model, count=split.count)
    evaluating.predict(reading, split, trained.preprocessing)
    strangeness.write(copy, reading.fit())
    return copy


@pytest.fixture(scope="module")
def known(run: Run) -> Strangeness:
    found = strangeness.read(run)
    assert found
    return found


def test_the_score_is_that_of_the_formulas(run: Run, known: Strangeness) -> None:
    """In float64, of the maps as Keras gives them."""
    model = run_folder.load(run.folder).model
    images = np.random.default_rng(1).uniform(-1, 1, (5, 32, 32, 3)).astype(np.float32)
    last = model.layers[-1]
    outputs = [model.get_layer(name).output for name in known.layers]
    *maps, before = keras.Model(model.input, [*outputs, last.input]).predict_on_batch(images)
    logits = before.astype(float) @ last.kernel.numpy() + last.bias.numpy()
    expected = known.offset - known.weights[-1] * logsumexp(logits, axis=1)
    for each, mean, matrix, weight in zip(maps, known.means, known.matrices, known.weights, strict=False):
        apart = (each.astype(float).mean(axis=(1, 2)) - mean) @ matrix.astype(float)
        expected = expected + weight * np.log1p((apart**2).sum(axis=1))
    probabilities, found = strangeness.Reading(model, known).measured(images)
    np.testing.assert_allclose(found.strangeness, expected, rtol=1e-3)
    counts = [np.sum(known.quantiles >= one) for one in found.strangeness]
    np.testing.assert_allclose(found.stranger, np.minimum(np.array(counts) / 10, 100), rtol=1e-5)
    assert found.unknown.tolist() == (found.strangeness > known.quantiles[950]).tolist()
    np.testing.assert_allclose(probabilities, model.predict_on_batch(images), atol=1e-6)


def test_a_gaussian_gives_the_distance_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 3)) @ np.array([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]]) + [1.0, 2, 3]
    mean, matrix = strangeness._gaussian(features)
    off = features[:7] - features.mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", off, np.linalg.inv(np.cov(features, rowvar=False)), off)
    np.testing.assert_allclose(np.square((features[:7] - mean) @ matrix).sum(axis=1), expected, rtol=0.05)


def test_a_channel_that_never_varies_divides_by_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 0, 1]
    mean, matrix = strangeness._gaussian(features)
    assert np.isfinite(np.square((features - mean) @ matrix)).all()


def test_the_threshold_is_of_pictures_that_the_gaussian_was_not_fitted_on() -> None:
    """Of so many channels, those that it was fitted on are much nearer than others of the same kind."""
    rng = np.random.default_rng(0)
    known = strangeness._fitted(("a",), [rng.normal(size=(100, 60))], np.zeros(100))

    def refused(features: NDArray[np.float64]) -> float:
        apart = np.square((features - known.means[0]) @ known.matrices[0]).sum(axis=1)
        return float(np.mean(known.weights[0] * np.log1p(apart) + known.offset > known.quantiles[950]))

    assert 0.01 < refused(rng.normal(size=(5000, 60))) < 0.12


@pytest.mark.parametrize("name", ["lenet_bn", pytest.param("bn_inception", marks=pytest.mark.slow)])
def test_the_stages_are_where_all_paths_meet(name: str) -> None:
    model = NETWORKS[name](input_shape=(64, 64, 3), classes=3, weights=None)
    found = strangeness.stages(model)
    assert (len(found), found[0]) == {"lenet_bn": (3, "stem_2"), "bn_inception": (8, "inception_3a")}[name]
    for stage in found:
        layer = model.get_layer(stage)
        keras.Model(layer.output, model.output)  # Keras refuses where another path leads past it
        assert not hasattr(layer, "moving_mean")


def test_few_validation_images_are_said_and_not_measured_again(finished_run: Run) -> None:
    """It has 8."""
    assert strangeness.is_there(finished_run)
    assert strangeness.read(finished_run) is None
    reading = strangeness.Reading(run_folder.load(finished_run.folder).model, count=19)
    assert reading.fit() == "19 validation images are too few to tell what is unknown: it takes 20."


def test_of_many_validation_images_it_takes_some_of_all(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come class by class: the first ones would be of the first classes alone."""
    trained, train = run_folder.load(finished_run.folder), loading.of_run(finished_run).train
    fitted: list[NDArray[np.float64]] = []

    def keep(layers: object, pooled: list[NDArray[np.float64]], energies: NDArray[np.float64]) -> Any:
        assert {len(each) for each in pooled} == {len(energies)}
        fitted.append(energies)
        return SimpleNamespace(means=(), matrices=(), weights=np.zeros(1))

    monkeypatch.setattr(strangeness, "_fitted", keep)
    for most in (5000, 10):
        monkeypatch.setattr(strangeness, "MOST", most)
        reading = strangeness.Reading(trained.model, count=train.count)
        evaluating.predict(reading, train, trained.preprocessing)
        reading.fit()
    everything, some = fitted
    assert len(everything) == train.count > 40
    np.testing.assert_array_equal(some, everything[:: -(-train.count // 10)])


def test_a_score_of_another_network_or_a_damaged_one_is_none(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "run")
    shutil.copytree(run.folder, other.folder)
    assert strangeness.is_there(other)
    content = other.unknown.read_bytes()
    other.unknown.write_bytes(content[: len(content) // 2])
    assert not strangeness.is_there(other)
    other.unknown.write_bytes(content)
    other.model.write_bytes(b"another")
    assert not strangeness.is_there(other)
    assert strangeness.read(other) is None


def test_a_score_of_another_form_is_none(run: Run, tmp_path: Path) -> None:
    """Once `unknown.npz` was of distances without their logarithms, and said no form: `evaluate` makes another."""
    other = Run(tmp_path / "run")
    shutil.copytree(run.folder, other.folder)
    with np.load(other.unknown) as file:
        content: dict[str, Any] = dict(file)
    del content["form"]
    for other_form in (content, content | {"form": 1}):
        np.savez(other.unknown, **other_form)
        assert not strangeness.is_there(other)
        assert strangeness.read(other) is None


def test_a_share_that_a_model_cannot_refuse_is_a_sentence(finished_run: Run, exported: Path, pictures: Path) -> None:
    for predict, model in (
        (prediction.predict, finished_run.folder),
        (prediction.predict, exported),
        (predicting.predict, exported / "model.tflite"),
    ):
        with pytest.raises(UserError, match="does not say how strange a picture is: leave --unknown out"):
            predict(model, [pictures], 1, unwatched, 1.0)
        (row,) = predict(model, [next(pictures.glob("flower/00*"))], 1, unwatched)
        assert not {"unknown", "strangeness"} & row.keys()


@pytest.mark.slow
def test_run_saved_model_and_device_file_call_the_same_pictures_unknown(
    run: Run, known: Strangeness, pictures: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "asked"
    asked.mkdir()
    for number, file in enumerate(sorted(pictures.glob("*/*.png"))):
        shutil.copy(file, asked / f"{number}.png")
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::2, :, 0] = stripes[:, ::2, 2] = 255
    Image.fromarray(stripes).save(asked / STRIPES)
    (asked / "broken.png").write_bytes(b"no picture")
    version, found = exporting.export(run.folder, tmp_path / "exports")
    assert found["ok"]
    certified = {row["artefact"]: row.get("strangeness") for row in found["rows"]}
    assert 0 < certified["SavedModel serving_default"] < certificate.STRANGENESS
    assert 0 < certified["LiteRT model.tflite"] < certificate.STRANGENESS
    assert certificate.strangeness_apart([{"strangeness": 2.0}], [3.0]) == 0.5
    assert not certificate.passes(found["rows"][1] | {"strangeness": 0.5})
    whole = run_artefact.tflite(str(version / "model.tflite"))
    with tflite.without_unknown(version / "model.tflite") as alone:
        assert [*tflite.interpreter(alone).get_signature_list()] == ["serving_default"]
        plain = run_artefact.tflite(str(alone))
        assert (whole.judge is not None, plain.judge) == (True, None)
        np.testing.assert_array_equal(plain(stripes[np.newaxis]), whole(stripes[np.newaxis]))
    assert len(tflite.interpreter(version / "model.tflite").get_output_details()) == 1, "as MediaPipe wants it"
    counts: list[int] = []
    for percent in (0.0, None, 30.0, 100.0):
        of_run, of_graph, of_file = (
            [*predict(model, [asked], 2, unwatched, percent)]
            for predict, model in (
                (prediction.predict, run.folder),
                (prediction.predict, version),
                (predicting.predict, version / "model.tflite"),
            )
        )
        for row, *others in zip(of_run, of_graph, of_file, strict=True):
            for other in others:
                assert (row["file"], row["classes"]) == (other["file"], other["classes"])
                assert row.get("unknown") == other.get("unknown")
                np.testing.assert_allclose(other.get("strangeness", 0), row.get("strangeness", 0), rtol=1e-3, atol=1e-3)
        by_name = {Path(row["file"]).name: row for row in of_run}
        assert "unknown" not in by_name["broken.png"]
        assert all(printing.answer(row).startswith("unknown (") == row.get("unknown", False) for row in of_run)
        counts.append(sum(row.get("unknown", False) for row in of_run))
    assert counts == sorted(counts)
    assert counts[-1] == len(of_run) - 1, "all but the broken one"
    assert counts[0] < counts[-1]
