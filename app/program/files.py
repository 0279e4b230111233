"""Writing a file, a folder of files, or several files of a folder, so that nobody ever sees half of it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from app.program.errors import UserError

EXCHANGE = "exchange"  # the folder of files that take the places of others


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; it becomes `path` when the block ends well and vanishes when it does not.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    beside = _beside(path)
    try:
        yield beside
        _flush(beside)
        beside.replace(path)
    except OSError as error:
        raise _unwritten(path, beside, error) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """As `whole`, a folder for files; one that is at `path` already gives way to it. Both names and contents are on the
    disk when the block has ended.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    beside = _beside(path)
    try:
        shutil.rmtree(beside, ignore_errors=True)  # by a process of the same number that was killed
        beside.mkdir()
        yield beside
        for written in (*beside.iterdir(), beside):
            _flush(written)
        if path.exists():
            shutil.rmtree(path)
        beside.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise _unwritten(path, beside, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def exchanged(folder: Path, last: str) -> Iterator[Path]:
    """A place for new files of `folder`. When the block ends well they take the places of the old ones, that of the
    name `last` after all others. Whoever reads the folder calls `settle` first: then all are new, or all old.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    beside = folder / f".{EXCHANGE}-{os.getpid()}"
    settle(folder, last)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        yield beside
        for written in (*beside.iterdir(), beside):
            _flush(written)
        beside.rename(folder / EXCHANGE)
        _flush(folder)
    except OSError as error:
        raise _unwritten(folder, beside, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    settle(folder, last)


def settle(folder: Path, last: str) -> None:
    """Ends what a process that was killed has left of `exchanged`: its files take their places where all of them are
    there, and go where some are missing."""
    complete = folder / EXCHANGE
    if complete.is_dir():
        for path in sorted(complete.iterdir(), key=lambda path: path.name == last):
            with suppress(FileNotFoundError):  # another process settles the same
                path.replace(folder / path.name)
        _flush(folder)
        with suppress(FileNotFoundError):
            complete.rmdir()
    for incomplete in folder.glob(f".{EXCHANGE}-*"):
        if not _runs(int(incomplete.name.rpartition("-")[2])):
            shutil.rmtree(incomplete, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def write_json(path: Path, content: Any) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n")


def _beside(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}-{path.name}")


def _flush(path: Path) -> None:
    """Waits until the disk has a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(path: Path, beside: Path, error: OSError) -> UserError:
    why = "no space left on the device" if "No space left" in str(error) else error.strerror or str(error)
    other = None if error.filename is None else Path(os.fsdecode(error.filename))
    if other is not None and other != path and not other.is_relative_to(beside):  # it was read, while this was written
        return UserError(f"{other}: {why}. {path} was not written, and what was there before is unchanged.")
    return UserError(f"{path} could not be written: {why}. What was there before is unchanged.")


def digest(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
