"""What is known of the versions of a network: which answer, come, go, or are broken."""

import contextlib
import time
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from app.artefacts import certified
from app.serving.configuration import Served
from app.serving.models import Model, Version
from app.serving.signatures import Servable

TRIES, AGAIN = 6, 60.0  # of a version that does not load, and seconds between them: TensorFlow Serving's
REMEMBERED = 20  # versions that have ended, which the status still names

Files = frozenset[tuple[str, int, int, int]]
Mark = tuple[int, int, int]


class Loaded(NamedTuple):
    folder: Path
    mark: Mark | None
    servable: Servable

    def is_in(self, folder: Path | None) -> bool:
        return folder == self.folder and mark_of(folder) in (self.mark, None)


class Broken(NamedTuple):
    """`files` are those that it was tried with: with others it is tried again, and a few times with these, since what
    was wrong may have been a want of memory, or with what is beside them."""

    folder: Path
    files: Files | None
    error: str
    tries: int
    until: float

    @property
    def is_due(self) -> bool:
        return self.tries < TRIES and time.monotonic() > self.until


class Versions:
    """Of one network. `ready` are loaded and answer with all else that has been asked for;
    `leaving` is None of those that have gone."""

    def __init__(self) -> None:
        self.loaded: dict[int, Loaded] = {}
        self.ready: dict[int, Loaded] = {}
        self.broken: dict[int, Broken] = {}
        self.coming: dict[int, str] = {}
        self.leaving: dict[int, weakref.ref[Servable] | None] = {}
        self.seen: dict[Path, Files | None] = {}

    def model(self, labels: Mapping[str, int]) -> Model:
        states = {number: Version(None, state="END" if ref is None else "UNLOADING") for number, ref in self.gone()}
        states |= {number: Version(None, broken.error) for number, broken in self.broken.items()}
        states |= {number: Version(None, state=state) for number, state in self.coming.items()}
        states |= {number: Version(None, state="LOADING") for number in self.ready}
        return Model(states | {number: Version(each.servable) for number, each in self.loaded.items()}, labels)

    def gone(self) -> Iterable[tuple[int, "weakref.ref[Servable] | None"]]:
        return [*self.leaving.items()][-REMEMBERED:]

    @property
    def spoilt(self) -> set[int]:
        """Those in whose place something broken has come: they still answer."""
        both = self.loaded.keys() & self.broken.keys()
        return {number for number in both if self.loaded[number].folder == self.broken[number].folder}

    @property
    def is_there(self) -> bool:
        return bool(self.loaded) or any(ref is not None for ref in self.leaving.values())

    def let_go(self, number: int) -> None:
        self.leaving.pop(number, None)
        self.leaving[number] = weakref.ref(self.loaded.pop(number).servable)

    def wanted(self, served: Served, folders: Mapping[int, Path]) -> set[int]:
        broken = {number for number, each in self.broken.items() if not each.is_due}
        return served.policy.wanted(folders.keys() - broken)

    def missing(self, served: Served, folders: Mapping[int, Path]) -> set[int]:
        there = (self.loaded | self.ready).items()
        return self.wanted(served, folders) - {number for number, each in there if each.is_in(folders.get(number))}

    def settled(self, folder: Path) -> bool:
        """Whether it is as it was when this was asked before."""
        files = files_of(folder)
        before, self.seen[folder] = self.seen.get(folder), files
        return files is not None and files == before


def mark_of(folder: Path) -> Mark | None:
    """Another one where another export, or run, has come to the place of one; None where nothing can be said. What is
    certified is so by this file."""
    for name in (certified.CERTIFICATE, "classifier.json"):
        with contextlib.suppress(OSError):
            status = (folder / name).stat()
            return status.st_size, status.st_mtime_ns, status.st_ino
    return None


def files_of(folder: Path) -> Files | None:
    """Names, sizes, times and inodes of the files of a folder; None while they change, or cannot be seen."""
    try:
        found = ((str(file), file.lstat()) for file in folder.rglob("*"))
        return frozenset((name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in found)
    except OSError:
        return None
