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
    said = time.monotonic()
    first = 0.0  # when the first was done: what takes many times as long as any other, where it has a graph made
    with bar() as progress:
        task = progress.add_task(what, total=count, figures="")
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            first = first or now
            rate = (done - 1) / max(now - first, 1e-9)
            progress.update(task, completed=done, figures=f"{rate:.1f}/s" if done > 1 else "")
            if not console.is_terminal and now - said > EVERY:
                said = now
                left = f", {rate:.1f}/s, {(count - done) / rate:.0f} s left" if done > 1 else ""
                console.print(f"{what}: {done} of {count}{left}")
