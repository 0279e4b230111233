"""Reading image files: each is decoded once, and what was learnt of it is remembered."""

import functools
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from app.datasets.dataset import ImageFile
from app.datasets.files.looking import look
from app.datasets.index import Index, Known, settled
from app.images import converting
from app.images.decoding import reason
from app.program import quiet
from app.program.parallel import in_parallel
from app.program.progress import Watch

CONVERTED = "converted"
AT_ONCE = 1_000  # files: so many are read again, at most, where reading was interrupted


def scan(
    root: Path,
    files: Sequence[ImageFile],
    watch: Watch,
    told: Mapping[str, Known] | None = None,
    again: bool = False,
    likeness: bool = False,
    converts: bool = False,
) -> list[Known]:
    """What is known of each file, in their order; their data set lies in `root`.

    A file that the index or `told` (by path) knows with its size and time of change is not opened, one whose bytes
    alone are the same is not decoded. `again` reads all, `likeness` also those whose likeness is not known. For whoever
    `converts`, what is not decoded is known as the picture that it is converted to; nobody else has that, so no index
    has it.
    """
    index = Index(root)
    known = {} if again else {index.name_of(path): one for path, one in (told or {}).items()} | index.read()
    found: list[Known | None] = []
    missing: list[tuple[int, Path, Known | None]] = []
    for place, file in enumerate(files):
        before = known.get(index.name_of(file.path))
        is_same = before is not None and _is_enough(before, likeness, converts) and before.is_at(file.path)
        found.append(before if is_same else None)
        if not is_same:
            missing.append((place, file.path, before))
    if missing:
        Image.init()  # here, and not in several threads at once
        fresh: dict[str, Known] = {}
        try:
            with quiet.libraries(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of what is noted here
                reading = functools.partial(_read, likeness, converts)
                read = watch(in_parallel(reading, missing), len(missing), "Checking images")
                for (place, path, _), one in zip(missing, read, strict=True):
                    found[place] = one
                    # What could not be opened may be opened next time.
                    if one.encoded and not any(kind == CONVERTED for kind, _ in one.notes):
                        fresh[index.name_of(path)] = one
                    if len(fresh) == AT_ONCE:
                        index.add(fresh)
                        fresh = {}
        finally:
            index.add(fresh)
    return [one for one in found if one]


def _is_enough(known: Known, likeness: bool, converts: bool) -> bool:
    if known.picture is None:
        return not converts
    return not likeness or known.likeness is not None


def _read(likeness: bool, converts: bool, item: tuple[int, Path, Known | None]) -> Known:
    _, path, before = item
    try:
        status = path.stat()
        encoded = path.read_bytes()
    except OSError as error:
        return Known(0, 0, "", None, reason(error), (("undecodable", reason(error)),))
    if converts and converting.kind_of(encoded):
        return _converted(encoded)._replace(size=len(encoded), changed=settled(status))
    if before and _is_enough(before, likeness, converts) and hashlib.sha256(encoded).hexdigest() == before.encoded:
        return before._replace(size=len(encoded), changed=settled(status))
    return look(path.name, encoded, likeness)._replace(size=len(encoded), changed=settled(status))


def _converted(encoded: bytes) -> Known:
    """What is known of a picture by what it is converted to; its checksum is that of the file."""
    checksum = hashlib.sha256(encoded).hexdigest()
    try:
        png, kind, pages = converting.convert(encoded)
    except converting.NotConvertedError as error:
        return Known(0, 0, checksum, None, str(error), ((CONVERTED, str(error)),))
    more = f" of {pages} pictures, the first" if pages > 1 else ""
    return look("", png)._replace(encoded=checksum, notes=((CONVERTED, f"{kind}{more}"),))
