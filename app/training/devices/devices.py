"""Where a training runs: the devices of this host, as `--devices` says, and other hosts, as TF_CONFIG says.

All devices together train one recipe: `batch_size` is that of the whole step, each device takes an equal part of every
batch, batch normalisation sees the joint batch, and each then applies the sum of all gradients. So more devices
change the time and nothing else, and no rate needs scaling. The first worker of TF_CONFIG, the chief, writes
the run folder; the others only read it.
"""

import ctypes
import hashlib
import os
import signal
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from app.batch_norm import measuring
from app.datasets.dataset import Data
from app.pipeline.input_pipeline import Share
from app.program.errors import UserError
from app.program.progress import console
from app.recipe import Recipe
from app.run_folder.classifier import Classifier
from app.training.devices import devices
from app.training.devices.cluster import Cluster, read_cluster
from app.training.devices.faults import Attempt
from app.training.devices.multi_worker import MultiWorkerModel
from models import BatchNormalization


def why_no_gpu() -> str:
    """The reason why TensorFlow finds none, as far as it can be told."""
    if not tf.test.is_built_with_cuda():
        return "this TensorFlow is built without CUDA"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "CUDA_VISIBLE_DEVICES hides all GPUs"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed"
    return "TensorFlow finds no GPU, or not all CUDA libraries, which `pip install -e '.[app,cuda]'` brings"


@dataclass(frozen=True)
class Devices:
    """`workers` are processes, one a host; this is number `worker`, from 0. `replicas` are the devices of all."""

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run folder."""
        return self.worker == 0

    @property
    def share(self) -> Share:
        return Share(self.worker, self.workers)

    def described(self) -> str:
        """Words for the line that a training begins with."""
        gpus = len(tf.config.list_logical_devices("GPU"))
        kind = "GPU" if gpus else "CPU"
        here = self.replicas // self.workers
        one = f"on {here} {kind}s" if here > 1 else f"on the {kind}"
        why = "" if gpus else f": {devices.why_no_gpu()}"
        return f"{one} of each of {self.workers} workers{why}" if self.workers > 1 else one + why

    def check(self, data: Data, recipe: Recipe) -> None:
        """Raises:
        UserError: a batch that several devices cannot divide evenly, or more of it than there are images; a
            precision or an accumulation that Keras cannot distribute.
        """
        if self.replicas == 1:
            return
        count, batch_size = data.train.count, recipe.batch_size
        fewest = min(count, data.validation.count)
        if fewest < self.replicas:
            raise UserError(
                f"{data.name} has {count} training and {data.validation.count} validation images, too few for "
                f"{self.replicas} devices: take {max(1, fewest)} or fewer."
            )
        if batch_size > count or batch_size % self.replicas:
            most = min(batch_size, count)
            raise UserError(
                f"batch_size={batch_size} is the batch of all {self.replicas} devices together: it must be a multiple "
                f"of {self.replicas} and at most the {count} training images, as in --set "
                f"batch_size={max(self.replicas, most - most % self.replicas)}."
            )
        if recipe.optimizer.accumulate > 1:
            raise UserError(
                "optimizer.accumulate needs a single device, since Keras cannot accumulate on several; take smaller "
                "batches, or leave --devices out."
            )
        if recipe.precision == "mixed_float16":
            # Each device looks for infinities in its own gradients, before they are added up.
            raise UserError(
                "precision=mixed_float16 needs a single device, since Keras scales the loss of each by itself; take "
                "--set precision=mixed_bfloat16, or leave --devices out."
            )

    def replicated(self, model: keras.Model) -> keras.Model:
        """The model, built under the strategy's scope, as it is trained on all devices."""
        if self.replicas > 1:
            for layer in measuring.layers_of(model):
                if isinstance(layer, BatchNormalization):
                    layer.synchronized = True
        if self.workers > 1:
            return MultiWorkerModel(model.input, model.output, name=model.name)
        return model

    def training(self, batches: tf.data.Dataset, batch_size: int) -> Any:
        """This worker's shares of the training batches, handed out to its devices in equal parts."""
        return self._distributed(batches, [batch_size // self.replicas])

    def validation(self, batches: tf.data.Dataset, batch_size: int, images: int) -> Any:
        """This worker's share of all validation images, handed out to its devices: the last batches are as large as it
        takes for each to have an image in every one, since networks fail on a batch of none."""
        steps, here = max(1, images // batch_size), self.replicas // self.workers
        of_a_device = batch_size // self.replicas
        full = [of_a_device] * here * (steps - 1)
        left = self.share.count(images) - sum(full)
        return self._distributed(batches, [*full, *((left + i) // here for i in range(here))])

    def _distributed(self, batches: tf.data.Dataset, sizes: list[int]) -> Any:
        if self.replicas == 1:
            return batches
        of_a_device = batches.rebatch(sizes)
        return self.strategy.distribute_datasets_from_function(lambda context: of_a_device)

    def compare(self, classifier: Classifier, step: int) -> None:
        """Sees to it that all workers train the same from the same step on: otherwise they would wait for each other
        without end, or add up what does not belong together.

        Raises:
            UserError: they do not.
        """
        if self.workers == 1:
            return
        same = {"network", "arguments", "labels", "preprocessing", "recipe"}
        described = [classifier.model_dump_json(include=same), classifier.data.fingerprint if classifier.data else ""]
        digest = hashlib.sha256("\n".join(described).encode()).digest()
        mine = tf.constant([[int.from_bytes(digest[:7], "big"), step]], tf.int64)
        digests, steps = self.strategy.gather(mine, axis=0).numpy().T.tolist()
        if len(set(digests)) > 1:
            raise UserError(
                "The workers do not train the same: give every one the same command and images. They differ "
                f"in worker {', '.join(str(i) for i, other in enumerate(digests) if other != digests[0])}."
            )
        if len(set(steps)) > 1:
            raise UserError(
                f"The workers begin at different steps ({', '.join(map(str, steps))}): the run folder must be on a "
                "file system that all hosts share, under the same path."
            )

    @contextmanager
    def watched(self, attempt: Attempt) -> Iterator[None]:
        """Around what all workers do together.

        Raises:
            WorkerLostError: another worker is gone; or one failed in TensorFlow, this one or another, and starting
                again may help.
            UserError: that came back at the same step.
        """
        try:
            with warnings.catch_warnings():
                # Only a device that has no image left finds out how long its part of the validation is.
                warnings.filterwarnings("ignore", "Your input ran out of data")
                yield
        except Exception as error:
            judged = error if self.workers == 1 else attempt.judged(error)
            if judged is error:
                raise
            raise judged from error


def take(wanted: str | None = None) -> Devices:
    """The devices that `wanted` names: a number of them, "all", numbers from 0 as in "0,1", or "cpu" where there are
    GPUs, too; None is one. They are of this host or, with TF_CONFIG in the environment, of every host.

    With several hosts this comes before all else that TensorFlow does in the process, and waits for the other workers.

    Raises:
        UserError: devices that do not exist; a TF_CONFIG that makes no sense; a port in use.
    """
    config = os.environ.get("TF_CONFIG")
    cluster = read_cluster(config) if config else None
    if wanted is None and cluster is None:
        return Devices()
    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "cpu":
        wanted, gpus = None, []
        _show(gpus)
    if gpus:
        chosen = numbers(wanted, len(gpus), "GPU")
        _show([gpus[i] for i in chosen])
        names = [f"GPU:{i}" for i in range(len(chosen))]
    else:
        # TensorFlow connects one CPU of each host.
        cpus = 1 if cluster else len(tf.config.list_logical_devices("CPU"))
        names = [f"CPU:{i}" for i in numbers(wanted, cpus, "CPU")]
    if cluster:
        return _join(cluster)
    return Devices(tf.distribute.MirroredStrategy(names)) if len(names) > 1 else Devices()


def numbers(wanted: str | None, there: int, kind: str) -> list[int]:
    """Which of the devices that are `there` are meant, from 0. "2" is the first two, "0,1" are these, "1," is that one.

    Raises:
        UserError: none, the same one twice, or one that is not there.
    """
    if wanted == "all":
        return list(range(there))
    try:
        given = [int(part) for part in (wanted or "1").split(",") if part]
    except ValueError:
        given = []
    chosen = given if wanted and "," in wanted else list(range(sum(given)))
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise UserError(
            f"--devices {wanted}: write how many, numbers as in 0,1, 'all' or 'cpu'; without it one is taken."
        )
    if max(chosen) >= there:
        raise UserError(
            f"--devices {wanted}: there is no {kind} number {max(chosen)} here; TensorFlow finds {there} "
            f"{kind}{'s' * (there > 1)}, numbered from 0{' (and no GPU)' * (kind == 'CPU')}."
        )
    return chosen


def _show(gpus: Sequence[Any]) -> None:
    """Leaves the memory of all other GPUs to other programs."""
    try:
        tf.config.set_visible_devices(gpus, "GPU")
    except RuntimeError as error:
        raise UserError("Devices cannot be chosen after TensorFlow has begun to work in the process.") from error


def _join(cluster: Cluster) -> Devices:
    address = cluster.addresses[cluster.worker]
    port = int(address.rpartition(":")[2])
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a worker that just ended does not matter
            probe.bind(("", port))
    except (OSError, OverflowError) as error:
        raise UserError(
            f"TF_CONFIG: port {port} of {address}, which is this worker, cannot be used ({error}); is the "
            "worker running already? Give it another port, on all hosts."
        ) from error
    console.print(f"worker {cluster.worker} of {len(cluster.addresses)}, {address}: waiting for the others")
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    # TensorFlow now takes SIGTERM for news to pass on, and goes on: let it end the process again.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return Devices(strategy, cluster.worker, len(cluster.addresses))
