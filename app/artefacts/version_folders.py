"""The version folders of an export."""

import re
import shutil
from pathlib import Path

import psutil

from app.program.errors import UserError


def newest(path: Path) -> Path:
    """The version folder that `path` means: an export's root, its name or its version; the newest version counts.

    Raises:
        UserError: there is none, or several networks have some; it does not exist.
    """
    if (path / "certificate.json").is_file():
        return path
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    if path.is_file():
        raise UserError(f"{path} is a file; name the folder of the export, its root or one of its versions.")
    named = [path] if numbers(path) else [inner for inner in _folders(path) if numbers(inner)]
    if len(named) > 1:
        listed = ", ".join(str(folder) for folder in named)
        raise UserError(f"{path} holds the exports of {len(named)} networks; name one of them: {listed}.")
    if not named:
        raise UserError(f"{path} is not an export: it holds no version folder. `export RUN --to FOLDER` makes one.")
    return max((folder for folder in named[0].iterdir() if folder.name.isdecimal()), key=lambda each: int(each.name))


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir()) if path.is_dir() else []


def numbers(root: Path) -> list[int]:
    """None where they cannot be seen, as in the lost+found of a volume."""
    try:
        return [int(folder.name) for folder in root.iterdir() if folder.name.isdecimal()] if root.is_dir() else []
    except PermissionError:
        return []


def clear(root: Path) -> None:
    """Away with what exports left that were killed."""
    for left in root.glob(".incomplete-*") if root.is_dir() else ():
        number = re.fullmatch(r"\.incomplete-\d+-(\d+)", left.name)
        if number and not psutil.pid_exists(int(number[1])):
            shutil.rmtree(left, ignore_errors=True)
