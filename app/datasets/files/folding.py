"""The parts of a cross-validation: every picture but those of the test is held out once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from app.datasets.dataset import Picture, spread
from app.datasets.files import dividing
from app.program.errors import UserError
from app.program.shown import counted


def folds(pictures: Sequence[Picture], count: int) -> list[int]:
    """The fold of each picture, from 0 on. Equal pictures are in one, and those of a group; each class is dealt out
    evenly, in the order of the hashes, so a second run divides as the first did."""
    units = _units(pictures)
    dealt = _dealt(_labels_of(pictures, units), count)
    return [dealt[unit] for unit in units]


def divided(pictures: Sequence[Picture], count: int) -> Iterator[list[Picture]]:
    """For each fold all pictures, with the split that they have in its training: `test` is what is held out. Of each
    class 8 % of the others are for validation, where it has two or more of them."""
    units = _units(pictures)
    labels_of = _labels_of(pictures, units)
    fold_of = _dealt(labels_of, count)
    for fold in range(count):
        others: dict[str, list[str]] = defaultdict(list)
        left: Counter[str] = Counter()  # for training, of each class
        for unit, labels in labels_of.items():
            if fold_of[unit] != fold:
                others[labels[0]].append(unit)
                left.update(labels)
        validation = set()
        for members in others.values():
            wanted = max(1, round(dividing.SHARES["validation"] * len(members))) if members[1:] else 0
            spare = [unit for unit in members if all(left[label] > 1 for label in labels_of[unit])]
            for unit in (spare[place] for place in spread(len(spare), wanted)):
                if all(left[label] > 1 for label in labels_of[unit]):
                    validation.add(unit)
                    left.subtract(labels_of[unit])
        split = {unit: "validation" if unit in validation else "train" for unit in fold_of}
        split |= {unit: "test" for unit, there in fold_of.items() if there == fold}
        placed = zip(pictures, units, strict=True)
        yield [Picture(one.file._replace(split=split[unit]), one.known) for one, unit in placed]


def check(name: str, pictures: Sequence[Picture], count: int) -> None:
    """Raises:
    UserError: a class of the data set `name` has too few different pictures for so many folds.
    """
    labels_of = _labels_of(pictures, _units(pictures))
    of_label = Counter(label for labels in labels_of.values() for label in labels)
    places: dict[str, set[int]] = defaultdict(set)
    for unit, fold in _dealt(labels_of, count).items():
        for label in labels_of[unit]:
            places[label].add(fold)
    grouped = any(picture.file.group for picture in pictures)
    what = ("group", "groups") if grouped else ("different picture", "different pictures")
    for label in sorted(of_label):
        has = f"The class '{label}' of {name} has {counted(of_label[label], *what)} beside those of the test"
        if of_label[label] < count:
            raise UserError(f"{has}, too few for {count} folds: give it more, or take fewer folds.")
        if len(places[label]) < count:
            raise UserError(f"{has}, which hold so many classes that not every fold has one: take fewer folds.")


def _units(pictures: Sequence[Picture]) -> list[str]:
    """For each picture the smallest hash of those that must be in one fold with it: of equal ones, and of its group."""
    units = dividing.units_of(pictures)
    return [units[dividing.key_of(picture)] for picture in pictures]


def _labels_of(pictures: Sequence[Picture], units: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The labels of every unit, of which a group may have several; sorted by the first, and then by the hashes."""
    found: dict[str, set[str]] = defaultdict(set)
    for picture, unit in zip(pictures, units, strict=True):
        found[unit].add(picture.file.label)
    labels_of = {unit: tuple(sorted(labels)) for unit, labels in found.items()}
    return dict(sorted(labels_of.items(), key=lambda pair: (pair[1][0], pair[0])))


def _dealt(labels_of: Mapping[str, Sequence[str]], count: int) -> dict[str, int]:
    """The fold of every unit. Those of several classes are dealt first, the rarest class first, each into a fold that
    has the fewest of that class (as "iterative stratification" does: Sechidis, Tsoumakas and Vlahavas 2011)."""
    sizes = Counter(label for labels in labels_of.values() for label in labels)
    rarest = {unit: min(labels, key=lambda one: (sizes[one], one)) for unit, labels in labels_of.items()}

    def turn(unit: str) -> tuple[bool, int, str, str]:
        is_alone = len(labels_of[unit]) == 1
        return is_alone, 0 if is_alone else sizes[rarest[unit]], rarest[unit], unit

    of_class: dict[str, list[int]] = defaultdict(lambda: [0] * count)
    of_all = [0] * count
    dealt = {}
    for unit in sorted(labels_of, key=turn):
        there = of_class[rarest[unit]]
        fold = min(range(count), key=lambda one: (there[one], of_all[one], one))
        dealt[unit] = fold
        of_all[fold] += 1
        for label in labels_of[unit]:
            of_class[label][fold] += 1
    return dealt
