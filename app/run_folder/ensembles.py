"""Trained networks that answer together, by the arithmetic mean of their probabilities (1409.4842, section 7)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import keras

from app import run_folder
from app.program.errors import UserError
from app.run_folder import classifier
from app.run_folder.folder import Run
from app.run_folder.trained import Trained


def load(folders: Sequence[Path]) -> list[Trained]:
    """The networks of finished runs, each with the labels of the first in the order of the first.

    Raises:
        UserError: not a finished run; runs with different labels, or with several labels a picture.
    """
    networks: list[Trained] = []
    for folder in folders:
        trained = run_folder.load(folder)
        if folders[1:]:
            Run(folder).read_classifier().check_one_label(folder, "an ensemble")
        labels = networks[0].labels if networks else trained.labels
        check_labels(folder, trained.labels, folders[0], labels)
        networks.append(_in_order(trained, labels))
    return networks


def check_labels(run: Path, labels: Iterable[str], first: Path, wanted: Iterable[str]) -> None:
    """Whatever their order.

    Raises:
        UserError: the labels of `run` are not those wanted, which are those of the run `first`.
    """
    if difference := classifier.compare_labels(sorted(labels), sorted(wanted)):
        raise UserError(f"{run} has other labels than {first} ({difference}); an ensemble needs the same labels.")


def _in_order(trained: Trained, labels: tuple[str, ...]) -> Trained:
    """The same network with its outputs in the order of these labels; one whose logits nobody has asked for yet."""
    if trained.labels == labels:
        return trained
    columns = [trained.labels.index(label) for label in labels]
    classifier = next(layer for layer in reversed(trained.model.layers) if isinstance(layer, keras.layers.Dense))
    classifier.set_weights([weight[..., columns] for weight in classifier.get_weights()])
    # The logits are made of these weights, when they are.
    return Trained(trained.model, lambda: trained.logits_model, labels, trained.preprocessing, trained.names)
