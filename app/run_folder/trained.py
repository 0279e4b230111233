"""The network of a run folder, loaded."""

from dataclasses import dataclass
from pathlib import Path

import keras

from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.run_folder.folder import Run


@dataclass(frozen=True)
class Trained:
    """A trained network. `model` takes preprocessed float images (batch, height, width, 3), gives probabilities
    (batch, classes); `logits_model` shares its weights and gives the logits."""

    model: keras.Model
    logits_model: keras.Model
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def load(path: str | Path) -> Trained:
    """The network of a finished run.

    Raises:
        UserError: not a run folder, or a run that is not finished.
    """
    run = Run(Path(path))
    classifier = run.read_finished()
    try:
        model = keras.models.load_model(run.model, compile=False)
    except (ValueError, OSError) as error:
        raise UserError(f"{run.model} is damaged: {str(error).splitlines()[0]}") from error
    logits_model = classifier.build(activation=None)
    logits_model.set_weights(model.get_weights())
    return Trained(model, logits_model, classifier.labels, classifier.preprocessing)
