"""Several devices and several hosts: what names them, who reads what of a batch, and that they train as one does."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.datasets import loading
from app.datasets.dataset import Data
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import Share, training_batches
from app.program.errors import UserError, WorkerLostError
from app.recipe import Augmentation, Optimizer, Recipe
from app.run_folder import folder
from app.run_folder.folder import Run
from app.training.devices import cluster, devices, faults
from app.training.devices.cluster import Cluster, read_cluster
from app.training.devices.devices import Devices
from app.training.devices.faults import Attempt
from tests import ROOT

SMALL = Preprocessing(height=32, width=32)
SETTINGS = ("image_size=32", "batch_size=24", "seed=3", "augmentation.flip=true", "augmentation.mixup=0.2")


@pytest.fixture(scope="module")
def data(pictures: Path) -> Data:
    return loading.load(str(pictures))


# ---- what names them


def config(cluster: Any, kind: str = "worker", index: Any = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        (config({"worker": ["a:1", "b:2"]}, index=1), Cluster(("a:1", "b:2"), 1)),
        (config({"chief": ["c:3"], "worker": ["a:1", "b:2"]}, index=1), Cluster(("c:3", "a:1", "b:2"), 2)),
        (config({"worker": ["a:1"], "chief": ["[::1]:3"]}, "chief"), Cluster(("[::1]:3", "a:1"), 0)),
        (config({"worker": ["a:1"]}), None),
    ],
)
def test_a_cluster_is_read_with_the_chief_first(text: str, cluster: Cluster | None) -> None:
    assert read_cluster(text) == cluster


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{worker", "Invalid JSON"),
        ("[]", "TF_CONFIG: Input should be an object"),
        ("{}", "TF_CONFIG: cluster: Field required"),
        (json.dumps({"cluster": {"worker": ["a:1", "b:2"]}}), "task: Field required"),
        (config({"worker": ["a:1", "b"]}), "cluster.worker.1: String should match"),
        (config({"worker": ["a:1"], "ps": ["b:2"]}), "cluster.ps: Extra inputs"),
        (config({"worker": ["a:1", "b:2"]}, "evaluator"), "task.type: Input should be 'chief' or 'worker'"),
        (config({"worker": ["a:1", "b:2"]}, index=2), "this is worker 2, but the cluster has 2 of them"),
        (config({"worker": ["a:1", "b:2"]}, "chief"), "this is chief 0, but the cluster has 0 of them"),
        (config({"worker": ["a:1", "a:1"]}), "a:1 is there twice"),
    ],
)
def test_a_tf_config_that_makes_no_sense_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        cluster.read_cluster(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("TF_CONFIG", config({"worker": [f"localhost:{port}", "localhost:1"]}))
        with pytest.raises(UserError, match=rf"port {port} of localhost:{port}, which is this worker, cannot be used"):
            devices.take()
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["localhost:99999", "localhost:1"]}))
    with pytest.raises(UserError, match="port 99999"):
        devices.take()


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, [0]), ("1", [0]), ("3", [0, 1, 2]), ("all", [0, 1, 2, 3]), ("0,3", [0, 3]), ("2,", [2])],
)
def test_devices_are_a_number_of_them_or_their_numbers(wanted: str | None, chosen: list[int]) -> None:
    assert devices.numbers(wanted, 4, "GPU") == chosen


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("0", "write how many"),
        ("-1", "write how many"),
        ("two", "write how many"),
        ("1,1", "write how many"),
        ("-1,0", "write how many"),
        (",", "write how many"),
        ("5", "no GPU number 4 here; TensorFlow finds 4 GPUs"),
        ("0,4", "no GPU number 4 here"),
    ],
)
def test_devices_that_do_not_exist_are_one_sentence(wanted: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        devices.numbers(wanted, 4, "GPU")
    assert f"--devices {wanted}:" in str(caught.value)


def test_there_is_one_cpu_unless_somebody_divides_it() -> None:
    assert devices.take("cpu").replicas == devices.take("1").replicas == devices.take().replicas == 1
    if not tf.config.list_physical_devices("GPU"):
        with pytest.raises(UserError, match=r"TensorFlow finds 1 CPU, numbered from 0 \(and no GPU\)"):
            devices.take("2")


@pytest.mark.parametrize(
    ("recipe", "count", "words"),
    [
        (Recipe(batch_size=33), 2, "photos has 2 training and 2 validation images, too few for 3 devices: take 2"),
        (Recipe(batch_size=32), 99, "--set batch_size=30"),
        (Recipe(batch_size=33), 20, "at most the 20 training images, as in --set batch_size=18"),
        (Recipe(batch_size=2), 99, "--set batch_size=3"),
        (Recipe(batch_size=33, precision="mixed_float16"), 99, "mixed_bfloat16"),
        (Recipe(batch_size=33, optimizer=Optimizer(accumulate=2)), 99, "smaller batches"),
        (Recipe(batch_size=33), 99, None),
    ],
)
def test_a_recipe_that_devices_cannot_divide_is_refused(recipe: Recipe, count: int, words: str | None) -> None:
    images: Any = SimpleNamespace(
        name="photos", train=SimpleNamespace(count=count), validation=SimpleNamespace(count=min(count, 3))
    )
    Devices().check(images, recipe)
    three = Devices(SimpleNamespace(num_replicas_in_sync=3))
    if words is None:
        three.check(images, recipe)
        return
    with pytest.raises(UserError) as caught:
        three.check(images, recipe)
    assert words in str(caught.value)


def test_an_error_of_tensorflow_is_a_lost_worker_only_where_there_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "WAIT", 0.0)
    error = tf.errors.UnavailableError(None, None, "Socket closed")
    attempt = Attempt(tmp_path, 1, 32)
    with (
        pytest.raises(WorkerLostError, match="start the same command on all hosts again"),
        Devices(worker=1, workers=2).watched(attempt),
    ):
        raise error
    with pytest.raises(tf.errors.UnavailableError), Devices().watched(attempt):
        raise error


# ---- who reads what


@pytest.mark.parametrize("workers", [2, 4])
def test_shares_are_slices_by_position_and_hold_everything_once(workers: int) -> None:
    """21 examples in batches of 8: the last has 5, and the last shares of it fewer than the first."""
    examples = tf.data.Dataset.range(21).map(lambda i: i * i).enumerate()
    size = 8 // workers
    for worker in range(workers):
        found = [int(position) for position, _ in Share(worker, workers).of(examples, 8).as_numpy_iterator()]
        assert found == [i for i in range(21) if worker * size <= i % 8 < (worker + 1) * size]
    assert list(Share().of(examples, 8).as_numpy_iterator()) == [(i, i * i) for i in range(21)]


@pytest.mark.parametrize(("images", "workers", "here"), [(21, 2, 2), (4, 2, 2), (16, 1, 4), (23, 3, 1), (15, 1, 2)])
def test_every_device_validates_in_every_step_and_every_image_is_once(images: int, workers: int, here: int) -> None:
    batch_size = workers * here * 2
    seen: list[int] = []
    steps = set()
    for worker in range(workers):
        strategy = SimpleNamespace(
            num_replicas_in_sync=workers * here, distribute_datasets_from_function=lambda batches_of: batches_of(None)
        )
        share = tf.data.Dataset.range(images).shard(workers, worker).batch(batch_size // workers)
        found = list(Devices(strategy, worker, workers).validation(share, batch_size, images).as_numpy_iterator())
        assert all(len(batch) for batch in found)
        assert len(found) % here == 0
        steps.add(len(found) // here)
        seen.extend(np.concatenate(found))
    assert sorted(seen) == list(range(images))
    assert len(steps) == 1


def test_all_shares_together_are_the_batches_of_one(data: Data) -> None:
    augmentation = Augmentation(flip=True, crop_area=0.5, mixup=0.2, cutmix=1.0)
    recipe = Recipe(batch_size=8, seed=5, augmentation=augmentation)
    steps = data.train.count // 8 + 2  # into the second epoch
    assert data.train.count % 8, "nothing would be left out of an epoch"

    def batches(share: Share) -> list[Any]:
        found = training_batches(data.train, SMALL, recipe, 3, 0, share)
        assert found.cardinality() == tf.data.INFINITE_CARDINALITY
        return list(found.take(steps).as_numpy_iterator())

    whole, first, second = (batches(share) for share in (Share(), Share(0, 2), Share(1, 2)))
    for batch, *halves in zip(whole, first, second, strict=True):
        assert [len(labels) for _, labels in halves] == [4, 4]
        for part in (0, 1):
            np.testing.assert_array_equal(np.concatenate([half[part] for half in halves]), batch[part])


# ---- several devices of one host

MIRRORED = """
import sys
from pathlib import Path
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from app import recipe, training
from app.training import finishing
from app.training.devices import devices

finishing.keep_network = finishing.complete = lambda *_: None  # of the same weights there would be the same figures
data, to, *settings = sys.argv[1:]
for count in ("1", "2"):
    taken = devices.take(count)
    assert taken.replicas == int(count)
    training.train(data, "lenet_bn", Path(to) / count, recipe.load("default", settings), devices=taken)
"""


def weights(run: Run) -> list[Any]:
    return keras.models.load_model(run.checkpoints / "last.keras", compile=False).get_weights()


def assert_same_history(one: Run, several: Run, loss: float) -> None:
    mine, theirs = folder.read_history(several.history), folder.read_history(one.history)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        for figure in ("loss", "val_loss"):
            assert a[figure] == pytest.approx(b[figure], abs=loss)


def assert_same_weights(one: Run, several: Run) -> None:
    for found, wanted in zip(weights(several), weights(one), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_two_devices_train_as_one_does(
    optimizer: str, pictures: Path, tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    own = (f"optimizer.name={optimizer}", "optimizer.rate=0.01", "optimizer.clip=0.5", "weight_average=0.9")
    fresh_process(MIRRORED, pictures, tmp_path, *SETTINGS, "steps=4", *own)
    assert_same_weights(Run(tmp_path / "1"), Run(tmp_path / "2"))
    assert_same_history(Run(tmp_path / "1"), Run(tmp_path / "2"), loss=1e-4)


# ---- several hosts


class Workers:
    """Processes on this host that TF_CONFIG makes workers of one training, one for each of the arguments of Python."""

    def __init__(self, *commands: Sequence[object]) -> None:
        with contextlib.ExitStack() as probes:  # all are open until the last is found: no port comes twice
            found = [probes.enter_context(socket.socket()) for _ in commands]
            for probe in found:
                probe.bind(("", 0))
            self.addresses = [f"localhost:{probe.getsockname()[1]}" for probe in found]
        self.processes = [self._start(i, arguments) for i, arguments in enumerate(commands)]

    def _start(self, index: int, arguments: Sequence[object]) -> "subprocess.Popen[str]":
        environment = {"PYTHONPATH": str(ROOT), "TF_CONFIG": config({"worker": self.addresses}, index=index)}
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, seconds: float = 900) -> list[tuple[int, str, str]]:
        """Exit code, standard output and standard error of each."""
        ended = []
        try:
            for process in self.processes:
                out, err = process.communicate(timeout=seconds)
                ended.append((process.returncode, out, err))
        finally:
            for process in self.processes:
                process.kill()
        return ended


KERAS = """
import sys
import keras, numpy as np, tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
from app.training.devices.multi_worker import MultiWorkerModel

class FirstStep(MultiWorkerModel):
    train_step, test_step = keras.Model.train_step, keras.Model.test_step

kind = {"keras.Model": keras.Model, "FirstStep": FirstStep, "MultiWorkerModel": MultiWorkerModel}[sys.argv[1]]
keras.utils.set_random_seed(1)
with strategy.scope():
    image = keras.Input((4,))
    model = kind(image, keras.layers.Dense(3)(image))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")])
x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
y = np.eye(3, dtype="float32")[np.arange(9) % 3]
try:
    def share(context):
        examples = tf.data.Dataset.from_tensor_slices((x, y)).shard(2, context.input_pipeline_id)
        return examples.filter(lambda *_: True).batch(4)  # hides how many there are, as the shares of a batch do

    batches = strategy.distribute_datasets_from_function(share)  # of 4 and 4, then of 1 and none
    before = model.evaluate(batches, steps=2, verbose=0, return_dict=True)
    model.fit(batches, steps_per_epoch=2, epochs=2, verbose=0, shuffle=False)
    after = model.evaluate(batches, steps=2, verbose=0, return_dict=True)
    logits = x @ model.layers[1].kernel.numpy() + model.layers[1].bias.numpy()
    print(after["accuracy"], np.mean(logits.argmax(1) == y.argmax(1)), before["loss"] - after["loss"])
except Exception as error:
    print(type(error).__name__, str(error).replace("\\n", " "))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "words"), [("keras.Model", "PerReplica"), ("FirstStep", "reduction dimension 0")])
def test_keras_itself_still_fails_with_several_workers(kind: str, words: str) -> None:
    """When this fails, that step in `app/multi_worker.py` can go."""
    for code, out, err in Workers(*2 * [["-c", KERAS, kind]]).end():
        assert words in out, (code, out, err)


@pytest.mark.slow
def test_the_repaired_model_trains_and_counts_every_image() -> None:
    for code, out, err in Workers(*2 * [["-c", KERAS, "MultiWorkerModel"]]).end():
        assert code == 0, err
        counted, right, learned = map(float, out.split())
        assert counted == pytest.approx(right)
        assert learned > 0


def command(data: Path, to: Path, *settings: str) -> list[object]:
    chosen = [word for setting in settings for word in ("--set", setting)]
    return ["-m", "app", "train", data, "--network", "lenet_bn", "--to", to, *chosen]


def alone(data: Path, to: Path, *settings: str) -> Run:
    subprocess.run([sys.executable, *map(str, command(data, to, *settings))], cwd=ROOT, check=True, capture_output=True)
    return Run(to)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "loss"), [(5, 1e-4), (50, 1e-3)])
def test_two_workers_train_as_one_does(steps: int, loss: float, pictures: Path, tmp_path: Path) -> None:
    settings = (*SETTINGS, f"steps={steps}")
    one = alone(pictures, tmp_path / "one", *settings)
    two = Run(tmp_path / "two")
    arguments = command(pictures, two.folder, *settings)
    (code, out, err), (other_code, other_out, other_err) = Workers(arguments, arguments).end()
    assert (code, other_code) == (0, 0), (err, other_err)
    assert "top-1" in out
    assert "on the CPU of each of 2 workers" in err
    assert "the chief evaluates" in other_out
    assert_same_history(one, two, loss)
    if steps == 5:
        assert_same_weights(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_ends_the_others_and_all_go_on_together(killed: int, pictures: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    arguments = command(pictures, run.folder, *SETTINGS, "epochs=12")
    first = Workers(arguments, arguments)
    while len(folder.read_history(run.history)) < 3:
        assert first.processes[0].poll() is None, first.end()
        time.sleep(0.1)
    first.processes[killed].send_signal(signal.SIGKILL)
    ended = first.end(seconds=120)
    assert ended[killed][0] == -signal.SIGKILL
    code, _, err = ended[1 - killed]
    assert code == 75, err
    # Not always the last line: once a busy machine said of a closed file what nobody could find again.
    assert any(line.startswith("Error: Another worker is gone") for line in err.splitlines()), err
    done = len(folder.read_history(run.history))
    assert 3 <= done < 12
    (code, _, err), (other_code, _, other_err) = Workers(arguments, arguments).end()
    assert (code, other_code) == (0, 0), (err, other_err)
    assert "Going on after step" in err
    assert len(folder.read_history(run.history)) == 12


FAULTY = """
import json, os, sys
import tensorflow as tf
from app.training.callbacks import epochs

real = epochs.EndEpochs.on_train_batch_end

def failing(self, batch, logs=None):
    real(self, batch, logs)
    if self.step == 5 and json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
        raise tf.errors.InternalError(None, None, "cuDNN launch failure : input shape ([2,3])")

epochs.EndEpochs.on_train_batch_end = failing
from app.__main__ import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_fault_of_one_worker_ends_all_and_the_second_time_for_good(pictures: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    arguments = command(pictures, run.folder, *SETTINGS, "steps=9")
    said = "Error: Worker 1 failed{} after step 5: InternalError: cuDNN launch failure : input shape ([2,3])."
    for wanted, often in ((75, ""), (1, " 2 times")):
        for code, _, err in Workers(*2 * [["-c", FAULTY, *arguments[2:]]]).end():
            assert code == wanted, err
            assert err.splitlines()[-1].startswith(said.format(often))
    # Without the fault the same command goes on, and forgets it.
    for code, _, err in Workers(arguments, arguments).end():
        assert code == 0, err
    assert {path.name for path in run.checkpoints.iterdir()} == {"last.keras"}


@pytest.mark.slow
def test_workers_that_are_given_different_things_are_told(pictures: Path, tmp_path: Path) -> None:
    commands = [command(pictures, tmp_path / "run", *SETTINGS, f"steps={steps}") for steps in (3, 4)]
    for code, _, err in Workers(*commands).end():
        assert code == 1
        assert "do not train the same" in err.splitlines()[-1]
        assert "differ in worker 1" in err.splitlines()[-1]


@pytest.mark.slow
def test_workers_without_a_folder_in_common_are_told(pictures: Path, tmp_path: Path) -> None:
    alone(pictures, tmp_path / "first", *SETTINGS, "steps=6").model.unlink()
    commands = [command(pictures, tmp_path / name, *SETTINGS, "steps=6") for name in ("first", "second")]
    ended = Workers(*commands).end()
    told = [err for code, _, err in ended if code == 1]
    assert told
    assert all("begin at different steps (6, 0)" in err.splitlines()[-1] for err in told)
    # Who reads the other's step last may find it gone already.
    assert {code for code, _, _ in ended} <= {1, 75}
