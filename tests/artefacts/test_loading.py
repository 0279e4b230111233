"""Which artefact of an export is meant, and what it answers and says of itself as a function of decoded pictures."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artefacts import choosing, installed
from app.artefacts.loading import load
from app.artefacts.processor import processor
from app.program.errors import UserError
from export import certificate, picture_files, run_artefact, runtime_errors


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version folder by its names alone."""
    for name in ("saved_model.pb", "model.tflite", "model.int8.tflite", "model.onnx", "model.xml", "certificate.json"):
        (tmp_path / "cats" / "1" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cats" / "1" / name).write_text("{}")
    return tmp_path / "cats" / "1"


def test_an_artefact_is_called_by_its_format_or_its_file(version: Path) -> None:
    assert set(choosing.names(version)) == {"saved_model", "tflite", "model.int8.tflite", "onnx", "openvino"}
    for name, file in {
        "saved_model": version,
        "tflite": version / "model.tflite",
        "model.tflite": version / "model.tflite",
        "model.int8.tflite": version / "model.int8.tflite",
        "onnx": version / "model.onnx",
        "openvino": version / "model.xml",
    }.items():
        assert choosing.meant(version, name) == choosing.meant(version.parent, name) == file


def test_without_a_name_it_is_the_saved_model_or_else_the_best_file(version: Path) -> None:
    assert choosing.meant(version) == version
    order = []
    for _ in range(5):
        path = choosing.meant(version)
        order.append(choosing.name_of(path))
        (path / "saved_model.pb" if path == version else path).unlink()
    assert order == ["saved_model", "openvino", "onnx", "tflite", "model.int8.tflite"]
    with pytest.raises(UserError, match=r"holds no saved_model\.pb and no \.tflite, \.onnx or \.xml file"):
        choosing.meant(version)


def test_auto_is_what_was_measured_on_this_machine(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = {"processor": processor(), "threads": os.cpu_count(), "take": {"1": "model.int8.tflite", "8": "onnx"}}
    (version / "certificate.json").write_text(json.dumps({"tuned": tuned}))
    assert choosing.meant(version, "auto") == version / "model.int8.tflite"
    assert choosing.meant(version) == version
    assert capsys.readouterr().err == ""


def test_auto_without_such_a_measurement_says_so(version: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuned = {"processor": processor(), "threads": os.cpu_count(), "take": {"1": "model.int8.tflite"}}
    others: tuple[dict[str, Any], ...] = (
        {"processor": {"name": "another"}},
        {"threads": 1 + (os.cpu_count() or 1)},
        {"take": {}},
        {"take": [1]},
    )
    for content in ({}, [], {"tuned": None}, {"tuned": [1]}, *({"tuned": tuned | other} for other in others)):
        (version / "certificate.json").write_text(json.dumps(content))
        assert choosing.meant(version, "auto") == version / "model.xml"
        said = capsys.readouterr().err
        assert said == "This export was not tuned on this machine (`export --tune`): openvino is taken.\n"


def test_what_cannot_run_here_is_not_taken_and_refused_by_name(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (version / "saved_model.pb").unlink()
    monkeypatch.setitem(installed.RUNTIMES, ".xml", "no_openvino")
    tuned = {"processor": processor(), "threads": os.cpu_count(), "take": {"1": "openvino"}}
    (version / "certificate.json").write_text(json.dumps({"tuned": tuned}))
    assert choosing.meant(version) == version / "model.onnx"
    for model, name in ((version, "openvino"), (version / "model.xml", None)):
        with pytest.raises(UserError, match=r"model\.xml needs no_openvino, which the extra `runtimes` brings"):
            choosing.meant(model, name)
    for suffix in installed.RUNTIMES:
        monkeypatch.setitem(installed.RUNTIMES, suffix, "nothing")
    with pytest.raises(UserError, match="needs nothing, which the extra"):
        choosing.meant(version)


def test_what_is_no_artefact_is_named(version: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no artefact 'tflit'; it has saved_model, model\.int8\.tflite, tflite, onnx, "
    ):
        choosing.meant(version, "tflit")
    (tmp_path / "model.bin").touch()
    with pytest.raises(UserError, match=r"model\.bin is no run, no export and no file of one; those end in \.tflite, "):
        choosing.meant(tmp_path / "model.bin")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classifier.json").touch()
    assert choosing.meant(tmp_path / "run") == choosing.meant(tmp_path / "run", "auto") == tmp_path / "run"
    for model in (tmp_path / "run", version / "model.onnx"):
        with pytest.raises(UserError, match="is no export, of which 'tflite' could be taken"):
            choosing.meant(model, "tflite")


def test_a_file_answers_and_names_its_classes_wherever_it_lies(exported: Path, tmp_path: Path) -> None:
    golden = certificate.golden(exported)
    pictures = [picture_files.decode(Path(image["file"]).read_bytes())[np.newaxis] for image in golden]
    shutil.copy(exported / "model.tflite", tmp_path / "elsewhere.tflite")
    for place in (tmp_path / "elsewhere.tflite", exported / "model.tflite", exported):
        found = load(place)
        assert found.labels == ["digit", "flower", "temple"]
        assert found.names == {}
        answers = np.concatenate([found.answer(picture) for picture in pictures])
        np.testing.assert_allclose(answers, [image["probabilities"] for image in golden], rtol=0, atol=1e-5)
        assert found.answer(np.concatenate([pictures[0]] * 3)).shape == (3, 3)


def test_a_file_that_is_damaged_or_of_others_is_refused(exported: Path, tmp_path: Path) -> None:
    content = (exported / "model.tflite").read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut\.tflite cannot be loaded: .*\. Export the run again\."):
        load(tmp_path / "cut.tflite")
    (tmp_path / "foreign.tflite").write_bytes(content[: content.index(b"PK\x03\x04")])
    with pytest.raises(UserError, match=r"foreign\.tflite names no classes: `export` has not written it\."):
        load(tmp_path / "foreign.tflite")


@pytest.mark.parametrize(
    ("part", "content", "said"),
    [
        ("model.bin", None, "Empty weights data in bin file or bin file cannot be found"),
        ("model.bin", b"1234", "Incorrect weights in bin file"),
        ("model.xml", b'<?xml version="1.0"?><net name="a" version="11"><lay', "Error parsing .* at offset "),
    ],
)
def test_what_openvino_has_against_a_file_is_said_without_places_in_its_source(
    part: str, content: bytes | None, said: str, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    image = openvino.opset13.parameter([1, 4], np.float32)
    network = openvino.Model([openvino.opset13.add(image, np.ones((1, 4), np.float32))], [image], "sum")
    openvino.save_model(network, tmp_path / "model.xml", compress_to_fp16=False)
    if content is None:
        (tmp_path / part).unlink()
    else:
        (tmp_path / part).write_bytes(content)
    with pytest.raises(UserError, match=rf"model\.xml cannot be loaded: {said}\d*\. Export the run again\.$"):
        load(tmp_path / "model.xml")


def test_an_error_says_its_first_line_that_says_something() -> None:
    place = "Exception from src/inference/src/cpp/core.cpp:84:\nCheck 'a' failed at src/core/node.cpp:12:\n"
    assert runtime_errors.sentence(RuntimeError(f"{place}Weights: none.\nMore\n\n")) == "Weights: none"
    assert runtime_errors.sentence(ValueError("\n cut short \n")) == "cut short"
    for silent in ("", place):
        assert runtime_errors.sentence(RuntimeError(silent)) == "RuntimeError"


def test_copies_of_an_openvino_file_are_not_tied_to_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    image = openvino.opset13.parameter([-1, 4], np.float32, name="image")
    made = openvino.opset13.add(image, np.ones((1, 4), np.float32))
    openvino.save_model(openvino.Model([made], [image], "sum"), tmp_path / "model.xml", compress_to_fp16=False)
    compiled, compile_model = [], openvino.Core.compile_model

    def kept(*given: Any) -> Any:
        compiled.append(compile_model(*given))
        return compiled[-1]

    monkeypatch.setattr(openvino.Core, "compile_model", kept)
    run_artefact.openvino(str(tmp_path / "model.xml"), 1)
    properties = ("ENABLE_CPU_PINNING", "INFERENCE_NUM_THREADS")
    assert [compiled[0].get_property(name) for name in properties] == [False, 1]
