"""Which split an image is in where nobody says: its content decides, or the group that it belongs to."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

from app.datasets.dataset import SPLITS, Picture

SHARES = {"test": 0.2, "validation": 0.08}


def divide(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Fills the splits that nobody named: 20 % test, 8 % validation.

    The hash of an image decides, of equal pictures the smallest, so these stay together, a second run divides as the
    first did, and a new picture moves no old one. A class with at least three different pictures has one in every
    split. So has one of several labels a picture, unless all that could be moved there are another label's only ones.

    Of pictures with groups the hash of the group's name decides, so a group stays whole, whatever is added to it, and a
    new group moves no old one, but where a split would be empty or a class without training images: one group is moved
    there then. Equal pictures in two groups make one of them, which goes by the smaller hash. What nobody put into a
    split follows the rest of its group where somebody did, into what is held out rather than into training.
    """
    given = {picture.file.split for picture in pictures}
    splits = {split: [picture for picture in pictures if picture.file.split == split] for split in SPLITS}
    missing = [split for split in SHARES if split not in given]
    undivided = [picture for picture in pictures if picture.file.split is None] + (splits["train"] if missing else [])
    if missing:
        splits["train"] = []
    # What somebody has put into a split binds the rest of its group, but not other pictures.
    grouped = any(picture.file.group for picture in pictures)
    units = units_of(pictures if grouped else undivided)
    held = {units[key_of(one)]: split for split in SPLITS for one in splits[split] if one.file.group}
    loose = []
    for picture in undivided:
        unit = units[key_of(picture)]
        if picture.file.split is None and unit in held:
            splits[held[unit]].append(picture)
        else:
            loose.append((picture, unit))
    place = {unit: _drawn(unit, missing) for _, unit in loose}
    _fill(place, missing, loose, grouped)
    for picture, unit in loose:
        splits[place[unit]].append(picture)
    return splits


def key_of(picture: Picture) -> str:
    """The hash of the group that a picture belongs to, or its own."""
    group = picture.file.group
    return hashlib.sha256(group.encode(errors="surrogateescape")).hexdigest() if group else picture.known.encoded


def units_of(pictures: Sequence[Picture]) -> dict[str, str]:
    """For the hash of each picture, or of its group, the smallest of all that must be in one split with it."""
    smaller: dict[str, str] = {}  # from a hash to a smaller one that belongs with it

    def smallest(key: str) -> str:
        while key in smaller:
            key = smaller[key]
        return key

    keys = [key_of(picture) for picture in pictures]
    of_shown: dict[str, str] = {}
    for picture, key in zip(pictures, keys, strict=True):
        one, other = smallest(key), smallest(of_shown.setdefault(picture.shown, key))
        if one != other:
            smaller[max(one, other)] = min(one, other)
        of_shown[picture.shown] = min(one, other)
    return {key: smallest(key) for key in keys}


def _fill(
    place: dict[str, str], missing: Sequence[str], pictures: Sequence[tuple[Picture, str]], grouped: bool
) -> None:
    """Moves units into what is empty: training by class, and the other splits by class, or, of groups, as a whole."""
    of_label: dict[str, set[str]] = defaultdict(set)
    labels: dict[str, set[str]] = defaultdict(set)
    several = set()
    for picture, unit in pictures:
        for label in picture.file.labels:
            of_label[label].add(unit)
            labels[unit].add(label)
        if picture.file.several:
            several.add(unit)

    def placed(units: Iterable[str]) -> dict[str, list[str]]:
        members: dict[str, list[str]] = {split: [] for split in SPLITS}
        for unit in sorted(units):
            members[place[unit]].append(unit)
        return members

    def is_spare(unit: str, body: str) -> bool:
        """Whether no label loses its only training pictures by it, nor, of several labels a picture, another label its
        only ones in that split."""
        there = {label: placed(of_label[label]) for label in labels[unit]}
        if any(members["train"] == [unit] for members in there.values()):
            return False
        return unit not in several or all(there[other][place[unit]] != [unit] for other in labels[unit] - {body})

    for split in ("train", *missing):
        bodies = {"": {*place}} if grouped and split != "train" else of_label
        for body in sorted(bodies):
            members = placed(bodies[body])
            if members[split]:
                continue
            enough = sorted(
                (some for some in members.values() if len(some) > 1 or split == "train"), key=len, reverse=True
            )
            moved = next((unit for some in enough for unit in some if is_spare(unit, body)), None)
            if moved:
                place[moved] = split


def _drawn(digest: str, missing: Sequence[str]) -> str:
    point = int(digest[:12], 16) / 16**12
    for split in missing:
        if point < SHARES[split]:
            return split
        point -= SHARES[split]
    return "train"
