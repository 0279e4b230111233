"""Which file an error of an export is about: rarely the folder that is exported to."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from app.datasets.dataset import Data
from app.images import decoding
from app.images.decoding import reason
from app.program.errors import UserError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors in the block that name no file, as those of a disk that becomes full, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def picture(data: Data, split: str, place: int) -> str:
    """What people know the picture at this place of a split by."""
    if not data.files:
        return f"the {split} image {place} of {data.name}"
    of_split = [file for file in data.files if file.split == split]
    return str(of_split[place].path)


@contextlib.contextmanager
def decoding_of(name: object) -> Iterator[None]:
    """
    Raises:
        UserError: a picture, which is called so, cannot be decoded.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise UserError(f"Nothing was exported: {name} cannot be decoded. {decoding.refusal(error)}") from error


def told(error: OSError | tf.errors.OpError, unfinished: Path, target: Path) -> str:
    """The file and what happened to it. One in the unfinished folder has the name that it would have had."""
    why = reason(error).rstrip(".")
    if isinstance(error, OSError) and error.filename is not None:
        file = Path(os.fsdecode(error.filename))
        if file.is_relative_to(unfinished):
            file = target / file.relative_to(unfinished)
        written = file.is_relative_to(target) or target.is_relative_to(file)
        return f"{file}{' could not be written' if written else ''}: {why}"
    return why.replace(str(unfinished), str(target))
