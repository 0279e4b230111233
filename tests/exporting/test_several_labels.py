"""Exports of a network that names several labels a picture: labels and thresholds are in every file."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import exporting, run_folder
from app.artefacts import predicting
from app.evaluation import prediction, strangeness
from app.exporting import verifying
from app.exporting.foreign import searching
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder import golden
from app.run_folder.folder import Run
from app.serving.of_file import OfFile
from app.serving.of_run import OfRun
from export import carried, certificate
from tests.makers.image_folders import picture
from tests.makers.networks import disturb
from tests.makers.untrained_runs import untrained

LABELS = tuple(f"label {number:02}" for number in range(12))  # more than the ten that are named of classes


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Random weights; the thresholds are such that some pictures have no label and others several."""
    run = untrained(tmp_path_factory.mktemp("several") / "run", 16, LABELS)
    known = run.read_classifier().model_copy(update={"activation": "sigmoid"})
    model = disturb(known.build())
    model.save(run.model)
    inputs = [known.preprocessing(known.preprocessing.decode(picture(seed))) for seed in range(20)]
    scores = model.predict(np.stack(inputs), verbose=0)
    thresholds = np.quantile(scores, np.linspace(0.6, 0.95, 12), axis=0, method="midpoint")  # none is a score
    known = known.model_copy(update={"thresholds": tuple(np.diagonal(thresholds).astype(float).tolist())})
    run.classifier.write_text(known.model_dump_json())
    golden.keep(run, ((picture(seed), "label 01|label 02") for seed in range(4)))
    reading = strangeness.Reading(model, count=20)
    reading.predict_on_batch(np.stack(inputs))
    strangeness.write(run, reading.fit())
    assert strangeness.read(run)
    return run


@pytest.fixture(scope="module")
def version(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    formats = ("saved_model", "tflite", "onnx", "openvino")
    return exporting.export(run.folder, tmp_path_factory.mktemp("exports"), formats)[0]


def named(run: Run, encoded: bytes) -> dict[str, float]:
    """What the trained network names, label by label."""
    known, network = run.read_classifier(), run_folder.load(run.folder).model
    (scores,) = network.predict(known.preprocessing(known.preprocessing.decode(encoded))[np.newaxis], verbose=0)
    every = zip(known.labels, scores.tolist(), known.thresholds, strict=True)
    return {label: score for label, score, least in every if score >= least}


@pytest.mark.slow
def test_every_artefact_names_what_the_run_names(run: Run, version: Path, tmp_path: Path) -> None:
    files = []
    for seed in range(20):
        files.append(tmp_path / f"{seed:02}.png")
        files[-1].write_bytes(picture(seed))
    wanted = [named(run, file.read_bytes()) for file in files]
    assert {len(one) for one in wanted} > {0, 1}
    ways: dict[str, Callable[[], Any]] = {
        "run": lambda: prediction.predict(run.folder, files, 1, unwatched),
        "SavedModel": lambda: prediction.predict(version, files, 1, unwatched),
    }
    for kind in ("tflite", "onnx", "xml"):
        ways[kind] = functools.partial(predicting.predict, version / f"model.{kind}", files, 1, unwatched)
    strange = [row["strangeness"] for row in ways["run"]()]
    assert np.std(strange) > 0.1
    for way, ask in ways.items():
        for row, right, how in zip(ask(), wanted, strange, strict=True):
            assert dict(zip(row["classes"], row["scores"], strict=True)) == pytest.approx(right, abs=1e-5), way
            if way in ("SavedModel", "tflite"):
                assert row["strangeness"] == pytest.approx(how, abs=certificate.STRANGENESS), way


@pytest.mark.slow
def test_every_file_says_labels_and_thresholds(run: Run, version: Path) -> None:
    thresholds = run.read_classifier().thresholds
    for file in (version, *(version / f"model.{kind}" for kind in ("tflite", "onnx", "xml"))):
        said = carried.said_by(file)
        assert said["labels"] == [*LABELS], file
        assert [float(one) for one in said["thresholds"]] == [*thresholds], file
    certificate = json.loads((version / "certificate.json").read_text())
    assert (certificate["labels"], certificate["thresholds"]) == ([*LABELS], [*thresholds])
    assert certificate["ok"]
    assert {row["accuracy"] for row in certificate["rows"]} == {None}
    card = (version / "README.md").read_text()
    assert all(f"| {label} | {one:.4f} |" in card for label, one in zip(LABELS, thresholds, strict=True))
    _, result = verifying.verify(version)
    assert (result["says"], result["changed"], result["ok"]) == ([], [], True)


@pytest.mark.slow
def test_a_certificate_with_other_thresholds_is_contradicted(version: Path) -> None:
    from app.artefacts import certified
    from app.exporting import carrying

    written, _ = certified.read(version)
    others = [*written.thresholds[:-1], 0.123]
    found = carrying.disagreements(version, written.name, LABELS, (), written.networks, others)
    assert len(found) == 4
    assert all("as number 11 of its thresholds" in sentence for sentence in found)


@pytest.mark.slow
def test_servers_give_all_scores_and_the_thresholds(run: Run, version: Path) -> None:
    """`classify` keeps what TensorFlow Serving takes: classes and scores, and nothing else."""
    from app.artefacts import loading
    from app.serving.saved_model import SavedModel
    from export.serving import WARMUP

    assert WARMUP
    known = run.read_classifier()
    encoded = picture(3)
    for servable in (OfRun(run.folder), OfFile(loading.load(version / "model.onnx")), SavedModel(version)):
        reply = servable.run("serving_default", {"image_bytes": np.array([encoded], np.object_)})
        labels = [one.decode() for one in reply["classes"][0]]
        assert sorted(labels) == [*LABELS]
        least = dict(zip(labels, reply["thresholds"][0].tolist(), strict=True))
        assert least == pytest.approx(dict(zip(LABELS, known.thresholds, strict=True)))
        scores = dict(zip(labels, reply["scores"][0].tolist(), strict=True))
        found = {label: score for label, score in scores.items() if score >= least[label]}
        assert found == pytest.approx(named(run, encoded), abs=1e-5)
        assert {*servable.signatures["classify"].outputs} == {"classes", "scores"}
        assert {*servable.signatures["serving_default"].outputs} == {*reply}


def test_what_compares_the_best_class_alone_is_refused(run: Run, tmp_path: Path) -> None:
    for options, words in (
        ({"quantize": "int8"}, "--quantize, which compares the best class,"),
        ({"page": True}, "--page"),
    ):
        with pytest.raises(UserError, match=f"names several labels a picture, and {words} is for one"):
            exporting.export(run.folder, tmp_path / "exports", ("tflite",), **options)
    with pytest.raises(UserError, match="names several labels a picture, and an ensemble is for one"):
        exporting.export(run.folder, tmp_path / "exports", others=[run.folder])
    assert not (tmp_path / "exports").exists()
    with pytest.raises(UserError, match=r"and the comparison with a file of somebody else, .* is for one"):
        searching.compare(tmp_path / "other.tflite", run.folder)
