"""The version folders of an export."""

import re
import shutil
from pathlib import Path

import psutil

from app.program.errors import UserError


def newest(path: Path) -> Path:
    """The version folder that `path` means: an export's root, its name or its version; the newest version counts.

    Raises:
        UserError: there is none.
    """
    if (path / "certificate.json").is_file():
        return path
    for folder in (path, *(sorted(inner for inner in path.iterdir() if inner.is_dir()) if path.is_dir() else ())):
        if versions := numbers(folder):
            return folder / str(max(versions))
    raise UserError(f"{path} is not an export: it holds no version folder. `export RUN --to FOLDER` makes one.")


def numbers(root: Path) -> list[int]:
    return [int(folder.name) for folder in root.iterdir() if folder.name.isdecimal()] if root.is_dir() else []


def clear(root: Path) -> None:
    """Away with what exports left that were killed."""
    for left in root.glob(".incomplete-*") if root.is_dir() else ():
        number = re.fullmatch(r"\.incomplete-\d+-(\d+)", left.name)
        if number and not psutil.pid_exists(int(number[1])):
            shutil.rmtree(left, ignore_errors=True)
