"""Checkpoints: that they hold everything, that nobody ever sees half of one, and that damage is noticed."""

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import psutil
import pytest
import safetensors.numpy

from app import recipe, training
from app.images.preprocessing import Preprocessing
from app.program import stopping
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Recipe
from app.run_folder import folder
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.training.callbacks.epochs import EndEpochs, History
from app.training.checkpoints import checkpoint
from app.training.checkpoints import saving as saving_module
from app.training.checkpoints.checkpoint import State, newest
from app.training.checkpoints.saving import SaveCheckpoints
from models import BatchNormalization

Array = np.ndarray[Any, Any]
CLASSIFIER = Classifier(
    network="lenet_bn",
    arguments={},
    labels=("one", "other"),
    preprocessing=Preprocessing(height=8, width=8),
    recipe=Recipe(),
    versions={},
    seed=0,
    data=None,
)


def network(seed: int) -> keras.Model:
    """After a step, with everything that has a state: weights, moving averages, dropout, momentum, loss scale, averaged
    weights and metrics."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input((4,))
    x = BatchNormalization()(keras.layers.Dense(5)(x))
    x = keras.layers.Dropout(0.5)(x)
    model = keras.Model(image, keras.layers.Dense(2)(x))
    rate = keras.optimizers.schedules.CosineDecay(0.1, 20)
    inner = keras.optimizers.RMSprop(rate, momentum=0.9, use_ema=True, gradient_accumulation_steps=2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, dynamic_growth_steps=3)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])
    model.train_on_batch(*batch(0))
    model.reset_metrics()
    return model


def batch(step: int) -> tuple[Array, Array]:
    """A function of the step's number."""
    rng = np.random.default_rng(step)
    return rng.normal(size=(8, 4)), np.eye(2)[rng.integers(0, 2, 8)]


def steps(model: keras.Model, first: int, last: int) -> dict[str, float]:
    """Trains; returns the means since the metrics were reset."""
    figures = [model.train_function(iter([batch(step)])) for step in range(first, last)]
    return {name: float(figure) for name, figure in figures[-1].items()}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Tests give it other values."""
    return network(1)


def move(model: keras.Model, seed: int) -> None:
    """Other values for all variables."""
    rng = np.random.default_rng(seed)
    for _, variable in checkpoint._variables(model):
        variable.assign(rng.integers(1, 1000, variable.shape))


def variables(model: keras.Model) -> list[Array]:
    return [variable.numpy() for _, variable in checkpoint._variables(model)]


def write(folder: Path, model: keras.Model, step: int) -> list[Array]:
    """A checkpoint of other values than before."""
    move(model, step)
    checkpoint.write(folder, model, State(classifier=CLASSIFIER, step=step))
    return variables(model)


def found_step(folder: Path) -> int:
    found = checkpoint.newest(folder)
    assert found
    return found.state.step


# ---- what is in one


def test_a_training_that_goes_on_from_a_checkpoint_computes_the_same_bits(tmp_path: Path) -> None:
    unbroken = network(1)
    steps(unbroken, 1, 5)
    state = State(
        classifier=CLASSIFIER, step=5, seconds=1.25, history=({"epoch": 1, "val_loss": 0.1 + 0.2}, {"val_loss": np.inf})
    )
    checkpoint.write(tmp_path, unbroken, state)
    right = steps(unbroken, 5, 11)

    continued = network(2)
    found = checkpoint.newest(tmp_path)
    assert found
    assert found.state == state
    found.restore(continued)
    found.restore_metrics(continued)
    assert steps(continued, 5, 11) == right
    kinds = {name.split(".")[0] for name, _ in checkpoint._variables(unbroken)}
    assert kinds == {"network", "optimizer", "metrics"}
    for mine, theirs in zip(variables(continued), variables(unbroken), strict=True):
        np.testing.assert_array_equal(mine, theirs)

    found.restore(continued)
    assert steps(continued, 5, 11) != right, "the metrics have no state: this test cannot see a difference"


def test_a_checkpoint_can_be_read_and_verified_by_other_programs(model: keras.Model, tmp_path: Path) -> None:
    right = write(tmp_path, model, 1)
    folder = tmp_path / "step-00000001"
    assert {path.name for path in folder.iterdir()} == {"variables.safetensors", "state.json", "SHA256SUMS"}
    assert (folder / "SHA256SUMS").read_text() == "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("variables.safetensors", "state.json")
    )
    arrays = safetensors.numpy.load_file(folder / "variables.safetensors")
    named = dict(zip((name for name, _ in checkpoint._variables(model)), right, strict=True))
    assert arrays.keys() == named.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, named[name])
    assert json.loads((folder / "state.json").read_text())["step"] == 1


def test_the_newest_two_are_kept(model: keras.Model, tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    for step in (9, 10, 11, 1000):
        write(tmp_path, model, step)
        assert found_step(tmp_path) == step
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000011", "step-00001000"}
    checkpoint.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_network_is_refused(model: keras.Model, tmp_path: Path) -> None:
    write(tmp_path, model, 1)
    found = checkpoint.newest(tmp_path)
    assert found
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    other.compile("sgd", "mse")
    before = variables(other)
    with pytest.raises(UserError, match=r"step-00000001 is of another network or optimizer; remove [^\n]+$"):
        found.restore(other)
    for now, was in zip(variables(other), before, strict=False):
        np.testing.assert_array_equal(now, was)


# ---- damage


@pytest.mark.parametrize("name", [checkpoint.VARIABLES, checkpoint.STATE, checkpoint.SUMS])
def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_counts(
    name: str, model: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = write(tmp_path, model, 1)
    write(tmp_path, model, 2)
    damaged = tmp_path / "step-00000002"
    content = (damaged / name).read_bytes()
    rng = np.random.default_rng(3)
    for place in (0, len(content) - 1, *rng.integers(len(content), size=20)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        (damaged / name).write_bytes(flipped)
        assert found_step(tmp_path) == 1
        assert capsys.readouterr().err.count(f"{damaged} is damaged") == 1
    found = checkpoint.newest(tmp_path)
    assert found
    found.restore(model)
    found.restore_metrics(model)
    for mine, theirs in zip(variables(model), right, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # What is damaged goes, although its number is higher; or, where the step is the same, gives way.
    shutil.copytree(damaged, tmp_path / "step-00000007")
    write(tmp_path, model, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000002"}
    assert found_step(tmp_path) == 2


def test_without_a_whole_checkpoint_nothing_is_begun_again_by_itself(model: keras.Model, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for step in (1, 2):
        write(folder, model, step)
        (folder / f"step-{step:08}" / checkpoint.STATE).unlink()
    with pytest.raises(UserError) as caught:
        checkpoint.newest(folder)
    assert f"All checkpoints in {folder} are damaged; remove {folder.parent}" in str(caught.value)


# ---- dying while one is written


class Killed(BaseException):
    pass


@contextmanager
def ending_at(n: int, error: BaseException) -> Iterator[list[str]]:
    """Has the n-th call into the file system fail, halfway through where it writes or removes something, and after a
    death every later call too; the list fills with the names of the calls."""
    calls: list[str] = []

    def failing(name: str, real: Callable[..., Any], half: Callable[..., Any] | None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) == n + 1 and half:
                half(*arguments)
            if len(calls) == n + 1 or (len(calls) > n and isinstance(error, Killed)):
                raise error
            return real(*arguments, **options)

        return call

    def half_the_variables(arrays: Any, file: Path) -> None:
        file.write_bytes(safetensors.numpy.save(arrays)[:200])

    def half_the_text(path: Path, text: str) -> None:
        path.write_bytes(text[: len(text) // 2].encode())

    def half_the_folder(path: Path) -> None:
        for file in sorted(path.glob("*"))[:1]:
            file.unlink()

    with pytest.MonkeyPatch.context() as monkeypatch:
        for target, name, half in (
            (os, "mkdir", None),
            (safetensors.numpy, "save_file", half_the_variables),
            (Path, "write_text", half_the_text),
            (os, "fsync", None),
            (os, "replace", None),
            (shutil, "rmtree", half_the_folder),
        ):
            monkeypatch.setattr(target, name, failing(name, getattr(target, name), half))
        yield calls


def test_whenever_a_process_dies_there_is_a_whole_checkpoint(
    model: keras.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    right = {step: write(begun, model, step) for step in (1, 2)}
    move(model, 3)
    right[3] = variables(model)
    died: list[str] = []
    found: list[int] = []
    while True:
        folder = tmp_path / f"{len(died)}"
        shutil.copytree(begun, folder)
        with ending_at(len(died), Killed()) as calls:
            try:
                write(folder, model, 3)
                break
            except Killed:
                died.append(calls[len(died)])
        checkpoint = newest(folder)
        assert checkpoint
        found.append(checkpoint.state.step)
        checkpoint.restore(model)
        checkpoint.restore_metrics(model)
        for mine, theirs in zip(variables(model), right[found[-1]], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert capsys.readouterr().err == ""
        write(folder, model, 3)  # by a process of the same number, as in a container
        assert {path.name for path in folder.iterdir()} == {"step-00000002", "step-00000003"}
    assert set(died) == {"mkdir", "save_file", "write_text", "fsync", "replace", "rmtree"}
    assert died.count("fsync") == 5, "three files, their folder, and its name in the folder above"
    done = died.index("replace") + 1
    assert found == [2] * done + [3] * (len(died) - done)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left on the device"), (errno.EROFS, "Read-only file system")]
)
def test_what_cannot_be_written_is_said_and_the_checkpoints_before_survive(
    number: int, words: str, model: keras.Model, tmp_path: Path
) -> None:
    for step in (1, 2):
        write(tmp_path, model, step)
    failed: list[str] = []
    while "replace" not in failed:
        with ending_at(len(failed), OSError(number, os.strerror(number))) as calls:
            with pytest.raises(UserError) as caught:
                write(tmp_path, model, 3)
            failed.append(calls[len(failed)])
        assert str(caught.value) == (
            f"{tmp_path / 'step-00000003'} could not be written: {words}. What was there before is unchanged."
        )
        assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000002"}
        assert found_step(tmp_path) == 2


# ---- when one is written


@pytest.mark.parametrize("every", [None, 4])
def test_a_checkpoint_is_due_after_so_many_steps_or_before_a_minute_is_over(
    every: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 0.0
    saved: list[tuple[int, float]] = []

    def slow_write(folder: Path, model: Any, state: State, of_metrics: bool) -> None:
        nonlocal clock
        saved.append((state.step, clock))
        clock += 5

    monkeypatch.setattr(saving_module, "time", SimpleNamespace(monotonic=lambda: clock))
    monkeypatch.setattr(checkpoint, "write", slow_write)
    progress: Any = SimpleNamespace(step=0, seconds=0.0)
    history = History(tmp_path / "history.csv", ())
    saving = SaveCheckpoints(tmp_path, every, CLASSIFIER, progress, history, None, stopping.Request())
    saving.set_model(SimpleNamespace(stop_training=False))
    saving.on_train_begin()
    for _ in range(40):
        clock += 7
        progress.step += 1
        saving.on_train_batch_end(0)
    # Eight steps take 56 seconds, nine would take 63; the time of writing is none of training.
    assert [step for step, _ in saved] == list(range(every or 8, 41, every or 8))
    assert every or np.diff([0, *(when for _, when in saved)]).tolist() == [56, 61, 61, 61, 61]


# ---- being asked to stop


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[Any], Any]]:
    """Sets what Ctrl-C does, for the test: whoever runs the tests in the background has it ignored."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("first", stopping.CODES)
def test_a_signal_is_a_request_and_another_ctrl_c_interrupts(first: signal.Signals, ctrl_c: Any) -> None:
    ctrl_c(signal.default_int_handler)
    before = [signal.getsignal(number) for number in stopping.CODES]
    with stopping.requests() as request:
        assert request.signal is None
        signal.raise_signal(first)
        assert request.signal == first
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in stopping.CODES] == before


def test_a_signal_that_is_ignored_stays_so_and_other_threads_take_none(ctrl_c: Any) -> None:
    ctrl_c(signal.SIG_IGN)
    with stopping.requests() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.signal is None
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    def in_a_thread() -> Any:
        with stopping.requests():
            return signal.getsignal(signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_a_thread).result() == signal.SIG_DFL


# ---- whole runs

SETTINGS = ("image_size=32", "batch_size=8", "width=0.5", "dropout=0.3")


def train(data: Path, to: Path, *settings: str) -> Run:
    return training.train(str(data), "lenet_bn", to, recipe.load("default", [*SETTINGS, *settings]), unwatched)


def assert_same(run: Run, other: Run) -> None:
    """Bit by bit, but for the times."""
    times = ("seconds", "images_per_second", "memory_mb")
    histories = [
        [{key: value for key, value in row.items() if key not in times} for row in folder.read_history(of.history)]
        for of in (run, other)
    ]
    assert histories[0] == histories[1]
    ends = [keras.models.load_model(of.checkpoints / "last.keras") for of in (run, other)]
    for mine, theirs in zip(ends[0].weights, ends[1].weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=theirs.path)
    for mine, theirs in zip(ends[0].optimizer.variables, ends[1].optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy(), err_msg=theirs.path)
    assert json.loads(run.metrics.read_text()) == json.loads(other.metrics.read_text())
    assert {path.name for path in run.checkpoints.iterdir()} == {"last.keras"}


@pytest.mark.slow
def test_a_run_that_dies_in_every_call_of_its_checkpoints_ends_as_if_nothing_had_happened(
    pictures: Path, tmp_path: Path
) -> None:
    unbroken = train(pictures, tmp_path / "unbroken", "epochs=2")
    real = checkpoint.write
    died: list[str] = []

    def dying(folder: Path, model: keras.Model, state: State, of_metrics: bool) -> None:
        with ending_at(len(died), Killed()) as calls:
            try:
                real(folder, model, state, of_metrics)
            except Killed:
                died.append(calls[len(died)])
                raise
        monkeypatch.undo()  # there is no such call: all of them had their turn

    while True:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(checkpoint, "write", dying)
            try:
                run = train(pictures, tmp_path / "run", "epochs=2", "checkpoint.every=1")
                break
            except Killed:
                continue
    assert len(died) >= 12
    assert_same(run, unbroken)


LONG = ("epochs=20", "checkpoint.every=3")
KILLS = 30


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes of their own that need not import TensorFlow again."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.training.training"])
    return context


def train_and_note(data: Path, to: Path, notes: Path) -> None:
    """In a process of its own: `notes` gets a line for every step that is done."""
    real = EndEpochs.on_train_batch_end

    def noted(self: Any, batch: int, logs: Any = None) -> None:
        real(self, batch, logs)
        with notes.open("a") as file:
            file.write(f"{self.step}\n")

    EndEpochs.on_train_batch_end = noted  # type: ignore[method-assign]
    train(data, to, *LONG)


@pytest.mark.slow
def test_thirty_kills_at_random_moments_change_no_bit(processes: Any, pictures: Path, tmp_path: Path) -> None:
    unbroken = train(pictures, tmp_path / "unbroken", LONG[0])
    run = Run(tmp_path / "run")
    rng = np.random.default_rng(11)
    done, within_a_write = 0, 0
    for kill in range(KILLS + 1):
        notes = tmp_path / f"{kill}.txt"
        notes.touch()
        process = processes.Process(target=train_and_note, args=(pictures, run.folder, notes))
        process.start()
        beside = f".{process.pid}-step-*"
        if kill < KILLS:
            if kill % 3 == 0:
                wait_until(lambda beside=beside: any(run.checkpoints.glob(beside)), process)  # type: ignore[misc]
            else:
                steps = int(rng.integers(1, 7))
                wait_until(lambda notes=notes, steps=steps: len(lines(notes)) >= steps, process)  # type: ignore[misc]
                time.sleep(rng.uniform(0, 0.05))
            process.kill()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if kill < KILLS else 0)
        within_a_write += any(run.checkpoints.glob(beside))
        seen = lines(notes)
        # What is done again was done since the last checkpoint.
        assert done - 3 < seen[0] <= done + 1
        done = seen[-1]
    assert within_a_write >= KILLS / 6
    assert_same(run, unbroken)


def lines(notes: Path) -> list[int]:
    return [int(line) for line in notes.read_text().split()]


def wait_until(condition: Callable[[], bool], process: Any) -> None:
    while process.is_alive() and not condition():
        time.sleep(0.0005)


@pytest.mark.slow
def test_a_deterministic_run_goes_on_with_the_same_bits(processes: Any, pictures: Path, tmp_path: Path) -> None:
    # In processes of their own: op determinism cannot be taken back.
    for name, killed_at in (("unbroken", 0), ("run", 14), ("run", 0)):
        process = processes.Process(target=train_deterministically, args=(pictures, tmp_path / name, killed_at))
        process.start()
        process.join()
        assert process.exitcode == (-signal.SIGKILL if killed_at else 0)
    assert_same(Run(tmp_path / "run"), Run(tmp_path / "unbroken"))


def train_deterministically(data: Path, to: Path, killed_at: int) -> None:
    real = EndEpochs.on_train_batch_end

    def ending(self: Any, batch: int, logs: Any = None) -> None:
        real(self, batch, logs)
        if self.step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    EndEpochs.on_train_batch_end = ending  # type: ignore[method-assign]
    settings = (*SETTINGS, "epochs=2", "checkpoint.every=4", "augmentation.crop_area=0.5", "augmentation.mixup=0.2")
    training.train(str(data), "lenet_bn", to, recipe.load("default", settings), unwatched, deterministic=True)


@pytest.mark.slow
def test_the_memory_of_a_training_does_not_grow(processes: Any, pictures: Path, tmp_path: Path) -> None:
    process = processes.Process(target=train_and_weigh, args=(pictures, tmp_path / "run", tmp_path / "bytes.txt"))
    process.start()
    process.join()
    sizes = [int(line) for line in (tmp_path / "bytes.txt").read_text().split()]
    assert len(sizes) == 20
    # 3 % of the 2 GB that `inception_v3` takes at 75 pixels: what warms up is 20 to 40 MB, whatever the network.
    assert sizes[19] - sizes[1] <= 0.03 * 2e9


def train_and_weigh(data: Path, to: Path, notes: Path) -> None:
    """In a process of its own: `notes` gets the resident size after every epoch."""
    real = History.on_epoch_end

    def noted(self: Any, epoch: int, logs: Any = None) -> None:
        real(self, epoch, logs)
        with notes.open("a") as file:
            file.write(f"{psutil.Process().memory_info().rss}\n")

    History.on_epoch_end = noted  # type: ignore[method-assign]
    wanted = recipe.load("default", ("image_size=64", "width=0.5", "batch_size=16", "epochs=20"))
    training.train(str(data), "bn_inception", to, wanted, unwatched)
