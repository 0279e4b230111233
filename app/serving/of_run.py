"""A run as it lies there, answered by its own network: nothing is exported, and nothing folded."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import run_folder
from app.images import decoding
from app.inside.one_picture import Looking
from app.run_folder.trained import Trained
from app.serving.of_file import OfFile
from app.serving.page import shown
from app.serving.page.shown import Inside, Shown
from export import picture_files


class _Network(NamedTuple):
    """As `of_file.Network`."""

    trained: Trained

    @property
    def labels(self) -> tuple[str, ...]:
        return self.trained.labels

    @property
    def thresholds(self) -> tuple[float, ...]:
        return self.trained.thresholds

    def answer(self, images: NDArray[np.uint8]) -> Any:
        return self.trained.model.predict_on_batch(self.trained.preprocessing(tf.constant(images)))


class OfRun(OfFile):
    """The signatures of an export, but for `features`, by the decoder and the preprocessing of the run.

    Raises:
        UserError: not a finished run.
    """

    def __init__(self, folder: Path) -> None:
        trained = run_folder.load(folder)

        def decode(encoded: bytes) -> Any:
            try:
                return trained.preprocessing.decode(encoded).numpy()
            except tf.errors.InvalidArgumentError as error:
                raise picture_files.RefusedError(decoding.refusal(error, encoded)) from None

        super().__init__(_Network(trained), decode=decode)
        found = shown.examples(folder / "golden")
        looking = Looking(trained, [example.file.read_bytes() for example in found])

        def inside(encoded: bytes) -> Inside:
            told = looking.at(decode(encoded))
            return Inside(told.heat, told.label, told.like, told.is_like)

        preprocessing = trained.preprocessing
        self.shown = Shown(found, preprocessing.model_dump(), preprocessing.described(), trained.names, inside)
