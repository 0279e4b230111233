"""Work on all cores."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 256
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], at_once: int = AT_ONCE, threads: int | None = None
) -> Iterator[Result]:
    """`map` on all cores, a few hundred items at a time, so that items may be large and many; on so many `threads`,
    where it is not the cores that are waited for."""
    items = iter(items)
    # The first by itself: the decoder is then set up once, and not by every thread, which takes a sixth of a second.
    yield from map(function, itertools.islice(items, 1))
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        while some := list(itertools.islice(items, at_once)):
            yield from pool.map(function, some)
