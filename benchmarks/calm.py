"""Networks to measure with, which nobody has to train, and run folders of them.

    python -m benchmarks.calm NETWORK TO [DATA] [--side PIXELS]

writes the run folder TO of such a network, as if it were trained on DATA, or as if imported.

What a runtime's time depends on, a random network has as well. Only its logits must not be steep, as those of a fresh
network of a hundred layers are: the last bit of a float32 decides there, and int8 gives noise. `settled` calms them.
"""

import argparse
import io
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from app.datasets import Data, loading
from app.datasets.dataset import spread
from app.datasets.files import manifests
from app.images.preprocessing import Preprocessing
from app.networks.cards import CARDS
from app.program import progress
from app.run_folder import Classifier, Run, golden
from app.run_folder.folder import versions
from app.training.beginning import record_of
from export import folding

SETTLED_ON = 8  # pictures
GOLDEN = 16
SPREAD = 0.01  # of the logits of a calm run


def pictures(count: int, side: int) -> NDArray[np.uint8]:
    """Squares cut at random out of the two photographs of scikit-learn, uint8 (count, side, side, 3)."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images]
    cut = []
    for i in range(count):
        photo = photos[i % len(photos)]
        size = int(rng.integers(side // 2, min(photo.size)))
        left, top = (int(rng.integers(0, whole - size + 1)) for whole in photo.size)
        box = (left, top, left + size, top + size)
        cut.append(np.asarray(photo.resize((side, side), Image.Resampling.BILINEAR, box)))
    return np.stack(cut)


def settled(model: keras.Model, images: Any) -> keras.Model:
    """The network with statistics of `images` in its normalisations, and random gamma and beta: fresh ones would leave
    next to nothing to fold."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if folding.is_batch_normalization(layer):
            layer.momentum = 0.0
            layer.beta.assign(rng.normal(0, 0.1, layer.beta.shape))
            if layer.gamma is not None:
                layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
    model(images, training=True)
    return model


def flatten(model: keras.Model, images: Any) -> None:
    """Makes the classifier so weak that its logits differ by `SPREAD`: what two runtimes round differently a hundred
    random layers make larger, and a proof that was meant for trained networks would fail of it."""
    logits = np.log(np.maximum(model.predict_on_batch(images), np.finfo(np.float32).tiny))
    spread = np.std(logits - logits.mean(axis=1, keepdims=True))
    *_, classifier = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    for weight in classifier.weights:
        weight.assign(weight * (SPREAD / spread))


def run(folder: Path, network: str, data: Data | None = None, side: int | None = None) -> Run:
    """A finished run of the network, at the size of its publication unless there is another, as if trained on the data;
    without data it has a thousand classes, as if imported."""
    keras.utils.set_random_seed(0)
    side = side or CARDS[network].side
    labels = data.labels if data else tuple(f"class_{i:03}" for i in range(1000))
    classifier = Classifier(
        network=network,
        arguments={"input_shape": (side, side, 3), "classes": len(labels)},
        labels=labels,
        preprocessing=Preprocessing(height=side, width=side),
        recipe=None,
        versions=versions(),
        seed=0,
        data=record_of(data) if data else None,
    )
    kept = list(_of(data) if data else _photographs(side))
    decoded = [classifier.preprocessing.decode(encoded) for encoded, _ in kept[:SETTLED_ON]]
    images = tf.stack([classifier.preprocessing(pixels) for pixels in decoded])
    model = settled(classifier.build(), images)
    flatten(model, images)
    folder.mkdir(parents=True)
    made = Run(folder)
    made.classifier.write_text(classifier.model_dump_json())
    golden.keep(made, kept)
    if data and data.files:
        manifests.write(made.split, data.files, data.known)
    model.save(made.model)
    return made


def _of(data: Data) -> Iterable[tuple[bytes, str | None]]:
    for encoded, label in data.test.at(spread(data.test.count, GOLDEN)).as_numpy_iterator():
        yield encoded, data.labels[int(label)]


def _photographs(side: int) -> Iterable[tuple[bytes, str | None]]:
    for picture in pictures(GOLDEN, side):
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "JPEG", quality=90)
        yield content.getvalue(), None


def run_apart(folder: Path, network: str, data_name: str | None = None, side: int | None = None) -> Run:
    """`run` in a process of its own, whose memory is free afterwards."""
    command = [sys.executable, "-m", "benchmarks.calm", network, str(folder), *([data_name] if data_name else [])]
    command += ["--side", str(side)] if side else []
    if subprocess.run(command, check=False).returncode:
        raise SystemExit(f"No run of {network} could be made.")
    return Run(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("to", type=Path)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--side", type=int)
    arguments = parser.parse_args()
    data = loading.load(arguments.data, progress.watch) if arguments.data else None
    run(arguments.to, arguments.network, data, arguments.side)


if __name__ == "__main__":
    main()
