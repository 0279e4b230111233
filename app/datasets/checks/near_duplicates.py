"""Pictures that look alike in two splits: copies that were recompressed, resized, made brighter or cropped a little."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Finding, Picture
from app.datasets.files.deciding import HELD_OUT_FIRST
from app.datasets.files.likeness import BITS
from app.program.parallel import in_parallel
from app.program.progress import Watch

# Bits in which two likenesses may differ, in all and among the first 64. Of copies in JPEG of quality 30, of half the
# size or with 2 % cut off at each side, all of 396 photographs are found and 82 % or more of CIFAR's pictures of 32
# pixels; of CIFAR's 72 million other pairs 37, which are near-duplicates indeed. The first that are none have 68.
FAR, FAR_AT_FIRST = 60, 14
ROWS, COLUMNS = 128, 4_096  # compared at once, in a core's cache


def near_duplicates(pictures: Sequence[Picture], watch: Watch) -> list[Finding]:
    """For every picture that looks almost as one in a split that is rather to be held out, the nearest of these; the
    surest first. Equal pictures are none, but leaks. All are compared with all, in memory that grows with their number
    alone.
    """
    order = HELD_OUT_FIRST
    sorted_out = sorted((p for p in pictures if p.known.likeness), key=lambda p: order.index(str(p.file.split)))
    if not sorted_out:
        return []
    bits = np.frombuffer(b"".join(p.known.likeness or b"" for p in sorted_out), np.uint64).reshape(-1, BITS // 64)
    numbers: dict[str, int] = {}
    shown = np.array([numbers.setdefault(p.shown, len(numbers)) for p in sorted_out])
    splits = np.array([order.index(str(p.file.split)) for p in sorted_out])
    before = np.searchsorted(splits, splits)  # how many there are in splits that are rather held out
    rows = range(int(np.searchsorted(splits, 1)), len(bits), ROWS)
    nearest = in_parallel(lambda row: _nearest(bits, shown, before, row), rows)
    keys = np.concatenate([np.empty(0, np.int64), *watch(nearest, len(rows), f"Comparing images, {ROWS} at a time")])
    found = []
    for place in np.argsort(keys, kind="stable"):
        if keys[place] == _NONE:
            break
        differing, other = divmod(int(keys[place]), len(bits))
        file, like = sorted_out[rows.start + place].file, sorted_out[other].file
        why = f"looks almost as {like.path} does, which is in {like.split} ({differing} of {BITS} bits differ)"
        found.append(Finding(str(file.path), "near-duplicate", why))
    return found


_NONE = np.iinfo(np.int64).max


def _nearest(
    bits: NDArray[np.uint64], shown: NDArray[np.int64], before: NDArray[np.int64], first: int
) -> NDArray[np.int64]:
    """For each of a few rows, in how many bits it differs from the nearest that is before it, times the number of all,
    plus the place of that one."""
    rows = slice(first, first + ROWS)
    best = np.full(len(bits[rows]), _NONE)
    for start in range(0, int(before[rows].max()), COLUMNS):
        columns = slice(start, start + COLUMNS)
        near = np.bitwise_count(bits[rows, None, 0] ^ bits[None, columns, 0]) <= FAR_AT_FIRST
        i, j = np.nonzero(near)
        differing = np.bitwise_count(bits[rows][i] ^ bits[columns][j]).sum(axis=1, dtype=np.int64)
        is_found = (differing <= FAR) & (start + j < before[rows][i]) & (shown[rows][i] != shown[columns][j])
        np.minimum.at(best, i[is_found], (differing * len(bits) + start + j)[is_found])
    return best
