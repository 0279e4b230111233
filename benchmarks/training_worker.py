"""Training steps of one Keras network, for a process of its own: see `benchmarks.training_step`.

    python -m benchmarks.training_worker KIND NETWORK SIDE BATCH STEPS [KEY=VALUE ...]

KIND is one of `KINDS`. The loss is the cross-entropy of logits, the optimizer SGD with momentum, and `fit` takes the
same batch again and again, so that no picture is read in the time measured. KEY=VALUE are of the program's recipe, or
classes=NUMBER; "networks" takes "bfloat16" for mixed_bfloat16. Prints the JSON object of `stepping`, with `build`, the
seconds until there is a network, and of an answer about one picture `multiply_adds`, and `elements` that its
convolutions give.

KERAS_BACKEND=jax is for "networks"; TensorFlow and what the program needs beside Keras do not have to be there then.
"""

import os
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import stepping
from benchmarks.stepping import MOMENTUM, RATE, Asked

Built = tuple[Any, Callable[[], None]]  # a network, and what compiles it
APPLICATIONS = {"inception_v3": "InceptionV3", "inception_resnet_v2": "InceptionResNetV2", "densenet121": "DenseNet121"}


def program(asked: Asked, settings: list[str]) -> Built:
    """Ours, with what the program sets, builds and compiles."""
    import app  # noqa: F401  what it sets has to be set before TensorFlow is imported
    from app.datasets.dataset import Data
    from app.recipe import load
    from app.training.beginning import untrained
    from app.training.fitting import compile_model

    name, side, batch, steps, classes = asked
    split: Any = SimpleNamespace(count=batch * steps)
    data = Data("noise", tuple(map(str, range(classes))), split, split, split, "")
    mine = {"image_size": side, "batch_size": batch, "dropout": 0.0, "optimizer.rate": RATE, "epochs": 1}
    recipe = load("default", [*(f"{key}={value}" for key, value in mine.items()), *settings])
    model = untrained(data, name, recipe)
    return model, lambda: compile_model(model, data, recipe, steps, steps)


def networks(asked: Asked, settings: list[str]) -> Built:
    """Ours, by `import models` alone."""
    import keras

    from models import NETWORKS

    if "bfloat16" in settings:
        keras.config.set_dtype_policy("mixed_bfloat16")
    network = NETWORKS[asked.network]
    return compiled(network(classes=asked.classes, input_shape=asked.shape, classifier_activation=None, dropout=0.0))


def applications(asked: Asked, settings: list[str]) -> Built:
    import keras

    build = getattr(keras.applications, APPLICATIONS[asked.network])
    return compiled(build(weights=None, classes=asked.classes, input_shape=asked.shape, classifier_activation=None))


def compiled(model: Any) -> Built:
    import keras

    def compile_() -> None:
        model.compile(
            keras.optimizers.SGD(RATE, momentum=MOMENTUM),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        )

    return model, compile_


KINDS = {"program": program, "networks": networks, "applications": applications}


def batches_of(images: Any, labels: Any, steps: int) -> Any:
    """The same batch again and again; that of another backend than TensorFlow lies on its device."""
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.data.Dataset.from_tensors((images, labels)).repeat()

    class Same(keras.utils.PyDataset):
        batch = keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(labels)

        def __len__(self) -> int:
            return steps

        def __getitem__(self, index: int) -> Any:
            return self.batch

    return Same()


def main(kind: str, *arguments: str) -> None:
    asked, settings = stepping.asked(arguments[:4]), [*arguments[4:]]
    for setting in [setting for setting in settings if setting.startswith("classes=")]:
        asked = asked._replace(classes=int(setting.removeprefix("classes=")))
        settings.remove(setting)
    started = time.perf_counter()
    model, compile_ = KINDS[kind](asked, settings)
    build = time.perf_counter() - started

    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (asked.batch, *asked.shape)).astype(np.float32)
    labels = keras.utils.to_categorical(rng.integers(0, asked.classes, asked.batch), asked.classes)
    apart = keras.backend.backend() == "tensorflow"
    told = stepping.Steps(asked.steps, apart)

    class Tell(keras.callbacks.Callback):
        # Keras then calls it in another thread, once the loss is there, and gives a GPU the next step meanwhile.
        async_safe = not apart

        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            assert logs
            told.end(lambda: float(logs["loss"]))

    batches = batches_of(images, labels, asked.all_steps)
    told.begin()
    compile_()
    model.fit(batches, steps_per_epoch=asked.all_steps, shuffle=False, verbose=0, callbacks=[Tell()])

    # Both set what the program sets, which nobody should have set before.
    from app.networks.counting import multiply_adds
    from benchmarks.convolutions import elements

    print(told.told(build=build, multiply_adds=multiply_adds(model), elements=elements(model)))


if __name__ == "__main__":
    main(*sys.argv[1:])
