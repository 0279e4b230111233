"""The parts of a cross-validation: every picture but those of the test is held out once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from app.datasets.dataset import Picture, spread
from app.datasets.files import dividing
from app.program.errors import UserError
from app.program.shown import counted


def folds(pictures: Sequence[Picture], count: int) -> list[int]:
    """The fold of each picture, from 0 on. Equal pictures are in one, and those of a group; each class is dealt out
    evenly, in the order of the hashes, so a second run divides as the first did."""
    units = _units(pictures)
    dealt = {unit: place % count for place, unit in enumerate(_in_order(pictures, units))}
    return [dealt[unit] for unit in units]


def divided(pictures: Sequence[Picture], count: int) -> Iterator[list[Picture]]:
    """For each fold all pictures, with the split that they have in its training: `test` is what is held out. Of each
    class 8 % of the others are for validation, where it has two or more of them."""
    units, places = _units(pictures), folds(pictures, count)
    fold_of = dict(zip(units, places, strict=True))
    label_of = _in_order(pictures, units)
    for fold in range(count):
        others: dict[str, list[str]] = defaultdict(list)
        for unit, label in label_of.items():
            if fold_of[unit] != fold:
                others[label].append(unit)
        validation = set()
        for members in others.values():
            wanted = max(1, round(dividing.SHARES["validation"] * len(members))) if members[1:] else 0
            validation |= {members[place] for place in spread(len(members), wanted)}
        split = {unit: "validation" if unit in validation else "train" for unit in fold_of}
        split |= {unit: "test" for unit, there in fold_of.items() if there == fold}
        placed = zip(pictures, units, strict=True)
        yield [Picture(one.file._replace(split=split[unit]), one.known) for one, unit in placed]


def check(name: str, pictures: Sequence[Picture], count: int) -> None:
    """Raises:
    UserError: a class of the data set `name` has too few different pictures for so many folds.
    """
    units = _units(pictures)
    of_label = Counter(_in_order(pictures, units).values())
    for label in sorted({picture.file.label for picture in pictures}):
        if of_label[label] < count:
            grouped = any(picture.file.group for picture in pictures)
            what = ("group", "groups") if grouped else ("different picture", "different pictures")
            has = counted(of_label[label], *what)
            raise UserError(
                f"The class '{label}' of {name} has {has} beside those of the test, too few for {count} folds: give it "
                "more, or take fewer folds."
            )


def _units(pictures: Sequence[Picture]) -> list[str]:
    """For each picture the smallest hash of those that must be in one fold with it: of equal ones, and of its group."""
    units = dividing.units_of(pictures)
    return [units[dividing.key_of(picture)] for picture in pictures]


def _in_order(pictures: Sequence[Picture], units: Sequence[str]) -> dict[str, str]:
    """The label of every unit, of several the first; label after label, each in the order of the hashes."""
    pairs = sorted({(picture.file.label, unit) for picture, unit in zip(pictures, units, strict=True)}, reverse=True)
    label_of = {unit: label for label, unit in pairs}  # the first label of a unit comes last
    return dict(sorted(label_of.items(), key=lambda pair: (pair[1], pair[0])))
