"""Small data sets for tests: folders of random pictures, and what a data set made of them holds."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from app.datasets.dataset import Data, Split

SPLITS = ("train", "validation", "test")


def picture(seed: int) -> bytes:
    """A PNG of 5 x 4 random pixels, another one for every seed."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder: Path, seeds: range | list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:04}.png").write_bytes(picture(seed))


def age(folder: Path, seconds: float = 60.0) -> None:
    """Makes files look as if nobody had touched them for a while."""
    for path in filter(Path.is_file, folder.rglob("*")):
        then = path.stat().st_mtime_ns - int(seconds * 1e9)
        os.utime(path, ns=(then, then))


def refuse(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be read, as for a user who is not root; permissions do not bind root."""
    scan = os.scandir

    def refusing(folder: Any) -> Any:
        if Path(folder) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refusing)


def animals(root: Path) -> Path:
    """Three classes of 40 pictures each."""
    for position, name in enumerate(("beetle", "Zebra", "ant")):
        fill(root / name, range(position * 100, position * 100 + 40))
    return root


def examples(split: Split) -> list[tuple[bytes, int]]:
    return [(encoded, int(label)) for encoded, label in split.in_order().as_numpy_iterator()]


def places(data: Data) -> dict[bytes, tuple[str, str]]:
    """Every image's split and label."""
    return {
        encoded: (split, data.labels[label]) for split in SPLITS for encoded, label in examples(getattr(data, split))
    }


def order(split: Split, seed: int, epoch: int, skipped: int = 0) -> list[bytes]:
    shuffled = split.shuffled(seed, tf.constant(epoch, tf.int64), skipped)
    return [encoded for encoded, _ in shuffled.as_numpy_iterator()]
