"""The arithmetic of the benchmarks of training, and the process that a contestant trains in."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from app.networks import counting
from benchmarks import stepping, training_curve, training_gpu, training_step
from benchmarks.convolutions import elements
from benchmarks.training_gpu import Limits
from benchmarks.training_step import COMPILED, EAGER, KERAS, MODELS, PROGRAM, Subject

# Millions of numbers that convolutions give for a picture, as timm's tables of benchmarks count them.
ACTIVATIONS = {
    "inception_v3": 8.97,
    "inception_v4": 15.09,
    "inception_resnet_v2": 25.06,
    "resnet18": 2.48,
    "densenet121": 6.90,
}


@pytest.mark.parametrize(
    "network", ["resnet18", *(pytest.param(name, marks=pytest.mark.slow) for name in ACTIVATIONS if name != "resnet18")]
)
def test_a_network_s_convolutions_give_as_many_numbers_as_others_count(network: str) -> None:
    assert elements(counting.published(network)) / 1e6 == pytest.approx(ACTIVATIONS[network], abs=0.006)


def test_a_separable_convolution_gives_twice_and_a_dense_layer_is_none() -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=4, padding="same")(image)
    x = keras.layers.Conv2D(7, 3)(x)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    assert elements(model) == 4 * 4 * 12 + 4 * 4 * 5 + 2 * 2 * 7
    assert counting.multiply_adds(model) == 16 * (9 * 12 + 12 * 5) + 4 * 9 * 5 * 7 + 28 * 10


def test_the_roofline_is_what_the_card_moves_or_what_it_computes() -> None:
    card = Limits("a card", 4.3e12, 790e12)
    assert training_gpu.roofline(card, 5.73e9, 8.97e6) == pytest.approx(17_100, rel=5e-3)  # moves
    assert training_gpu.roofline(card, 12.28e9, 15.09e6) == pytest.approx(10_200, rel=5e-3)
    assert training_gpu.roofline(card._replace(bandwidth=1e15), 5.73e9, 8.97e6) == pytest.approx(23_000, rel=5e-3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock of `stepping` says: its only item."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stepping, "forget_peak", lambda: None)
    monkeypatch.setattr(stepping, "peak", lambda: 7)
    monkeypatch.setattr(stepping, "resident", lambda: 5)
    return now


@pytest.mark.parametrize(("apart", "step", "waits"), [(True, 2.0, 6), (False, 4.0, 3)])
def test_the_first_step_and_those_that_warm_up_are_not_counted(
    apart: bool, step: float, waits: int, clock: list[float]
) -> None:
    steps = stepping.Steps(3, apart)
    waited = []
    clock[0] = 5.0
    steps.begin()
    for took in (50.0, 20.0, 20.0, 1.0, 9.0, 2.0):
        clock[0] += took
        steps.end(lambda: waited.append(1))
    told = json.loads(steps.told(build=3))
    memory = {"bytes": 7, "bytes_of_steps": 7, "bytes_before": 5}
    assert told == {"first": 50, "step": step, "build": 3, **memory}
    assert len(waited) == waits


def test_the_peak_of_the_steps_is_not_that_of_what_came_before() -> None:
    stepping.forget_peak()
    before = stepping.resident()
    held = b"1" * 300_000_000
    assert stepping.resident() > before + 200_000_000
    del held
    assert stepping.peak() > before + 200_000_000
    assert stepping.resident() < before + 100_000_000
    stepping.forget_peak()
    assert stepping.peak() < before + 100_000_000


def told(*steps: float, **more: float) -> list[dict[str, float]]:
    return [{"step": step, "first": 10 * step, "bytes": 2e9, **more} for step in steps]


@pytest.fixture
def found() -> dict[str, list[dict[str, float]]]:
    """Seconds of three rounds, the second of which is slow for all."""
    return {
        PROGRAM: told(1.0, 3.0, 1.1, multiply_adds=1e9),
        MODELS: told(1.05, 3.3, 1.2),
        KERAS: told(1.25, 3.1, 1.25),
        EAGER: told(0.9, 2.4, 1.1),
        COMPILED: told(1.2, 2.0, 1.3),
        "convolutions": [{"flops": flops} for flops in (3e11, 1e11, 3e11)],
    }


def test_ours_is_held_against_the_others_within_each_round(found: dict[str, list[dict[str, float]]]) -> None:
    made = training_step.rows("inception_v3_149", Subject("inception_v3", 149, 10), found, {EAGER: "first"})
    lines = {line["by"]: line for line in made}
    assert [*lines] == [PROGRAM, MODELS, KERAS, f"{EAGER}, channels first", COMPILED]
    keras_ = lines[KERAS]
    assert keras_["program / it"] == round(1.1 / 1.25, 3)  # of the ratios 0.8, 0.968, 0.88
    assert keras_["models / it"] == round(1.2 / 1.25, 3)
    assert keras_["ms"] == 125
    # Three times two operations for each multiply-add of ten pictures.
    assert lines[PROGRAM]["share"] == pytest.approx(6e10 / 1.0 / 3e11, abs=1e-3)
    assert (keras_["first"], keras_["MB"]) == (12.5, 2000)


def test_what_was_wanted_is_said_of_the_better_of_timm(found: dict[str, list[dict[str, float]]]) -> None:
    other = {**found, EAGER: told(2.0, 4.0, 2.0)}
    del other[KERAS]
    said = {
        name: (round(figure, 3), largest)
        for name, figure, largest in training_step.verdicts({"inception_v3_149": found, "resnet18": other})
    }
    assert said == {
        f"inception_v3_149: {PROGRAM} / {KERAS}": (0.88, 0.90),
        f"inception_v3_149: {MODELS} / {KERAS} less that of {PROGRAM}": (0.08, 0.02),
        f"inception_v3_149: {PROGRAM} / {EAGER}": (1.111, 0.95),
        f"inception_v3_149: {MODELS} / {EAGER} less that of {PROGRAM}": (round(3.5 / 3 - 10 / 9, 3), 0.02),
        f"inception_v3_149: first step, {PROGRAM} / {KERAS}": (0.88, 0.6),
        f"resnet18: {PROGRAM} / {COMPILED}": (round(1.1 / 1.3, 3), 0.95),
        f"resnet18: {MODELS} / {COMPILED} less that of {PROGRAM}": (round(1.2 / 1.3 - 1.1 / 1.3, 3), 0.02),
        f"the largest of {PROGRAM} / timm": (1.111, 1.0),
    }


def test_nobody_is_asked_for_a_network_that_he_has_not() -> None:
    everybody = [PROGRAM, MODELS, KERAS, EAGER, COMPILED]
    assert training_step.contestants("bn_inception", everybody) == [PROGRAM, MODELS]
    assert training_step.contestants("resnet18", everybody) == [PROGRAM, MODELS, EAGER, COMPILED]
    assert training_step.contestants("densenet121", [KERAS, EAGER]) == [KERAS, EAGER]


def test_the_memory_of_a_picture_is_the_slope_over_batches() -> None:
    rounds = [
        {8: {"bytes_of_steps": base + 8e7 + noise}, 16: {"bytes_of_steps": base + 16e7 - 2 * noise},
         32: {"bytes_of_steps": base + 32e7 + noise}}
        for base, noise in ((1e9, 0.0), (3e9, 0.0), (2e9, 0.0))
    ]  # fmt: skip
    half = [{batch: {"bytes_of_steps": 5e6 * batch} for batch in (8, 16, 32)}]
    line, other = training_step.rows_of_memory("v3", {PROGRAM: rounds, EAGER: half}, {EAGER: "first"})
    assert line["MB a picture"] == 10
    assert (other["by"], other["MB a picture"]) == (f"{EAGER}, channels first", 5)
    ((name, ratio, largest),) = training_step.verdicts_of_memory({"v3": {PROGRAM: rounds, EAGER: half}})
    assert (name, largest) == (f"v3: memory of a picture, {PROGRAM} / {EAGER}", 1.0)
    assert ratio == pytest.approx(2)
    assert (line["spread"], line["MB of 16"]) == (0, 2160)


def test_a_measurement_that_fails_or_has_no_time_says_so() -> None:
    here = {**os.environ}
    soon, most = time.monotonic() + 300, 60.0
    assert training_gpu.told([sys.executable, "-c", "print('{\"step\": 2}')"], here, soon, most) == [{"step": 2}]
    broken = training_gpu.told([sys.executable, "-c", "raise SystemExit('out of memory')"], here, soon, most)
    assert broken == "out of memory"
    slow = training_gpu.told([sys.executable, "-c", "input()"], here, time.monotonic() - 1, most)
    assert slow == "no time was left"
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert training_gpu.told(sleeping, here, soon, 1.1) == "the time was over"
    assert training_gpu.row("ours", 8, broken, None) == {"by": "ours", "batch": 8, "failed": "out of memory"}


def test_images_a_second_are_held_against_the_card_and_the_roofline() -> None:
    rows = [
        training_gpu.row(training_gpu.OURS, 256, [{"step": 0.125, "first": 40.0}], 8192.0),
        training_gpu.row(training_gpu.OURS, 512, "out of memory", 8192.0),
        training_gpu.row(training_gpu.TIMM, 256, [{"step": 0.1, "first": 60.0}], 8192.0),
    ]
    assert (rows[0]["images a second"], rows[0]["share"]) == (2048, 0.25)
    found: dict[str, Any] = {"rows": rows, "side": 299, "device": {"device": "NVIDIA H100 80GB HBM3"}}
    assert training_gpu.verdicts(found) == [
        "ours, JAX = 2048 images a second, wanted: at least 1750: reached",
        "ours, JAX / timm compiled = 0.800, wanted: above 1: missed",
    ]


def test_pictures_of_a_curve_are_of_all_classes_alike(tmp_path: Path) -> None:
    for number, name in enumerate(("ant", "bee")):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.new("RGB", (9, 7), (255 * number,) * 3).save(tmp_path / name / f"{i}.png")
    images, labels = training_curve.pictures(tmp_path, 4, 6)
    assert (images.shape, images.dtype, labels.tolist()) == ((6, 4, 4, 3), np.float32, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(images[:, 0, 0, 0], [-1, -1, -1, 1, 1, 1])


@pytest.mark.slow
def test_a_contestant_tells_of_its_steps() -> None:
    subject = Subject("resnet18", 32, 2)
    for name in (PROGRAM, MODELS):
        one = training_step.run(name, subject, 2, Path(sys.executable))
        assert 0 < one["step"] < one["first"]
        assert 1e8 < one["bytes_of_steps"] <= one["bytes"]
        assert one["multiply_adds"] == pytest.approx(1.814e9 / 49, rel=0.05)
