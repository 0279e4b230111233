"""A manifest: a CSV file with a header `file,label` and an image a line; columns `split` and `group` are optional.

Files are named relative to the manifest. `label` is one, or several as `a|b`; a lone `|` is a picture with none of the
labels that others have. `split` is train, validation or test, or empty where the content shall decide. `group` is
whatever pictures have in common that must not be in two splits: a patient, a burst, a video.
"""

import csv
import itertools
import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from app.datasets.dataset import Finding, ImageFile, Listing, Picture, class_name
from app.datasets.files import deciding
from app.datasets.files.folders import NAMES, SPLIT_NAMED
from app.datasets.index import Known
from app.datasets.label_sets import SEPARATOR, text
from app.program import paths, remote
from app.program.errors import UserError
from app.program.files import whole
from app.program.shown import command

KNOWN = ("size", "changed", "sha256", "picture", "notes")  # columns that are no part of a manifest; see `index.Known`


def listing(path: Path) -> Listing:
    """The files that the manifest names, in its order; see `loading.listing`."""
    files: list[ImageFile] = []
    found: list[Finding] = []
    lines: dict[str, int] = {}
    labels: set[str] = set()
    # Whoever wrote a name that is not UTF-8 gets the file of that name; a mark at the beginning is Excel's.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as content:
        rows = csv.DictReader(content, strict=True)
        try:
            rows.fieldnames = paths.check_columns(path, rows.fieldnames or ())
            for row in rows:
                file = _image_file(path, rows.line_num, row)
                labels |= _parts(row["label"] or "")
                if missing := _missing(path, rows.line_num, file, lines):
                    found.append(missing)
                else:
                    files.append(file)
        except csv.Error as error:
            raise UserError(f"{path}, line {rows.line_num}: {error}; write it as comma-separated values.") from error
    if not lines:
        raise UserError(f"{path} names no image: give it a line for each.")
    found += deciding.merged(labels, "labels")
    return Listing(path.parent, tuple(files), tuple(found))


def _image_file(path: Path, line: int, row: dict[str | None, str | None]) -> ImageFile:
    where = f"{path}, line {line}"
    if None in row:
        raise UserError(f"{where} has more fields than the header has columns: put quotes around what holds a comma.")
    file, label, split = (row.get(column) or "" for column in ("file", "label", "split"))
    if not file.strip() or not label.strip():
        what = f"label; add it, write {SEPARATOR} for none of the labels," if file.strip() else "file; add it"
        raise UserError(f"{where} has no {what} or remove the line.")
    split = split.strip()
    if split and split.lower() not in SPLIT_NAMED:
        raise UserError(f"{where}: '{split}' is no split; the splits are {', '.join(NAMES)}.")
    # However a system wrote its accents, one group is not two.
    group = unicodedata.normalize("NFC", (row.get("group") or "").strip())
    if "group" in row and not group:
        raise UserError(
            f"{where} has no group: write one, such as the name of the file where an image belongs to no other, or "
            "remove the column."
        )
    if not all(part.strip() for part in label.split(SEPARATOR)) and label.strip() != SEPARATOR:
        raise UserError(
            f"{where}: '{label}' has an empty part; write the label that is missing, or one {SEPARATOR} less."
        )
    named = tuple(sorted({class_name(part, where) for part in _parts(label)}))
    several = named if len(named) != 1 else None
    return ImageFile(path.parent / file, text(named), SPLIT_NAMED.get(split.lower()), group, several)


def _parts(label: str) -> set[str]:
    return {part for part in label.split(SEPARATOR) if part.strip()}


def _missing(path: Path, line: int, file: ImageFile, lines: dict[str, int]) -> Finding | None:
    name = os.path.normpath(file.path)
    first = lines.setdefault(name, line)
    if first != line:
        why = f"{path}, line {line}: {file.path} is named again, after line {first}; remove one of them."
        return Finding(str(file.path), "named twice", why)
    if not os.path.isfile(file.path):
        what = "is not a file" if os.path.exists(file.path) else "does not exist"
        then = "mend the line or remove it"
        if remote.shown(path) == str(path) and (address := remote.shown(file.path)) != str(file.path):
            then = f"it came from {address}, and `{command('check', 'DATA')}` on the data set there fetches it again"
        return Finding(str(file.path), "missing", f"{path}, line {line}: {file.path} {what}; {then}.")
    return None


def check_labels(name: str, labels: Sequence[str], what: str) -> None:
    """Raises:
    UserError: a class folder of the data set `name`, with one label a picture, would be several labels in a manifest,
        and `what` writes one.
    """
    for label in labels:
        if SEPARATOR in label:
            raise UserError(
                f"The class '{label}' of {name} would be several labels in the manifest that {what} writes, where "
                f"{SEPARATOR} divides them: rename its folder."
            )


def write(path: Path, files: Sequence[ImageFile], known: Sequence[Known] = ()) -> None:
    """The manifest of these files, which names them absolutely, with what is known of each."""
    with whole(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as content:
        rows = csv.writer(content)
        group = ("group",) if any(file.group for file in files) else ()
        rows.writerow(("file", "label", "split", *group, *(KNOWN if known else ())))
        for file, one in itertools.zip_longest(files, known):
            told = (*one[:4], json.dumps(one.notes)) if one else ()
            rows.writerow((file.path.absolute(), file.label, file.split, *((file.group,) if group else ()), *told))


def read_known(path: Path) -> dict[str, Known]:
    """What a manifest that `write` wrote says of its files, by their paths; nothing where it says nothing."""
    return {str(picture.file.path): picture.known for picture in read_pictures(path)}


def read_pictures(path: Path) -> list[Picture]:
    """The pictures of a manifest that `write` wrote, with what was known of each; none where it does not say."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as content:
        rows = csv.DictReader(content)
        if not {*KNOWN} <= {*(rows.fieldnames or ())}:
            return []
        try:
            return [Picture(_written(row), _known(row)) for row in rows]
        except (ValueError, TypeError, csv.Error):  # somebody has changed it: then the files themselves are asked
            return []


def _written(row: dict[str, str]) -> ImageFile:
    return ImageFile(Path(row["file"]), row["label"], row["split"], row.get("group") or "")


def _known(row: dict[str, str]) -> Known:
    notes = tuple((kind, why) for kind, why in json.loads(row["notes"]))
    return Known(int(row["size"]), int(row["changed"]), row["sha256"], row["picture"], notes=notes)
