"""What a certificate holds beside its rows: that it is as it was written, and what each file says of itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import exporting
from app.artefacts import certified
from app.exporting import carrying, verifying
from app.program.errors import UserError
from app.run_folder.folder import Run
from export import carried, certificate, saved_model
from tests.makers.exports import SAVED_MODEL, change, forget_the_run, without

LABELS = ["digit", "flower", "temple"]


@pytest.fixture
def version(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of an export with a LiteRT file that answers rightly without being asked."""

    def run(artefact: Path, files: Any, limit: float) -> dict[str, Any]:
        answers = [image["probabilities"] for image in certificate.golden(copy)]
        return {f"LiteRT {artefact.name}": {"answers": answers[: len(files)], "milliseconds": 1.0}}

    copy = without(exported, tmp_path / "pictures" / "1", *SAVED_MODEL)
    forget_the_run(copy)
    monkeypatch.setattr(certificate, "_run", run)
    return copy


def test_a_certificate_lists_labels_preprocessing_runtimes_and_processor(exported: Path, version: Path) -> None:
    found = json.loads((exported / "certificate.json").read_text())
    assert {"labels", "labels_en", "processor", "versions", "name", "sha256"} <= found.keys()
    assert found["processor"]["name"]
    assert {"tensorflow", "keras", "ai-edge-litert", "pillow"} < found["versions"].keys()
    assert found["sha256"].keys() == {"labels", "files", "certificate"}
    (network,) = found["networks"]
    assert network["sha256"].keys() == {"model", "preprocessing"}
    assert network["sha256"]["preprocessing"] == certified.hash_of(network["preprocessing"])
    assert found["sha256"]["labels"] == certified.hash_of(LABELS)
    assert exporting.verify(version)[1]["ok"]


EDITS: dict[str, Callable[[Any], None]] = {
    "a tolerance": lambda content: content["rows"][1].update(tolerance=0.5),
    "an accuracy": lambda content: content["rows"][0].update(accuracy=1.0),
    "a row": lambda content: content["rows"].pop(),
    "the images held out": lambda content: content.update(held_out=1),
    "a label": lambda content: content["labels"].reverse(),
    "the crop": lambda content: content["networks"][0]["preprocessing"].update(crop=0.5),
    "the processor": lambda content: content["processor"].update(name="another"),
    "a version": lambda content: content["versions"].update(keras="0"),
    "something more": lambda content: content.update(more=1),
}


@pytest.mark.parametrize("what", EDITS)
def test_a_certificate_that_was_edited_is_not_the_one_that_was_written(
    what: str, exported: Path, tmp_path: Path
) -> None:
    shutil.copy(exported / "certificate.json", tmp_path)
    assert certified.read(tmp_path)[1]
    content = json.loads((tmp_path / "certificate.json").read_text())
    EDITS[what](content)
    (tmp_path / "certificate.json").write_text(json.dumps(content))
    assert not certified.read(tmp_path)[1]
    certified.write(tmp_path, content)
    assert certified.read(tmp_path)[1]


# What somebody changes who also writes the hash anew.
FORGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a tolerance": (
        lambda content: content["rows"][-1].update(tolerance=0.5),
        "takes LiteRT model.tflite for float32, allowed 0.5, and it is float32, allowed 1e-05",
    ),
    "a precision": (
        lambda content: content["rows"][-1].update(precision="int8", tolerance=None),
        "for int8, allowed None, and it is float32",
    ),
    "a disagreement": (lambda content: content.update(ok=False), "says itself that an artefact disagrees"),
    "a label": (
        lambda content: content.update(labels=LABELS[::-1]),
        "the labels of the certificate are not those of its hash; model.tflite has 'digit' as number 0",
    ),
    "the crop": (
        lambda content: content["networks"][0]["preprocessing"].update(crop=0.5),
        "preprocessing of the certificate is not that of its hash",
    ),
    "what is said of it": (
        lambda content: content["networks"][0].update(described="squashed"),
        "the description in model.tflite does not say the certificate's preprocessing, squashed",
    ),
    "the golden images": (
        lambda content: content["rows"][0].update(images=9),
        "golden images, and the certificate has 9",
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_certificate_that_contradicts_what_is_found_is_named_in_a_sentence(what: str, version: Path) -> None:
    forge, words = FORGED[what]
    change(version, forge)
    _, found = exporting.verify(version)
    assert (found["ok"], found["changed"], found["missing"], found["added"]) == (False, [], [], [])
    assert words in "; ".join(found["says"])


def test_an_artefact_without_a_row_was_never_certified(version: Path) -> None:
    change(version, lambda content: content["rows"].append(content["rows"].pop(-1) | {"artefact": "ONNX model.onnx"}))
    _, found = exporting.verify(version)
    assert (found["ok"], found["missing"], found["added"]) == (False, ["ONNX model.onnx"], ["LiteRT model.tflite"])


def test_a_certificate_without_the_row_of_the_network_lacks_one(version: Path) -> None:
    change(
        version, lambda content: content["rows"].append(content["rows"].pop(0) | {"artefact": "LiteRT model.tflite"})
    )
    _, found = exporting.verify(version)
    assert (found["ok"], found["added"]) == (False, ["trained network"])


@pytest.mark.parametrize(
    "key", sorted(key for key, field in certified.Certified.model_fields.items() if field.is_required())
)
def test_a_certificate_that_lacks_something_is_refused(key: str, exported: Path, tmp_path: Path) -> None:
    content = json.loads((exported / "certificate.json").read_text())
    del content[key]
    (tmp_path / "certificate.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"has no readable certificate: {key}: .*\. Export the run again\.") as caught:
        certified.read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "odd"),
    [
        ("rows.0.precision", lambda content: content["rows"][0].update(precision="int4")),
        ("precision", lambda content: content.update(precision="float64")),
        ("processor.name", lambda content: content.update(processor={"name": 5, "integers": []})),
        ("processor.integers", lambda content: content.update(processor={"name": "x", "integers": 5})),
        ("quantization.0.max_drop", lambda content: content.update(quantization=[{"file": None, "drop": None}])),
    ],
)
def test_a_certificate_that_holds_something_odd_is_refused(
    where: str, odd: Callable[[Any], Any], exported: Path, tmp_path: Path
) -> None:
    shutil.copy(exported / "certificate.json", tmp_path)
    change(tmp_path, odd)
    with pytest.raises(UserError, match=rf"has no readable certificate: {where}: .*\. Export the run again\."):
        certified.read(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        lambda image: image["probabilities"].pop(),
        lambda image: image.pop("label"),
        lambda image: image.update(probabilities=[str(one) for one in image["probabilities"]]),
    ],
)
def test_golden_answers_that_are_not_of_every_label_are_refused(broken: Callable[[Any], Any], version: Path) -> None:
    file = version / "golden" / "golden.json"
    images = json.loads(file.read_text())
    broken(images[3])
    file.write_text(json.dumps(images))
    with pytest.raises(
        UserError, match=r"golden cannot be read: 03\.jpeg has no label or not one probability for each"
    ):
        exporting.verify(version)


def test_another_file_beside_the_artefacts_has_to_answer_whatever_it_is_called(version: Path) -> None:
    shutil.copy(version / "model.tflite", version / "model.old.tflite")
    _, found = exporting.verify(version)
    assert (found["ok"], found["added"]) == (False, ["model.old.tflite"])
    assert (found["rows"][0]["artefact"], found["rows"][0]["precision"]) == ("LiteRT model.old.tflite", "float32")


def test_a_quantised_file_is_judged_by_what_it_was_allowed_to_lose(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = without(exported, tmp_path / "pictures" / "1", *SAVED_MODEL)
    forget_the_run(copy)
    shutil.copy(copy / "model.tflite", copy / "model.int8.tflite")
    golden = certificate.golden(copy)
    others = [
        image["probabilities"][1:] + image["probabilities"][:1] if place < 3 else image["probabilities"]
        for place, image in enumerate(golden)
    ]

    def run(artefact: Path, files: Any, limit: float) -> dict[str, Any]:
        answers = others if "int8" in artefact.name else [image["probabilities"] for image in golden]
        return {f"LiteRT {artefact.name}": {"answers": answers, "milliseconds": 1.0}}

    monkeypatch.setattr(certificate, "_run", run)

    def allow(points: float, drop: float = 0.0) -> bool:
        record = {"file": "model.int8.tflite", "max_drop": points, "drop": drop}
        row = json.loads((copy / "certificate.json").read_text())["rows"][-1]
        row |= {"artefact": "LiteRT model.int8.tflite", "precision": "int8", "tolerance": None}

        def again(content: Any) -> None:
            content["quantization"] = [record]
            content["rows"] = [*content["rows"][:2], row]
            content["sha256"]["files"] = certified.hashes(copy)

        change(copy, again)
        return bool(exporting.verify(copy)[1]["ok"])

    assert [allow(0.5), allow(30.0), allow(0.5, drop=30.0)] == [False, True, True]


def test_another_processor_is_said_in_a_line(version: Path) -> None:
    change(version, lambda content: content.update(processor={"name": "Other 9", "integers": ["avx2"]}))
    _, found = exporting.verify(version)
    assert found["ok"]
    assert found["elsewhere"].startswith("The certificate is of Other 9 (avx2 for integers), this processor is ")
    assert "\n" not in found["elsewhere"]
    unknown = certified.Processor(name="x", integers=None)
    assert verifying._elsewhere(unknown).startswith(  # type: ignore[union-attr]
        "The certificate is of x (not known for integers)"
    )


@pytest.mark.parametrize("what", ["labels", "preprocessing"])
def test_a_run_that_has_other_labels_or_another_preprocessing_is_not_asked(
    what: str, version: Path, finished_run: Run, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    change(version, lambda content: content["networks"][0].update(run=str(run)))
    classifier = json.loads((run / "classifier.json").read_text())
    classifier["labels"].reverse() if what == "labels" else classifier["preprocessing"].update(crop=0.5)
    (run / "classifier.json").write_text(json.dumps(classifier))
    _, found = exporting.verify(version)
    assert found["not_repeated"] == f"{run} does not hold the network any more"
    assert (found["ok"], len(found["rows"])) == (True, 1)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"{}"])
def test_a_run_whose_classifier_cannot_be_read_is_not_asked(
    content: bytes, version: Path, finished_run: Run, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run.folder, run)
    change(version, lambda content: content["networks"][0].update(run=str(run)))
    (run / "classifier.json").write_bytes(content)
    _, found = exporting.verify(version)
    assert found["not_repeated"] == f"{run} does not hold the network any more"
    assert (found["ok"], len(found["rows"])) == (True, 1)


# ---- what a file says of itself

PREPARED = {"height": 32, "crop": 1.0}
NETWORK = certified.Network(
    network="lenet_bn",
    run="run",
    preprocessing=PREPARED,
    described="32 x 32 RGB",
    sha256=certified.NetworkHashes(model="0", preprocessing="0"),
)
DESCRIPTION = "lenet_bn: which of 3 classes a picture shows. Inside: 32 x 32 RGB."
ONNX = {"labels": LABELS, "preprocessing": PREPARED, "description": DESCRIPTION}
SERVED = {"labels": LABELS, "graph_labels": [LABELS], "warmup_names": ["pictures"]}
SAYINGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "swapped": (
        "model.onnx",
        ONNX | {"labels": ["flower", "digit", "temple"]},
        "model.onnx has 'flower' as number 0 of its labels, and the certificate 'digit'",
    ),
    "shifted": (
        "model.onnx",
        ONNX | {"labels": ["background", *LABELS]},
        "model.onnx has 4 labels, and the certificate 3",
    ),
    "none": (
        "model.tflite",
        {"description": DESCRIPTION},
        "model.tflite has no labels, and the certificate has",
    ),
    "english": (
        "model.xml",
        ONNX | {"labels_en": LABELS},
        "model.xml has English labels, and the certificate none",
    ),
    "another crop": (
        "model.xml",
        ONNX | {"preprocessing": PREPARED | {"crop": 0.5}},
        "model.xml says the preprocessing has crop 0.5, and the certificate 1.0",
    ),
    "no preprocessing": (
        "model.xml",
        {"labels": LABELS, "description": DESCRIPTION},
        "model.xml says no preprocessing, and the certificate does",
    ),
    "no description": (
        "model.tflite",
        {"labels": LABELS},
        "the description in model.tflite does not say the certificate's preprocessing, 32 x 32 RGB",
    ),
    "labels that are none": (
        "model.onnx",
        ONNX | {"labels": 5},
        "the labels in model.onnx are no list, 5",
    ),
    "labels that are numbers": (
        "model.onnx",
        ONNX | {"labels": [1, *LABELS[1:]]},
        "model.onnx has 1 as number 0 of its labels, and the certificate 'digit'",
    ),
    "empty English": (
        "model.xml",
        ONNX | {"labels_en": []},
        "model.xml has English labels, and the certificate none",
    ),
    "a preprocessing that is a list": (
        "model.xml",
        ONNX | {"preprocessing": [1]},
        "the preprocessing in model.xml is none, [1]",
    ),
    "a long preprocessing that is a text": (
        "model.onnx",
        ONNX | {"preprocessing": "a" * 1000},
        f"the preprocessing in model.onnx is none, '{'a' * 99}...",
    ),
    "no crop": (
        "model.onnx",
        ONNX | {"preprocessing": {"height": 32}},
        "model.onnx says the preprocessing has no crop, and the certificate 1.0",
    ),
    "more that is nothing": (
        "model.onnx",
        ONNX | {"preprocessing": PREPARED | {"more": None}},
        "model.onnx says the preprocessing has more None, and the certificate none",
    ),
    "in the graph": (
        "saved_model.pb",
        SERVED | {"graph_labels": [["digit", "temple", "flower"]]},
        "saved_model.pb has 'temple' as number 1 of its labels in the graph, and the certificate 'flower'",
    ),
    "none in the graph": (
        "saved_model.pb",
        SERVED | {"graph_labels": []},
        "saved_model.pb has no labels in its graph, and the certificate has",
    ),
    "another warm-up": (
        "saved_model.pb",
        SERVED | {"warmup_names": ["cats"]},
        "the warm-up requests are for 'cats', and the certificate for 'pictures'",
    ),
}


@pytest.mark.parametrize("what", SAYINGS)
def test_what_a_file_says_otherwise_is_a_sentence(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, said, sentence = SAYINGS[what]
    (tmp_path / file).touch()

    def found() -> list[str]:
        return carrying.disagreements(tmp_path, "pictures", tuple(LABELS), [], [NETWORK])

    monkeypatch.setattr(carried, "said_by", lambda artefact: said)
    assert found() == [sentence]
    without_json = {key: value for key, value in ONNX.items() if key != "preprocessing"}
    right = {"saved_model.pb": SERVED, "model.tflite": without_json}.get(file, ONNX)
    monkeypatch.setattr(carried, "said_by", lambda artefact: right)
    assert found() == []


def test_labels_of_several_lines_agree_with_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.tflite").touch()
    said = {"labels": ["a", "b", "c\r"], "description": DESCRIPTION}
    monkeypatch.setattr(carried, "said_by", lambda artefact: said)
    assert carrying.disagreements(tmp_path, "it", ("a\nb", "c\r"), [], [NETWORK]) == []


def test_every_kind_of_artefact_is_read(exported: Path) -> None:
    by_file = carried.said_by(exported / "model.tflite")
    assert by_file["labels"] == LABELS
    assert by_file["description"].startswith("lenet_bn: which of 3 classes a picture shows. Inside: 32 x 32 RGB, ")
    assert carried.said_by(exported) == SERVED


@pytest.mark.parametrize(("name", "content"), [("a.tflite", b"x"), ("a.onnx", b"\x72\x7fab"), ("a.xml", b"<net>")])
def test_a_file_in_which_nothing_can_be_read_is_an_error_of_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(carried.CarriedError) as caught:
        carried.said_by(tmp_path / name)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert carrying.disagreements(tmp_path, "it", LABELS, [], [NETWORK])[0].startswith(
        f"what {name} says of itself cannot be read: "
    )


def test_as_many_classes_are_asked_for_by_name_as_the_saved_model_gives() -> None:
    assert certificate.NAMED == saved_model.TOP
