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
from app.images.decoding import reason
from app.program import quiet
from app.program.parallel import in_parallel
from app.program.progress import Watch

AT_ONCE = 1_000  # files: so many are read again, at most, where reading was interrupted


def scan(
    root: Path,
    files: Sequence[ImageFile],
    watch: Watch,
    told: Mapping[str, Known] | None = None,
    again: bool = False,
    likeness: bool = False,
) -> list[Known]:
    """What is known of each file, in their order; their data set lies in `root`.

    A file that the index or `told` (by path) knows with its size and time of change is not opened, one whose bytes
    alone are the same is not decoded. `again` reads all, `likeness` also those whose likeness is not known.
    """
    index = Index(root)
    known = {} if again else {index.name_of(path): one for path, one in (told or {}).items()} | index.read()
    found: list[Known | None] = []
    missing: list[tuple[int, Path, Known | None]] = []
    for place, file in enumerate(files):
        before = known.get(index.name_of(file.path))
        is_same = before is not None and _is_enough(before, likeness) and before.is_at(file.path)
        found.append(before if is_same else None)
        if not is_same:
            missing.append((place, file.path, before))
    if missing:
        Image.init()  # here, and not in several threads at once
        fresh: dict[str, Known] = {}
        try:
            with quiet.libraries(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of what is noted here
                read = watch(in_parallel(functools.partial(_read, likeness), missing), len(missing), "Checking images")
                for (place, path, _), one in zip(missing, read, strict=True):
                    found[place] = one
                    if one.encoded:  # what could not be opened may be opened next time
                        fresh[index.name_of(path)] = one
                    if len(fresh) == AT_ONCE:
                        index.add(fresh)
                        fresh = {}
        finally:
            index.add(fresh)
    return [one for one in found if one]


def _is_enough(known: Known, likeness: bool) -> bool:
    return not likeness or known.likeness is not None or known.picture is None


def _read(likeness: bool, item: tuple[int, Path, Known | None]) -> Known:
    _, path, before = item
    try:
        status = path.stat()
        encoded = path.read_bytes()
    except OSError as error:
        return Known(0, 0, "", None, reason(error), (("undecodable", reason(error)),))
    if before and _is_enough(before, likeness) and hashlib.sha256(encoded).hexdigest() == before.encoded:
        return before._replace(size=len(encoded), changed=settled(status))
    return look(path.name, encoded, likeness)._replace(size=len(encoded), changed=settled(status))
