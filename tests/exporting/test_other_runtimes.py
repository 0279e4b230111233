"""Files for ONNX Runtime and OpenVINO: what they answer, what they say of themselves, and their rows of the proof."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import tensorflow as tf
from keras import layers

from app import exporting, run_folder
from app.artefacts import choosing, predicting
from app.evaluation import prediction
from app.exporting import certifying, model_card, runtimes
from app.exporting import exporting as exporting_module
from app.images.decoding import decode
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from export import carried, certificate, on_pixels, onnx_file, openvino_ir, tflite
from tests.makers.exports import certify_again, forget_the_run, without

Array = np.ndarray[Any, Any]
LABELS = ("digit", "flower", "temple")
FORMATS = ("onnx", "openvino")
WRITERS = {"model.onnx": onnx_file.write, "model.xml": openvino_ir.write}
# Number, height and width: smaller and larger than the network, odd, one and several; the last with sides whose
# quotient is whole, which a reciprocal misses.
BATCHES = ((1, 1, 1), (3, 200, 7), (1, 31, 65), (2, 32, 32), (1, 97, 161), (1, 115, 460))


@pytest.fixture(scope="module")
def version(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of an export of both formats. Read only."""
    return exporting.export(finished_run.folder, tmp_path_factory.mktemp("exports"), FORMATS)[0]


def loaded(file: Path) -> Callable[[Array], Array]:
    """The file as a function: pixels (N, height, width, 3) -> (N, classes)."""
    if file.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return lambda pictures: session.run(["probabilities"], {"image": pictures})[0]
    network = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pictures: network([pictures])["probabilities"].copy()


def random_pictures() -> list[Array]:
    rng = np.random.default_rng(6)
    return [rng.integers(0, 256, (*batch, 3), dtype=np.uint8) for batch in BATCHES]


# ---- what they answer


@pytest.mark.parametrize("file", WRITERS)
def test_any_number_of_pictures_of_any_size_is_answered_as_by_the_network(
    file: str, version: Path, finished_run: Run
) -> None:
    trained = run_folder.load(finished_run.folder)
    golden = [decode(Path(image["file"]).read_bytes()).numpy()[np.newaxis] for image in certificate.golden(version)]
    network, found, right = loaded(version / file), [], []
    for pictures in [*random_pictures(), *golden]:
        found.append(network(pictures))
        right.append(trained.model.predict_on_batch(np.stack([trained.preprocessing(one) for one in pictures])))
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(right), rtol=0, atol=1e-5)
    assert np.ptp(np.concatenate(right), axis=0).max() > 0.5, "not one answer for everything"


SEEN: dict[str, dict[str, Any]] = {
    "bilinear": {},
    "not antialiased": {"antialias": False, "crop": 0.875},
    "bicubic": {"resize": "bicubic", "aspect": "keep", "colour": "BGR"},
    "means": {"aspect": "keep", "crop": 0.875, "mean": (103.9, 116.8, 123.7), "deviation": (58.4, 57.1, 57.4)},
    "filled around": {"aspect": "pad", "crop": 0.9, "mean": (103.9, 116.8, 123.7), "deviation": (58.4, 57.1, 57.4)},
    "filled around, bicubic means": {"aspect": "pad", "resize": "bicubic", "colour": "BGR", "mean": (10, 120, 200)},
    "bicubic and cropped": {"resize": "bicubic", "crop": 0.6},
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "means" in kind else ()) for kind in SEEN]
)
def test_the_network_inside_is_given_the_pixels_that_it_was_trained_on(kind: str, tmp_path: Path) -> None:
    """Here it answers with what it is given, so that a tenth of a grey level shows."""
    preprocessing = Preprocessing(height=30, width=21, **SEEN[kind])
    image = keras.Input((30, 21, 3))
    network = keras.Model(image, layers.Flatten()(image), name="echo")
    for file, write in WRITERS.items():
        write(network, preprocessing, LABELS, tmp_path / file)
        answers = loaded(tmp_path / file)
        for pictures in random_pictures():
            found = answers(pictures).reshape(-1, 30, 21, 3)
            right = np.stack([preprocessing(one) for one in pictures])
            levels = np.abs(found - right) * np.array(preprocessing.deviation)
            assert levels.max() < 0.1, f"{file}, {pictures.shape}"
            assert levels.mean() < 0.005, f"{file}, {pictures.shape}"


# ---- what they say of themselves


def test_the_onnx_file_names_its_input_and_output_and_resizes_by_products(version: Path) -> None:
    network = onnx.load(version / "model.onnx")
    described = {
        tensor.name: (
            onnx.helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type).name,
            [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim],
        )
        for tensor in (*network.graph.input, *network.graph.output)
    }
    assert described == {"image": ("uint8", ["N", "height", "width", 3]), "probabilities": ("float32", ["N", 3])}
    assert {one.domain: one.version for one in network.opset_import}[""] == 18
    operations = {node.op_type for node in network.graph.node}
    assert "MatMul" in operations
    assert not operations & {"Resize", "Upsample"}


def test_the_openvino_file_names_its_input_and_output_and_has_weights_of_float32(version: Path) -> None:
    network = openvino.Core().read_model(version / "model.xml")
    (image,), (probabilities,) = network.inputs, network.outputs
    assert (image.any_name, image.element_type) == ("image", openvino.Type.u8)
    assert image.partial_shape == openvino.PartialShape([-1, -1, -1, 3])
    assert (probabilities.any_name, probabilities.element_type) == ("probabilities", openvino.Type.f32)
    assert probabilities.partial_shape == openvino.PartialShape([-1, 3])
    constants = [node for node in network.get_ops() if node.get_type_name() == "Constant"]
    assert openvino.Type.f32 in {node.get_element_type() for node in constants}
    assert openvino.Type.f16 not in {node.get_element_type() for node in constants}


def said(file: Path) -> dict[str, str]:
    if file.suffix == ".onnx":
        return onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    info = openvino.Core().read_model(file).get_rt_info()
    return {
        name: info[name].astype(str)
        for name in info
        if name.split("_")[0] in ("labels", "description", "preprocessing")
    }


@pytest.mark.parametrize("file", WRITERS)
def test_labels_and_preprocessing_are_in_the_file(file: str, version: Path, finished_run: Run) -> None:
    found = said(version / file)
    preprocessing = finished_run.read_classifier().preprocessing
    assert found.keys() == {"labels", "preprocessing", "description"}
    assert json.loads(found["labels"]) == [*LABELS]
    assert Preprocessing.model_validate_json(found["preprocessing"]) == preprocessing
    assert found["description"] == (
        f"lenet_bn: which of 3 classes a picture shows. Inside: {preprocessing.described()}."
    )
    assert carried.said_by(version / file) == {
        "labels": [*LABELS],
        "preprocessing": preprocessing.model_dump(mode="json"),
        "description": found["description"],
    }


@pytest.mark.parametrize("file", WRITERS)
def test_any_label_and_its_english_name_survive(file: str, tmp_path: Path) -> None:
    labels, english = ['a "b" <c> & d\\', "Äpfel, 梨\n"], ["one", "other"]
    image = keras.Input((4, 4, 3))
    network = keras.Model(image, layers.Dense(2, "softmax")(layers.Flatten()(image)), name="small")
    WRITERS[file](network, Preprocessing(height=4, width=4), labels, tmp_path / file, english)
    found = said(tmp_path / file)
    assert json.loads(found["labels"]) == labels
    assert json.loads(found["labels_en"]) == english
    again = carried.said_by(tmp_path / file)
    assert (again["labels"], again["labels_en"]) == (labels, english)
    assert {path.suffix for path in tmp_path.iterdir()} == {Path(file).suffix} | ({".bin"} if "xml" in file else set())


# ---- the certificate


def test_each_file_has_a_row_its_size_its_hash_and_the_versions_of_what_made_it(version: Path) -> None:
    found = json.loads((version / "certificate.json").read_text())
    network, *rows, rest, grpc = found["rows"]
    assert (rest["artefact"], grpc["artefact"]) == ("REST model.xml", "gRPC model.xml"), "what `serve` takes first"
    sizes = {path.name: path.stat().st_size for path in version.iterdir()}
    assert [(row["artefact"], row["precision"], row["tolerance"], row["bytes"]) for row in rows] == [
        ("ONNX model.onnx", "float32", 1e-5, sizes["model.onnx"]),
        ("OpenVINO model.xml", "float32", 1e-5, sizes["model.xml"] + sizes["model.bin"]),
    ]
    for row in rows:
        assert certificate.passes(row)
        assert (row["images"], row["held_out"]["images"]) == (network["images"], network["held_out"]["images"])
        assert row["milliseconds"] > 0
    assert {"model.onnx", "model.xml", "model.bin"} < found["sha256"]["files"].keys()
    for package in ("onnx", "tf2onnx", "onnxruntime", "openvino", "tensorflow"):
        assert found["versions"][package] == importlib.metadata.version(package)
    assert "ai-edge-litert" not in found["versions"], "no file is of it"


def test_the_examples_of_the_model_card_run_without_the_project_and_tensorflow(version: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", (version / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    first = min(certificate.golden(version), key=lambda image: image["file"])
    alone = "import sys\nsys.modules.update(tensorflow=None, keras=None)\n"
    for example in examples:
        command = [sys.executable, "-I", "-c", alone + example]
        done = subprocess.run(command, cwd=version, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        label, scores = re.fullmatch(r"\['(\w+)'\] \[(.*)\]", done.stdout.strip()).groups()  # type: ignore[union-attr]
        assert label == LABELS[int(np.argmax(first["probabilities"]))]
        np.testing.assert_allclose([float(score) for score in scores.split()], first["probabilities"], atol=1e-4)


@pytest.mark.parametrize("file", WRITERS)
def test_where_a_file_is_asked_nothing_of_this_project_and_no_tensorflow_can_be_imported(
    file: str, version: Path
) -> None:
    script = (
        "import runpy, sys\nsys.argv[:] = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print([name for name in ('tensorflow', 'keras', 'app', 'export', 'models') if sys.modules.get(name, 1)])"
    )
    command = [sys.executable, "-I", "-c", script, str(certificate.RUNNER), str(version / file)]
    done = subprocess.run(command, input="[]", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def alone(version: Path, to: Path, *left_out: str) -> Path:
    """A copy without these files, whose run is gone, so that the artefacts alone are asked again."""
    without(version, to, *left_out)
    forget_the_run(to)
    return to


def test_an_untouched_export_verifies(version: Path, tmp_path: Path) -> None:
    _, found = exporting.verify(alone(version, tmp_path / "1"))
    assert (found["ok"], found["changed"], found["missing"], found["added"]) == (True, [], [], [])
    assert [row["artefact"] for row in found["rows"]] == ["ONNX model.onnx", "OpenVINO model.xml"]


def test_weights_that_were_altered_are_found(version: Path, tmp_path: Path) -> None:
    copy = alone(version, tmp_path / "1", "model.onnx")
    weights = bytearray((copy / "model.bin").read_bytes())
    weights[len(weights) // 3 : len(weights) // 2] = bytes(len(weights) // 2 - len(weights) // 3)
    (copy / "model.bin").write_bytes(weights)
    _, found = exporting.verify(copy)
    assert (found["ok"], found["changed"]) == (False, ["model.bin"])
    assert [certificate.passes(row) for row in found["rows"]] == [False]


def test_another_networks_file_is_found_though_it_was_certified(version: Path, tmp_path: Path) -> None:
    copy = alone(version, tmp_path / "1", "model.xml", "model.bin")
    keras.utils.set_random_seed(9)
    image = keras.Input((32, 32, 3))
    other = keras.Model(image, layers.Dense(3, "softmax")(layers.Flatten()(image)), name="other")
    onnx_file.write(other, Preprocessing(height=32, width=32), LABELS, copy / "model.onnx")
    certify_again(copy)
    _, found = exporting.verify(copy)
    assert (found["ok"], found["changed"]) == (False, [])


@pytest.mark.parametrize(
    ("artefact", "broken", "left"), [("model.onnx", "model.onnx", 0.5), ("model.xml", "model.bin", 0)], ids=str
)
def test_a_file_that_does_not_load_is_named(
    artefact: str, broken: str, left: float, version: Path, tmp_path: Path
) -> None:
    others = {"model.onnx", "model.xml", "model.bin"} - ({artefact} | ({"model.bin"} if "xml" in artefact else set()))
    copy = alone(version, tmp_path / "1", *others)
    content = (copy / broken).read_bytes()
    (copy / broken).write_bytes(content[: int(left * len(content))])
    with pytest.raises(
        UserError, match=rf"1/{artefact} does not run: .*not the files that were certified: {broken}"
    ) as e:
        exporting.verify(copy)
    assert "\n" not in str(e.value)


# ---- what cannot be


class Unknown(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * tf.math.bessel_i0e(x)


class Antialiased(layers.Layer):
    def call(self, x: Any) -> Any:
        return tf.image.resize(x, (5, 5), antialias=True)


@pytest.mark.parametrize("layer", [Unknown, Antialiased])
@pytest.mark.parametrize("file", WRITERS)
def test_a_network_that_a_converter_cannot_take_is_refused_with_the_operation(
    file: str, layer: type[layers.Layer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Dense(3, "softmax")(layers.Flatten()(layer()(image))), name="odd")
    runtime = {"model.onnx": "ONNX", "model.xml": "OpenVINO"}[file]
    operation = {Unknown: "BesselI0e", Antialiased: "ScaleAndTranslate"}[layer]
    with pytest.raises(on_pixels.ConversionError, match=f"^{runtime} has no {operation}, which odd needs$"):
        WRITERS[file](model, Preprocessing(height=8, width=8), LABELS, tmp_path / file)
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []


def test_litert_and_openvino_convert_one_saved_model(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, bool]] = []
    for writer in (tflite, openvino_ir):
        monkeypatch.setattr(
            writer, "write", lambda *_, source, **more: seen.append((source, (source / "saved_model.pb").is_file()))
        )
    networks = [run_folder.load(finished_run.folder)]
    steps, count = exporting_module._steps(finished_run, networks, tmp_path, ["openvino", "tflite"], "float32")
    for step in steps:
        step()
    assert count == len(steps) == 2
    assert len(seen) == 2
    assert {*seen} == {(seen[0][0], True)}
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_a_converter_stops_leaves_nothing(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise on_pixels.ConversionError("ONNX has no Odd, which lenet_bn needs")

    monkeypatch.setattr(onnx_file, "write", refuse)
    with pytest.raises(UserError, match=r"^Nothing was exported: ONNX has no Odd, which lenet_bn needs\.$"):
        exporting.export(finished_run.folder, tmp_path, ["onnx"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_format_of_which_nothing_was_written_is_named(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certifying, "certify", lambda *_: {"ok": True, "rows": []})
    monkeypatch.setattr(onnx_file, "write", lambda *_: None)
    with pytest.raises(UserError, match=r"^Nothing was exported: model\.onnx was not written\.$"):
        exporting.export(finished_run.folder, tmp_path, ["onnx"])


def test_a_disk_that_is_full_is_said_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: Any, **__: Any) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", save)
    image = keras.Input((8, 8, 3))
    with pytest.raises(OSError, match="iostream error") as caught:
        openvino_ir.write(keras.Model(image, image), Preprocessing(height=8, width=8), LABELS, tmp_path / "model.xml")
    assert caught.value.filename == str(tmp_path / "model.xml")


def lacking(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))


@pytest.mark.parametrize(
    ("format_", "package"), [("onnx", "tf2onnx"), ("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_a_format_whose_package_is_not_installed_names_the_extra(
    format_: str, package: str, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, package)
    with pytest.raises(
        UserError, match=rf"^The format {format_} needs {package}, which the extra `runtimes` brings: pip"
    ):
        exporting.export(finished_run.folder, tmp_path / "exports", ["tflite", format_])
    assert not (tmp_path / "exports").exists()


def test_a_file_whose_runtime_is_not_installed_cannot_be_verified(
    version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, "openvino")
    with pytest.raises(UserError, match=r"model\.xml needs openvino, which the extra `runtimes` brings"):
        exporting.verify(version)


@pytest.mark.parametrize(("file", "package"), [("a.tflite", "ai_edge_litert"), ("model.int8.onnx", "onnxruntime")])
def test_whatever_runs_a_file_of_an_export_has_to_be_there(
    file: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).touch()
    runtimes.check_files(tmp_path)
    lacking(monkeypatch, package)
    with pytest.raises(UserError, match=rf"{file} needs {package}, which the extra `runtimes` brings"):
        runtimes.check_files(tmp_path)


def test_the_versions_are_of_what_wrote_and_runs_the_files(tmp_path: Path) -> None:
    always = {*runtimes.of_files(tmp_path)}
    assert "pillow" in always
    in_onnx = {"onnx", "tf2onnx", "onnxruntime"}
    for file, more in (
        ("model.tflite", {"ai-edge-litert"}),
        ("model.float16.tflite", {"ai-edge-litert", "litert-quantizer"}),
        ("model.int8.onnx", in_onnx),
        ("model.xml", {"openvino"}),
        ("model.int8.xml", {"openvino", *in_onnx}),
    ):
        (tmp_path / file).touch()
        assert runtimes.of_files(tmp_path).keys() - always == more
        (tmp_path / file).unlink()


def test_the_examples_of_the_model_card_are_of_float32_and_integers_are_spoken_of_where_there_are(
    version: Path, finished_run: Run, tmp_path: Path
) -> None:
    rows = json.loads((version / "certificate.json").read_text())["rows"]

    def card(*files: str) -> str:
        for file in files:
            (tmp_path / file).touch()
        model_card.write(tmp_path, "it", [finished_run.read_classifier()], None, rows)
        return (tmp_path / "README.md").read_text()

    shutil.copytree(version / "golden", tmp_path / "golden")
    written = card("model.tflite", "model.float16.tflite", "model.dynamic.tflite")
    assert "nearly as the others (see the table): model.dynamic.tflite, model.float16.tflite." in written
    assert "integers" not in written
    written = card("model.onnx", "model.int8.onnx", "model.xml", "model.int8.xml")
    assert "Those of int8 compute in integers" in written
    examples = "".join(re.findall(r"```python\n(.*?)```", written, re.DOTALL))
    assert re.findall(r'"(model\..*?)"', examples) == ["model.tflite", "model.onnx", "model.xml"]
    (tmp_path / "model.tflite").unlink()
    assert 'Interpreter("model.dynamic.tflite")' in card()


def test_the_model_card_speaks_of_the_signature_unknown_where_a_file_has_it(
    version: Path, finished_run: Run, tmp_path: Path
) -> None:
    rows = json.loads((version / "certificate.json").read_text())["rows"]
    figures = json.loads(finished_run.metrics.read_text())
    figures["unknown"] = {"rate": 5.0, "threshold": 2.0, "refused": 0.062}
    shutil.copytree(version / "golden", tmp_path / "golden")
    for more, said in (({}, False), ({"strangeness": 1e-6}, True)):
        model_card.write(tmp_path, "it", [finished_run.read_classifier()], figures, [*rows[:-1], rows[-1] | more])
        assert ("The signature `unknown`" in (tmp_path / "README.md").read_text()) == said


def test_several_runs_become_no_such_file(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="an ensemble, which becomes a SavedModel; leave onnx, openvino out of --formats"
    ):
        exporting.export(
            finished_run.folder,
            tmp_path / "exports",
            exporting_module.DEFAULT[:1] + FORMATS,
            others=[finished_run.folder],
        )
    assert not (tmp_path / "exports").exists()


PREDICTING = """
import sys
from app.__main__ import main
try:
    main(["predict", *sys.argv[1:], "--json"])
except SystemExit as end:
    assert not end.code, end.code
print(sorted(sys.modules.keys() & {"tensorflow", "keras", "onnx"}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.tflite", "model.onnx", "model.xml"])
def test_predicting_from_a_file_needs_neither_tensorflow_nor_keras(
    file: str, version: Path, exported: Path, fresh_process: Callable[..., str]
) -> None:
    golden = exported / "golden"
    path = (exported if file.endswith(".tflite") else version) / file
    said = fresh_process(PREDICTING, path, golden)
    *answer, imported = said.splitlines()
    assert imported == "[]"
    of_saved_model = [*prediction.predict(exported, [golden], 3, unwatched)]
    assert len(of_saved_model) > 8
    for row, right in zip(json.loads("\n".join(answer)), of_saved_model, strict=True):
        assert (row["file"], row["classes"]) == (right["file"], right["classes"])
        np.testing.assert_allclose(row["scores"], right["scores"], rtol=0, atol=1e-5)


def test_predicting_from_an_export_without_a_saved_model_takes_the_best_file(version: Path) -> None:
    assert choosing.meant(version) == version / "model.xml"
    (found,) = predicting.predict(choosing.meant(version), [version / "golden" / "faded.png"], 2, unwatched)
    assert len(found["classes"]) == 2
