"""A folder of labelled images, `class/image` or `split/class/image`."""

import os
from collections.abc import Iterator
from pathlib import Path

from app.datasets.dataset import Finding, ImageFile, Listing, class_name
from app.datasets.files import image_files
from app.datasets.files.image_files import FileSplit
from app.images import decoding
from app.program.errors import UserError
from app.program.progress import Watch

NAMES = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}


def listing(root: Path) -> Listing:
    """The images of every class folder, whatever folders they lie in below it; see `loading.listing`."""
    files: list[ImageFile] = []
    found: list[Finding] = []
    folders = _class_folders(root)
    if not folders:
        raise UserError(
            f"The folder {root} has no class folders: put the images of each class into a folder of its own."
        )
    for split, folder in folders:
        label = class_name(folder.name, root)
        pictures, others = _walk(folder)
        files += [ImageFile(path, label, split) for path in pictures]
        found += others
        if not pictures and not any(finding.kind == "unreadable folder" for finding in others):
            found.append(Finding(str(folder), "empty class", f"The class folder {folder} {_no_images()}"))
    return Listing(root, tuple(files), tuple(found))


def unlabelled(root: Path, watch: Watch) -> tuple[FileSplit, list[tuple[str, str]]]:
    """All images below `root` with the label 0, whatever folders they lie in; and those left out, with the reason.

    Raises:
        UserError: there are none, or none that can be read; a folder that cannot be read.
    """
    paths, others = _walk(root)
    for finding in others:
        if finding.kind == "unreadable folder":
            raise UserError(finding.reason)
    if not paths:
        raise UserError(f"The folder {root} {_no_images()}")
    pictures, unreadable = image_files.read(root, [ImageFile(path, "", None) for path in paths], watch)
    if not pictures:
        path, why = unreadable[0]
        raise UserError(f"None of the {len(unreadable)} images in {root} can be read. The first is {path}: {why}")
    return FileSplit(tuple(str(picture.file.path) for picture in pictures), (0,) * len(pictures)), unreadable


def _no_images() -> str:
    return f"has no images ({', '.join(sorted(decoding.SUFFIXES))}): add some or remove it."


def _class_folders(root: Path) -> list[tuple[str | None, Path]]:
    """The class folders below `root`, each with the split it belongs to, or None where the folders do not say."""
    top = _folders(root)
    named = {split: [folder for folder in top if folder.name.lower() in names] for split, names in NAMES.items()}
    if named["train"] and any(_folders(folder) for folder in named["train"]):
        return [(split, inner) for split in NAMES for folder in named[split] for inner in _folders(folder)]
    return [(None, folder) for folder in top]


def _folders(folder: Path) -> list[Path]:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"The folder {folder} cannot be read (Permission denied): let it be read.")
    return sorted(inner for inner in folder.iterdir() if os.path.isdir(inner) and not _hidden(inner))


def _hidden(path: Path) -> bool:
    """Made by a file manager or a version control, not by whoever collected the images."""
    return path.name.startswith(".")


def _walk(folder: Path) -> tuple[list[Path], list[Finding]]:
    """The images below a folder in the order of code points, and what else is there. Links are followed."""
    pictures: list[Path] = []
    others: list[Finding] = []
    around = {*folder.absolute().parents, *folder.resolve().parents}
    for path in _files(folder, frozenset(_identity(parent) for parent in around), others):
        # A link to nothing stays, to be named as unreadable; a pipe would be waited for.
        if path.suffix.lower() in decoding.SUFFIXES and (os.path.isfile(path) or not os.path.exists(path)):
            pictures.append(path)
        else:
            others.append(Finding(str(path), "not an image", "its name has no ending of an image"))
    return pictures, others


def _files(folder: Path, above: frozenset[tuple[int, int]], others: list[Finding]) -> Iterator[Path]:
    try:
        here, inside = _identity(folder), sorted(folder.iterdir())
    except OSError as error:
        why = f"The folder {folder} cannot be read ({error.strerror}): let it be read, or remove it."
        others.append(Finding(str(folder), "unreadable folder", why))
        return
    if here in above:
        others.append(Finding(str(folder), "symlink loop", "a link to a folder that it lies in; it is not followed"))
        return
    for path in inside:
        if _hidden(path):
            continue
        if os.path.isdir(path):
            yield from _files(path, above | {here}, others)
        else:
            yield path


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
