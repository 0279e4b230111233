"""Which pictures are asked about, as a list on the disk: nothing in memory grows with their number."""

import hashlib
import heapq
import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from app.images import finding
from app.program import remote
from app.program.errors import UserError
from app.program.progress import console
from app.program.shown import counted

AT_ONCE = 20_000  # files that are sorted in memory


class File(NamedTuple):
    """A picture: its path as it was given, or within a folder that was; its bytes and its time of change, in
    nanoseconds, 0 where the disk does not say."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Listing:
    """The file that holds them, a line each, how many there are, and a SHA-256 of their names, sizes and times."""

    file: Path
    count: int
    sha256: str

    def read(self) -> Iterator[File]:
        with self.file.open(encoding="ascii") as lines:
            for line in lines:
                yield File(*json.loads(line))


@dataclass
class _Passed:
    """What was not taken: names that systems leave, and of each kind of other files how many and the first."""

    left: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, list[finding.Found]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def over(self, found: finding.Found) -> None:
        self.counts[found.kind] += 1
        few = self.kinds.setdefault(found.kind, [])
        if len(few) < finding.SHOWN:
            few.append(found)

    def sentences(self) -> Iterator[str]:
        yield from finding.passed_over(self.left)
        for kind, what in (("not an image", "not an image"), ("not supported", f"not one of {finding.KINDS}")):
            if number := self.counts[kind]:
                more = ", ..." if number > 1 else ""
                first = self.kinds[kind][0].path
                yield f"{counted(number, 'file', 'files')} passed over, {what}: {first}{more}"
        yield from (found.reason for found in self.kinds.get("unreadable folder", ()))


def make(paths: Sequence[Path], folder: Path) -> Listing:
    """The pictures that paths stand for, as `images.finding.pictures` takes them and in the same order, listed in a
    file in `folder`. What was not taken is said once.

    Raises:
        UserError: a path that does not exist; a folder without pictures.
    """
    wanted = [path for path in paths if not (paths[1:] and path.name and finding.is_left_by_a_system(path.name))]
    passed, count, hashed = _Passed(), 0, hashlib.sha256()
    for path in paths:
        if wanted and path not in wanted:
            passed.left += finding.count_left(path)
    file = folder / "listing.jsonl"
    with file.open("w", encoding="ascii") as lines:
        for path in wanted or paths:
            before = count
            for found in _files(path, passed, folder):
                lines.write(json.dumps(found) + "\n")
                # By their addresses: a cache may lie elsewhere the next time.
                hashed.update(json.dumps((remote.shown(found.path), *found[1:])).encode())
                count += 1
            if count == before:
                raise UserError(f"The folder {path} {_without_pictures(passed)}.")
    for sentence in passed.sentences():
        console.print(sentence)
    return Listing(file, count, hashed.hexdigest())


def _files(path: Path, passed: _Passed, folder: Path) -> Iterator[File]:
    if path.is_dir():
        yield from _in_order(_walk(path, frozenset(map(_identity, _around(path))) - {_identity(path)}, passed), folder)
    elif path.is_file():
        yield _file(str(path))
    else:
        raise UserError(f"{path} is neither a file nor a folder." if path.exists() else f"{path} does not exist.")


def _walk(folder: Path, above: frozenset[tuple[int, int]], passed: _Passed) -> Iterator[File]:
    """The pictures below a folder, as the disk names them: a folder of a million names is not sorted in memory."""
    try:
        here = _identity(folder)
        entries = os.scandir(folder)
    except OSError as error:
        why = f"The folder {folder} cannot be read ({error.strerror}): let it be read, or remove it."
        passed.over(finding.Found(folder, "unreadable folder", why))
        return
    # Not a Path for every name: it would keep the name in a table of its own for a while.
    below = str(folder / "_").removesuffix("_")
    with entries:
        if here in above:
            passed.over(finding.Found(folder, "symlink loop"))
            return
        for entry in entries:
            if finding.is_left_by_a_system(entry.name):
                passed.left += finding.count_left(folder / entry.name)
            elif _is_folder(entry):
                path = folder / entry.name
                around = {_identity(parent) for parent in path.resolve().parents} if entry.is_symlink() else set()
                yield from _walk(path, above | {here} | around, passed)
            elif _is_named_so(entry):
                yield _file(below + entry.name)
            elif (found := finding.told(folder / entry.name)).kind:
                passed.over(found)
            else:
                yield _file(str(found.path))


def _is_named_so(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in finding.SUFFIXES and entry.is_file(follow_symlinks=False)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _around(folder: Path) -> set[Path]:
    return {*folder.absolute().parents, *folder.resolve().parents}  # the first has the folder itself after `x/..`


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _file(path: str) -> File:
    try:
        status = os.stat(path)
    except OSError:  # a link to nothing, which has a row all the same
        return File(path, 0, 0)
    return File(path, status.st_size, status.st_mtime_ns)


def _in_order(files: Iterator[File], folder: Path) -> Iterator[File]:
    """Sorted as folders within folders, by code points; more than a few are sorted on the disk, `AT_ONCE` at a time."""
    first = sorted(itertools.islice(files, AT_ONCE), key=_place)
    if len(first) < AT_ONCE:
        yield from first
        return
    with ExitStack() as stack:
        runs = []
        while first:
            run = stack.enter_context(tempfile.TemporaryFile("w+", encoding="ascii", dir=folder))
            run.writelines(json.dumps(file) + "\n" for file in first)
            run.seek(0)
            runs.append(File(*json.loads(line)) for line in run)
            first = sorted(itertools.islice(files, AT_ONCE), key=_place)
        yield from heapq.merge(*runs, key=_place)


def _place(file: File) -> str:
    return file.path.replace(os.sep, "\0")


def _without_pictures(passed: _Passed) -> str:
    return finding.without_pictures(finding.Folder(Path(), tuple(passed.kinds.get("not supported", ()))))
