"""What is known of image files that were read once: later starts look at their size and time of change alone.

An index is an SQLite file in the user's cache folder, one for each data set, by the real path of its folder. It is
never needed: where it is lost, damaged or cannot be written, files are read again, which costs time alone.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import platformdirs

KIND = 3  # part of an index's name: what was written by another decoder, or with other columns, is not found
# Clocks of file systems tick some hundred times a second: a file may change twice at what they call one time.
SETTLED = 2_000_000_000  # nanoseconds
TABLE = (
    "files (path BLOB PRIMARY KEY, size INT, changed INT, encoded TEXT, picture TEXT, reason TEXT, notes TEXT, "
    "likeness BLOB)"
)


class Known(NamedTuple):
    """A file as it was read. Its `size` in bytes and when it was `changed`, in nanoseconds, tell whether it is still
    the same; 0 is a time that is never met. `encoded` is the SHA-256 of its bytes, `picture` that of what it shows,
    which is the same in every lossless format, or None for the `reason`. `notes` are what a check says of it, kind and
    reason each. `likeness` is nearly the same for pictures that look alike, and None where nobody has asked for it
    (see `files.likeness`)."""

    size: int
    changed: int
    encoded: str
    picture: str | None
    reason: str = ""
    notes: tuple[tuple[str, str], ...] = ()
    likeness: bytes | None = None

    def is_of(self, status: os.stat_result) -> bool:
        return (self.size, self.changed) == (status.st_size, status.st_mtime_ns)

    def is_at(self, path: Path) -> bool:
        """Whether this file is there, and still the same."""
        try:
            return self.is_of(os.stat(path))
        except OSError:
            return False


class Index:
    """The index of the data in the folder `root`, or named by a manifest in it."""

    def __init__(self, root: Path) -> None:
        real = os.path.realpath(root)
        self._roots = tuple(dict.fromkeys(path + os.sep for path in (str(root), os.path.abspath(root), real)))
        name = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
        self.file = platformdirs.user_cache_path("inceptions") / "indexes" / f"{name}-{KIND}.sqlite"

    def name_of(self, file: str | Path) -> str:
        """How the index calls a file: by its path from the root on, where it lies below it."""
        path = str(file)
        root = next((root for root in self._roots if path.startswith(root)), None)
        return path[len(root) :] if root else os.path.abspath(path)

    def read(self) -> dict[str, Known]:
        """Files by these names; none where there is no index that can be read."""
        if not self.file.is_file():
            return {}
        try:
            with contextlib.closing(sqlite3.connect(self.file)) as database:
                rows = database.execute("SELECT * FROM files").fetchall()
            return {
                os.fsdecode(path): Known(size, changed, encoded, shown, why, tuple(map(tuple, json.loads(notes))), bits)
                for path, size, changed, encoded, shown, why, notes, bits in rows
            }
        except (sqlite3.Error, ValueError, TypeError):
            with contextlib.suppress(OSError):
                self.file.unlink()
            return {}

    def add(self, found: Mapping[str, Known]) -> None:
        # Whatever hinders it: the files were read, and that is what counts.
        with contextlib.suppress(sqlite3.Error, OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.file)) as database, database:
                database.execute(f"CREATE TABLE IF NOT EXISTS {TABLE}")
                database.executemany(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (os.fsencode(name), *known[:5], json.dumps(known.notes), known.likeness)
                        for name, known in found.items()
                    ],
                )


def settled(status: os.stat_result) -> int:
    """The time of change to know a file by; 0 where it changed a moment ago, and may change again unseen."""
    return status.st_mtime_ns if time.time_ns() - status.st_mtime_ns > SETTLED else 0
