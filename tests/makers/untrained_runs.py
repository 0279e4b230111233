"""Run folders of networks with random weights."""

from pathlib import Path

import keras

from app.images.preprocessing import Preprocessing
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run


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
