"""Which files are pictures, in every command alike: those whose names say so, and those whose content does. And what
never is one, whatever it holds: what systems leave in folders.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from app.images import converting
from app.program.errors import UserError
from app.program.progress import console
from app.program.shown import PROGRAM, counted
from export import picture_files

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"})  # these are not opened to be told
KINDS = "JPEG, PNG, GIF, BMP or WebP"
# Folders and files, in small letters: of network drives (Synology, QNAP, NetApp, Apple), Windows, macOS, Linux, Python.
# What begins with a dot is another: `.thumbnails`, `.ipynb_checkpoints`, `.DS_Store`, `._one.jpg`, `.git`.
NEVER = frozenset(
    {"@eadir", "#recycle", "@recycle", "#snapshot", "~snapshot", "@recently-snapshot", "network trash folder"}
    | {"temporary items", "$recycle.bin", "system volume information", "lost+found", "__macosx", "__pycache__"}
    | {"thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}
)
# Pictures that are neither decoded nor converted, by how they begin, as their specifications say.
FOREIGN = {
    "JPEG XL": (b"\0\0\0\x0cJXL ", b"\xff\x0a"),
    "Photoshop": (b"8BPS",),
    "OpenEXR": (b"v/1\1",),
}
RAW = b"ftypcrx "
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # bytes; a text may begin with "BM", too
CONVERTS = f"`{PROGRAM} records DATA --to FOLDER` converts it"
START = 32  # bytes of a file that tell what it is
SHOWN = 5  # names of what systems leave


class Found(NamedTuple):
    """A file, or a folder that was not looked into. `kind` is "" for a picture, or "not an image", "not supported",
    "unreadable folder", "symlink loop", with the reason."""

    path: Path
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Folder:
    """What lies in a folder, in the order of code points. Of what systems leave, `left` counts the files by name."""

    path: Path
    inside: tuple["Found | Folder", ...]
    left: Counter[str] = field(default_factory=Counter)

    @property
    def folders(self) -> list["Folder"]:
        return [one for one in self.inside if isinstance(one, Folder)]

    @property
    def loose(self) -> list[Found]:
        """All but the folders."""
        return [one for one in self.inside if isinstance(one, Found)]

    @property
    def files(self) -> Iterator[Found]:
        """All below it."""
        for one in self.inside:
            if isinstance(one, Folder):
                yield from one.files
            else:
                yield one

    @property
    def pictures(self) -> list[Path]:
        return [found.path for found in self.files if not found.kind]

    @property
    def holds_pictures(self) -> bool:
        return any(not found.kind for found in self.files)

    @property
    def others(self) -> list[Found]:
        return [found for found in self.files if found.kind]

    @property
    def all_left(self) -> Counter[str]:
        return sum((folder.all_left for folder in self.folders), Counter(self.left))


def is_left_by_a_system(name: str) -> bool:
    """Whether nobody who collects pictures has given a file or a folder this name."""
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in NEVER


def look_into(folder: Path, converts: bool = False) -> Folder:
    """All that lies below `folder`. Links are followed, but not in circles. What can be converted (see
    `converting`) is a picture for whoever `converts`."""
    around = {*folder.absolute().parents, *folder.resolve().parents}  # the first has the folder itself after `x/..`
    return _folder(folder, frozenset(map(_identity, around)) - {_identity(folder)}, converts)


def _folder(folder: Path, above: frozenset[tuple[int, int]], converts: bool) -> Folder:
    try:
        here = _identity(folder)
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        why = f"The folder {folder} cannot be read ({error.strerror}): let it be read, or remove it."
        return Folder(folder, (Found(folder, "unreadable folder", why),))
    if here in above:
        why = "a link to a folder that it lies in; it is not followed"
        return Folder(folder, (Found(folder, "symlink loop", why),))
    inside: list[Found | Folder] = []
    left: Counter[str] = Counter()
    for entry in found:
        path = folder / entry.name
        if is_left_by_a_system(entry.name):
            left += count_left(path)
        elif _is_folder(entry):
            around = {_identity(parent) for parent in path.resolve().parents} if entry.is_symlink() else set()
            inside.append(_folder(path, above | {here} | around, converts))
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file(follow_symlinks=False):
            inside.append(Found(path))  # as most are: the disk is asked nothing about it
        else:
            inside.append(told(path, converts))
    return Folder(folder, tuple(inside), left)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def count_left(path: Path) -> Counter[str]:
    """The files of what a system left, which may be a folder, by its name; the companions that macOS writes for each
    file share one."""
    count = sum(len(files) for _, _, files in os.walk(path)) if os.path.isdir(path) else 1
    return Counter({"._*" if path.name.startswith("._") else path.name: count})


def told(path: Path, converts: bool = False) -> Found:
    """What a file is: by its name, or else by its content. See `look_into`."""
    exists = os.path.exists(path)
    if path.suffix.lower() in SUFFIXES and (os.path.isfile(path) or not exists):
        return Found(path)  # a link to nothing too, to be named as unreadable
    if not exists:
        return Found(path, "not an image", "a link to nothing")
    if not os.path.isfile(path):  # a pipe would be waited for
        return Found(path, "not an image", "it is not a regular file")
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError as error:
        return Found(path, "not an image", error.strerror or str(error))
    kind = picture_files.kind_of(start)
    if kind is not None and (kind != "bmp" or int.from_bytes(start[14:18], "little") in BMP_HEADERS):
        return Found(path)
    if sort := converting.kind_of(start):
        why = f"it is {converting.named(sort)} picture; {CONVERTS}, or save it as JPEG or PNG"
        return Found(path) if converts else Found(path, "not supported", why)
    if foreign := _foreign(start):
        return Found(path, "not supported", f"it is a {foreign} picture; save it as JPEG or PNG")
    return Found(path, "not an image", f"it is no {KINDS} file")


def _foreign(start: bytes) -> str | None:
    if start.startswith(RAW, 4):
        return "raw"
    return next((kind for kind, marks in FOREIGN.items() if start.startswith(marks)), None)


def convertible(path: Path) -> str | None:
    """Of a file that is not decoded: which kind it is, of those that can be converted, as in "an AVIF"."""
    try:
        with path.open("rb") as file:
            kind = converting.kind_of(file.read(START))
    except OSError:
        return None
    return converting.named(kind) if kind else None


def without_pictures(folder: Folder) -> str:
    """What is said of a folder that holds none."""
    foreign = next((found for found in folder.others if found.kind == "not supported"), None)
    named = f"; of {foreign.path.name}: {foreign.reason}" if foreign else ""
    return f"has no images ({KINDS}){named}"


def pictures(paths: Sequence[Path]) -> list[Path]:
    """The image files that paths stand for: files themselves, and those of folders, in order. What systems leave is
    passed over, also among several paths, as a shell's pattern gives them; what was not taken is said once.

    Raises:
        UserError: a path that does not exist; a folder without images.
    """
    wanted = [path for path in paths if not (paths[1:] and path.name and is_left_by_a_system(path.name))] or paths
    left = sum((count_left(path) for path in paths if path not in wanted), Counter[str]())
    files: list[Path] = []
    others: list[Found] = []
    for path in wanted:
        if path.is_dir():
            folder = look_into(path)
            if not folder.pictures:
                raise UserError(f"The folder {path} {without_pictures(folder)}.")
            files += folder.pictures
            others += folder.others
            left += folder.all_left
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path} is neither a file nor a folder." if path.exists() else f"{path} does not exist.")
    for sentence in passed_over(left, others):
        console.print(sentence)
    return files


def passed_over(left: Counter[str], others: Sequence[Found] = ()) -> Iterator[str]:
    """The sentences about what was not taken."""
    if total := left.total():
        named = [f"{name!r} ({times})" for name, times in left.most_common(SHOWN) if times]
        more = ", ..." if len(left) > SHOWN else ""
        count = counted(total, "file", "files")
        yield f"{count} passed over, left by systems and never a picture: {', '.join(named)}{more}"
    for kind, what in (("not an image", "not an image"), ("not supported", f"not one of {KINDS}")):
        if some := [found.path for found in others if found.kind == kind]:
            count = counted(len(some), "file", "files")
            yield f"{count} passed over, {what}: {some[0]}{', ...' if some[1:] else ''}"
    for found in others:
        if found.kind == "unreadable folder":
            yield found.reason
