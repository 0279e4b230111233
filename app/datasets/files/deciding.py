"""Whether there is enough to train on, and what whoever trains should know: one answer, for `train` and for `check`."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from app.datasets.dataset import SPLITS, Finding, Listing, Picture, class_name, labels_of
from app.images import finding
from app.images.finding import Found
from app.program.shown import command, counted

UNREADABLE_LIMIT = 0.05
# Kinds of findings of a listing that stop a training: nobody knows what the data would be without.
FATAL = (
    "unreadable folder",
    "folder around the classes",
    "unknown split",
    "split inside a class",
    "empty class",
    "missing",
    "named twice",
)
# Kinds that are said, since nothing else tells: their reasons are sentences.
SAID = ("merged classes", "split or class")
HELD_OUT_FIRST = ("test", "validation", "train")
PASSED_OVER = ("not an image", "not supported")


def of_labels(name: str, listing: Listing) -> Iterator[Finding]:
    """What stops a training and shows before any image is read."""
    labels = [*labels_of(listing.files)]
    if not labels and listing.files:
        yield Finding(name, "one class", f"{name} has no picture with a label; a classifier needs two labels or more.")
    if len(labels) == 1 and not any(found.kind == "folder around the classes" for found in listing.found):
        yield Finding(name, "one class", f"{name} has one class, '{labels.pop()}'; a classifier needs two or more.")


def of_unreadable(name: str, unreadable: Sequence[tuple[str, str]], total: int) -> Iterator[Finding]:
    """More than 5 % of `total` files, each with the reason."""
    if len(unreadable) > UNREADABLE_LIMIT * total:
        path, why = unreadable[0]
        reason = (
            f"{len(unreadable):,} of the {counted(total, 'image', 'images')} in {name} cannot be read, more than "
            f"{UNREADABLE_LIMIT:.0%}; mend them, remove them, or leave them out with --quarantine and the list that "
            f"`{command('check', name, '--to', 'FOLDER')}` writes. The first is {path}: {why}"
        )
        yield Finding(name, "too many unreadable", reason)


def of_splits(name: str, labels: Sequence[str], splits: Mapping[str, Sequence[Picture]]) -> Iterator[Finding]:
    """What stops a training on images as they are divided."""
    trained = {label for picture in splits["train"] for label in picture.file.labels}
    if not splits["train"]:
        yield Finding(name, "no training images", f"{name} has no image to train on; add a split 'train' with some.")
        return
    for label in labels:
        if label not in trained:
            why = f"The class '{label}' in {name} has no readable image to train on; add some or remove it."
            yield Finding(label, "no training images", why)
    for split in SPLITS:
        if not splits[split]:
            things = "groups" if any(picture.file.group for picture in splits["train"]) else "images"
            why = f"{name} has too few {things} for a {split} split: give each class at least three."
            yield Finding(name, "too few images", why)


def of_groups(name: str, splits: Mapping[str, Sequence[Picture]]) -> Iterator[Finding]:
    """What became of groups where these decided which split a picture is in: the shares of the pictures, and classes
    that are not in every split."""
    groups: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    for split, pictures in splits.items():
        for picture in pictures:
            for label in picture.file.labels:
                groups[label].add(picture.file.group)
                places[label].add(split)
    count, total = len(set().union(*groups.values())), sum(map(len, splits.values()))
    if all(picture.file.split == split or not picture.file.group for split in splits for picture in splits[split]):
        return
    shares = ", ".join(f"{len(splits[split]) / total:.1%} {split}" for split in SPLITS)
    yield Finding(name, "groups", f"{counted(count, 'group', 'groups')}, each in one split: {shares}")
    for label in sorted(groups):
        if lacking := [split for split in SPLITS if split not in places[label]]:
            has = counted(len(groups[label]), "group", "groups")
            where = " and ".join(lacking)
            why = (
                f"none of the {has} of '{label}' is in {where}; to have one there, name the splits in a column 'split'"
            )
            yield Finding(label, "class not in a split", why)


def of_leaking_groups(splits: Mapping[str, Sequence[Picture]]) -> Iterator[Finding]:
    """Groups that somebody has put into two splits: their pictures where they are not to be, as for equal ones."""
    places: dict[str, dict[str, Path]] = defaultdict(dict)
    for split in HELD_OUT_FIRST:
        for picture in splits[split]:
            first = next(iter(places[picture.file.group].items()), (split, picture.file.path))
            places[picture.file.group].setdefault(split, picture.file.path)
            if picture.file.group and first[0] != split:
                why = f"of the group '{picture.file.group}', as {first[1]}, which is in {first[0]}"
                yield Finding(str(picture.file.path), "group leak", why)


def merged(written: Iterable[str], what: str) -> Iterator[Finding]:
    """Names of classes that make one, since they differ in the spaces around them alone; `what` wrote them."""
    names: dict[str, set[str]] = defaultdict(set)
    for name in {*written}:
        names[class_name(name, name)].add(name)
    for label in sorted(names):
        # However a system wrote its accents, a name is no other.
        if len({unicodedata.normalize("NFC", name) for name in names[label]}) > 1:
            quoted = " and ".join(repr(name) for name in sorted(names[label]))
            yield Finding(label, "merged classes", f"the {what} {quoted} are one class, '{label}'")


def alike(labels: Sequence[str]) -> Iterator[Finding]:
    """Classes that differ in capital letters, spaces, hyphens or underscores alone."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        folded = unicodedata.normalize("NFKC", label).casefold()
        groups["".join(" " if letter in "_-" else letter for letter in " ".join(folded.split()))].append(label)
    for group in groups.values():
        if group[1:]:
            quoted = " and ".join(repr(label) for label in group)
            yield Finding(
                group[0], "similar classes", f"the classes {quoted} are learnt as {len(group)}; are they one?"
            )


def sentences(name: str, listing: Listing) -> Iterator[str]:
    """What whoever uses the images of a listing is told once: what was not taken, and which classes look odd."""
    others = [Found(Path(file), kind, why) for file, kind, why in listing.found if kind in PASSED_OVER]
    yield from finding.passed_over(Counter(dict(listing.left)), others)
    if count := sum(finding.CONVERTS in found.reason for found in listing.found):
        yield f"`{command('records', name, '--to', 'FOLDER')}` converts what Pillow reads: {count}"
    if loose := [found.file for found in listing.found if found.kind == "no class"]:
        names = f"`{command('check', name)}` names them; the first is " if loose[1:] else ""
        yield f"images in no class folder, left out: {len(loose)}; {names}{loose[0]}"
    for found in listing.found:
        if found.kind in SAID:
            yield f"{found.reason}."
    for found in alike(labels_of(listing.files)):
        yield f"{found.reason[:1].upper()}{found.reason[1:]}"
