"""What a run says of its network: measured on the validation and test images of its own data."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.datasets import label_sets
from app.datasets.dataset import Data
from app.evaluation import evaluating, several_labels, strangeness
from app.program.progress import Watch, unwatched
from app.run_folder.trained import Trained
from export.strangeness import Strangeness


class OwnFigures(NamedTuple):
    """`figures` are `evaluating.metrics` with the temperature that suits the validation images, or
    `several_labels.metrics`; where pictures were judged by what is `known` of strangeness also `unknown`, see
    `strangeness.figures`. Else that is a sentence: why there is none. Of the test images, in order: `probabilities`
    (count, classes), `truth`, (count,) or of several labels (count, classes), and `strange` (count,)."""

    figures: dict[str, Any]
    probabilities: NDArray[Any]
    truth: NDArray[Any]
    known: Strangeness | str
    strange: NDArray[Any] | None


def measure(trained: Trained, data: Data, watch: Watch = unwatched) -> OwnFigures:
    """Strangeness is fitted on the validation images, which are looked at once for all."""
    reading = strangeness.Reading(trained.model, count=data.validation.count)
    temperature = None
    if data.label_sets:
        evaluating.predict(reading, data.validation, trained.preprocessing, watch)
    else:
        temperature = evaluating.fit_temperature(reading, data.validation, trained.preprocessing, watch)
    known = reading.fit()
    probabilities, truth = evaluating.predict(reading, data.test, trained.preprocessing, watch)
    figures, truth = _figures(probabilities, truth, data, trained.thresholds, temperature)
    strange = None
    if not isinstance(known, str):
        strange = np.concatenate(reading.scores)[: len(truth)]  # the last batch is filled up
        figures["unknown"] = strangeness.figures(known, strange)
    return OwnFigures(figures, probabilities, truth, known, strange)


def _figures(
    probabilities: NDArray[Any],
    numbers: NDArray[Any],
    data: Data,
    thresholds: Sequence[float],
    temperature: float | None,
) -> tuple[dict[str, Any], NDArray[Any]]:
    if not data.label_sets:
        return evaluating.metrics(probabilities, numbers, data.labels, temperature), numbers
    truth = label_sets.rows(data.label_sets, len(data.labels))[numbers]
    return several_labels.metrics(probabilities, truth, data.labels, thresholds), truth
