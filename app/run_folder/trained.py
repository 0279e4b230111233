"""The network of a run folder, loaded."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import keras

from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.run_folder.folder import Run


class Trained:
    """A trained network. `model` takes preprocessed float images (batch, height, width, 3), gives probabilities
    (batch, classes)."""

    def __init__(
        self,
        model: keras.Model,
        logits_model: keras.Model | Callable[[], keras.Model],
        labels: tuple[str, ...],
        preprocessing: Preprocessing,
        names: Mapping[str, str] | None = None,
        thresholds: Sequence[float] = (),
    ) -> None:
        """`logits_model` is the network that gives the logits, or what makes it; `names` are English ones of labels
        that are synsets; `thresholds` are those of the labels, where a picture may have several."""
        self.model = model
        self.labels = labels
        self.preprocessing = preprocessing
        self.names = names or {}
        self.thresholds = tuple(thresholds)
        self._logits_model = logits_model

    @property
    def english(self) -> list[str]:
        """The English name of every label, itself where it has none; empty where no label has one."""
        return [self.names.get(label, label) for label in self.labels] if self.names else []

    @cached_property
    def logits_model(self) -> keras.Model:
        """The same network without its last activation. It is made when it is first asked for, with the weights that
        `model` has then: most commands never ask."""
        made = self._logits_model
        return made if isinstance(made, keras.Model) else made()


def load_network(run: Run) -> keras.Model:
    """`model.keras` of a finished run, also of one without a classifier.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return keras.models.load_model(run.model, compile=False)
    except (ValueError, OSError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{run.model} is damaged: {why}") from error


def load(path: str | Path) -> Trained:
    """The network of a finished run.

    Raises:
        UserError: not a run folder, a run that is not finished, or one without a classifier.
    """
    run = Run(Path(path))
    classifier = run.read_finished()
    model = load_network(run)

    def logits_model() -> keras.Model:
        built = classifier.build(activation=None)
        built.set_weights(model.get_weights())
        return built

    known = classifier.labels, classifier.preprocessing, classifier.names, classifier.thresholds
    return Trained(model, logits_model, *known)
