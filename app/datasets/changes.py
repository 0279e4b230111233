"""What became of the pictures of a data set since they were read."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from app.datasets.dataset import Data, Picture
from app.datasets.index import Known
from app.program.parallel import in_parallel
from app.program.progress import Watch, unwatched
from app.program.shown import counted

SHOWN = 10  # files of a kind


def changes(before: Iterable[Picture], after: Iterable[Picture]) -> str:
    """What differs between two readings of a data set, with the first ten files of each kind: which were added, removed
    or changed, or belong to another class or split. Empty where every picture is as it was; where a file lies, or how
    it is called, makes no difference.

    "2 images were added: /photos/cat/7.png, /photos/cat/8.png; 1 image was removed: /photos/dog/1.png"
    """
    old, new = _by_content(before), _by_content(after)
    same = old.keys() & new.keys()
    lost, found = _by_path(old, same), _by_path(new, same)
    added, changed, placed = [], [], []
    for path, picture in found.items():
        was = lost.pop(path, None)
        if was is None:
            added.append(path)
        elif was.known.encoded != picture.known.encoded:
            changed.append(path)
        else:
            placed.append(f"{path} (from {_place(was)} to {_place(picture)})")
    kinds = {"added": added, "removed": [*lost], "changed": changed, "put into another class or split": placed}
    return "; ".join(
        f"{counted(len(files), 'image was', 'images were')} {kind}: {_first(files)}"
        for kind, files in kinds.items()
        if files
    )


def pictures(data: Data) -> list[Picture]:
    """Those of a data set whose images are files of their own."""
    return [Picture(file, known) for file, known in zip(data.files, data.known, strict=True)]


def spoiled(data: Data, watch: Watch = unwatched, contents: bool = True) -> list[tuple[str, str]]:
    """The files of a data set that are not any more what they were when it was loaded, each with what became of it: for
    whoever met a picture that cannot be read. Their `contents` are read where size and time of change tell nothing.

    Empty where the images are no files of their own, or all of them are as they were.
    """
    files = [(picture.file.path, picture.known) for picture in pictures(data)]
    return _those(_status, files, watch) or (_those(_content, files, watch) if contents else [])


def _those(
    look: Callable[[tuple[Path, Known]], str], files: Sequence[tuple[Path, Known]], watch: Watch
) -> list[tuple[str, str]]:
    found = watch(in_parallel(look, files), len(files), "Looking through the images again")
    return [(str(path), why) for (path, _), why in zip(files, found, strict=True) if why]


def _status(item: tuple[Path, Known]) -> str:
    """What size and time of change say; a file that was touched and no more is the same."""
    path, known = item
    try:
        status = os.stat(path)
    except OSError as error:
        return _unreadable(error)
    return "" if known.is_of(status) else _content(item)


def _content(item: tuple[Path, Known]) -> str:
    path, known = item
    try:
        encoded = path.read_bytes()
    except OSError as error:
        return _unreadable(error)
    if hashlib.sha256(encoded).hexdigest() == known.encoded:
        return ""
    return f"was cut, {len(encoded)} of {known.size} bytes are left" if len(encoded) < known.size else "was changed"


def _unreadable(error: OSError) -> str:
    return "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"


def _by_content(pictures: Iterable[Picture]) -> dict[tuple[str, str, str | None, int], Picture]:
    """By content, class and split; equal ones are counted."""
    found: dict[tuple[str, str, str | None, int], Picture] = {}
    times: dict[tuple[str, str, str | None], int] = {}
    for picture in pictures:
        key = (picture.known.encoded, picture.file.label, picture.file.split)
        times[key] = times.get(key, 0) + 1
        found[(*key, times[key])] = picture
    return found


def _by_path(
    pictures: dict[tuple[str, str, str | None, int], Picture], but: set[tuple[str, str, str | None, int]]
) -> dict[str, Picture]:
    return {os.path.abspath(picture.file.path): picture for key, picture in pictures.items() if key not in but}


def _place(picture: Picture) -> str:
    return f"'{picture.file.label}' in {picture.file.split}"


def _first(files: Sequence[str]) -> str:
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(files[:SHOWN]) + more
