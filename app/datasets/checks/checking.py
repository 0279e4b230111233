"""What is wrong with a data set, found before training does: with its files, its labels and its splits."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from app.datasets import label_sets, loading
from app.datasets.checks.near_duplicates import near_duplicates
from app.datasets.dataset import SPLITS, Data, Finding, ImageFile, Picture, labels_of
from app.datasets.files import deciding, dividing
from app.datasets.files.looking import look
from app.datasets.files.scanning import scan
from app.datasets.index import Known
from app.program import parallel, progress, quiet
from app.program.files import whole, write_json
from app.program.paths import is_prepared
from app.program.progress import Watch
from app.program.shown import counted
from app.run_folder import classifier
from app.run_folder.folder import Run

IMBALANCE = 10  # times as many images in the largest class
# What training does about each kind. Faults are mistakes; notes are what an owner may or may not have meant.
FAULTS = {
    "undecodable": "leaves it out",
    "truncated": "leaves it out",
    "huge": "leaves it out",
    "two labels": "learns both",
    "leak": "uses it in both splits",
    "group leak": "uses it in both splits",
    "not supported": "leaves it out",
    "no class": "leaves it out",
    **dict.fromkeys(deciding.FATAL, "stops"),
    "one class": "stops",
    "no training images": "stops",
    "too few images": "stops",
    "too many unreadable": "stops",
    "other classes": "stops",
}
NOTES = {
    "wrong extension": "goes by the content",
    "rotated": "turns it upright",
    "cmyk": "converts it to RGB",
    "alpha": "lays it on white",
    "animated": "takes the first frame",
    "tiny": "uses it",
    "constant": "uses it",
    "duplicate": "uses it, in the same split",
    "near-duplicate": "uses it in both splits",
    "groups": "keeps each in one split",
    "class not in a split": "uses it",
    "imbalance": "uses it",
    "similar classes": "learns both",
    "merged classes": "learns one",
    "split or class": "takes it for a class",
    "not an image": "ignores it",
    "symlink loop": "does not follow it",
}
QUARANTINED = ("undecodable", "truncated", "huge", "missing", "two labels", "leak", "group leak")


@dataclass(frozen=True)
class Report:
    """`duplicates` are groups of files with the same picture, `leaks` those of them in more than one split; `classes`
    maps a label to its number of pictures, in all and per split. `quarantine` names the files to leave out, relative to
    the data where they lie in it: of a leak, those in training (or validation) and not those held out. So does
    `near_duplicates` those that look almost as one held out. `left` counts the files that systems leave, which are
    never looked at, by name."""

    images: int
    findings: tuple[Finding, ...]
    duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    classes: dict[str, dict[str, int]]
    quarantine: tuple[str, ...]
    near_duplicates: tuple[str, ...] = ()
    left: tuple[tuple[str, int], ...] = ()

    @property
    def faults(self) -> int:
        return sum(finding.kind in FAULTS for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        findings = [{**finding._asdict(), "fault": finding.kind in FAULTS} for finding in self.findings]
        return {
            "images": self.images,
            "findings": findings,
            "duplicates": self.duplicates,
            "leaks": self.leaks,
            "classes": self.classes,
            "left_by_systems": dict(self.left),
        }


def check(name: str, watch: Watch = progress.unwatched, run: Path | None = None, full: bool = False) -> Report:
    """Looks at every image of the data set `name` and at the whole; and, where a `run` is given, for other classes than
    those it was trained on. Files that were read before, and have kept their size and time of change, are not opened
    again unless the check is to be `full`.

    Raises:
        UserError: no such data set; one whose structure cannot be read; `run` is not a run folder.
    """
    wanted = Run(run).read_classifier().labels if run else None
    if is_prepared(name):
        data = loading.load(name, watch)
        root, labels = None, data.labels
        count = sum(getattr(data, split).count for split in SPLITS)
        Image.init()  # here, and not in several threads at once
        with quiet.libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is noted here
            looked = list(watch(parallel.in_parallel(_look, _examples(data)), count, "Checking images"))
        findings: list[Finding] = []
        left: tuple[tuple[str, int], ...] = ()
    else:
        listing = loading.listing(name, watch)
        root, labels = listing.root, labels_of(listing.files)
        count = len(listing.files)
        looked = list(zip(listing.files, scan(root, listing.files, watch, again=full, likeness=True), strict=True))
        findings, left = [*listing.found, *deciding.of_labels(name, listing)], listing.left
        unreadable = [(str(file.path), known.reason) for file, known in looked if not known.picture]
        findings += deciding.of_unreadable(name, unreadable, count)
    findings += deciding.alike(labels)
    if wanted is not None and (difference := classifier.compare_labels(labels, wanted)):
        findings.append(Finding(name, "other classes", f"{difference}, compared with {run}"))
    findings += [Finding(str(file.path), kind, why) for file, known in looked for kind, why in known.notes]
    pictures = [Picture(file, known) for file, known in looked if known.picture]
    splits = dividing.divide(pictures)
    findings += deciding.of_splits(name, labels, splits)
    findings += [*deciding.of_leaking_groups(splits), *deciding.of_groups(name, splits)]
    placed = [Picture(p.file._replace(split=split), p.known) for split, members in splits.items() for p in members]
    groups = _equal(placed)
    findings += [finding for group in groups for finding in _of_group(group)]
    findings += _imbalance(Counter(label for picture in placed for label in picture.file.labels), labels)
    findings += near_duplicates(placed, watch)
    counts = Counter((label, picture.file.split) for picture in placed for label in picture.file.labels)
    leaks = [group for group in groups if len({file.split for file in group}) > 1]
    return Report(
        count,
        tuple(findings),
        duplicates=tuple(tuple(str(file.path) for file in group) for group in groups),
        leaks=tuple(tuple(str(file.path) for file in group) for group in leaks),
        classes={
            label: {"count": sum(counts[label, split] for split in SPLITS)}
            | {split: counts[label, split] for split in SPLITS}
            for label in labels
        },
        quarantine=_named(findings, root, QUARANTINED) if root else (),
        near_duplicates=_named(findings, root, ("near-duplicate",)) if root else (),
        left=left,
    )


def write(report: Report, folder: Path) -> None:
    """Writes check.json, and the lists quarantine.txt and near_duplicates.txt, which `train --quarantine` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "check.json", report.as_json())
    for name, files in (("quarantine", report.quarantine), ("near_duplicates", report.near_duplicates)):
        with whole(folder / f"{name}.txt") as beside:
            lines = "".join(f"{file}\n" for file in files)
            beside.write_text(lines, encoding="utf-8", errors="surrogateescape")


def _examples(data: Data) -> Iterator[tuple[ImageFile, bytes]]:
    """Images that are no files of their own, named by their places."""
    for split in SPLITS:
        for place, (encoded, label) in enumerate(getattr(data, split).in_order().as_numpy_iterator()):
            named = label_sets.names(int(label), data.labels, data.label_sets)
            several = named if len(named) != 1 else None
            yield ImageFile(Path(split, str(place)), label_sets.text(named), split, several=several), encoded


def _look(item: tuple[ImageFile, bytes]) -> tuple[ImageFile, Known]:
    file, encoded = item
    return file, look("", encoded, likeness=True)


def _equal(pictures: Iterable[Picture]) -> list[list[ImageFile]]:
    """The files of every picture that there is more than once, those held out first."""
    groups: dict[str, list[ImageFile]] = defaultdict(list)
    for picture in pictures:
        groups[picture.shown].append(picture.file)
    order = deciding.HELD_OUT_FIRST
    return [sorted(group, key=lambda file: order.index(str(file.split))) for group in groups.values() if group[1:]]


def _of_group(group: list[ImageFile]) -> Iterator[Finding]:
    first = group[0]
    for file in group:
        other = next((other for other in group if other.label != file.label), None)
        if other:
            yield Finding(str(file.path), "two labels", f"the same picture as {other.path}, which is '{other.label}'")
        if file.split != first.split:
            yield Finding(str(file.path), "leak", f"the same picture as {first.path}, which is in {first.split}")
        elif file is not first and not other:
            yield Finding(str(file.path), "duplicate", f"the same picture as {first.path}")


def _imbalance(counts: Counter[str], labels: Iterable[str]) -> Iterator[Finding]:
    largest, most = max(counts.items(), key=lambda item: item[1], default=("", 0))
    for label in labels:
        if counts[label] * IMBALANCE < most:
            count = counted(counts[label], "image", "images")
            remedy = "`train --set balance=weights` or `balance=sample` makes up for it"
            yield Finding(label, "imbalance", f"{count}, where '{largest}' has {most:,}; {remedy}")


def _named(findings: Iterable[Finding], root: Path, kinds: Sequence[str]) -> tuple[str, ...]:
    def name(file: str) -> str:
        inside = os.path.relpath(file, root)
        return os.path.abspath(file) if Path(inside).parts[0] == os.pardir else inside

    return tuple(dict.fromkeys(name(finding.file) for finding in findings if finding.kind in kinds))
