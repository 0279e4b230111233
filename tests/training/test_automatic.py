"""Numbers that a training measures before its first step: that they are chosen as is said, and kept."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app import recipe as recipes
from app import training
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Optimizer, Recipe
from app.recipes._auto import AUTO
from app.run_folder.folder import Run
from app.training import automatic, batch_sizes, optimizers, range_test
from app.training.devices.devices import Devices


def test_the_smallest_size_that_is_nearly_as_fast_is_taken() -> None:
    assert batch_sizes.smallest({8: 50.0, 16: 94.9, 32: 95.0, 64: 100.0, 128: 90.0}) == 32
    assert batch_sizes.smallest({8: 100.0, 16: 104.0}) == 8
    assert batch_sizes.smallest({8: 10.0}) == 8


def test_an_epoch_keeps_its_steps() -> None:
    assert list(batch_sizes._sizes(100_000)) == [8, 16, 32, 64, 128, 256, 512, 1024]
    assert list(batch_sizes._sizes(1_000)) == [8, 16, 32]  # 1,000 / 32 is 31 steps
    assert list(batch_sizes._sizes(10)) == [8]


def no_network() -> keras.Model:
    return keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], list[int]]:
    """Lets steps be as fast, in images a second, as a table says; of a size that is not in it there is no memory.
    Returns the sizes that are tried."""

    def use(speeds: dict[int, float]) -> list[int]:
        tried: list[int] = []

        def seconds(step: Any, size: int) -> float:
            tried.append(size)
            if size not in speeds:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return size / speeds[size]

        monkeypatch.setattr(batch_sizes, "_seconds", seconds)
        monkeypatch.setattr(batch_sizes, "_fits", lambda peak, size: True)
        return tried

    return use


TABLES = {
    "it gets faster up to 64": ({8: 400.0, 16: 700.0, 32: 900.0, 64: 1000.0, 128: 1001.0, 256: 1002.0}, 64, 256),
    "it gets no faster": ({8: 400.0, 16: 401.0, 32: 402.0, 64: 9999.0}, 8, 32),
    "memory ends": ({8: 400.0, 16: 700.0}, 16, 32),
    "time ends": ({8: 1.2, 16: 1.8, 32: 9.0}, 16, 16),  # four steps of 32 at 1.8 images a second are 71 s
}


@pytest.mark.parametrize("case", TABLES)
def test_sizes_are_tried_while_they_gain_and_fit(
    case: str, timed: Callable[[dict[int, float]], list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    speeds, wanted, last = TABLES[case]
    tried = timed(speeds)
    assert batch_sizes.measured(no_network(), 100_000) == wanted
    assert tried[-1] == last
    assert f"batch_size=auto: {wanted}, the smallest within 95 %" in capsys.readouterr().err


def test_no_memory_for_the_first_size_is_told(timed: Callable[[dict[int, float]], list[int]]) -> None:
    timed({})
    with pytest.raises(UserError, match="batch_size=auto: memory runs out at 8 images"):
        batch_sizes.measured(no_network(), 100_000)


def test_a_size_that_would_leave_no_memory_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_sizes, "_free", lambda: 1_000)
    assert batch_sizes._fits([0, 390, 0], 8)  # twice that is 780 of the 800 that may be taken
    assert not batch_sizes._fits([0, 410, 0], 8)


def test_the_rate_is_a_third_of_that_at_the_lowest_loss() -> None:
    """Losses that fall and rise as a parabola in the logarithm of the rate, with the bottom at 0.1: what a running mean
    with a memory of ten steps makes of it has its bottom nine steps later, and there are thirty to a power of ten."""
    places = np.arange(range_test.STEPS) / range_test.STEPS * 7 - 6
    points = range_test.curve((places + 1) ** 2 + 1)
    assert points[0].rate == pytest.approx(1e-6)
    assert points[30].rate == pytest.approx(1e-5)
    assert range_test.chosen(points) == pytest.approx(10 ** (-1 + 9 / 30) / 3, rel=0.1)


def test_the_running_mean_of_equal_losses_is_that_loss() -> None:
    assert {round(point.smoothed, 9) for point in range_test.curve([2.5] * 40)} == {2.5}


def test_a_curve_ends_where_the_loss_is_no_number_and_is_over_where_it_diverges() -> None:
    points = range_test.curve([2.0] * 30 + [math.nan, 1.0])
    assert len(points) == 30
    assert not range_test.is_over(points)
    assert not range_test.is_over(range_test.curve([2.0] * 30 + [20.0, 20.0]))  # 2 + 18 * (1 - 0.9^2) is below 8
    assert range_test.is_over(range_test.curve([2.0] * 30 + [20.0] * 5))


def test_a_loss_that_never_falls_gives_no_rate() -> None:
    with pytest.raises(UserError, match=r"optimizer\.rate=auto: the loss falls at no rate"):
        range_test.chosen(range_test.curve(np.linspace(1, 9, 100)))
    with pytest.raises(UserError, match="the loss falls at no rate"):
        range_test.chosen([])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_rate_rises_by_the_same_factor_with_every_step(accumulate: int) -> None:
    recipe = range_test.rising(Recipe(optimizer=Optimizer(rate=AUTO + 0.5, accumulate=accumulate)))
    rate = optimizers.rate(recipe, accumulate, range_test.STEPS * accumulate)
    found = [float(rate(step)) for step in range(range_test.STEPS * accumulate)]
    wanted = np.geomspace(1e-6, 10, range_test.STEPS + 1)[:-1].repeat(accumulate)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_several_devices_are_refused() -> None:
    class Two(Devices):
        @property
        def replicas(self) -> int:
            return 2

    wanted = recipes.load("default", ["batch_size=auto"])
    with pytest.raises(UserError, match="batch_size=auto is measured on one device, and 2 are to train: give the"):
        automatic.check(wanted, Two())
    automatic.check(wanted, Devices())
    automatic.check(Recipe(), Two())


@pytest.mark.slow
def test_a_run_has_the_numbers_that_were_measured_and_is_that_of_whoever_gives_them(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["epochs=2", "image_size=16", "width=0.5", "batch_size=auto", "optimizer.rate=auto"]
    wanted = recipes.load("default", small)
    run = training.train(str(pictures), "lenet_bn", tmp_path / "auto", wanted, unwatched)
    kept = run.read_classifier()
    assert kept.automatic == ("batch_size", "optimizer.rate")
    assert kept.recipe is not None
    numbers = kept.recipe.batch_size, kept.recipe.optimizer.rate
    assert numbers[0] in (8, 16, 32, 64)
    with run.rates.open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    lowest = min(rows[range_test.SKIPPED :], key=lambda row: row["smoothed"])
    assert numbers[1] == float(f"{lowest['rate'] / 3:.2g}")
    assert f"the rate {numbers[1]:.2g} was chosen" in run.report.read_text("utf-8")
    # What was tried before has left no trace in what was trained.
    given = recipes.load("default", [*small[:3], f"batch_size={numbers[0]}", f"optimizer.rate={numbers[1]}"])
    other = training.train(str(pictures), "lenet_bn", tmp_path / "given", given, unwatched)
    mine, theirs = (keras.models.load_model(each.model).get_weights() for each in (run, other))
    assert all((a == b).all() for a, b in zip(mine, theirs, strict=True))
    assert not Run(other.folder).rates.exists()

    def never(*_: Any) -> Any:
        raise AssertionError("it was measured once")

    monkeypatch.setattr(automatic, "measured", never)
    training.train(str(pictures), "lenet_bn", run.folder, wanted, unwatched)
    longer = recipes.load("default", [*small, "epochs=3"])
    extended = training.train(str(pictures), "lenet_bn", run.folder, longer, unwatched, extend=True)
    assert extended.read_classifier().automatic == kept.automatic
    with pytest.raises(UserError, match=f"batch_size {numbers[0]}, here auto"):
        training.train(str(pictures), "lenet_bn", other.folder, wanted, unwatched)


def test_all_of_the_network_trains_in_a_range_test() -> None:
    """With 1000 steps to an epoch only the new classifier would, whose rate may be too high for the rest."""
    wanted = recipes.load("fine_tuning", ("optimizer.rate=auto",), from_weights=True)
    rising = range_test.rising(wanted)
    assert (wanted.fine_tuning.head_epochs, rising.fine_tuning.head_epochs) == (3, 0)
    assert rising.fine_tuning.layer_decay == wanted.fine_tuning.layer_decay == 0.9
