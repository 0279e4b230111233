"""The benchmarks' arithmetic, and the process that a contestant runs in. What they measure stands in RESULTS.md."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from app.images.preprocessing import Preprocessing
from benchmarks import evaluation, inference, quantization
from benchmarks.inference import (
    DYNAMIC,
    FLOAT32,
    INT8,
    KERAS,
    LIMIT,
    ONNX_RUNTIME,
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
    names = (OURS, FLOAT32, DYNAMIC, INT8, KERAS, ONNX_RUNTIME, OPENVINO_INT8, LIMIT)
    return {name: rng.lognormal(3, 1, 7).tolist() for name in names}


def test_ratios_are_medians_of_the_ratios_within_a_round(times: dict[str, list[float]]) -> None:
    rows = inference.table(Measured(times, [], {INT8: "slowly"}), 8, 0)
    expected = float(np.median(np.divide(times[OURS], times[ONNX_RUNTIME])))
    of_medians = float(np.median(times[OURS]) / np.median(times[ONNX_RUNTIME]))
    assert abs(expected - of_medians) > 0.01
    found = {(line["name"], line["against"]): line for line in rows}
    assert found["SavedModel, batch 8", ONNX_RUNTIME]["ratio"] == pytest.approx(expected, abs=5e-4)
    assert found["LiteRT int8, batch 8, slowly", KERAS]["median_ms"] == pytest.approx(np.median(times[INT8]), abs=5e-4)
    assert found["Keras' export, batch 8", KERAS]["ratio"] == 1
    assert len(found) == len(rows)


def test_the_limit_is_what_the_multiplications_take_at_the_measured_rate(times: dict[str, list[float]]) -> None:
    times[LIMIT] = [14.0, 16.0, 15.0, 13.0, 17.0, 15.0, 15.0]
    *lines, product = inference.table(Measured(times, [], {}), 1, 3 * PRODUCT**3)
    assert {line["limit"] for line in lines} == {45.0}
    assert product["name"].endswith("143 GFLOP/s")  # 2 x 1024^3 in 15 ms


def test_the_faster_of_the_integer_files_is_held_against_what_is_wanted(times: dict[str, list[float]]) -> None:
    times |= {DYNAMIC: [4.0] * 7, INT8: [5.0] * 7, ONNX_RUNTIME: [10.0] * 7, OPENVINO_INT8: [3.0] * 7}
    said = inference.verdicts(times, 8)
    assert "LiteRT dynamic / ONNX Runtime, batch 8 = 0.400, wanted: at most 0.360: missed" in said
    assert "LiteRT dynamic / OpenVINO int8, batch 8 = 1.333, wanted: at most 1.350: reached" in said
    assert not any("OpenVINO" in sentence for sentence in inference.verdicts({OURS: [1.0], KERAS: [1.0]}, 8))


def test_a_peer_that_is_not_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "PEERS", {ONNX_RUNTIME: ("json", "no_such_runtime", "nor_this")})
    (sentence,) = inference.write_peers(tmp_path)
    assert sentence.startswith("ONNX Runtime is left out, since no_such_runtime and nor_this cannot be imported;")
    assert list(tmp_path.iterdir()) == []


def test_networks_that_answer_differently_are_not_compared() -> None:
    ours = np.full((1, 4), 0.25)
    inference.compare({OURS: ours, ONNX_RUNTIME: ours + 1e-5, INT8: ours + 0.1})
    with pytest.raises(SystemExit, match="ONNX Runtime and SavedModel differ by 4"):
        inference.compare({OURS: ours, ONNX_RUNTIME: ours + 0.01})


def test_a_settled_network_has_the_statistics_of_the_pictures() -> None:
    image = keras.Input((inference.SIDE, inference.SIDE, 3))
    model = keras.Model(image, BatchNormalization()(image))
    pixels = inference.pictures(4)
    assert (pixels.shape, pixels.dtype.name) == ((4, inference.SIDE, inference.SIDE, 3), "uint8")
    images = pixels / np.float32(127.5) - 1
    layer = inference.settled(model, images).layers[-1]
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
    command = [sys.executable, "-m", "benchmarks.inference_worker", "litert", "model.tflite", "pixels.npy"]
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


def test_what_is_lost_is_counted_against_float32_seed_by_seed() -> None:
    found = {
        "float32": [Answers(350, 2.0), Answers(340, 2.0)],
        "int8": [Answers(349, 1.0), Answers(342, 1.5)],
    }
    reference, int8 = quantization.rows(found)
    assert reference["lost"] == [0, 0]
    assert (int8["lost"], int8["mean_lost"], int8["ratio"]) == ([1, -2], -0.5, round(691 / 690, 4))
    assert (int8["median_ms"], int8["spread"], int8["against"]) == (1.25, 0.5, "float32")


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
