"""How long it still takes, as long work says it."""

import io
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from app.program import progress
from app.training.callbacks.progress import ReportProgress

GRAPH = 60.0  # seconds that the first step takes, before all others: its graph is made


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("app.program.progress.time", found)
    monkeypatch.setattr("app.training.callbacks.progress.time", found)
    return found


def lefts(said: str) -> list[tuple[int, float]]:
    """Step and seconds left, of every line that says both."""
    return [(int(step), float(left)) for step, left in re.findall(r"(?:step|:) (\d+) of .*?([\d.]+) s left", said)]


def test_the_first_of_many_is_nothing_to_go_by(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> Iterator[int]:
        for number in range(40):
            clock.now += GRAPH if number == 0 else 1.0
            yield number

    assert list(progress.watch(work(), 40, "Looking")) == list(range(40))
    said = capsys.readouterr().err
    assert "Looking: 1 of 40\n" in said
    assert len(lefts(said)) == 3
    for done, left in lefts(said):
        assert left == pytest.approx(40 - done, abs=0.5)


def test_a_training_says_what_its_steps_and_validations_still_take(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three epochs of ten steps of two seconds, each validated in five: 75 seconds after the graphs were made."""
    shown = ReportProgress(batch_size=4, steps=10, total_steps=30, first_step=0, seconds_before=0.0)
    shown.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1)))
    logs: dict[str, Any] = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    shown.on_train_begin()
    truth = []
    for epoch in range(3):
        shown.on_epoch_begin(epoch)
        for batch in range(10):
            clock.now += GRAPH if epoch == batch == 0 else 2.0
            shown.on_train_batch_end(batch, logs)
            truth.append(2 * (29 - 10 * epoch - batch) + 5 * (3 - epoch))
        shown.on_test_begin()
        for batch in range(5):
            clock.now += GRAPH if epoch == batch == 0 else 1.0
            shown.on_test_batch_end(batch, logs)
        shown.on_test_end()
        shown.on_epoch_end(epoch, dict(logs))
    shown.on_train_end()
    said = capsys.readouterr().err
    assert "step 1 of 30  loss 1.0000  accuracy 0.500  rate 0.1" in said
    found = lefts(said)
    assert len(found) > 5
    for step, left in found:
        ended = step % 10 == 0
        assert left == pytest.approx(truth[step - 1] - 5 * ended, abs=15 if step < 10 else 0.1), (step, left)
    assert re.findall(r"\d+ images/s", said)[0] == "2 images/s"


def test_on_a_terminal_the_figures_are_asked_for_when_the_bar_is_drawn(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes a millisecond, and a step of a small network not many more."""
    asked = []

    class Optimizer:
        @property
        def learning_rate(self) -> float:
            asked.append(clock.now)
            return 0.1

    terminal = Console(file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr("app.training.callbacks.progress.console", terminal)
    shown = ReportProgress(batch_size=4, steps=100, total_steps=100, first_step=0, seconds_before=0.0)
    shown.set_model(SimpleNamespace(optimizer=Optimizer()))
    shown.on_train_begin()
    shown.on_epoch_begin(0)
    for batch in range(100):
        clock.now += 0.01
        shown.on_train_batch_end(batch, {"loss": 1.0, "accuracy": 0.5})
    assert 8 <= len(asked) <= 10
    shown.on_test_begin()
    (task,) = shown.bar.tasks
    assert task.completed == 100
    shown.on_train_end()
