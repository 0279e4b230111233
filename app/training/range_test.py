"""`optimizer.rate=auto`: a range test (Smith, Cyclical Learning Rates for Training Neural Networks,
https://arxiv.org/abs/1506.01186, section 3.3), with the rate rising exponentially, as Howard and Gugger's fastai does.

The network that the run begins with is trained on the run's own batches while the rate rises from 1e-6 to 10. The loss
is smoothed; the rate of the run is a third of that at which it was lowest, since there it is about to diverge. fastai
has a tenth; docs/less_to_choose.md compares them.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, console
from app.recipe import Recipe, Schedule

LOWEST, HIGHEST = 1e-6, 10.0
STEPS = 210  # thirty for each power of ten
SMOOTH = 0.9  # the weight of the past in the mean of the loss
DIVERGED = 4.0  # times the lowest loss ends the test
SKIPPED = 10  # steps whose mean says nothing yet
PART = 3.0  # of the rate at the lowest loss


class Point(NamedTuple):
    rate: float
    loss: float
    smoothed: float


def rising(recipe: Recipe) -> Recipe:
    """The recipe with a rate that rises from LOWEST to HIGHEST in STEPS optimizer steps. All that is to train does so
    from the first one on: a rate that suits a new classifier alone may be too high for what joins it later."""
    # No recipe that a user writes may have a factor above 1.
    schedule = Schedule(name="exponential", every=1.0, staircase=False).model_copy(
        update={"factor": (HIGHEST / LOWEST) ** (1 / STEPS)}
    )
    optimizer = recipe.optimizer.model_copy(update={"rate": LOWEST})
    together = recipe.fine_tuning.model_copy(update={"head_epochs": 0.0})
    return recipe.model_copy(update={"optimizer": optimizer, "schedule": schedule, "fine_tuning": together})


def measured(model: keras.Model, batches: tf.data.Dataset, accumulate: int, watch: Watch) -> list[Point]:
    """The curve of a compiled model with the rate of `rising`, up to where it diverges. The weights are not what they
    were then.

    Raises:
        UserError: the loss falls nowhere, and so says nothing about the rate.
    """
    losses: list[float] = []
    for images, labels in watch(batches.take(STEPS * accumulate), STEPS * accumulate, "Trying rates"):
        model.reset_metrics()
        losses.append(float(model.train_on_batch(images, labels, return_dict=True)["loss"]))
        steps = [sum(losses[i : i + accumulate]) / accumulate for i in range(0, len(losses), accumulate)]
        points = curve(steps)
        if not math.isfinite(losses[-1]) or is_over(points):
            break
    found = curve(steps)
    console.print(f"optimizer.rate=auto: {chosen(found):.3g}, a third of the rate at the lowest loss")
    return found


def curve(losses: Iterable[float]) -> list[Point]:
    """Of the losses of the steps, up to the first that is no number: each with its rate, and the mean of those so far,
    in which older ones count less."""
    found: list[Point] = []
    mean = 0.0
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            break
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / STEPS)
        found.append(Point(rate, loss, mean / (1 - SMOOTH ** (step + 1))))
    return found


def is_over(points: Sequence[Point]) -> bool:
    """Whether the loss has left its lowest value far behind."""
    counted = points[SKIPPED:]
    return bool(counted) and counted[-1].smoothed > DIVERGED * min(point.smoothed for point in counted)


def chosen(points: Sequence[Point]) -> float:
    """The rate for the run, in two digits.

    Raises:
        UserError: the loss was nowhere lower than at the beginning.
    """
    counted = points[SKIPPED:]
    lowest = min(counted, key=lambda point: point.smoothed, default=None)
    if lowest is None or lowest is counted[0]:
        raise UserError(
            "optimizer.rate=auto: the loss falls at no rate, so none can be chosen; give one, as in --set "
            "optimizer.rate=0.01."
        )
    return float(f"{lowest.rate / PART:.2g}")


def write(file: Path, points: Sequence[Point]) -> None:
    with whole(file) as beside, beside.open("w", newline="") as content:
        rows = csv.writer(content)
        rows.writerow(Point._fields)
        rows.writerows(points)
