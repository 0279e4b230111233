"""Whether what a user names is there, and of the kind that it is given for. Here typing errors are answered at once:
nothing of it imports TensorFlow, which takes seconds.
"""

from collections.abc import Sequence
from pathlib import Path

from app.program import remote
from app.program.errors import UserError

DIGITS, PUBLISHED, RECORDS = "digits", "tfds:", "records:"
COLUMNS = ("file", "label")  # that every manifest has


def is_prepared(name: str) -> bool:
    """Whether the images of a data set are prepared beforehand and read in pieces; they have no files of their own
    then."""
    return name == DIGITS or name.startswith((PUBLISHED, RECORDS))


def check_exists(*paths: str | Path | None) -> None:
    """Nothing of what was left out.

    Raises:
        UserError: one of them does not exist.
    """
    for path in paths:
        if path is not None and not Path(path).exists():
            raise UserError(f"{path} does not exist.")


def is_run(folder: Path) -> bool:
    try:
        return (folder / "classifier.json").is_file()
    except PermissionError:  # as in the lost+found of a volume
        return False


def check_run(folder: Path) -> None:
    """Raises:
    UserError: it does not exist, or is no run folder.
    """
    if not folder.exists():
        raise UserError(f"{folder} does not exist; `train --to` makes a run folder.")
    if is_run(folder):
        return
    if several := runs_in(folder):
        first = f"name one of them, as in {several[0]}"
        raise UserError(f"{folder} is not a run folder, but a folder of {len(several)}: {first}.")
    raise UserError(f"{folder} is not a run folder: it has no classifier.json. `train --to` makes one.")


def runs_in(folder: Path) -> list[Path]:
    """The run folders in a folder that is none, as `train --members` leaves them: by number, others by name. What a
    command that was killed has left unfinished has a name that begins with a dot, and is none."""
    if not folder.is_dir() or is_run(folder):
        return []
    inside = (inner for inner in folder.iterdir() if not inner.name.startswith("."))
    found = (inner for inner in inside if is_run(inner))
    return sorted(found, key=lambda inner: (not inner.name.isdecimal(), inner.name.zfill(9)))


def runs(folders: Sequence[Path]) -> list[Path]:
    """The runs that are meant: a folder of runs stands for all of them, an ensemble.

    Raises:
        UserError: one does not exist, or neither is nor holds a run.
    """
    found = [run for folder in folders for run in (runs_in(folder) or [folder])]
    for run in found:
        check_run(run)
    return found


def check_model(path: Path) -> None:
    """Of what `predict` takes.

    Raises:
        UserError: it does not exist, or is a folder of runs.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; `train --to` makes a run folder, and `export --to` an export.")
    if runs_in(path):
        check_run(path)


def check_data(name: str) -> None:
    """Whether a data set is there, by its name; what is in it is seen when it is read, and so is whether there is one,
    where that is not on this machine.

    Raises:
        UserError: it does not exist, or is neither folder nor manifest, or a manifest without the columns.
    """
    what = "DATA is a folder of class folders, a manifest .csv, 'records:FOLDER', 'tfds:NAME' or 'digits'."
    if name.startswith(RECORDS):
        check_exists(name.removeprefix(RECORDS))
    if is_prepared(name):
        return
    if remote.is_remote(name):
        remote.check(name)
        return
    path = Path(name)
    if not path.exists():
        raise UserError(f"{name} does not exist. {what}")
    if path.is_file() and path.suffix.lower() != ".csv":
        raise UserError(f"{name} is neither a folder nor a .csv file. {what}")
    if path.is_file():
        import csv

        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as content:
            check_columns(path, next(iter(csv.reader(content)), ()))


def check_columns(manifest: Path, header: Sequence[str]) -> list[str]:
    """The names of its columns, as the program reads them, of the first line of a manifest.

    Raises:
        UserError: one that a manifest needs is not among them.
    """
    columns = [name.strip().lower() for name in header]
    for column in COLUMNS:
        if column not in columns:
            there = ", ".join(f"'{name}'" for name in header) or "none"
            raise UserError(f"{manifest} has no column '{column}'; it has {there}. Its first line names the columns.")
    return columns


def check_png(to: Path) -> None:
    """Raises:
    UserError: a picture of that name would be no PNG, or exists.
    """
    if to.suffix.lower() != ".png":
        raise UserError(f"{to} would be a PNG: let its name end in .png.")
    if to.exists():
        raise UserError(f"{to} exists; choose another --to. It was not touched.")
