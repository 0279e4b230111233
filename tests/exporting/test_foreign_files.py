"""Files that somebody else converted: held against the run, and each planted mistake named."""

import importlib.util
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper
from typer.testing import CliRunner

from app import run_folder
from app.__main__ import app
from app.exporting import foreign
from app.exporting.foreign import comparing, mistakes, process, searching
from app.exporting.foreign.comparing import Told
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden
from tests.makers.foreign_files import (
    REAL,
    Step,
    by_keras,
    channels_swapped,
    plus,
    resized,
    times,
    transposed,
    with_steps,
)

SIDE = 32
SCALED = [times(1 / 127.5), plus(-1)]
BYTES: dict[str, Any] = {"takes": TensorProto.UINT8}
WHOLE: dict[str, Any] = {**BYTES, "shape": ["N", "height", "width", 3]}
NCHW: dict[str, Any] = {"shape": ["N", 3, SIDE, SIDE]}


# ---- arithmetic: what explains answers


def answers_of_a_run(pictures: int = 24, classes: int = 5) -> comparing.Scores:
    return comparing.softmax(np.random.default_rng(2).normal(0, 3, (pictures, classes)))


def explained(answers: comparing.Scores, right: comparing.Scores, computes: str = "float32") -> list[tuple[str, ...]]:
    found = comparing.ways((0, (), answers), [Told((), right)], computes)
    return [way.names for way in comparing.explaining(found, computes)]


def with_background(right: comparing.Scores, first: bool) -> comparing.Scores:
    rest = np.full((len(right), 1), 0.2)
    return np.hstack([rest, 0.8 * right] if first else [right, rest])


READ: dict[str, tuple[Callable[[comparing.Scores], comparing.Scores], list[tuple[str, ...]]]] = {
    "as they are": (lambda right: right, [()]),
    "logits": (lambda right: np.log(right) + 3, [("logits",)]),
    "softmax twice": (comparing.softmax, [("softmax twice",)]),
    "background first": (lambda right: with_background(right, True), [("labels shifted by one",)]),
    "background last": (lambda right: with_background(right, False), [()]),
    "one place off": (lambda right: np.roll(right, 1, axis=1), [("labels shifted by one",)]),
    "two exchanged": (lambda right: right[:, [0, 3, 2, 1, 4]], [("labels in another order",)]),
    "logits of another order": (
        lambda right: np.log(right[:, [4, 3, 2, 1, 0]]),
        [("logits", "labels in another order")],
    ),
    "close": (lambda right: right + 2e-4, [()]),
    "not close": (lambda right: right + 2e-3, []),
    "of others": (lambda right: answers_of_a_run()[::-1], []),
    "no numbers": (lambda right: right * np.nan, []),
    "one for all": (lambda right: np.full_like(right, 0.2), []),
}


@pytest.mark.parametrize("kind", READ)
def test_answers_are_read_in_the_way_that_makes_them_right(kind: str) -> None:
    change, expected = READ[kind]
    assert explained(change(answers_of_a_run()), answers_of_a_run()) == expected


def test_of_outputs_in_another_order_each_is_named() -> None:
    right = answers_of_a_run()
    (way,) = comparing.explaining(
        comparing.ways((0, (), right[:, [2, 0, 1, 4, 3]]), [Told((), right)], "float32"), "float32"
    )
    assert way.order == (2, 0, 1, 4, 3)


def test_integers_agree_by_the_best_class_unless_a_mistake_is_much_nearer() -> None:
    right = answers_of_a_run()
    noise = np.random.default_rng(3).normal(0, 0.02, right.shape)
    assert explained(right + noise, right) == []
    assert explained(right + noise, right, "int8") == [()]
    said = mistakes.Deviation("BGR", "", "")
    blurred = 0.8 * right + 0.04  # the same best classes
    assert (blurred.argmax(1) == right.argmax(1)).all()
    found = comparing.ways((0, (), right + noise / 10), [Told((), blurred), Told((said,), right)], "int8")
    assert [way.names for way in comparing.explaining(found, "int8")] == [("BGR",)]


def test_a_mistake_that_explains_little_is_none() -> None:
    """Of rounding, something is always a little nearer."""
    right = answers_of_a_run()
    said = mistakes.Deviation("BGR", "", "")
    found = comparing.ways((0, (), right), [Told((), right + 1.2e-5), Told((said,), right + 0.9e-5)], "float32")
    assert [way.names for way in comparing.explaining(found, "float32")] == [()]


# ---- files


@pytest.fixture(scope="module")
def base(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """What Keras exports of the run's network as ONNX. Read only."""
    trained = run_folder.load(finished_run.folder)
    return by_keras(trained.model, tmp_path_factory.mktemp("base") / "model.onnx")


HONEST: dict[str, tuple[dict[str, Any], str]] = {
    "as Keras exports it": ({}, "-1..1, RGB, NHWC"),
    "channels first": ({"before": [transposed(0, 2, 3, 1)], **NCHW}, "-1..1, RGB, NCHW"),
    "scaled inside": ({"before": SCALED}, "0..255, RGB, NHWC"),
    "scaled inside from 1": ({"before": [times(2), plus(-1)]}, "0..1, RGB, NHWC"),
    "one picture of whole numbers": (
        {"before": [REAL, *SCALED], **BYTES, "shape": [1, SIDE, SIDE, 3]},
        "0..255, RGB, NHWC",
    ),
    "four pictures": ({"before": SCALED, "shape": [4, SIDE, SIDE, 3]}, "0..255, RGB, NHWC"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_file_agrees_and_its_input_is_found_out(
    kind: str, base: onnx.ModelProto, finished_run: Run, tmp_path: Path
) -> None:
    steps, said = HONEST[kind]
    found = foreign.compare(with_steps(base, tmp_path / "a.onnx", **steps), finished_run.folder)
    assert (found["ok"], found["input"], found["mistakes"]) == (True, said, [])
    assert found["as_it_is"]["difference"] < 1e-5
    assert found["sentences"][0].startswith(f"{tmp_path}/a.onnx agrees with {finished_run.folder}: largest difference ")


PLANTED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str], str]] = {
    "BGR": ({"before": [channels_swapped()]}, {}, ["BGR"], "swap the channels"),
    "BGR, channels first": (
        {"before": [channels_swapped(1), transposed(0, 2, 3, 1)], **NCHW},
        {"layout": "NCHW"},
        ["BGR"],
        "swap the channels",
    ),
    "given 0..1": ({}, {"range_": "0..1"}, ["-1..1"], "give it pixels of -1..1"),
    "given caffe": ({}, {"range_": "caffe"}, ["-1..1"], "give it pixels of -1..1"),
    "scaled inside and outside": ({"before": SCALED}, {"range_": "-1..1"}, ["0..255"], "which it scales itself"),
    "mean missing": ({"before": [times(1 / 127.5)]}, {"range_": "0..255"}, ["mean missing"], "subtract the mean"),
    "mean missing, of bytes": (
        {"before": [REAL, times(1 / 127.5)], **BYTES},
        {},
        ["mean missing"],
        "subtract the mean",
    ),
    "0..1 inside": ({"before": [REAL, times(1 / 255)], **BYTES}, {}, ["0..1"], "convert it again"),
    "not scaled": ({"before": [REAL], **BYTES}, {}, ["0..255"], "convert it again"),
    "scaled twice": ({"before": [*SCALED, *SCALED]}, {"range_": "0..255"}, ["scaled twice"], "not both"),
    "logits": ({"after": [Step("Log")]}, {}, ["logits"], "apply one"),
    "softmax twice": ({"after": [Step("Softmax")]}, {}, ["softmax twice"], "second softmax"),
    "another order": (
        {"after": [Step("Gather", (np.array([1, 0, 2]),), {"axis": 1})]},
        {},
        ["labels in another order"],
        "its own order",
    ),
    "background": (
        {"after": [times(0.9), Step("Pad", (np.array([0, 1, 0, 0]), np.float32(0.1)))], "classes": 4},
        {},
        ["labels shifted by one"],
        "leave it out",
    ),
    "rows and columns": ({"before": [transposed(0, 2, 1, 3)]}, {}, ["rows and columns exchanged"], "order of axes"),
    "reshaped": (
        {"before": [Step("Reshape", (np.array([-1, SIDE, SIDE, 3]),))], **NCHW},
        {},
        ["reshaped, not transposed"],
        "transpose",
    ),
    "BGR and logits": ({"before": [channels_swapped()], "after": [Step("Log")]}, {}, ["BGR", "logits"], "swap"),
    "without antialias": (
        {"before": [REAL, *resized(SIDE, SIDE, mode="linear"), *SCALED], **WHOLE},
        {},
        ["bilinear without antialias"],
        "the run's resize",
    ),
    "from corners": (
        {
            "before": [
                REAL,
                *resized(SIDE, SIDE, mode="linear", coordinate_transformation_mode="asymmetric"),
                *SCALED,
            ],
            **WHOLE,
        },
        {},
        ["bilinear with pixels counted from corners, as TensorFlow 1 did"],
        "the run's resize",
    ),
    "cubic of another kind": (
        {"before": [REAL, *resized(SIDE, SIDE, mode="cubic", cubic_coeff_a=-0.75), *SCALED], **WHOLE},
        {},
        ["resized otherwise"],
        "resize them as the run does before it",
    ),
    "without antialias and mean": (
        {"before": [REAL, *resized(SIDE, SIDE, mode="linear"), times(1 / 127.5)], **WHOLE},
        {},
        ["bilinear without antialias", "mean missing"],
        "subtract the mean",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_mistake_is_named_with_its_remedy(
    kind: str, base: onnx.ModelProto, finished_run: Run, tmp_path: Path
) -> None:
    steps, options, expected, remedy = PLANTED[kind]
    found = foreign.compare(with_steps(base, tmp_path / "a.onnx", **steps), finished_run.folder, **options)
    assert (found["ok"], found["mistakes"]) == (False, expected)
    assert found["explained"]["difference"] < 1e-5
    assert found["as_it_is"]["difference"] > 100 * found["explained"]["difference"]
    assert remedy in found["sentences"][1]
    if kind == "another order":
        assert found["labels"] == ["flower", "digit", "temple"]


@pytest.mark.slow
def test_a_resize_that_is_nearly_the_runs_agrees_closely_and_the_rest_is_said(
    base: onnx.ModelProto, finished_run: Run, tmp_path: Path
) -> None:
    steps = [REAL, *resized(SIDE, SIDE, mode="linear", antialias=1), *SCALED]
    found = foreign.compare(with_steps(base, tmp_path / "a.onnx", before=steps, **WHOLE), finished_run.folder)
    assert (found["ok"], found["mistakes"]) == (True, [])
    assert 1e-5 < found["explained"]["difference"] < 1e-3
    assert f"{tmp_path}/a.onnx agrees closely with" in found["sentences"][0]
    assert "when pictures are resized to 32 x 32 before it." in found["sentences"][2]


def other_network() -> keras.Model:
    keras.utils.set_random_seed(5)
    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(image))
    return keras.Model(image, keras.layers.Dense(3, "softmax")(x))


@pytest.mark.slow
def test_other_weights_are_explained_by_nothing(finished_run: Run, tmp_path: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    trained.model.layers[-1].kernel.assign(trained.model.layers[-1].kernel * 0.7)
    for name, model in (("near", trained.model), ("far", other_network())):
        by_keras(model, tmp_path / f"{name}.onnx")
        found = foreign.compare(tmp_path / f"{name}.onnx", finished_run.folder)
        assert (found["ok"], found["mistakes"], found["explained"]) == (False, [], None), name
        assert "no known mistake explains it" in found["sentences"][0]
        assert "The nearest is " in found["sentences"][0]


def converted(model: keras.Model, file: Path, integers: Any = None, half: bool = False, samples: Any = None) -> Path:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if integers or half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if half:
        converter.target_spec.supported_types = [tf.float16]
    if integers:
        converter.representative_dataset = lambda: ([each[np.newaxis]] for each in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = integers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter guesses the range of inputs that nobody told it
        file.write_bytes(converter.convert())
    return file


@pytest.mark.slow
def test_litert_files_of_floats_halves_and_integers_agree_and_bgr_is_seen_in_each(
    finished_run: Run, tmp_path: Path
) -> None:
    trained = run_folder.load(finished_run.folder)
    encoded = [(finished_run.golden / each["file"]).read_bytes() for each in read_golden(finished_run)]
    samples = [trained.preprocessing(trained.preprocessing.decode(one)).numpy() for one in encoded]
    image = keras.Input((SIDE, SIDE, 3))
    swapped = keras.Model(image, trained.model(image[..., ::-1]))
    kinds: dict[str, dict[str, Any]] = {
        "float32": {},
        "float16": {"half": True},
        "int8": {"integers": tf.int8, "samples": samples},
    }
    for computes, how in kinds.items():
        found = foreign.compare(converted(trained.model, tmp_path / "a.tflite", **how), finished_run.folder)
        assert (found["ok"], found["computes"], found["input"]) == (True, computes, "-1..1, RGB, NHWC")
        found = foreign.compare(converted(swapped, tmp_path / "b.tflite", **how), finished_run.folder)
        assert (found["ok"], found["computes"], found["mistakes"]) == (False, computes, ["BGR"])


@pytest.mark.slow
def test_what_keras_exports_otherwise_agrees(finished_run: Run, tmp_path: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    for name, format_ in (("model.xml", "openvino"), ("folder", "tf_saved_model")):
        trained.model.export(str(tmp_path / name), format=format_, verbose=False)
        found = foreign.compare(tmp_path / name, finished_run.folder)
        assert (found["ok"], found["input"]) == (True, "-1..1, RGB, NHWC")


@pytest.mark.slow
def test_our_own_export_agrees_by_the_names_of_its_classes(exported: Path, finished_run: Run) -> None:
    found = foreign.compare(exported, finished_run.folder)
    assert (found["ok"], found["input"], found["runtime"]) == (True, "whole files, encoded", "TensorFlow")


@pytest.mark.slow
def test_a_saved_model_that_heeds_no_exif_is_told(finished_run: Run, tmp_path: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    servable = tf.Module()
    servable.weights = [variable.value for variable in trained.model.variables]

    def prepared(encoded: Any) -> Any:
        pixels = tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), (None, None, 3))
        return tf.image.resize(pixels, (SIDE, SIDE), antialias=True) / 127.5 - 1

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def classify(files: Any) -> Any:
        return {"scores": trained.model(tf.map_fn(prepared, files, fn_output_signature=tf.float32))}

    tf.saved_model.save(servable, tmp_path / "folder", signatures=classify)
    found = foreign.compare(tmp_path / "folder", finished_run.folder)
    assert (found["ok"], found["mistakes"]) == (False, ["Exif and transparency ignored"])


@pytest.mark.slow
def test_batch_norm_in_training_mode_and_dropout_are_told(finished_run: Run, tmp_path: Path) -> None:
    trained = run_folder.load(finished_run.folder)
    groups = (trained.model.trainable_variables, trained.model.non_trainable_variables)
    weights = [[variable.numpy() for variable in group] for group in groups]

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3])])
    def in_training(image: Any) -> Any:
        return trained.model.stateless_call(*weights, image, training=True)[0]

    @tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3])])
    def dropped(image: Any) -> Any:
        some = tf.cast(tf.random.uniform([1, SIDE, SIDE, 3]) > 0.5, tf.float32)
        return trained.model.stateless_call(*weights, image * some, training=False)[0]

    for function, said in ((in_training, "batch norm in training mode"), (dropped, None)):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
        (tmp_path / "a.tflite").write_bytes(converter.convert())
        found = foreign.compare(tmp_path / "a.tflite", finished_run.folder)
        assert not found["ok"]
        assert found["mistakes"] == ([said] if said else [])
        assert found["random"] == (said is None)
    assert "answers the same picture differently each time" in found["sentences"][0]


@pytest.mark.slow
def test_on_grey_pictures_the_order_of_colours_is_said_to_be_unknown(
    base: onnx.ModelProto, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "PICTURES", 1)  # the golden ones alone
    golden = [image for image in read_golden(finished_run) if image["label"] == "digit"]
    monkeypatch.setattr(searching, "read_golden", lambda run: golden)
    found = foreign.compare(with_steps(base, tmp_path / "a.onnx"), finished_run.folder)
    assert (found["ok"], found["alike"] + found["unseen"]) == (True, ["BGR"])
    assert found["sentences"][-1] == "These pictures do not show: BGR."


# ---- the command


@pytest.mark.slow
def test_the_command_ends_with_0_only_where_a_file_agrees(
    base: onnx.ModelProto, finished_run: Run, tmp_path: Path
) -> None:
    honest = with_steps(base, tmp_path / "a.onnx")
    done = CliRunner().invoke(app, ["verify", str(honest), "--against", str(finished_run.folder), "--range", "-1..1"])
    assert done.exit_code == 0
    assert f"a.onnx agrees with {finished_run.folder}" in done.stdout
    done = CliRunner().invoke(app, ["verify", str(honest), "--against", str(finished_run.folder), "--range", "0..1"])
    assert done.exit_code == 1
    assert "but agrees when its input is -1..1 instead of 0..1" in done.stdout


def test_what_is_said_of_a_foreign_file_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--range, --layout and --output are of a file that is held --against RUN"):
        CliRunner().invoke(app, ["verify", str(tmp_path), "--range", "0..1"], catch_exceptions=False)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.onnx is a file and no export; hold it --against RUN"):
        CliRunner().invoke(app, ["verify", str(tmp_path / "a.onnx")], catch_exceptions=False)


# ---- what cannot be


def made(file: Path, inputs: dict[str, list[Any]], outputs: dict[str, int]) -> Path:
    """An ONNX file of sums, with these inputs and outputs of so many classes."""
    first = next(iter(inputs))
    nodes = [helper.make_node("ReduceMean", [first], ["mean"], keepdims=0)]
    constants = []
    for name, classes in outputs.items():
        constants.append(helper.make_tensor(f"{name}_", TensorProto.FLOAT, [1, classes], [0.0] * classes))
        nodes.append(helper.make_node("Add", ["mean", f"{name}_"], [name]))
    for name in [*inputs][1:]:
        nodes.append(helper.make_node("Identity", [name], [f"{name}_unused"]))
    ends = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, classes]) for name, classes in outputs.items()],
    )
    graph = helper.make_graph(nodes, "sums", *ends, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


IMAGE = {"image": [1, SIDE, SIDE, 3]}
REFUSED: dict[str, tuple[dict[str, list[Any]], dict[str, int], dict[str, Any], str]] = {
    "three inputs": (
        {**IMAGE, "size": [1, 2], "phase": [1]},
        {"a": 3},
        {},
        r"has to have one input, for pictures, and has 3: image \(1, 32, 32, 3\), size \(1, 2\), phase \(1\)\.",
    ),
    "no such output": (
        IMAGE,
        {"a": 7, "b": 2},
        {},
        r"has no output of 3 classes, as .* has, nor of one more; its outputs are a \(1, 7\), b \(1, 2\)\.",
    ),
    "several outputs": (IMAGE, {"a": 3, "b": 3}, {}, "has several outputs for classes: a, b; name one with --output"),
    "another output": (IMAGE, {"a": 3}, {"output": "c"}, r"has no output c; its outputs are a \(1, 3\)\."),
    "another size": (
        {"image": [1, 64, 64, 3]},
        {"a": 3},
        {},
        "takes pictures of 64 x 64, and the network of .* 32 x 32",
    ),
    "another layout": (IMAGE, {"a": 3}, {"layout": "NCHW"}, r"takes \(1, 32, 32, 3\), which is not NCHW"),
    "no picture": ({"image": [1, 10]}, {"a": 3}, {}, r"takes \(1, 10\); pictures are \(N, height, width, 3\)"),
    "one channel": ({"image": [1, SIDE, SIDE, 1]}, {"a": 3}, {}, r"takes \(1, 32, 32, 1\); pictures are"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_cannot_be_asked_is_refused_in_one_sentence(kind: str, finished_run: Run, tmp_path: Path) -> None:
    inputs, outputs, options, said = REFUSED[kind]
    file = made(tmp_path / "a.onnx", inputs, outputs)
    with pytest.raises(UserError, match=said) as caught:
        foreign.compare(file, finished_run.folder, **options)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "runtime"), [("a.onnx", "ONNX Runtime"), ("a.tflite", "LiteRT"), ("a.xml", "OpenVINO")]
)
def test_a_file_that_is_none_is_refused_with_the_runtimes_reason(name: str, runtime: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"years of work" * 100)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} cannot be loaded by {runtime}: .+\.$") as caught:
        process.Foreign(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "Exception from" not in str(caught.value)


def test_a_file_of_no_known_kind_and_one_without_its_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.pt is of no kind that can be asked: a SavedModel is a folder"):
        process.Foreign(tmp_path / "a.pt")
    (tmp_path / "a.xml").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.xml has its weights in a\.bin beside it, which is not there"):
        process.Foreign(tmp_path / "a.xml")
    with pytest.raises(UserError, match=r"is no SavedModel: it holds no saved_model\.pb"):
        process.Foreign(tmp_path)


def test_a_file_whose_runtime_is_not_installed_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.onnx needs onnxruntime, which the extra `runtimes` brings: pip install"):
        process.Foreign(tmp_path / "a.onnx")


DESCRIBED = """import os, sys; print('{"inputs": [], "outputs": [], "computes": ""}', flush=True); """


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            f"import os; os.kill(os.getpid(), {signal.SIGSEGV:d})",
            "ONNX Runtime crashed over .*: its process ended by the signal SIGSEGV",
        ),
        ("raise SystemExit('no such thing')", "crashed over .*with code 1, after it said 'no such thing'"),
        ("import time; time.sleep(60)", "gave no answer in 2 seconds, so that it was stopped"),
        (DESCRIBED + "sys.stdin.readline(); os.abort()", "its process ended by the signal SIGABRT"),
    ],
    ids=["at once", "with a code", "slow", "when asked"],
)
def test_a_process_that_crashes_or_hangs_is_said(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runner.py").write_text(script)
    (tmp_path / "a.onnx").write_bytes(b"")
    monkeypatch.setattr(process, "RUNNER", tmp_path / "runner.py")
    monkeypatch.setattr(process, "PATIENCE", 2.0)
    with pytest.raises(UserError, match=said), process.Foreign(tmp_path / "a.onnx") as file:
        file.answers([np.zeros((1, 2, 2, 3))], "a")


@pytest.mark.slow
def test_a_file_with_other_names_for_its_classes_is_refused(exported: Path, finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(finished_run.folder, tmp_path / "run")
    description = tmp_path / "run" / "classifier.json"
    description.write_text(description.read_text().replace('"digit"', '"number"'))
    with pytest.raises(UserError, match="names classes that are no labels of the run: 'digit'"):
        foreign.compare(exported, tmp_path / "run")
