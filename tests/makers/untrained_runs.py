"""Run folders that no training made: of networks with random weights, or of none."""

from pathlib import Path

import keras

from app.datasets.dataset import Data
from app.datasets.files import manifests
from app.images.preprocessing import Preprocessing
from app.run_folder.classifier import Classifier, Origin
from app.run_folder.folder import Run
from app.training.beginning import record_of


def untrained(folder: Path, side: int, labels: tuple[str, ...], like: Run | None = None, seed: int = 0) -> Run:
    """A run folder of `lenet_bn` with random weights, as if imported, or trained on the data of another run."""
    keras.utils.set_random_seed(seed)
    classifier = Classifier(
        network="lenet_bn",
        arguments={"input_shape": (side, side, 3), "classes": len(labels)},
        labels=labels,
        preprocessing=Preprocessing(height=side, width=side, aspect="keep", crop=0.875),
        recipe=None,
        versions={},
        seed=seed,
        data=like.read_classifier().data if like else None,
    )
    run = Run(folder)
    run.folder.mkdir()
    run.classifier.write_text(classifier.model_dump_json())
    classifier.build().save(run.model)
    return run


def trained_on(folder: Path, data: Data, origin: Path | None = None) -> Run:
    """A run folder, as far as its data matters: without a network."""
    classifier = Classifier(
        network="lenet_bn",
        arguments={},
        labels=data.labels,
        preprocessing=Preprocessing(height=16, width=16),
        recipe=None,
        versions={},
        seed=0,
        data=record_of(data),
        origin=Origin(path=str(origin), sha256="0") if origin else None,
    )
    folder.mkdir()
    run = Run(folder)
    run.classifier.write_text(classifier.model_dump_json())
    manifests.write(run.split, data.files, data.known)
    return run
