"""The benchmarks' arithmetic, and the process that a contestant runs in. What they measure stands in RESULTS.md."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from app import run_folder
from app.datasets import loading
from app.images.preprocessing import Preprocessing
from app.run_folder import golden
from benchmarks import calm, evaluation, exporting, first_answer, inference, merging, quantization
from benchmarks.exporting import Event, Sample
from benchmarks.inference import (
    BARE_INT8,
    BARE_ONNX,
    BARE_OPENVINO,
    DYNAMIC,
    FLOAT32,
    INT8,
    KERAS,
    LIMIT,
    ONNX,
    OPENVINO_INT8,
    OURS,
    PRODUCT,
    Measured,
)
from benchmarks.quantization import Answers
from export import run_artefact, tflite
from models import BatchNormalization


@pytest.fixture
def times() -> dict[str, list[float]]:
    rng = np.random.default_rng(5)
    names = (OURS, FLOAT32, DYNAMIC, INT8, ONNX, OPENVINO_INT8, KERAS, BARE_ONNX, BARE_OPENVINO, BARE_INT8, LIMIT)
    return {name: rng.lognormal(3, 1, 7).tolist() for name in names}


def test_ratios_are_medians_of_the_ratios_within_a_round(times: dict[str, list[float]]) -> None:
    rows = inference.table(Measured(times, [], {}), 8, 0)
    expected = float(np.median(np.divide(times[OURS], times[BARE_ONNX])))
    of_medians = float(np.median(times[OURS]) / np.median(times[BARE_ONNX]))
    assert abs(expected - of_medians) > 0.01
    found = {line["name"]: line for line in rows}
    assert found["SavedModel, batch 8"]["ratio"] == pytest.approx(expected, abs=5e-4)
    assert found["SavedModel, batch 8"]["against"] == BARE_ONNX
    assert found["LiteRT int8, batch 8"]["median_ms"] == pytest.approx(np.median(times[INT8]), abs=5e-4)
    assert len(found) == len(rows) == len(times)


def test_integers_are_held_against_integers_and_all_against_keras_where_the_peers_are_left_out(
    times: dict[str, list[float]],
) -> None:
    found = {line["name"]: line for line in inference.table(Measured(times, [], {}), 8, 0)}
    expected = float(np.median(np.divide(times[INT8], times[BARE_INT8])))
    assert found["LiteRT int8, batch 8"]["ratio"] == pytest.approx(expected, abs=5e-4)
    assert found["bare OpenVINO int8, batch 8"]["ratio"] == 1
    ours = {name: times[name] for name in (OURS, INT8, KERAS, LIMIT)}
    *lines, _ = inference.table(Measured(ours, [], {}), 8, 0)
    assert {line["against"] for line in lines} == {KERAS}


def test_the_limit_is_what_the_multiplications_take_at_the_measured_rate(times: dict[str, list[float]]) -> None:
    times[LIMIT] = [14.0, 16.0, 15.0, 13.0, 17.0, 15.0, 15.0]
    *lines, product = inference.table(Measured(times, [], {}), 1, 3 * PRODUCT**3)
    assert {line["limit"] for line in lines} == {45.0}
    assert product["name"].endswith("143 GFLOP/s")  # 2 x 1024^3 in 15 ms


def test_the_fastest_of_our_files_is_held_against_what_is_wanted(times: dict[str, list[float]]) -> None:
    times |= {DYNAMIC: [4.0] * 7, INT8: [5.0] * 7, OPENVINO_INT8: [3.2] * 7, BARE_INT8: [3.0] * 7}
    times |= {OURS: [11.0] * 7, FLOAT32: [12.0] * 7, ONNX: [10.0] * 7, BARE_ONNX: [10.0] * 7}
    said = inference.verdicts(Measured(times, [], {OURS: 2e-7, ONNX: 2e-5, INT8: 0.3}), 8, 224)
    assert "OpenVINO int8 / bare OpenVINO int8, batch 8 = 1.067, wanted: at most 1.050: missed" in said
    assert "ONNX float32 / bare ONNX Runtime, batch 8 = 1.000, wanted: at most 1.050: reached" in said
    assert "SavedModel / bare ONNX Runtime, batch 8 = 1.100, wanted: at most 1.050: missed" in said
    assert said[-1].endswith(", batch 8: 2.0e-05 (ONNX float32), wanted: at most 1e-05: missed")
    alone = inference.verdicts(Measured({OURS: [1.0], KERAS: [1.0]}, [], {OURS: 1e-6}), 8, 224)
    assert len(alone) == 1
    assert alone[0].endswith(": reached")


def test_of_small_pictures_the_saved_model_is_held_against_litert(times: dict[str, list[float]]) -> None:
    times |= {OURS: [16.0] * 7, FLOAT32: [10.0] * 7}
    sentence = "SavedModel / LiteRT float32, batch 1 = 1.600, wanted: at most 1.500: missed"
    found = Measured(times, [], {OURS: 0.0})
    assert sentence in inference.verdicts(found, 1, 64)
    assert sentence not in inference.verdicts(found, 1, 224)


def test_a_peer_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "PEERS", {BARE_ONNX: ("json", "no_such_runtime", "nor_this")})
    (sentence,) = inference.write_peers(tmp_path)
    assert sentence.startswith("bare ONNX Runtime is left out, since no_such_runtime and nor_this cannot be imported;")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lacking", "written"),
    [
        ("nncf", ["model.int8.onnx", "model.int8.xml", "model.onnx", "model.xml"]),
        ("tf2onnx", ["model.xml"]),
        ("openvino", ["model.int8.onnx", "model.onnx"]),
    ],
)
def test_our_files_are_written_with_what_they_need_and_what_is_left_out_is_said(
    lacking: str, written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == lacking else find(name, *rest))
    for module, place in (("onnx_file", 3), ("openvino_ir", 3), ("quantized_onnx", 1), ("quantized_openvino", 1)):
        monkeypatch.setattr(getattr(inference, module), "write", lambda *given, place=place: given[place].touch())
    monkeypatch.setattr("export.quantized_onnx.ranges", lambda *given: None)
    said = inference.write_for_runtimes(tmp_path, inference.Subject(*[Any] * 3), Any)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == written
    assert [sentence.split(" is left out, since ")[1].split()[0] for sentence in said] == (
        [] if lacking == "nncf" else [lacking]
    )


def test_the_benchmark_of_exporting_ends_with_its_table_though_the_run_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_apart(folder: Path, network: str, data: str) -> Any:
        folder.mkdir()

        def read_classifier() -> Any:
            assert folder.is_dir(), "the run is gone"
            return SimpleNamespace(network=network)

        return SimpleNamespace(read_classifier=read_classifier)

    monkeypatch.setattr(calm, "run_apart", run_apart)
    events = [Event("starting", 0.0), Event("end", 60.0)]
    monkeypatch.setattr(exporting, "measure", lambda *_: (events, [Sample(1.0, 10**9)]))
    monkeypatch.setattr(sys, "argv", ["exporting", "photographs", "--network", "lenet"])
    exporting.main()
    assert "Export of lenet" in capsys.readouterr().out


def test_networks_that_answer_differently_are_not_compared() -> None:
    expected = np.full((1, 4), 0.25)
    apart = inference.differences({OURS: expected, BARE_ONNX: expected + 1e-5, INT8: expected + 0.1}, expected)
    assert apart == pytest.approx({OURS: 0, BARE_ONNX: 1e-5, INT8: 0.1}, rel=1e-2)
    with pytest.raises(SystemExit, match=r"bare ONNX Runtime differs by 4\.0e-02 of the largest probability"):
        inference.differences({OURS: expected, BARE_ONNX: expected + 0.01}, expected)


def test_a_settled_network_has_the_statistics_of_the_pictures() -> None:
    side = 299
    image = keras.Input((side, side, 3))
    model = keras.Model(image, BatchNormalization()(image))
    pixels = calm.pictures(4, side)
    assert (pixels.shape, pixels.dtype.name) == ((4, side, side, 3), "uint8")
    images = pixels / np.float32(127.5) - 1
    layer = calm.settled(model, images).layers[-1]
    exact = images.astype(np.float64)
    np.testing.assert_allclose(layer.moving_mean, exact.mean(axis=(0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(layer.moving_variance, exact.var(axis=(0, 1, 2)), rtol=1e-2)
    assert np.ptp(layer.gamma) > 0
    assert np.ptp(layer.beta) > 0


def test_a_worker_answers_for_every_picture_of_its_batch(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(8, 3, activation="relu")(image)
    features = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(image, keras.layers.Dense(5, "softmax")(features))
    tflite.write(model, Preprocessing(height=32, width=32), "abcde", tmp_path / "model.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    command = [sys.executable, "-m", "benchmarks.inference_worker", "artefact", "model.tflite", "pixels.npy"]
    environment = inference.environment()
    done = subprocess.run(
        command, input="3\n1\n", cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    about, *medians = [json.loads(line) for line in done.stdout.splitlines()]
    network = run_artefact.tflite(str(tmp_path / "model.tflite"))
    np.testing.assert_allclose(about["probabilities"], network(pixels), atol=1e-6)
    assert np.ptp(about["probabilities"], axis=0).max() > 1e-4
    assert about["version"].startswith("LiteRT ")
    assert len(medians) == 2
    assert all(0 < median < 10_000 for median in medians)


def test_what_is_lost_is_counted_against_float32_network_by_network() -> None:
    reference = np.array([[True] * 8 + [False] * 2, [True] * 6 + [False] * 4])
    int8 = reference.copy()
    int8[0, :3] = False  # three lost, and in the other network one lost and two won
    int8[1, 0], int8[1, 8:] = False, True
    found = {
        f"seed {i}": {"LiteRT float32": Answers(reference[i], 2.0), "ONNX int8": Answers(int8[i], 1.0 + i / 2)}
        for i in range(2)
    }
    float32, quantised = quantization.rows(found)
    assert (float32["lost"], float32["points"], float32["correct"]) == ([0, 0], 0, [8, 6])
    assert (quantised["lost"], quantised["points"], quantised["ratio"]) == ([3, -1], 10.0, round(12 / 14, 4))
    assert quantised["p"] == pytest.approx(22 / 64, abs=1e-3)  # four or more of six by chance
    assert (quantised["median_ms"], quantised["spread"], quantised["against"]) == (1.25, 0.5, "LiteRT float32")


def test_a_stage_of_an_export_has_its_seconds_and_its_most_memory() -> None:
    begins = {"starting": 10.0, "folding": 12.0, "measuring": 15.0}
    events = [Event(stage, time) for stage, time in begins.items()]
    events += [Event("folding", 16.0), Event("end", 20.0)]  # for a second time
    samples = [Sample(time, int(1e9 * memory)) for time, memory in ((11, 1), (13, 2), (15.5, 4), (18, 3), (21, 9))]
    found = {line["name"]: line for line in exporting.rows(events, samples)}
    assert {name: line["median_ms"] for name, line in found.items()} == {
        "starting": 2000,
        "folding": 7000,
        "measuring": 1000,
        "the whole": 10_000,
    }
    assert {name: line["gigabytes"] for name, line in found.items()} == {
        "starting": 1,
        "folding": 3,
        "measuring": 4,
        "the whole": 4,
    }
    assert found["folding"]["ratio"] == 0.7


def test_the_memory_of_a_process_is_that_of_its_children_too() -> None:
    child = [sys.executable, "-c", "held = bytearray(b'1' * 60_000_000); print(flush=True); input()"]
    before = exporting.memory(os.getpid())
    with subprocess.Popen(child, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert exporting.memory(os.getpid()) - before > 50_000_000
        assert exporting.memory(process.pid) > 60_000_000
        process.communicate(b"\n")
    assert exporting.memory(process.pid) == 0


def test_the_first_answer_is_asked_of_every_artefact_and_held_against_what_its_runtime_allows(tmp_path: Path) -> None:
    for name in ("saved_model.pb", "model.tflite", "model.int8.onnx", "model.xml", "model.bin", "certificate.json"):
        (tmp_path / name).touch()
    names = first_answer.artefacts(tmp_path)
    assert names == ["saved_model", "model.int8.onnx", "model.tflite", "model.xml"]
    made = first_answer.rows({name: [1000.0 + i, 1200.0 + i] for i, name in enumerate(names)})
    assert [line["limit"] for line in made] == [None, 1500, 1500, 2000]
    assert made[0]["ratio"] == 1


@pytest.mark.slow
def test_a_calm_run_can_be_loaded_and_has_the_data_that_it_was_made_for(tmp_path: Path) -> None:
    made = calm.run(tmp_path / "run", "lenet_bn", loading.load("digits"))
    assert loading.of_run(made).labels == tuple("0123456789")
    assert len({image["label"] for image in golden.read_golden(made)} & {*"0123456789"}) > 4
    trained = run_folder.load(made.folder)
    assert trained.model.output_shape == (None, 10)
    answers = [
        trained.model(trained.preprocessing(trained.preprocessing.decode(file.read_bytes()))[None]).numpy()
        for file in sorted(made.golden.glob("*.png"))
    ]
    assert 0.1 + 1e-4 < np.max(answers) < 0.11  # different, and not steep


def test_a_crop_is_held_against_an_image_and_an_image_against_the_network() -> None:
    found = {
        "bare predict": [10.0, 20.0],
        "evaluate": [11.0, 21.0],
        "10 crops": [11.0, 22.0],
        "144 crops": [22.0, 21.0],
    }
    rows = {line["name"]: line for line in evaluation.table(found, "lenet_bn")}
    assert rows["evaluate, lenet_bn"]["ratio"] == round((11 / 10 + 21 / 20) / 2, 3)
    assert rows["144 crops, lenet_bn"]["ratio"] == 1.5
    assert rows["144 crops, lenet_bn"]["against"] == "evaluate, lenet_bn"
    assert {line["limit"] for line in rows.values()} == {15.0}


def test_merged_is_held_against_apart_within_each_round() -> None:
    assert merging.ratio({"merged": [2.0, 9.0, 4.0], "apart": [4.0, 10.0, 5.0]}, "merged", "apart") == 0.8
