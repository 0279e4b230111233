"""One training of the mini-Inception on one core: 25 steps to a call of the graph, and a look at it after each."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets import dataset, loading
from app.images import preprocessing
from app.images.decoding import decode
from app.studies.mini_inception import SIDE, UNIT, mini_inception

BATCH = 32
EVERY = 25  # steps between two looks
MOMENTUM = 0.9  # of the optimizer
PERCENTILES = (15, 50, 85)
SIGNATURE = [
    tf.TensorSpec((None, BATCH), tf.int32),
    tf.TensorSpec((None, SIDE, SIDE, 1), tf.float32),
    tf.TensorSpec((None,), tf.int64),
]
PREPROCESSING = preprocessing.Preprocessing(height=SIDE, width=SIDE)


@dataclass(frozen=True)
class Setting:
    """All that a training depends on, beside its data. `decay` multiplies the rate every step; `weight_decay` is L2 of
    the kernels, with the factor one half; `moving` is the momentum of the moving averages; `cap` is where it ends."""

    normalization: Literal["batch"] | None
    activation: str
    initializer: str | dict[str, Any]
    rate: float
    cap: int
    seed: int
    dropout: float = 0.0
    weight_decay: float = 0.0
    decay: float = 1.0
    moving: float = 0.9

    @property
    def structure(self) -> tuple[str | None, str, float, float]:
        """What a compiled step depends on."""
        return self.normalization, self.activation, self.dropout, self.moving


@dataclass(frozen=True)
class Examples:
    """`images` (count, 8, 8, 1), -1..1, and `labels` (count,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, chosen: Any) -> "Examples":
        return Examples(self.images[chosen], self.labels[chosen])


def read_digits() -> tuple[Examples, Examples]:
    """The digits: those for training and validation together, and the test images."""
    data = loading.load("digits")
    parts = {split: _read(getattr(data, split)) for split in ("train", "validation", "test")}
    both = (parts["train"], parts["validation"])
    return Examples(
        np.concatenate([part.images for part in both]), np.concatenate([part.labels for part in both])
    ), parts["test"]


def _read(split: dataset.Split) -> Examples:
    def prepared(encoded: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return PREPROCESSING(decode(encoded))[..., :1], label

    pictures, labels = zip(*split.in_order().map(prepared).as_numpy_iterator(), strict=True)
    return Examples(np.stack(pictures), np.array(labels, np.int64))


def batches(count: int, seed: int, steps: int) -> NDArray[np.int32]:
    """The examples of each step, (steps, 32): every epoch in another order, the end of it that fills no batch left
    out."""
    epoch = count // BATCH
    orders = [np.random.default_rng((seed, number)).permutation(count) for number in range(-(-steps // epoch))]
    return np.concatenate([order[: epoch * BATCH].reshape(epoch, BATCH) for order in orders])[:steps].astype(np.int32)


@dataclass(frozen=True)
class Look:
    """After `step` steps: accuracy on the validation images, mean loss of the steps since the last look, and the 15th,
    50th and 85th percentile of what enters the activation of a unit of the last module."""

    step: int
    accuracy: float
    loss: float
    unit: tuple[float, float, float]


class Training:
    """Network, optimizer and data; `model` is the network as it stands."""

    def __init__(self, setting: Setting, train: Examples, validation: Examples) -> None:
        self.model = _fresh(setting)
        self._rate, self._decay, self._weight_decay = (tf.Variable(0.0) for _ in range(3))
        self._optimizer = keras.optimizers.SGD(_Decaying(self._rate, self._decay), momentum=MOMENTUM)
        self._optimizer.build(self.model.trainable_variables)
        self._steps = self._compiled()
        probe = keras.Model(self.model.input, [self.model.output, self.model.get_layer(UNIT).input])
        self._probe = tf.function(lambda pictures: probe(pictures, training=False), autograph=False)
        self.restart(setting, train, validation)

    def restart(self, setting: Setting, train: Examples, validation: Examples) -> None:
        """Begins again, with a setting of the same `structure`: what was compiled serves once more."""
        self.setting, self.train, self.validation = setting, train, validation
        self.step = 0
        self.milliseconds: list[float] = []  # a step, of each call but the first, which compiles
        self._order = batches(len(train.labels), setting.seed, setting.cap)
        numbers = (setting.rate, setting.decay, setting.weight_decay)
        for variable, number in zip((self._rate, self._decay, self._weight_decay), numbers, strict=True):
            variable.assign(number)
        for variable, begun in zip(self.model.variables, _fresh(setting).variables, strict=True):
            variable.assign(begun)
        for variable in self._optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))

    def look(self) -> Look:
        """Trains for 25 steps and looks."""
        order = self._order[self.step : self.step + EVERY]
        started = time.perf_counter()
        loss = float(self._steps(order, self.train.images, self.train.labels))
        if self.step:
            self.milliseconds.append(1000 * (time.perf_counter() - started) / len(order))
        self.step += len(order)
        logits, unit = self._probe(self.validation.images)
        middle = unit[:, unit.shape[1] // 2, unit.shape[2] // 2, 0]
        low, median, high = np.percentile(middle, PERCENTILES).tolist()
        return Look(self.step, _accuracy(logits, self.validation), loss, (low, median, high))

    def accuracy(self, examples: Examples) -> float:
        return _accuracy(self._probe(examples.images)[0], examples)

    def _compiled(self) -> Any:
        kernels = [weight for weight in self.model.trainable_variables if weight.name == "kernel"]

        def step(pictures: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self.model(pictures, training=True))
                loss = tf.reduce_mean(losses)
                total = loss + self._weight_decay * tf.add_n([tf.nn.l2_loss(kernel.value) for kernel in kernels])
            self._optimizer.apply(tape.gradient(total, self.model.trainable_variables))
            return loss

        # Without XLA, whose convolutions take three times as long on a processor.
        @tf.function(input_signature=SIGNATURE, autograph=False, jit_compile=False)
        def steps(order: tf.Tensor, pictures: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            def one(index: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return index + 1, total + step(tf.gather(pictures, order[index]), tf.gather(labels, order[index]))

            count = tf.shape(order)[0]
            _, total = tf.while_loop(lambda index, _: index < count, one, (0, 0.0))
            return total / tf.cast(count, tf.float32)

        return steps


class _Decaying(keras.optimizers.schedules.LearningRateSchedule):
    """rate * decay^step, of variables."""

    def __init__(self, rate: tf.Variable, decay: tf.Variable) -> None:
        self.rate, self.decay = rate, decay

    def __call__(self, step: Any) -> Any:
        return self.rate * self.decay ** keras.ops.cast(step, "float32")

    def get_config(self) -> dict[str, float]:
        return {"rate": float(self.rate), "decay": float(self.decay)}


def _fresh(setting: Setting) -> keras.Model:
    keras.utils.set_random_seed(setting.seed)
    options = (setting.normalization, setting.activation, setting.initializer, setting.moving, setting.dropout)
    return mini_inception(*options)


def _accuracy(logits: Any, examples: Examples) -> float:
    return float(np.mean(np.asarray(logits).argmax(axis=1) == examples.labels))
