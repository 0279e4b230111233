"""Which split an image is in where nobody says: its content decides."""

from collections import defaultdict
from collections.abc import Sequence

from app.datasets.dataset import SPLITS, Picture

SHARES = {"test": 0.2, "validation": 0.08}


def divide(pictures: Sequence[Picture]) -> dict[str, list[Picture]]:
    """Fills the splits that nobody named, by content: 20 % test, 8 % validation.

    The hash of an image decides, of equal pictures the smallest, so these stay together, a second run divides as the
    first did, and a new picture moves no old one. A class with at least three different pictures has one in every
    split.
    """
    given = {picture.file.split for picture in pictures}
    splits = {split: [picture for picture in pictures if picture.file.split == split] for split in SPLITS}
    missing = [split for split in SHARES if split not in given]
    undivided = [picture for picture in pictures if picture.file.split is None] + (splits["train"] if missing else [])
    smallest: dict[str, str] = {}
    for picture in undivided:
        encoded = picture.known.encoded
        smallest[picture.shown] = min(encoded, smallest.get(picture.shown, encoded))
    place = {digest: _drawn(digest, missing) for digest in smallest.values()}
    of_label: dict[str, set[str]] = defaultdict(set)
    for picture in undivided:
        of_label[picture.file.label].add(smallest[picture.shown])
    for label in sorted(of_label):
        digests = sorted(of_label[label])
        for split in ("train", *missing):
            members: dict[str, list[str]] = {name: [] for name in SPLITS}
            for digest in digests:
                members[place[digest]].append(digest)
            largest = max(members.values(), key=len)
            if not members[split] and len(largest) > 1:
                place[largest[0]] = split
    if missing:
        splits["train"] = []
    for picture in undivided:
        splits[place[smallest[picture.shown]]].append(picture)
    return splits


def _drawn(digest: str, missing: Sequence[str]) -> str:
    point = int(digest[:12], 16) / 16**12
    for split in missing:
        if point < SHARES[split]:
            return split
        point -= SHARES[split]
    return "train"
