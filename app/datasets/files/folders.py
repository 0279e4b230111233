"""A folder of labelled images, `class/image` or `split/class/image`. Every file in it is used, or named."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.datasets.dataset import Finding, ImageFile, Listing, class_name
from app.datasets.files import deciding, image_files
from app.datasets.files.image_files import FileSplit
from app.images import finding
from app.images.finding import Folder
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.program.shown import counted

NAMES = {"train": ("train", "training"), "validation": ("validation", "val", "valid"), "test": ("test", "testing")}
SPLIT_NAMED = {name: split for split, names in NAMES.items() for name in names}


def listing(root: Path, converts: bool = False) -> Listing:
    """The images of every class folder, whatever folders they lie in below it; see `loading.listing`."""
    tree = finding.look_into(root, converts)
    _check_readable(tree)
    classes, found = _class_folders(tree)
    if not classes:
        raise UserError(
            f"The folder {root} has no class folders: put the images of each class into a folder of its own."
        )
    files: list[ImageFile] = []
    for split, folder in classes:
        label = class_name(folder.path.name, root)
        pictures = folder.pictures
        files += [ImageFile(path, label, split) for path in pictures]
        found += _others(folder)
        if not any(other.kind == "folder around the classes" for other in found):
            found += _splits_inside(folder)
        if not pictures and not any(other.kind == "unreadable folder" for other in folder.others):
            why = f"The class folder {folder.path} {finding.without_pictures(folder)}: add some or remove it."
            found.append(Finding(str(folder.path), "empty class", why))
    found += deciding.merged((folder.path.name for _, folder in classes), "folders")
    return Listing(root, tuple(files), tuple(found), tuple(tree.all_left.most_common()))


def unlabelled(root: Path, watch: Watch) -> tuple[FileSplit, list[tuple[str, str]]]:
    """All images below `root` with the label 0, whatever folders they lie in; and those left out, with the reason.

    Raises:
        UserError: there are none, or none that can be read; a folder that cannot be read.
    """
    tree = finding.look_into(root)
    for other in tree.others:
        if other.kind == "unreadable folder":
            raise UserError(other.reason)
    paths = tree.pictures
    if not paths:
        raise UserError(f"The folder {root} {finding.without_pictures(tree)}: add some or remove it.")
    for sentence in finding.passed_over(tree.all_left, tree.others):
        console.print(sentence)
    pictures, unreadable = image_files.read(root, [ImageFile(path, "", None) for path in paths], watch)
    if not pictures:
        path, why = unreadable[0]
        count = counted(len(unreadable), "image", "images")
        raise UserError(f"None of the {count} in {root} can be read. The first is {path}: {why}")
    return FileSplit(tuple(str(picture.file.path) for picture in pictures), (0,) * len(pictures)), unreadable


def _check_readable(folder: Folder) -> None:
    for found in folder.loose:
        if found.kind == "unreadable folder" and found.path == folder.path:
            raise UserError(found.reason.removesuffix(", or remove it.") + ".")


def _others(folder: Folder) -> list[Finding]:
    return [Finding(str(other.path), other.kind, other.reason) for other in folder.others]


def _class_folders(tree: Folder) -> tuple[list[tuple[str | None, Folder]], list[Finding]]:
    """The class folders, each with the split it belongs to, or None where the folders do not say; and what is to be
    said of all that lies in none of them.

    Folders above the classes are splits where one that is called so holds folders, and all pictures lie in such; where
    others stand beside it that hold pictures, nobody can tell.
    """
    root, top = tree.path, tree.folders
    splits = [folder for folder in top if _split(folder)]
    holding = [folder for folder in top if folder.holds_pictures]
    others = [folder for folder in holding if not _split(folder)]
    deep = [folder for folder in splits if _holds_folders(folder)]
    if not deep:
        if holding and not others:
            names = " and ".join(folder.path.name for folder in holding)
            raise UserError(
                f"The folder {root} has no class folders: {names} {'is a split' if not holding[1:] else 'are splits'}; "
                "put the images of each class into a folder of its own inside."
            )
        found = [*_named_as_splits(splits), *_outside([tree]), *_wrapper(tree)]
        return [(None, folder) for folder in top], found
    known = next((folder for folder in deep if _split(folder) == "train"), deep[0]).path
    beside = [
        Finding(
            str(folder.path),
            "unknown split",
            f"{folder.path}, with {counted(len(folder.pictures), 'image', 'images')}, lies beside {known}, which holds "
            f"folders: if these are splits, call it train, validation or test, or take it away; if they are classes, "
            f"put the images of {known} into no folders inside, or rename it.",
        )
        for folder in others
    ]
    rest = [other for folder in top if not _split(folder) and not folder.holds_pictures for other in _others(folder)]
    classes = [
        (split, inner) for split in NAMES for folder in splits if _split(folder) == split for inner in folder.folders
    ]
    return [*classes], [*beside, *_outside([tree, *splits]), *rest, *_wrappers([folder for _, folder in classes])]


def _split(folder: Folder) -> str | None:
    """The split that a folder is named after."""
    return SPLIT_NAMED.get(folder.path.name.lower())


def _holds_folders(folder: Folder) -> bool:
    """Whether pictures lie in folders inside; or folders alone do, which are empty classes then."""
    return any(inner.holds_pictures for inner in folder.folders) or bool(folder.folders and not folder.holds_pictures)


def _outside(folders: Sequence[Folder]) -> Iterator[Finding]:
    """What lies where only folders should."""
    for folder in folders:
        for found in folder.loose:
            if found.kind:
                yield Finding(str(found.path), found.kind, found.reason)
            else:
                yield Finding(str(found.path), "no class", "it lies in no class folder; put it into one")


def _named_as_splits(folders: Sequence[Folder]) -> Iterator[Finding]:
    for folder in folders:
        why = f"{folder.path} is taken for a class, since other classes stand beside it; it is called as a split is"
        yield Finding(str(folder.path), "split or class", why)


def _splits_inside(folder: Folder) -> Iterator[Finding]:
    """Splits below the classes would be mixed in silence."""
    holding = [inner for inner in folder.folders if inner.holds_pictures]
    if holding and all(map(_split, holding)):
        first = holding[0].path
        why = (
            f"{first} is called as a split and lies inside a class: put the splits above the classes, as "
            f"{first.name}/{folder.path.name}, or rename it."
        )
        yield Finding(str(first), "split inside a class", why)


def _wrapper(tree: Folder) -> Iterator[Finding]:
    """One folder around all classes, or folder in folder."""
    inner, several = _innermost(tree)
    if inner is not tree and several:
        path = inner.path.parent if _split(inner) else inner.path
        why = f"{tree.path} holds one folder with images, and so one class: if the classes lie inside, give {path}."
        yield Finding(str(path), "folder around the classes", why)


def _wrappers(classes: Sequence[Folder]) -> Iterator[Finding]:
    """In every split one folder, of one name, around all classes."""
    holding = [folder for folder in classes if folder.holds_pictures]
    if len({class_name(folder.path.name, folder.path) for folder in holding}) != 1:
        return
    for folder in holding:
        _, several = _innermost(folder)
        if several:
            first = folder.path
            why = (
                f"{first} is the one folder with images in {first.parent}, and so there is one class: if the classes "
                f"lie inside, move them up, as {several[0].path} to {first.parent / several[0].path.name}."
            )
            yield Finding(str(first), "folder around the classes", why)
            return


def _innermost(folder: Folder) -> tuple[Folder, list[Folder]]:
    """Where folders stop to be the only one with pictures in another, and those with pictures there, if several."""
    while len(holding := [inner for inner in folder.folders if inner.holds_pictures]) == 1:
        folder = holding[0]
    return folder, holding
