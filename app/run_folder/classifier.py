"""`classifier.json` of a run folder: all that is needed to build its network again and to feed it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import keras
from pydantic import BaseModel, ConfigDict, model_validator

from app.images.preprocessing import Preprocessing
from app.networks import english
from app.program.errors import UserError
from app.program.paths import RECORDS
from app.recipe import Recipe
from models import NETWORKS


class DataRecord(BaseModel):
    """The data set a network was trained on: `name` as it was given, `place` the same with a real path in it (see
    `data_name.real_name`)."""

    model_config = ConfigDict(frozen=True)

    name: str
    place: str | None = None
    fingerprint: str
    train: int
    validation: int
    test: int
    unreadable: int

    @property
    def found_at(self) -> str:
        """Its name for whoever looks for it now, perhaps from another working directory."""
        if self.place and Path(self.place.removeprefix(RECORDS)).exists():
            return self.place
        return self.name


class Origin(BaseModel):
    """Where the first weights came from: the file of an import or the model.keras of a run; `source` says which port
    the file is of, and is None for a run."""

    model_config = ConfigDict(frozen=True)

    path: str
    sha256: str
    source: str | None = None

    @property
    def content(self) -> tuple[str, str | None]:
        """What it is, wherever it lies."""
        return self.sha256, self.source


class Classifier(BaseModel):
    """`classifier.json`: all that is needed to build the network again and to feed it.

    An imported network has neither recipe nor data, and no labels where its file had no classifier: then the network
    ends in its features. One that began with random weights has no origin. `versions` are
    those of its last steps, `versions_before` those that it was trained with until they changed, the oldest first.
    `extended` are the numbers of epochs after which it had been finished when it was trained for longer.
    `automatic` are the keys of the recipe that were to be measured; `recipe` has what was found. `names` are the
    English names of those `labels` that are synsets; a file that does not say has ImageNet's. Where pictures have
    several labels the `activation` is a sigmoid, and once it is trained there is a threshold for each label: the
    network names those whose score reaches it.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    arguments: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    recipe: Recipe | None
    versions: dict[str, str]
    seed: int
    data: DataRecord | None
    origin: Origin | None = None
    versions_before: tuple[dict[str, str], ...] = ()
    extended: tuple[int, ...] = ()
    automatic: tuple[str, ...] = ()
    names: dict[str, str] = {}
    activation: Literal["softmax", "sigmoid"] = "softmax"
    thresholds: tuple[float, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _names_synsets(cls, values: Any) -> Any:
        if isinstance(values, dict) and "names" not in values:
            labels = (label for label in values.get("labels") or () if isinstance(label, str))
            return {**values, "names": english.names_of(labels)}
        return values

    def build(self, activation: str | None = "own", auxiliary: bool = False) -> keras.Model:
        """A fresh network of this kind, which ends in its own activation; `activation=None` ends in the logits,
        `auxiliary` adds the auxiliary heads."""
        activation = self.activation if activation == "own" else activation
        return NETWORKS[self.network](classifier_activation=activation, auxiliary=auxiliary, **self.arguments)

    def check_one_label(self, run: object, what: str) -> None:
        """
        Raises:
            UserError: the network of the folder `run` names several labels, and `what` is for one.
        """
        if self.activation == "sigmoid":
            raise UserError(f"The network of {run} names several labels a picture, and {what} is for one.")


def compare_labels(found: Sequence[str], wanted: Sequence[str]) -> str:
    """In which classes `found` differs from `wanted`, for a sentence; empty where it does not."""
    differences = {
        "new": [label for label in found if label not in wanted],
        "missing": [label for label in wanted if label not in found],
        "in another order": [a for a, b in zip(found, wanted, strict=False) if a != b and {*found} == {*wanted}],
    }
    parts = []
    for what, labels in differences.items():
        if labels:
            more = f" and {len(labels) - 5} more" if labels[5:] else ""
            parts.append(f"{what}: {', '.join(repr(label) for label in labels[:5])}{more}")
    return "; ".join(parts)
