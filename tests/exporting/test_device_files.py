"""LiteRT files in the hands of programs that are not ours: those that never resize, MediaPipe, graphics processors."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from PIL import Image

from app import run_folder
from app.datasets import loading
from app.evaluation import evaluating, strangeness
from app.exporting import on_gpu
from app.images.decoding import decode
from app.run_folder.folder import Run
from export import certificate, gpu_delegate, quantization, tflite
from tests.makers.environments import interpreter_with

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def originals(exported: Path) -> list[Array]:
    """The golden images as upright RGB, each of a size of its own."""
    return [decode(Path(image["file"]).read_bytes()).numpy() for image in certificate.golden(exported)]


@pytest.fixture(scope="module")
def of_the_networks_size(originals: list[Array]) -> list[Array]:
    return [np.asarray(Image.fromarray(picture).resize((32, 32))) for picture in originals]


def scores(exported: Path, pictures: list[Array]) -> Array:
    """What the SavedModel says, (pictures, classes)."""
    served = tf.saved_model.load(str(exported)).signatures["predict_pixels"]
    return np.concatenate([served(images=tf.constant(one[None]))["probabilities"].numpy() for one in pictures])


def test_a_program_that_never_resizes_gives_pictures_of_the_networks_size(
    exported: Path, of_the_networks_size: list[Array], tmp_path: Path
) -> None:
    quantization.write(exported / "model.tflite", "float16", tmp_path / "half.tflite", "lenet_bn")
    right = scores(exported, of_the_networks_size)
    for file, limit in ((exported / "model.tflite", 1e-5), (tmp_path / "half.tflite", 1e-2)):
        network = Interpreter(str(file))
        network.allocate_tensors()
        ((image,), (probabilities,)) = network.get_input_details(), network.get_output_details()
        assert image["shape"].tolist() == [1, 32, 32, 3]
        assert image["shape_signature"].tolist() == [-1, -1, -1, 3]
        for picture, expected in zip(of_the_networks_size, right, strict=True):
            network.set_tensor(image["index"], picture[None])
            network.invoke()
            np.testing.assert_allclose(network.get_tensor(probabilities["index"])[0], expected, rtol=0, atol=limit)


def test_every_tensor_has_the_shape_that_follows_from_the_pictures(exported: Path) -> None:
    graph = flatbuffer_utils.read_model(exported / "model.tflite").subgraphs[0]
    network = Interpreter(str(exported / "model.tflite"))
    network.resize_tensor_input(network.get_input_details()[0]["index"], (1, 32, 32, 3))
    network.allocate_tensors()
    known = {tensor["name"]: tensor["shape"].tolist() for tensor in network.get_tensor_details()}
    resizable = [tensor for tensor in graph.tensors if tensor.shapeSignature is not None]
    written = {tensor.name.decode(): list(tensor.shape) for tensor in resizable}
    assert len(written) > 20
    assert written == {name: known[name] for name in written}
    assert [1, 3, 32, 32] in written.values(), "the picture's planes, not a pixel's"


# ---- MediaPipe

MEDIAPIPE = "mediapipe==1.2.3"
ASK_MEDIAPIPE = """
import json, sys
import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=sys.argv[1]))
with vision.ImageClassifier.create_from_options(options) as classifier, np.load(sys.argv[2]) as pictures:
    images = (mediapipe.Image(mediapipe.ImageFormat.SRGB, pictures[name]) for name in pictures)
    answers = [classifier.classify(image).classifications[0].categories for image in images]
print(json.dumps([{found.category_name: found.score for found in answer} for answer in answers]))
"""


@pytest.fixture(scope="module")
def judging(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LiteRT file of the network that `exported` has, with the signature `unknown`, for which its validation images
    are too few: its score is of the training images."""
    trained, split = run_folder.load(finished_run.folder), loading.of_run(finished_run).train
    reading = strangeness.Reading(trained.model, count=split.count)
    evaluating.predict(reading, split, trained.preprocessing)
    known = reading.fit()
    assert not isinstance(known, str), known
    file = tmp_path_factory.mktemp("judging") / "model.tflite"
    tflite.write(trained.model, trained.preprocessing, trained.labels, file, known=known)
    return file


@pytest.fixture(scope="module")
def mediapipe(request: pytest.FixtureRequest) -> Path:
    return interpreter_with(MEDIAPIPE, request)


def asked(mediapipe: Path, file: Path, pictures: list[Array], to: Path) -> Array:
    """What its ImageClassifier says, (pictures, classes) in the order of their names."""
    np.savez(to / "pictures.npz", *pictures)
    command = [mediapipe, "-I", "-c", ASK_MEDIAPIPE, file, to / "pictures.npz"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.array([[answer[name] for name in sorted(answer)] for answer in json.loads(done.stdout.splitlines()[-1])])


@pytest.mark.slow
def test_mediapipe_answers_as_the_saved_model(
    mediapipe: Path, exported: Path, originals: list[Array], of_the_networks_size: list[Array], tmp_path: Path
) -> None:
    found = asked(mediapipe, exported / "model.tflite", [*of_the_networks_size, *originals], tmp_path)
    same, resized = np.split(found, [len(of_the_networks_size)])
    np.testing.assert_allclose(same, scores(exported, of_the_networks_size), rtol=0, atol=1e-3)
    # It makes the originals smaller itself, without antialiasing: other pixels, the same picture.
    right = scores(exported, originals)
    assert len({picture.shape for picture in originals}) > 5
    assert (resized.argmax(axis=1) == right.argmax(axis=1)).all()
    assert np.ptp(found, axis=0).max() > 0.5, "not one answer for everything"


@pytest.mark.slow
def test_mediapipe_reads_a_file_that_says_unknown_as_one_that_does_not(
    mediapipe: Path, exported: Path, judging: Path, of_the_networks_size: list[Array], tmp_path: Path
) -> None:
    assert [*tflite.interpreter(exported / "model.tflite").get_signature_list()] == ["serving_default"]
    assert [*tflite.interpreter(judging).get_signature_list()] == ["serving_default", "unknown"]
    found = asked(mediapipe, judging, of_the_networks_size, tmp_path)
    plain = asked(mediapipe, exported / "model.tflite", of_the_networks_size, tmp_path)
    np.testing.assert_allclose(found, plain, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found, scores(exported, of_the_networks_size), rtol=0, atol=1e-3)


# ---- graphics processors


def analyzer(monkeypatch: pytest.MonkeyPatch, **faults: str) -> None:
    """One that complains of the control, and of the files that are named."""

    def analyze(model_path: str = "", model_content: bytes = b"", gpu_compatibility: bool = False) -> None:
        assert gpu_compatibility
        fault = "Not supported op WHERE" if model_content else faults.get(Path(model_path).stem)
        print("Subgraph#0 main(T#0) -> [T#1]\n  Op#0 WHERE(T#0) -> [T#1]")
        print(f"GPU COMPATIBILITY WARNING: {fault}" if fault else "Your model looks compatible with GPU delegate.\nBut")

    gpu_delegate.tells_apart.cache_clear()
    monkeypatch.setattr(tf.lite.experimental.Analyzer, "analyze", analyze)


def test_what_the_analyzer_says_of_each_file_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("good", "bad"):
        (tmp_path / f"{name}.tflite").touch()
    analyzer(monkeypatch, bad="Not supported op CUMSUM")
    found = on_gpu.report(tmp_path)
    gpu_delegate.tells_apart.cache_clear()
    assert found == {
        "bad.tflite": {"compatible": False, "said": ["GPU COMPATIBILITY WARNING: Not supported op CUMSUM"]},
        "good.tflite": {"compatible": True, "said": ["Your model looks compatible with GPU delegate."]},
    }
    assert capsys.readouterr().err == (
        "GPU delegate: good.tflite compatible as far as the Analyzer sees; bad.tflite with operations that stay on the "
        "CPU.\n"
    )


def test_an_analyzer_that_finds_no_fault_with_anything_proves_nothing(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorFlow 2.21's, as it is built. This test fails with the first one that looks."""
    found = json.loads((exported / "certificate.json").read_text())["gpu_delegate"]
    assert found["model.tflite"]["compatible"] is None
    assert "looks compatible" in found["model.tflite"]["said"][0]
    assert not gpu_delegate.tells_apart()
    on_gpu.report(exported)
    assert "not known here, since the Analyzer of TensorFlow" in capsys.readouterr().err


def test_an_export_without_device_files_says_nothing_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert on_gpu.report(tmp_path) == {}
    assert capsys.readouterr().err == ""


def test_a_device_file_can_be_resized_to_any_number_and_size(exported: Path) -> None:
    rng = np.random.default_rng(2)
    network = tflite.interpreter(exported / "model.tflite")
    (image,), (probabilities,) = network.get_input_details(), network.get_output_details()
    for shape in ((1, 1, 1, 3), (3, 200, 7, 3), (2, 32, 32, 3), (1, 31, 65, 3)):
        pictures = rng.integers(0, 256, shape, dtype=np.uint8)
        network.resize_tensor_input(image["index"], shape)
        network.allocate_tensors()
        network.set_tensor(image["index"], pictures)
        network.invoke()
        found = network.get_tensor(probabilities["index"])
        np.testing.assert_allclose(found, scores(exported, list(pictures)), rtol=0, atol=1e-4)
