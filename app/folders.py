"""A folder of labelled images, `class/image` or `split/class/image`, as a data set."""

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from app import images
from app.datasets import Data, Watch
from app.errors import UserError

NAMES = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}
SHARES = {"test": 0.2, "validation": 0.08}
UNREADABLE_LIMIT = 0.05


@dataclass(frozen=True)
class FileSplit:
    paths: tuple[str, ...]
    labels: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.paths)

    def in_order(self) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.range(self.count))

    def shuffled(self, seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.cast(tf.stack([tf.constant(seed, tf.int64), epoch]), tf.uint32)

        def place(index: tf.Tensor) -> tf.Tensor:
            return tf.random.experimental.index_shuffle(index, key, self.count - 1)

        return self._examples(tf.data.Dataset.range(self.count).map(place))

    def _examples(self, order: tf.data.Dataset) -> tf.data.Dataset:
        paths, labels = tf.constant(self.paths), tf.constant(self.labels, tf.int64)
        return order.map(lambda i: (tf.io.read_file(paths[i]), labels[i]), num_parallel_calls=tf.data.AUTOTUNE)


@dataclass(frozen=True)
class _File:
    path: Path
    label: str
    split: str | None
    digest: str


def load(root: Path, watch: Watch) -> Data:
    """Reads every image once; see `datasets.load`."""
    folders = _class_folders(root)
    labels = tuple(sorted({folder.name for _, folder in folders}))
    if not labels:
        raise UserError(
            f"The folder {root} has no class folders: put the images of each class into a folder of its own."
        )
    if len(labels) == 1:
        raise UserError(f"The folder {root} has one class, '{labels[0]}'; a classifier needs two or more.")
    files, unreadable, ignored = _scan(root, folders, watch)
    total = len(files) + len(unreadable)
    if len(unreadable) > UNREADABLE_LIMIT * total:
        path, why = unreadable[0]
        raise UserError(
            f"{len(unreadable)} of the {total} images in {root} cannot be read, more than {UNREADABLE_LIMIT:.0%}; "
            f"mend or remove them. The first is {path}: {why}"
        )
    splits = _divide(files)
    for label in labels:
        if not any(file.label == label for file in splits["train"]):
            raise UserError(
                f"The class '{label}' in {root} has no readable image to train on; add some or remove its folder."
            )
    for split in NAMES:
        if not splits[split]:
            raise UserError(f"{root} has too few images for a {split} split: give each class at least three.")
    content = hashlib.sha256()
    for split in NAMES:
        for file in sorted(splits[split], key=lambda file: (file.label, file.digest)):
            content.update(f"{split} {file.label} {file.digest}\n".encode())
    made = {
        split: FileSplit(tuple(str(file.path) for file in members), tuple(labels.index(file.label) for file in members))
        for split, members in splits.items()
    }
    return Data(
        str(root),
        labels,
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=content.hexdigest(),
        unreadable=tuple(unreadable),
        ignored=ignored,
    )


def unlabelled(root: Path, watch: Watch) -> tuple[FileSplit, list[tuple[str, str]]]:
    """All images below `root` with the label 0, whatever folders they lie in; and those left out, with the reason.

    Raises:
        UserError: there are none, or none that can be read.
    """
    files, unreadable, _ = _scan(root, [(None, root)], watch)
    if not files:
        path, why = unreadable[0]
        raise UserError(f"None of the {len(unreadable)} images in {root} can be read. The first is {path}: {why}")
    return FileSplit(tuple(str(file.path) for file in files), (0,) * len(files)), unreadable


def _class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """The class folders below `root`, each with the split it belongs to, or None where the folders do not say."""
    top = _folders(root)
    named = {split: [folder for folder in top if folder.name.lower() in names] for split, names in NAMES.items()}
    if named["train"] and any(_folders(folder) for folder in named["train"]):
        return [(split, inner) for split in NAMES for folder in named[split] for inner in _folders(folder)]
    return [(None, folder) for folder in top]


def _folders(folder: Path) -> list[Path]:
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not _hidden(inner.relative_to(folder)))


def _hidden(path: Path) -> bool:
    """Made by a file manager or a version control, not by whoever collected the images."""
    return any(part.startswith(".") for part in path.parts)


def _scan(
    root: Path, folders: Sequence[tuple[str | None, Path]], watch: Watch
) -> tuple[list[_File], list[tuple[str, str]], int]:
    """Reads every image once: what it holds decides its split, and whether it decodes decides whether it is used."""
    found: list[tuple[str | None, str, Path]] = []
    ignored = 0
    for split, folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path.relative_to(folder)))
        pictures = [path for path in paths if path.suffix.lower() in images.SUFFIXES]
        if not pictures:
            kind = "folder" if folder == root else "class folder"
            raise UserError(
                f"The {kind} {folder} has no images ({', '.join(sorted(images.SUFFIXES))}): add some or remove it."
            )
        ignored += len(paths) - len(pictures)
        found += [(split, folder.name, path) for path in pictures]
    files: list[_File] = []
    unreadable: list[tuple[str, str]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = pool.map(_digest_or_reason, (path for _, _, path in found))
        for (split, label, path), (digest, reason) in zip(
            found, watch(checked, len(found), "Checking images"), strict=True
        ):
            if reason:
                unreadable.append((str(path), reason))
            else:
                files.append(_File(path, label, split, digest))
    return files, unreadable, ignored


def _digest_or_reason(path: Path) -> tuple[str, str]:
    try:
        encoded = path.read_bytes()
        images.decode(encoded)
    except (tf.errors.InvalidArgumentError, OSError) as error:
        return "", reason(error)
    return hashlib.sha256(encoded).hexdigest(), ""


def reason(error: Exception) -> str:
    """The sentence in an error of TensorFlow, without the names of its functions and operations."""
    text = str(error) if isinstance(error, OSError) else getattr(error, "message", str(error))
    return re.sub(r"\{\{.*?\}\} ?|\[Op:.*?\].*|\s+", " ", text.splitlines()[0]).strip()


def _divide(files: Sequence[_File]) -> dict[str, list[_File]]:
    """Fills the splits that the folders do not name, by content: 20 % test, 8 % validation.

    The hash of an image decides, so equal images stay together, a second run divides as the first did, and new images
    move no old one. A class with at least three different images has one in every split.
    """
    given = {file.split for file in files}
    splits: dict[str, list[_File]] = {split: [file for file in files if file.split == split] for split in NAMES}
    missing = [split for split in SHARES if split not in given]
    undivided = [file for file in files if file.split is None] + (splits["train"] if missing else [])
    place = {file.digest: _drawn(file.digest, missing) for file in undivided}
    for label in sorted({file.label for file in undivided}):
        digests = sorted({file.digest for file in undivided if file.label == label})
        for split in ("train", *missing):
            members = {name: [digest for digest in digests if place[digest] == name] for name in NAMES}
            largest = max(members.values(), key=len)
            if not members[split] and len(largest) > 1:
                place[largest[0]] = split
    if undivided:
        splits["train"] = []
    for file in undivided:
        splits[place[file.digest]].append(file)
    return splits


def _drawn(digest: str, missing: Sequence[str]) -> str:
    point = int(digest[:12], 16) / 16**12
    for split in missing:
        if point < SHARES[split]:
            return split
        point -= SHARES[split]
    return "train"
