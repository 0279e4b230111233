"""What is on these pictures? From a server."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.artefacts.predicting import chosen, told, unread
from app.images.finding import pictures
from app.networks import english
from app.program.progress import Watch
from app.serving.client import Client


def predict(url: str, paths: Sequence[Path], top: int, watch: Watch, token: str | None = None) -> list[dict[str, Any]]:
    """A row per picture: see `told` and `unread` of `artefacts.predicting`.

    Raises:
        UserError: `url` is no address of a network; the server does not answer; a path that does not exist; a folder
            without pictures.
    """
    client = Client(url, token)
    files = pictures(paths)
    unreadable: dict[Path, str] = {}

    def contents() -> Iterator[bytes]:
        for file in files:
            try:
                yield file.read_bytes()
            except OSError as error:
                unreadable[file] = error.strerror or str(error)
                yield b""  # so that there is an answer for each

    answers = [row for _, row in zip(watch(files, len(files), "Predicting"), client.predict(contents()), strict=True)]
    # A server has no place for the English names of synsets.
    names = english.names_of(label for row in answers for label in row.classes)
    rows = []
    for file, row in zip(files, answers, strict=True):
        if why := unreadable.get(file) or row.error:
            rows.append(unread(file, why))
        else:
            rows.append(told(file, chosen(np.array(row.scores), row.classes, row.thresholds, top), names))
    return rows
