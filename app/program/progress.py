"""Showing long work on standard error: bars on a terminal, plain lines elsewhere. Results go to standard output."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 10.0  # seconds between plain lines
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # (items, how many, what is done) -> items, with progress


def unwatched(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    """A `Watch` that shows nothing."""
    yield from items


console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def watch(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
    """The items, with progress: `what` is being done, how many of `count`, how fast, how long still."""
    started = said = time.monotonic()
    with bar() as progress:
        task = progress.add_task(what, total=count, figures="")
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            rate = done / max(now - started, 1e-9)
            progress.update(task, completed=done, figures=f"{rate:.1f}/s")
            if not console.is_terminal and now - said > EVERY:
                said = now
                console.print(f"{what}: {done} of {count}, {rate:.1f}/s, {(count - done) / rate:.0f} s left")
