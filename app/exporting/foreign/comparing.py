"""Which of many ways to ask a file, and to read its answers, makes them those of the run: arithmetic alone."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.exporting.foreign.mistakes import RUN_TOO, Deviation, Inside

Scores = NDArray[np.floating[Any]]  # (pictures, classes)

# Largest differences of a probability. Float32 files sum in another order, which is worth 1e-5 at most of ours;
# networks that somebody wrote again may lose a digit or two more, and float16 weights another. Of integers only the
# best class is asked for, where the run is not itself undecided between two.
EXACT, CLOSE, HALF, ANY = 1e-5, 1e-3, 1e-2, 1.0
LEVELS = {"float32": (EXACT, CLOSE), "float16": (EXACT, CLOSE, HALF), "int8": (EXACT, CLOSE, HALF, ANY)}
UNDECIDED, AGREEMENT = 0.1, 0.99
# Beyond the first level: how many times nearer something has to bring the answers to explain them, and by how much less
# it does not count as nearer.
NEARER, NEARER_ON_AVERAGE = 10.0, 2.0
MOST = 2  # deviations at once
SPARE = 0.05  # by which probabilities that were integers may miss a sum of 1

LOGITS = Deviation(
    "logits", "softmax is applied to its output, which is logits", "convert it again with its softmax, or apply one"
)
TWICE = Deviation("softmax twice", f"{RUN_TOO}applies softmax twice", "convert it again without the second softmax")
FIRST = Deviation(
    "labels shifted by one",
    "its first output, of a background class, is left out",
    "leave it out, or read its labels with the background first",
)
SHIFTED = {
    places: Deviation(
        "labels shifted by one",
        f"its outputs are read one place {where}",
        "give it the list of labels that it was converted with",
    )
    for places, where in ((-1, "later"), (1, "earlier"))
}
PERMUTED = Deviation(
    "labels in another order", "its outputs are read in another order", "read them with the labels in its own order"
)


class Told(NamedTuple):
    """What the run says, perhaps with mistakes made `inside`, before the network or in it."""

    deviations: tuple[Deviation, ...]
    scores: Scores
    inside: Inside | None = None


class Way(NamedTuple):
    """Answers under some deviations. `difference` is the largest of a probability, `mean` the mean one, `agreement` the
    share of pictures with the run's best class; `feed` says which way of asking it was, `inside` whether the run had
    to make a mistake, too. Where the outputs stand in another order, `order` are the places of the labels that they
    are."""

    deviations: tuple[Deviation, ...]
    difference: float
    mean: float
    agreement: float
    feed: int = 0
    inside: bool = False
    order: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(deviation.name for deviation in self.deviations)

    @property
    def is_exact(self) -> bool:
        """Whether nothing is left to explain."""
        return not self.deviations and self.difference <= EXACT

    def is_nearer(self, other: "Way") -> bool:
        return self.difference * NEARER <= other.difference


def ways(asked: tuple[int, tuple[Deviation, ...], Scores], rights: Sequence[Told], computes: str) -> list[Way]:
    """The answers of the file in one way of asking, of this number, against every answer of the run, read in every way,
    of `MOST` deviations at most."""
    feed, fed, answers = asked
    found = []
    for told in rights:
        for read, ours, theirs, order in _readings(answers, told.scores, MOST - len(fed) - len(told.deviations)):
            deviations = (*fed, *told.deviations, *read)
            way = measured(ours, theirs, computes)
            found.append(way._replace(deviations=deviations, feed=feed, inside=bool(told.deviations), order=order))
    return found


def measured(answers: Scores, right: Scores, computes: str = "float32") -> Way:
    """Answers that the file did not give, where it names its best classes alone, are NaN."""
    given = ~np.isnan(answers)
    differences = np.where(given, np.abs(answers - right), 0.0)
    best = np.argmax(np.where(given, answers, -np.inf), axis=1)
    margin = UNDECIDED if computes == "int8" else LEVELS[computes][-1]
    agreed = right[np.arange(len(right)), best] >= right.max(axis=1) - margin
    if not given.any(axis=1).all() or not np.isfinite(differences).all():
        return Way((), float("inf"), float("inf"), float(agreed.mean()))
    return Way((), float(differences.max()), float(differences.sum() / given.sum()), float(agreed.mean()))


def explaining(found: Sequence[Way], computes: str) -> list[Way]:
    """The ways that explain the answers, of as few deviations as any, in the order given; empty where none does."""
    as_it_is = min((way for way in found if not way.deviations), key=lambda way: way.mean)
    for count in range(MOST + 1):
        for level in LEVELS[computes]:
            # Of integers each single probability may be far off, so that the mean tells.
            nearer, of = (NEARER_ON_AVERAGE, "mean") if level == ANY else (NEARER, "difference")
            simple = [way for way in found if len(way.deviations) <= max(count, 1) and fits(way, level)]
            least = min((getattr(way, of) for way in simple), default=0.0)
            fit = [
                way
                for way in simple
                if len(way.deviations) == count
                and (count == 0 or getattr(way, of) * nearer <= getattr(as_it_is, of))
                # So far off, something simple that is much nearer is the explanation.
                and (level <= CLOSE or getattr(way, of) <= nearer * least)
            ]
            if fit:
                best = min(getattr(way, of) for way in fit)
                return [way for way in fit if getattr(way, of) <= max(EXACT, nearer * best)]
    return []


def fits(way: Way, level: float) -> bool:
    return way.difference <= level and way.agreement >= (AGREEMENT if level == ANY else 1)


def softmax(scores: Scores) -> Scores:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _readings(
    answers: Scores, right: Scores, most: int
) -> Iterator[tuple[tuple[Deviation, ...], Scores, Scores, tuple[int, ...] | None]]:
    """Deviations, the answers as they are read then, what they should be, and their order."""
    labelled: list[tuple[tuple[Deviation, ...], Scores]] = [((), answers)]
    if answers.shape[1] == right.shape[1] + 1:
        labelled = [((), answers[:, :-1]), ((FIRST,), _without(answers))]
    for labels, scores in labelled:
        for activation, ours, theirs in _activations(scores, right):
            read = (*labels, *activation)
            if len(read) <= most:
                yield read, ours, theirs, None
            if not labels and len(read) < most and (order := _order(ours, theirs)) is not None:
                shifted = _shifted(order)
                yield (*read, shifted or PERMUTED), ours[:, np.argsort(order)], theirs, order


def _shifted(order: tuple[int, ...]) -> Deviation | None:
    """What it is called where each label is read one place off."""
    labels = np.arange(len(order))
    return next((said for places, said in SHIFTED.items() if np.array_equal(order, np.roll(labels, -places))), None)


def _activations(scores: Scores, right: Scores) -> Iterator[tuple[tuple[Deviation, ...], Scores, Scores]]:
    if np.isnan(scores).any():  # the best classes alone, by their names
        yield (), scores, right
        return
    yield (), scores, right
    if scores.min() < 0 or scores.sum(axis=1).max() > 1 + SPARE:
        yield (LOGITS,), softmax(scores), right
    else:
        yield (TWICE,), scores, softmax(right)


def _without(answers: Scores) -> Scores:
    """Without the first: of probabilities, what is left is shared among the others."""
    left = answers[:, 1:]
    if answers.min() < 0 or answers.sum(axis=1).max() > 1 + SPARE:
        return left
    return left / np.maximum(left.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _order(answers: Scores, right: Scores) -> tuple[int, ...] | None:
    """Which label each output is of, where the answers to every picture are the right ones in another order."""
    if answers.shape != right.shape or np.isnan(answers).any():
        return None
    if np.abs(np.sort(answers, axis=1) - np.sort(right, axis=1)).max() > CLOSE:
        return None
    from scipy.optimize import linear_sum_assignment

    costs = np.stack([np.abs(answers[:, place, np.newaxis] - right).max(axis=0) for place in range(right.shape[1])])
    # Of those that are alike on all pictures each keeps its place.
    costs += 1e-9 * (1 - np.eye(len(costs)))
    order = tuple(int(label) for label in linear_sum_assignment(costs)[1])
    return None if order == tuple(range(len(order))) else order
