"""What is known of the versions of a network: which answer, come, go, or are broken."""

import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from app.serving.configuration import Served
from app.serving.models import Model, Version
from app.serving.signatures import Servable

REMEMBERED = 20  # versions that have ended, which the status still names

Files = frozenset[tuple[str, int, int, int]]


class Broken(NamedTuple):
    """`files` are those that it was tried with: with others it is tried again."""

    folder: Path
    files: Files | None
    error: str


class Versions:
    """Of one network. `ready` are loaded and answer with all else that has been asked for;
    `leaving` is None of those that have gone."""

    def __init__(self) -> None:
        self.loaded: dict[int, tuple[Path, Servable]] = {}
        self.ready: dict[int, tuple[Path, Servable]] = {}
        self.broken: dict[int, Broken] = {}
        self.coming: dict[int, str] = {}
        self.leaving: dict[int, weakref.ref[Servable] | None] = {}
        self.seen: dict[Path, Files | None] = {}

    def model(self, labels: Mapping[str, int]) -> Model:
        states = {number: Version(None, state="END" if ref is None else "UNLOADING") for number, ref in self.gone()}
        states |= {number: Version(None, broken.error) for number, broken in self.broken.items()}
        states |= {number: Version(None, state=state) for number, state in self.coming.items()}
        states |= {number: Version(None, state="LOADING") for number in self.ready}
        return Model(states | {number: Version(servable) for number, (_, servable) in self.loaded.items()}, labels)

    def gone(self) -> Iterable[tuple[int, "weakref.ref[Servable] | None"]]:
        return [*self.leaving.items()][-REMEMBERED:]

    @property
    def is_there(self) -> bool:
        return bool(self.loaded) or any(ref is not None for ref in self.leaving.values())

    def let_go(self, number: int) -> None:
        self.leaving.pop(number, None)
        self.leaving[number] = weakref.ref(self.loaded.pop(number)[1])

    def wanted(self, served: Served, folders: Mapping[int, Path]) -> set[int]:
        return served.policy.wanted(folders.keys() - self.broken.keys())

    def missing(self, served: Served, folders: Mapping[int, Path]) -> set[int]:
        there = self.loaded | self.ready
        loaded = {number for number, (folder, _) in there.items() if folders.get(number) == folder}
        return self.wanted(served, folders) - loaded

    def settled(self, folder: Path) -> bool:
        """Whether it is as it was when this was asked before."""
        files = files_of(folder)
        before, self.seen[folder] = self.seen.get(folder), files
        return files is not None and files == before


def files_of(folder: Path) -> Files | None:
    """Names, sizes, times and inodes of the files of a folder; None while they change, or cannot be seen."""
    try:
        found = ((str(file), file.lstat()) for file in folder.rglob("*"))
        return frozenset((name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in found)
    except OSError:
        return None
