"""int8 files for ONNX Runtime and OpenVINO: what is integer inside, what they answer, and how much they may lose."""

import errno
import importlib.util
import json
import re
import shutil
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from app import exporting
from app.__main__ import app
from app.datasets.dataset import Data
from app.exporting import calibrating, quantizing
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from export import folding, onnx_file, quantized_onnx, quantized_openvino, run_artefact
from export.on_pixels import ConversionError

LABELS = ("digit", "flower", "temple")
FORMATS = ("onnx", "openvino")
# Larger and smaller than the network, odd, one and several.
BATCHES = ((1, 1, 1), (3, 200, 7), (1, 31, 65), (2, 32, 32), (1, 115, 460))
KERNELS = 5  # two convolutions and three dense layers


@pytest.fixture(scope="module")
def source(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float32 file. Read only."""
    file = tmp_path_factory.mktemp("float32") / "model.onnx"
    onnx_file.write(folding.fold(trained.model), trained.preprocessing, LABELS, file)
    return file


@pytest.fixture(scope="module")
def ranges(source: Path, samples: list[Any]) -> Any:
    return quantized_onnx.ranges(source, samples)


@pytest.fixture(scope="module")
def files(source: Path, ranges: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The int8 files of both formats. Read only."""
    folder = tmp_path_factory.mktemp("int8")
    quantized_onnx.write(source, folder / "model.int8.onnx", ranges)
    quantized_openvino.write(folder / "model.int8.onnx", folder / "model.int8.xml")
    return {"onnx": folder / "model.int8.onnx", "openvino": folder / "model.int8.xml"}


def answers(file: Path, batches: list[Any]) -> Any:
    network = run_artefact.RUNTIMES[file.suffix][1](str(file))
    return np.concatenate([np.array(network(pictures)) for pictures in batches])


# ---- what is inside


def test_the_network_is_of_integers_and_what_is_around_it_is_as_it_was(source: Path, files: dict[str, Path]) -> None:
    before, after = onnx.load(source).graph, onnx.load(files["onnx"]).graph

    def up_to_the_first_kernel(graph: Any) -> list[tuple[str, str]]:
        kinds = [(node.op_type, node.name) for node in graph.node if "izeLinear" not in node.op_type]
        return kinds[: kinds.index(next(one for one in kinds if one[0] == "Conv"))]

    resizing = up_to_the_first_kernel(before)
    assert len(resizing) > 10
    assert sorted(up_to_the_first_kernel(after)) == sorted(resizing)
    scaled = {name for node in after.node if "izeLinear" in node.op_type for name in (*node.input, *node.output)}
    ends = {name for node in before.node if (node.op_type, node.name) in resizing[:-1] for name in node.output}
    assert not scaled & ends
    assert not scaled & {"probabilities", "image"}
    assert files["onnx"].stat().st_size < 0.4 * source.stat().st_size


def test_kernels_have_seven_bits_and_a_scale_for_each_channel(files: dict[str, Path]) -> None:
    """Eight overflow where products are added in 16 bits."""
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(files["onnx"]).graph.initializer}
    kernels = {name: weight for name, weight in weights.items() if weight.dtype == np.int8 and weight.ndim > 1}
    assert len(kernels) == KERNELS
    for name, weight in kernels.items():
        assert np.abs(weight.astype(int)).max() == 64, name
        (scale,) = (weights[one] for one in weights if one == name.replace("_quantized", "_scale"))
        channels = weight.shape[0] if weight.ndim == 4 else weight.shape[1]
        assert scale.shape == (channels,)
        assert np.ptp(scale) > 0


def test_openvino_computes_the_kernels_in_integers(files: dict[str, Path]) -> None:
    compiled = openvino.Core().compile_model(files["openvino"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    computed = Counter(
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in compiled.get_runtime_model().get_ops()
        if re.match("Convolution|FullyConnected", node.get_rt_info()["layerType"].astype(str))
    )
    assert computed.keys() <= {"i8", "u8"}
    assert computed.total() == KERNELS


def test_the_files_say_what_the_float32_file_says(source: Path, files: dict[str, Path]) -> None:
    right = {entry.key: entry.value for entry in onnx.load(source).metadata_props}
    assert right.keys() == {"labels", "preprocessing", "description"}
    network = onnx.load(files["onnx"])
    assert {entry.key: entry.value for entry in network.metadata_props} == right
    assert [one.name for one in (*network.graph.input, *network.graph.output)] == ["image", "probabilities"]
    info = openvino.Core().read_model(files["openvino"]).get_rt_info()
    assert {name: info[name].astype(str) for name in right} == right


def test_what_is_joined_has_the_scale_of_the_whole() -> None:
    """So that nothing is scaled again: one joining inside another, too; but not `b`, which something else reads."""
    node = onnx.helper.make_node
    graph = SimpleNamespace(
        node=[
            node("Concat", ["a", "b"], ["c"]),
            node("Relu", ["b"], ["r"]),
            node("Concat", ["c", "d"], ["e"]),
        ]
    )
    from onnxruntime.quantization import CalibrationMethod, TensorsData

    tops = {"a": 1.0, "b": 2.0, "c": 2.0, "d": 9.0, "e": 9.0, "r": 2.0}
    measured = TensorsData(
        CalibrationMethod.MinMax, {name: (np.float32(0), np.float32(top)) for name, top in tops.items()}
    )
    found = {name: one.range_value[1] for name, one in quantized_onnx._of_one_scale(graph, measured).items()}
    assert found == {"a": 9, "b": 2, "c": 9, "d": 9, "e": 9, "r": 2}
    assert measured["a"].range_value[1] == 1


# ---- what they answer


@pytest.mark.parametrize("format_", FORMATS)
def test_any_number_of_pictures_of_any_size_is_answered_nearly_as_by_float32(
    format_: str, source: Path, files: dict[str, Path], samples: list[Any]
) -> None:
    rng = np.random.default_rng(6)
    shown = [rng.integers(0, 256, (*batch, 3), dtype=np.uint8) for batch in BATCHES]
    shown += [sample[np.newaxis] for sample in samples]
    right, found = (answers(file, shown) for file in (source, files[format_]))
    assert 0 < np.abs(found - right).max() < 0.2
    assert np.abs(found - right).mean() < 0.01


def test_ranges_come_from_the_samples(source: Path, samples: list[Any], ranges: Any, tmp_path: Path) -> None:
    dark = quantized_onnx.ranges(source, [sample // 16 for sample in samples])
    worst = []
    for name, measured in (("dark.onnx", dark), ("light.onnx", ranges)):
        quantized_onnx.write(source, tmp_path / name, measured)
        right, found = (answers(file, [one[np.newaxis] for one in samples]) for file in (source, tmp_path / name))
        worst.append(np.abs(found - right).max())
    assert worst[0] > 2 * worst[1]


def test_the_operation_that_makes_the_noise_is_blamed_and_can_stay_in_float(
    source: Path, samples: list[Any], ranges: Any, tmp_path: Path
) -> None:
    from onnxruntime.quantization import TensorData, TensorsData

    before = quantized_onnx.errors(source, ranges, samples[:4])
    ratios = [ratio for _, ratio in before]
    assert ratios == sorted(ratios)
    assert len(before) == KERNELS
    # The range of one, not the first of them, is made a hundred times too wide.
    guilty = before[-1][0]
    low, high = (100 * end for end in ranges[guilty].range_value)
    spoilt = TensorsData(
        ranges.calibration_method, dict(ranges.items()) | {guilty: TensorData(lowest=low, highest=high)}
    )
    noisiest = quantized_onnx.errors(source, spoilt, samples[:4])
    assert noisiest[0][0] == guilty
    assert noisiest[0][1] < before[-1][1] / 100
    sizes = []
    for name, in_float in (("all.onnx", []), ("mixed.onnx", [guilty])):
        quantized_onnx.write(source, tmp_path / name, ranges, in_float)
        weights = onnx.load(tmp_path / name).graph.initializer
        sizes.append(sum(one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1 for one in weights))
    assert sizes == [KERNELS, KERNELS - 1]


# ---- what is left behind


def test_the_quantiser_writes_nowhere_else_says_nothing_and_opens_no_connection_in_python(
    source: Path, samples: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("home", "elsewhere", "temporary", "files")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setenv("HOME", str(places["home"]))
    monkeypatch.chdir(places["elsewhere"])
    monkeypatch.setattr(tempfile, "tempdir", str(places["temporary"]))

    # Of what is written in Python and has its telemetry there; a runtime in C++ asks past this.
    asked = []
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *given: asked.append(given))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **_: asked.append(given))
    float32 = places["files"] / "model.onnx"
    shutil.copy(source, float32)
    measured = quantized_onnx.ranges(float32, samples[:2])
    quantized_onnx.errors(float32, measured, samples[:1])
    quantized_onnx.write(float32, places["files"] / "int8.onnx", measured)
    quantized_openvino.write(places["files"] / "int8.onnx", places["files"] / "int8.xml")
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert asked == []
    assert left == ["files/int8.bin", "files/int8.onnx", "files/int8.xml", "files/model.onnx"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("why", ["nothing to quantise", "an operation"])
def test_what_the_quantiser_cannot_take_is_one_sentence(
    why: str, source: Path, ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "an operation":
        import onnxruntime.quantization

        def refuse(*_: Any, **__: Any) -> None:
            raise NotImplementedError("There is no Odd.\nA stack of C++")

        monkeypatch.setattr(onnxruntime.quantization, "QDQQuantizer", refuse)
        said = r"^ONNX Runtime's quantizer cannot take model\.onnx: There is no Odd$"
    else:
        monkeypatch.setattr(quantized_onnx, "WITH_KERNELS", ("Einsum",))
        said = "has no Einsum that could be quantised$"
    with pytest.raises(ConversionError, match=said):
        quantized_onnx.write(source, tmp_path / "int8.onnx", ranges)
    assert list(tmp_path.iterdir()) == []
    assert [file.name for file in source.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("left", [0, 1000, -100])
def test_a_disk_that_becomes_full_is_not_blamed_on_the_quantiser(
    left: int, source: Path, ranges: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = onnx.shape_inference.infer_shapes_path

    def cut_short(model: str, file: str) -> None:
        """As it does: without a word."""
        infer(model, file)
        content = Path(file).read_bytes()
        Path(file).write_bytes(content[:left])

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes_path", cut_short)
    with pytest.raises(OSError, match="No space left on device") as caught:
        quantized_onnx.write(source, tmp_path / "int8.onnx", ranges)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("why", ["it is not there", "it fails"])
def test_the_int8_ir_is_written_without_what_openvino_does_not_promise(
    why: str, files: dict[str, Path], samples: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise TypeError

    gone = None if why == "it is not there" else SimpleNamespace(apply_moc_transformations=refuse)
    monkeypatch.setitem(sys.modules, "openvino._offline_transformations", gone)
    quantized_openvino.write(files["onnx"], tmp_path / "model.int8.xml")
    shown = [sample[np.newaxis] for sample in samples[:3]]
    right, found = (answers(file, shown) for file in (files["openvino"], tmp_path / "model.int8.xml"))
    np.testing.assert_allclose(found, right, atol=1e-2)


def test_an_error_of_openvino_without_words_is_one_sentence(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(openvino, "Core", refuse)
    with pytest.raises(ConversionError, match=r"^OpenVINO cannot read model\.int8\.onnx: RuntimeError$"):
        quantized_openvino.write(files["onnx"], tmp_path / "model.xml")


# ---- how much they may lose


def scripted(monkeypatch: pytest.MonkeyPatch, losses: dict[str, list[int]]) -> list[list[str]]:
    """Each time that a file is asked it answers as many validation pictures wrongly as the next of its list says."""
    seen: list[list[str]] = []

    def answers(files: list[Path], validation: calibrating.Pictures, watch: Any) -> list[Any]:
        seen.append([file.name for file in files])
        truth = validation.labels()
        wrong = [losses[file.name].pop(0) if file.name in losses else 0 for file in files]
        best = [np.where(np.arange(len(truth)) < count, (truth + 1) % 3, truth) for count in wrong]
        return [np.eye(3)[one] for one in best]

    monkeypatch.setattr(quantizing, "_answers", answers)
    return seen


def folder_of(source: Path, tmp_path: Path) -> Path:
    shutil.copy(source, tmp_path)
    (tmp_path / "model.xml").touch()
    return tmp_path


def test_each_format_is_tried_until_one_file_loses_little_enough(
    data: Data,
    trained: Trained,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = scripted(monkeypatch, {"model.int8.onnx": [6, 6], "model.int8.xml": [6, 0]})
    made = []
    write = quantized_onnx.write

    def counted(source: Path, file: Path, *rest: Any) -> None:
        made.append(file.name)
        write(source, file, *rest)

    monkeypatch.setattr(quantized_onnx, "write", counted)
    found = quantizing.quantize(data, trained, folder_of(source, tmp_path), FORMATS, "int8", 1.0)
    # Float32 is asked once, and both formats have their file from one quantisation.
    assert seen == [["model.onnx", "model.int8.onnx", "model.int8.xml"], ["model.int8.onnx", "model.int8.xml"]]
    assert made.count("int8.onnx") == 2, "once for its errors"
    assert made.count("mixed.onnx") == 1
    of_onnx, of_openvino = found
    lost = 100 * 6 / of_onnx["images"]
    assert (of_onnx["format"], of_onnx["file"], of_onnx["kind"], of_onnx["drop"]) == ("onnx", None, None, None)
    assert [one["drop"] for one in of_onnx["tried"]] == pytest.approx([lost, lost])
    assert (of_openvino["file"], of_openvino["kind"], of_openvino["drop"]) == ("model.int8.xml", "int8", 0)
    assert [one["what"] for one in of_openvino["tried"]] == ["int8", "int8 with 1 operation in float32"]
    assert len(of_openvino["noisiest"]) == KERNELS
    kept = ["model.int8.bin", "model.int8.xml", "model.onnx", "model.xml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    said = capsys.readouterr().err
    assert f"Rejected int8 for ONNX: {lost:.2f} points are more than --max-drop 1" in said
    assert "No quantised file is written for ONNX: each loses too much." in said
    assert "Quantised to int8 with 1 operation in float32 for OpenVINO: 0.00 points of accuracy lost" in said


def test_where_every_file_loses_too_much_nothing_is_exported(
    data: Data, trained: Trained, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {"model.int8.onnx": [6, 6], "model.int8.xml": [6, 6]})
    with pytest.raises(
        UserError, match=r"^Nothing was exported: .*max-drop 1 points \(int8 for ONNX .*, int8 for OpenV"
    ):
        quantizing.quantize(data, trained, folder_of(source, tmp_path), FORMATS, "int8", 1.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.xml"]


def test_a_picture_is_decoded_once_for_all_files(
    data: Data, trained: Trained, source: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    decoded: Counter[int] = Counter()

    class Counting(Preprocessing):
        def decode(self, encoded: Any) -> Any:
            decoded[hash(encoded)] += 1
            return super().decode(encoded)

    shown = Trained(
        trained.model, lambda: trained.logits_model, trained.labels, Counting(**trained.preprocessing.model_dump())
    )
    found = quantizing.quantize(data, shown, folder_of(source, tmp_path), ("tflite", *FORMATS), "int8", 100)
    assert [one["file"] for one in found] == ["model.int8.tflite", "model.int8.onnx", "model.int8.xml"]
    # Each training picture for the ranges of both quantizers.
    assert decoded.total() == data.validation.count + 2 * data.train.count


def test_a_file_that_its_runtime_does_not_take_is_named(tmp_path: Path, data: Data, trained: Trained) -> None:
    file = tmp_path / "model.int8.onnx"
    file.write_bytes(b"none")
    validation = calibrating.validation(data, trained.preprocessing)
    with pytest.raises(ConversionError, match=r"^model\.int8\.onnx does not run: [^\n]+$"):
        quantizing._answers([file], validation, unwatched)


# ---- what they are calibrated on


def of_classes(labels: list[int], names: int) -> Any:
    """Data whose training pictures, in the order of their shuffle, have these labels."""
    encoded = [f"picture {place}".encode() for place in range(len(labels))]
    examples = tf.data.Dataset.from_tensor_slices((encoded, tf.constant(labels, tf.int64)))
    train = SimpleNamespace(count=len(labels), shuffled=lambda *_: examples)
    return SimpleNamespace(name="these", labels=[f"class {place}" for place in range(names)], train=train)


def test_a_rare_class_is_among_the_pictures_for_the_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [0] * 300 + [1] + [0] * 50 + [2] + [0] * 100
    chosen = calibrating.samples(of_classes(labels, 3), Preprocessing(height=4, width=4))
    assert Counter(chosen.labels().tolist()) == {0: calibrating.SAMPLES - 2, 1: 1, 2: 1}
    encoded = {content for content, _ in chosen.examples.as_numpy_iterator()}
    assert len(encoded) == chosen.count == calibrating.SAMPLES
    assert {b"picture 0", b"picture 97", b"picture 300", b"picture 351"} <= encoded
    assert capsys.readouterr().err == ""


def test_of_more_classes_than_pictures_each_picture_is_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    labels = [place // 2 for place in range(300)]
    chosen = calibrating.samples(of_classes(labels, 150), Preprocessing(height=4, width=4))
    assert len({*chosen.labels().tolist()}) == chosen.count == calibrating.SAMPLES
    assert capsys.readouterr().err == ""


def test_a_class_without_a_training_picture_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = calibrating.samples(of_classes([0, 2, 0, 2], 4), Preprocessing(height=4, width=4))
    assert chosen.count == 4
    assert capsys.readouterr().err.replace("\n", " ").strip() == (
        "The ranges of int8 are taken without class 1, class 3: no picture of these classes is in the 4 "
        "training images of these that were looked at."
    )


# ---- whole exports


def test_the_int8_file_of_openvino_needs_what_makes_the_onnx_file(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "tf2onnx" else find(name, *rest)
    )
    with pytest.raises(
        UserError, match=r"^OpenVINO's file of --quantize int8 needs tf2onnx, which the extra `runtimes` brings: pip"
    ):
        exporting.export(finished_run.folder, tmp_path / "exports", ["openvino"], quantize="int8")
    assert not (tmp_path / "exports").exists()


@pytest.mark.slow
@pytest.mark.parametrize("formats", [FORMATS, ("openvino",)])
def test_an_export_with_int8_files_is_certified_and_says_what_was_lost(
    formats: tuple[str, ...], finished_run: Run, tmp_path: Path
) -> None:
    options = ["--to", tmp_path, "--formats", ",".join(formats), "--quantize", "int8", "--max-drop", "5", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in ("export", finished_run.folder, *options)])
    assert done.exit_code == 0, done.output
    version = tmp_path / finished_run.folder.name / "1"
    rows = {row["artefact"]: row for row in json.loads(done.stdout)["rows"]}
    kinds = {"onnx": "ONNX model.int8.onnx", "openvino": "OpenVINO model.int8.xml"}
    for format_ in formats:
        row = rows[kinds[format_]]
        assert (row["precision"], row["tolerance"]) == ("int8", None)
    found = json.loads((version / "certificate.json").read_text())
    assert [one["format"] for one in found["quantization"]] == [*formats]
    assert {"onnxruntime", "tf2onnx"} <= found["versions"].keys()
    assert (version / "model.onnx").exists() == ("onnx" in formats)
    assert [path.name for path in version.iterdir() if path.name.startswith(".")] == []
    assert "Smaller files, which answer nearly as the others" in (version / "README.md").read_text()
    assert CliRunner().invoke(app, ["verify", str(version)]).exit_code == 0


@pytest.mark.slow
def test_an_export_that_the_quantiser_stops_leaves_nothing(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ConversionError("ONNX Runtime's quantizer cannot take model.onnx: Odd")

    monkeypatch.setattr(quantized_onnx, "write", refuse)
    with pytest.raises(
        UserError, match=r"^Nothing was exported: ONNX Runtime's quantizer cannot take model.onnx: Odd\.$"
    ):
        exporting.export(finished_run.folder, tmp_path, ["onnx"], quantize="int8")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
