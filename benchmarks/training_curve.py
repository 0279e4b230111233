"""How BN-Inception learns from a folder of pictures by Keras' `fit`, on whichever backend and device Keras has.

    KERAS_BACKEND=jax python -m benchmarks.training_curve FOLDER [--epochs 5] [--side 64] [--width 0.35] [--pictures N]

FOLDER has `train` and `test`, each with a folder of PNG or JPEG files for every class. Float32 or, with --bfloat16,
mixed_bfloat16; SGD with momentum under a cosine. Prints a JSON object for every epoch: `loss`, `accuracy`, `val_loss`,
`val_accuracy`, and `seconds`. Needs Keras, its backend and Pillow.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from models import NETWORKS

BATCH, RATE, MOMENTUM = 64, 0.05, 0.9


def pictures(folder: Path, side: int, most: int | None) -> tuple[Any, Any]:
    """Images in [-1, 1], float32 (count, side, side, 3), and the numbers of their classes; `most` are of all classes
    alike."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    images, labels = [], []
    for number, of_class in enumerate(classes):
        for file in sorted(of_class.iterdir())[: most // len(classes) if most else None]:
            picture = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            images.append(np.asarray(picture, np.float32) / 127.5 - 1)
            labels.append(number)
    return np.stack(images), np.array(labels)


class Tell(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = {name: round(float(value), 4) for name, value in (logs or {}).items()}
        seconds = round(time.perf_counter() - self.started, 2)
        print(json.dumps({"epoch": epoch + 1, **figures, "seconds": seconds}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--width", type=float, default=0.35)
    parser.add_argument("--pictures", type=int, help="of training and of test, at most; all if left out")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    if arguments.bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    images, labels = pictures(arguments.folder / "train", arguments.side, arguments.pictures)
    test = pictures(arguments.folder / "test", arguments.side, arguments.pictures)
    print(f"{keras.backend.backend()}: {len(images)} pictures, {len(test[0])} of test", file=sys.stderr)
    model = NETWORKS["bn_inception"](
        input_shape=images.shape[1:],
        classes=int(labels.max()) + 1,
        width=arguments.width,
        momentum=0.9,
        classifier_activation=None,
    )
    steps = arguments.epochs * -(-len(images) // BATCH)
    optimizer = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(RATE, steps), momentum=MOMENTUM)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    model.fit(
        images,
        labels,
        batch_size=BATCH,
        epochs=arguments.epochs,
        validation_data=test,
        verbose=0,
        callbacks=[Tell()],
    )


if __name__ == "__main__":
    main()
