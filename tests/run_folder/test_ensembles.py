"""An ensemble in one SavedModel answers as its networks do alone, on average."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import exporting, run_folder
from app.__main__ import main
from app.exporting import certifying
from app.program import files
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder import ensembles, golden
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from tests.makers.untrained_runs import untrained

Array = np.ndarray[Any, Any]
LABELS = ("digit", "flower", "temple")
OTHER_ORDER = ("temple", "digit", "flower")


@pytest.fixture(scope="module")
def runs(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """`finished_run` at 32 pixels, and two of random weights: at 48 pixels, and with its labels in another order."""
    folder = tmp_path_factory.mktemp("members")
    larger = untrained(folder / "larger", 48, LABELS, like=finished_run, seed=1)
    return [finished_run, larger, untrained(folder / "other", 32, OTHER_ORDER, like=finished_run, seed=2)]


@pytest.fixture(scope="module")
def version(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("exports")
    folder, found = exporting.export(runs[0].folder, to, others=[run.folder for run in runs[1:]])
    assert found["ok"]
    assert folder == to / "ensemble" / "1"
    return folder


def alone(trained: Trained, encoded: bytes) -> dict[str, float]:
    image = trained.preprocessing(trained.preprocessing.decode(encoded))
    return dict(zip(trained.labels, trained.model.predict_on_batch(image[None])[0].tolist(), strict=True))


@pytest.mark.slow
def test_the_saved_model_gives_the_mean_of_its_networks_whatever_the_order_of_their_labels(
    runs: list[Run], version: Path, pictures: Path
) -> None:
    networks = [run_folder.load(run.folder) for run in runs]
    files = [sorted((pictures / label).iterdir())[0].read_bytes() for label in LABELS]
    served = tf.saved_model.load(str(version)).signatures["serving_default"](image_bytes=tf.constant(files))
    for file, classes, scores in zip(files, served["classes"].numpy(), served["scores"].numpy(), strict=True):
        answers = [alone(network, file) for network in networks]
        assert max(abs(answers[0][label] - answers[2][label]) for label in LABELS) > 0.05, "the networks differ"
        assert [name.decode() for name in classes] == sorted(
            LABELS, key=lambda label: -sum(answer[label] for answer in answers)
        )
        for name, score in zip(classes, scores, strict=True):
            assert score == pytest.approx(sum(answer[name.decode()] for answer in answers) / 3, abs=1e-6)


@pytest.mark.slow
def test_its_embedding_is_that_of_every_network_one_after_the_other(runs: list[Run], version: Path) -> None:
    file = (runs[0].golden / golden.read_golden(runs[0])[0]["file"]).read_bytes()
    found = tf.saved_model.load(str(version)).signatures["features"](image_bytes=tf.constant([file]))["embedding"]
    apart = []
    for network in (run_folder.load(run.folder) for run in runs):
        classifier = [layer for layer in network.model.layers if isinstance(layer, keras.layers.Dense)][-1]
        image = network.preprocessing(network.preprocessing.decode(file))
        apart.append(keras.Model(network.model.input, classifier.input).predict_on_batch(image[None]))
    np.testing.assert_allclose(found.numpy(), np.concatenate(apart, 1), rtol=0, atol=1e-5)


def test_the_logits_come_in_the_same_order_as_the_probabilities(runs: list[Run]) -> None:
    network = ensembles.load([run.folder for run in runs])[2]
    assert network.labels == LABELS
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    probabilities = network.model.predict_on_batch(images)
    apart = run_folder.load(runs[2].folder)
    columns = [OTHER_ORDER.index(label) for label in LABELS]
    np.testing.assert_allclose(probabilities, apart.model.predict_on_batch(images)[:, columns], rtol=0, atol=1e-6)
    logits = network.logits_model.predict_on_batch(images)
    np.testing.assert_allclose(logits, apart.logits_model.predict_on_batch(images)[:, columns], rtol=0, atol=1e-5)
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, rtol=0, atol=1e-6)


def test_loading_a_network_builds_it_once_until_somebody_asks_for_the_logits(
    runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str | None] = []
    build = Classifier.build

    def counted(self: Classifier, activation: str | None = "softmax", auxiliary: bool = False) -> keras.Model:
        built.append(activation)
        return build(self, activation, auxiliary)

    monkeypatch.setattr(Classifier, "build", counted)
    trained = ensembles.load([run.folder for run in runs])[2]
    assert built == []
    assert trained.logits_model is trained.logits_model
    assert built == [None]


@pytest.mark.slow
def test_the_certificate_and_the_card_name_every_network(runs: list[Run], version: Path) -> None:
    found = json.loads((version / "certificate.json").read_text())
    assert [one["run"] for one in found["networks"]] == [str(run.folder.resolve()) for run in runs]
    assert [one["sha256"]["model"] for one in found["networks"]] == [files.digest(run.model) for run in runs]
    assert [row["artefact"] for row in found["rows"]] == [
        "3 trained networks",
        "SavedModel serving_default",
        "SavedModel classify",
        "SavedModel predict_pixels",
        "REST SavedModel",
        "gRPC SavedModel",
    ]
    assert found["rows"][0]["bytes"] == sum(run.model.stat().st_size for run in runs)
    assert all(row["held_out"]["accuracy"] == found["rows"][0]["held_out"]["accuracy"] for row in found["rows"][:4])
    card = (version / "README.md").read_text()
    assert "lenet_bn + lenet_bn + lenet_bn, 3 classes: digit, flower, temple." in card
    assert "the arithmetic mean of the probabilities of 3 networks" in card
    assert [line for line in card.splitlines() if line.startswith("Network ")] == [
        f"Network {number}, lenet_bn:" for number in (1, 2, 3)
    ]
    assert (version.parent / "models.config").read_text().count('"/models/ensemble"') == 1


@pytest.mark.slow
def test_an_ensemble_verifies_until_one_of_its_networks_is_another(runs: list[Run], tmp_path: Path) -> None:
    other = untrained(tmp_path / "other", 32, LABELS, like=runs[0])
    version, _ = exporting.export(runs[0].folder, tmp_path / "exports", others=[other.folder], name="pair")
    assert version == tmp_path / "exports" / "pair" / "1"
    assert exporting.verify(version)[1]["ok"]
    classifier = other.read_classifier()
    keras.utils.set_random_seed(9)
    classifier.build().save(other.model)
    _, found = exporting.verify(version)
    assert found["not_repeated"] == f"{other.folder} does not hold the network any more"
    assert found["ok"], "the golden answers are still those of the certificate"


@pytest.mark.slow
def test_of_networks_of_different_data_only_the_golden_images_are_compared(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = untrained(tmp_path / "imported", 32, LABELS)
    _, found = exporting.export(runs[0].folder, tmp_path / "exports", others=[imported.folder])
    assert [row["held_out"] for row in found["rows"]] == [None] * 4
    printed = " ".join(capsys.readouterr().err.split())
    assert "Only golden images are compared: the networks were not trained on the same data" in printed


@pytest.mark.slow
def test_an_export_of_an_ensemble_answers_the_command(
    version: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(version.parent), str(sorted((pictures / "digit").iterdir())[0]), "--json"])
    assert ended.value.code == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert sorted(row["classes"]) == sorted(LABELS)
    assert sum(row["scores"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"formats": ["saved_model", "tflite"]},
            "3 runs are an ensemble, which becomes a SavedModel; leave tflite out",
        ),
        (
            {"quantize": "int8"},
            "3 runs are an ensemble, of which there is no quantised file; leave --quantize out",
        ),
        ({"name": "a/b"}, "--name a/b is not the name of a folder"),
        ({"name": ".."}, r"--name \.\. is not the name of a folder"),
    ],
    ids=str,
)
def test_what_an_ensemble_cannot_be_is_said_before_anything_is_written(
    options: dict[str, Any], words: str, runs: list[Run], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        exporting.export(runs[0].folder, tmp_path / "to", others=[run.folder for run in runs[1:]], **options)
    assert not (tmp_path / "to").exists()


def test_networks_with_different_labels_are_no_ensemble(runs: list[Run], tmp_path: Path) -> None:
    other = untrained(tmp_path / "other", 32, ("cat", "digit", "temple"))
    with pytest.raises(UserError) as caught:
        ensembles.load([runs[0].folder, other.folder])
    assert str(caught.value) == (
        f"{other.folder} has other labels than {runs[0].folder} (new: 'cat'; missing: 'flower'); an ensemble needs the "
        "same labels."
    )


def test_networks_of_the_same_images_may_call_them_differently(finished_run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    shutil.copytree(finished_run.folder, other.folder)
    described = json.loads(other.classifier.read_text())
    described["data"] |= {"name": "link/to/them", "place": None}
    other.classifier.write_text(json.dumps(described))
    data, why = certifying.data_of([finished_run, other], unwatched)
    assert (data and data.fingerprint, why) == (described["data"]["fingerprint"], None)
    described["data"]["fingerprint"] = "of others"
    other.classifier.write_text(json.dumps(described))
    assert certifying.data_of([finished_run, other], unwatched)[0] is None
