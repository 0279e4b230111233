"""Whether the packages that make and run files are there: those of the extra `runtimes` may lack."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path

from app.program.errors import UserError
from export import certificate

RUNTIMES = {suffix: kind.package for suffix, kind in certificate.KINDS.items()}  # what runs a file, by its suffix


def runs_here(file: Path) -> bool:
    """Whether the runtime of this artefact is there; a folder is a SavedModel."""
    return file.is_dir() or importlib.util.find_spec(RUNTIMES[file.suffix]) is not None


def check(what: str, needed: Iterable[str]) -> None:
    """
    Raises:
        UserError: one of the packages that `what` needs is not installed.
    """
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        raise UserError(
            f"{what} needs {' and '.join(missing)}, which the extra `runtimes` brings: "
            "pip install -c constraints.txt -e '.[app,runtimes]'."
        )
