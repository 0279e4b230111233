"""The batch-norm paper's experiment: its network, its trainings, how runs are counted, and going on after a stop."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from app.__main__ import app
from app.program.errors import UserError
from app.program.progress import unwatched
from app.reports import batch_norm_study
from app.studies import batch_norm, short_training
from app.studies.batch_norm import Arm, Job, Protocol, Regime
from app.studies.mini_inception import UNIT, mini_inception
from app.studies.short_training import BATCH, EVERY, Examples, Look, Setting, Training, batches
from tests import ROOT

DEVIATION = keras.initializers.serialize(keras.initializers.TruncatedNormal(stddev=0.1))


def examples(count: int = 200) -> Examples:
    rng = np.random.default_rng(3)
    return Examples(rng.uniform(-1, 1, (count, 8, 8, 1)).astype(np.float32), rng.integers(0, 10, count))


def setting(**options: Any) -> Setting:
    return Setting(**{"normalization": None, "activation": "relu", "initializer": "he_normal"} | options)


@cache
def compiled(normalization: Any) -> Training:
    train = examples(BATCH)
    return Training(setting(normalization=normalization, cap=EVERY, rate=0.0, seed=0), train, train)


def begun(wanted: Setting, train: Examples, validation: Examples) -> Training:
    """A training whose step is compiled once for all tests: one that begins again is a fresh one, as a test shows."""
    training = compiled(wanted.normalization)
    assert training.setting.structure == wanted.structure
    training.restart(wanted, train, validation)
    return training


# ---- the network


def test_the_mini_inception_has_the_parameters_of_its_description() -> None:
    columns = 8 * (1 * 1) * 4 + 8 * 8 * 9 * 3  # of a module: on top of its 1x1 convolutions, three of 3x3
    first, later = columns + (16 - 1) * 8 * 4, columns + (32 - 1) * 8 * 4
    biases = 16 + 3 * 7 * 8
    expected = 9 * 16 + first + 2 * later + biases + 32 * 10 + 10
    assert mini_inception(None).count_params() == expected == 8_402
    model = mini_inception()
    assert model.count_params() == expected + 3 * biases  # a bias gives way to four numbers
    assert model.get_layer(UNIT).input.shape == (None, 4, 4, 8)


def test_kernels_of_one_shape_begin_apart() -> None:
    keras.utils.set_random_seed(0)
    model = mini_inception(initializer=DEVIATION)
    one, other = (model.get_layer(f"inception_b_{i}_b1_conv").kernel.numpy() for i in (1, 2))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.2
    # Cut off at two deviations, which leaves 0.88 of the deviation.
    assert np.std(np.concatenate([one.ravel(), other.ravel()])) == pytest.approx(0.088, rel=0.1)


# ---- a training


def test_every_epoch_is_another_permutation_and_arms_of_a_seed_share_it() -> None:
    order = batches(200, seed=4, steps=20)
    assert order.shape == (20, BATCH)
    epoch = 200 // BATCH
    for start in (0, epoch, 2 * epoch):
        assert len(set(order[start : start + epoch].ravel())) == epoch * BATCH
    assert (order[:epoch] != order[epoch : 2 * epoch]).any()
    np.testing.assert_array_equal(order[:7], batches(200, seed=4, steps=7))
    assert (order != batches(200, seed=5, steps=20)).any()


@pytest.mark.parametrize("normalization", [pytest.param(None, marks=pytest.mark.slow), "batch"])
def test_a_training_is_what_keras_makes_of_the_same_batches(normalization: Any) -> None:
    train = examples()
    options = {"normalization": normalization, "rate": 0.02, "cap": 50, "seed": 7, "decay": 0.99}
    ours = begun(setting(**options), train, train[:50])
    keras.utils.set_random_seed(7)
    theirs = mini_inception(normalization)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, decay_steps=1, decay_rate=0.99)
    theirs.compile(
        keras.optimizers.SGD(schedule, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    losses = []
    for chosen in batches(200, 7, EVERY):
        theirs.reset_metrics()
        losses.append(float(theirs.train_on_batch(train.images[chosen], train.labels[chosen])))
    look = ours.look()
    assert look.step == ours.step == EVERY
    assert look.loss == pytest.approx(np.mean(losses), rel=1e-4)
    for mine, other in zip(ours.model.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-4)
    logits = theirs(train.images[:50], training=False).numpy()
    assert look.accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == train.labels[:50]), abs=0.021)


@pytest.mark.slow
def test_a_training_that_begins_again_is_a_fresh_one() -> None:
    train = examples()
    options: dict[str, Any] = {"normalization": "batch", "dropout": 0.3, "cap": 50}
    wanted = setting(**options, rate=0.02, seed=3, decay=0.99, weight_decay=1e-3, initializer=DEVIATION)
    used = Training(setting(**options, rate=0.5, seed=8), train[:150], train[:20])
    used.look()
    used.restart(wanted, train, train[:50])
    fresh = Training(wanted, train, train[:50])
    assert used.look() == fresh.look()
    assert used.look() == fresh.look()
    for one, other in zip(used.model.variables, fresh.model.variables, strict=True):
        np.testing.assert_array_equal(one, other)
    assert wanted.structure == used.setting.structure != setting(cap=50, rate=0.1, seed=0).structure


def test_weight_decay_pulls_at_kernels_alone() -> None:
    train = examples(BATCH)  # one batch an epoch: both see the same images
    found = {}
    for decay in (0.0, 0.5):
        training = begun(setting(normalization="batch", rate=1e-3, cap=1, seed=2, weight_decay=decay), train, train)
        before = {weight.path: weight.numpy() for weight in training.model.trainable_weights}
        training.look()
        found[decay] = {weight.path: weight.numpy() for weight in training.model.trainable_weights}
    for path, was in before.items():
        pull = 1e-3 * 0.5 * was if path.endswith("kernel") else np.zeros_like(was)
        np.testing.assert_allclose(found[0.0][path] - found[0.5][path], pull, atol=1e-6)


def test_a_look_gives_the_percentiles_of_a_units_input() -> None:
    train = examples()
    training = begun(setting(normalization="batch", rate=1e-3, cap=25, seed=1), train, train[:60])
    look = training.look()
    x = keras.Model(training.model.input, training.model.get_layer(UNIT).input)(train.images[:60], training=False)
    np.testing.assert_allclose(look.unit, np.percentile(x[:, 2, 2, 0], (15, 50, 85)), rtol=1e-4, atol=1e-5)


def test_the_digits_come_as_they_are() -> None:
    rest, test = short_training.read_digits()
    assert rest.images.shape == (1437, 8, 8, 1)
    assert test.images.shape == (360, 8, 8, 1)
    assert (rest.images.min(), rest.images.max()) == (-1, 1)
    assert len(np.unique(rest.images)) == 17  # grey levels


# ---- counting


class Scripted:
    """Stands for `Training`: its accuracies are given, and after them the loss is infinite."""

    accuracies: Sequence[float] = ()

    def __init__(self, setting: Setting, train: Examples, validation: Examples) -> None:
        self.setting, self.sizes = setting, (len(train.labels), len(validation.labels))
        self.step, self.milliseconds = 0, [5.0]

    def restart(self, setting: Setting, train: Examples, validation: Examples) -> None:
        raise AssertionError("each of these runs is the first of its worker")

    def look(self) -> Look:
        position = self.step // EVERY
        self.step += EVERY
        more = position < len(self.accuracies)
        return Look(self.step, self.accuracies[position] if more else 0.0, 0.1 if more else math.inf, (0.0, 0.0, 0.0))

    def accuracy(self, examples: Examples) -> float:
        return 0.5


def run(monkeypatch: pytest.MonkeyPatch, accuracies: Sequence[float], cap: int = 1000) -> dict[str, Any]:
    monkeypatch.setattr(Scripted, "accuracies", accuracies)
    monkeypatch.setattr(short_training, "Training", Scripted)
    monkeypatch.setattr(batch_norm, "_data", (examples(), examples(10)), raising=False)
    monkeypatch.setattr(batch_norm, "_compiled", {})
    return batch_norm._train(Job(Regime("paper", None, (0.1,), cap), batch_norm.ARMS[3], 0.1, 0))


def test_a_target_counts_from_the_first_of_two_looks_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, [0.91, 0.5, 0.9, 0.96, 0.99, 0.94, 0.98, 0.985, *[0.99] * 99])
    assert found["reached"] == {"90%": 75, "95%": 100, "98%": 175}
    assert found["looks"][-1]["step"] == 175 + 100
    assert found["validation"] == 0.99
    assert found["diverged"] is None


def test_a_run_ends_at_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, [0.97] * 99, cap=100)
    assert found["reached"] == {"90%": 25, "95%": 25, "98%": None}
    assert found["looks"][-1]["step"] == 100


def test_a_run_whose_loss_is_not_finite_ends_and_never_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, [0.2, 0.3])
    assert found["diverged"] == 3 * EVERY
    assert len(found["looks"]) == 2
    assert set(found["reached"].values()) == {None}


def test_modified_arms_have_the_papers_modifications(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Scripted] = []
    monkeypatch.setattr(batch_norm, "_data", (examples(), examples(10)), raising=False)
    monkeypatch.setattr(batch_norm, "_compiled", {})

    def training(*given: Any) -> Scripted:
        seen.append(Scripted(*given))
        return seen[-1]

    monkeypatch.setattr(short_training, "Training", training)
    regime = Regime("paper", None, (0.01,), 25)
    for arm in (Arm("plain", None, "relu"), Arm("better", "batch", "relu", 5, modified=True)):
        batch_norm._train(Job(regime, arm, 0.01, 3))
    batch_norm._train(Job(replace(regime, deviation=0.1, regularised=False), Arm("bare", None, "relu"), 0.01, 3))
    plain, better, bare = (one.setting for one in seen)
    assert better.rate == pytest.approx(5 * plain.rate)
    assert (plain.dropout, better.dropout) == (0.4, 0)
    assert better.weight_decay == pytest.approx(plain.weight_decay / 5)
    assert math.log(better.decay) == pytest.approx(6 * math.log(plain.decay))
    assert (bare.dropout, bare.weight_decay, bare.decay) == (0, 0, 1)
    assert bare.initializer == DEVIATION
    assert seen[0].sizes == (160, 40)  # a fifth for validation


def summary(*steps: int | None) -> dict[str, Any]:
    runs = [
        {"rate": 0.1, "reached": {"98%": step}, "diverged": None, "validation": 0.9, "test": 0.9, "milliseconds": 1.0}
        for step in steps
    ]
    return batch_norm._summary(runs)


def test_never_is_later_than_anything_and_is_counted() -> None:
    assert summary(300, None, 100, 200, None)["steps"]["98%"] == {
        "median": 300, "lowest": 100, "highest": None, "never": 2
    }  # fmt: skip
    assert summary(300, None, None)["steps"]["98%"]["median"] is None
    assert summary(1, 2, 3, 4)["steps"]["98%"]["median"] == 3


def test_speedups_are_ratios_of_medians_and_a_cap_stands_for_never() -> None:
    arms = {"Inception": summary(1000, 2000, 3000), "fast": summary(100, 200, None), "lost": summary(None)}
    batch_norm._compare(arms, cap=4000)
    assert [arm["steps"]["98%"]["speedup"] for arm in arms.values()] == [1, 10, None]
    assert not arms["fast"]["steps"]["98%"]["at_least"]
    arms = {"Inception": summary(None), "fast": summary(200)}
    batch_norm._compare(arms, cap=4000)
    assert (arms["fast"]["steps"]["98%"]["speedup"], arms["fast"]["steps"]["98%"]["at_least"]) == (20, True)


def test_the_best_rate_takes_the_fewest_steps_and_among_those_that_never_arrive_gets_farthest() -> None:
    regime, arm = Regime("tuned", None, (0.1, 0.2, 0.4), 1000), Arm("one", None, "relu")

    def best(found: dict[float, list[tuple[int | None, float]]]) -> float:
        runs = {
            Job(regime, arm, rate, seed): {"reached": {"98%": step}, "validation": accuracy}
            for rate, seeds in found.items()
            for seed, (step, accuracy) in enumerate(seeds)
        }
        return batch_norm._best_rate(regime, arm, runs)

    assert best({0.1: [(500, 1), (600, 1)], 0.2: [(100, 1), (None, 1)], 0.4: [(550, 1), (500, 1)]}) == 0.4
    assert best({0.1: [(None, 0.2)], 0.2: [(None, 0.9)], 0.4: [(None, 0.5)]}) == 0.2


# ---- the study

TINY = Protocol(
    (
        Regime("paper", None, (0.0015,), 25),
        Regime("old", 0.1, (0.03,), 25, regularised=False),
        Regime("tuned", None, (0.1, 1e6), 50, batch_norm.TUNED_ARMS[:2], regularised=False),
    ),
    seeds=(0, 1),
    searched=1,
)


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_and_its_page_has_every_arm(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    found = batch_norm.study(folder, unwatched, TINY)
    assert json.loads((folder / "study.json").read_text()) == json.loads(json.dumps(found))
    assert len(found["runs"]) == 2 * 6 + 2 * 6 + 2 * 2 + 2
    assert found["regimes"]["tuned"]["Inception"]["rate"] == 0.1
    assert any(run["diverged"] for run in found["runs"])
    files = sorted((folder / "runs").iterdir())
    kept, lost = files[1:], files[0]
    before = {file: file.stat().st_mtime_ns for file in kept}
    first = json.loads(lost.read_text())
    lost.unlink()
    again = batch_norm.study(folder, unwatched, TINY)
    assert {file: file.stat().st_mtime_ns for file in kept} == before
    assert json.loads(lost.read_text())["looks"] == first["looks"]
    assert [run["looks"] for run in again["runs"]] == [run["looks"] for run in found["runs"]]
    page = batch_norm_study.write(folder, again).read_text()
    for text in ("BN-x5-Sigmoid", "14.8", "74.8 %", "All rates that were tried", "diverged"):
        assert text in page
    with pytest.raises(UserError, match="another protocol"):
        batch_norm.study(folder, unwatched, replace(TINY, seeds=(0, 2)))


@pytest.mark.slow
def test_the_workers_of_a_killed_study_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "study", "batch-norm", "--to", str(tmp_path / "study")]
    study = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(children) < 2:
        time.sleep(0.5)
        children = [one for one in psutil.Process(study.pid).children() if "spawn_main" in " ".join(one.cmdline())]
    time.sleep(20)  # by now they train
    study.kill()
    study.wait()
    assert children
    assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    result = CliRunner().invoke(app, ["study", "batch-norm", "--to", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert f"{tmp_path} exists and is no study" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
