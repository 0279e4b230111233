"""Answers about any number of pictures: in parts, so that the same command goes on where it was killed, and ends with
the same bytes.
"""

import functools
import hashlib
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from app.program import paths as kinds
from app.program import quiet, stopping
from app.program.errors import UserError
from app.program.files import digest
from app.program.progress import Watch, console
from app.program.shown import counted
from app.program.stopping import Request, Stopped
from app.scoring import assembling, listing, parts, target
from app.scoring.asking import Answer, Network, OfFile
from app.scoring.listing import File, Listing
from app.scoring.target import Target

UNIT = 128  # pictures that one thread answers; ROWS is a multiple of it
AHEAD = 2  # units that wait for a thread, or for a part
LOOK = 0.2  # seconds between two looks whether somebody has asked to stop


class Done(NamedTuple):
    """What `predict` has made: so many rows, of which so many could not be read; `before` says that they were there
    already; `odd` is the first name that is not UTF-8, if there is one."""

    rows: int
    unreadable: int
    before: bool
    odd: str | None = None


class _Unit(NamedTuple):
    part: int
    files: list[File]


def predict(
    model: Path,
    paths: Sequence[Path],
    to: Target,
    top: int,
    embeddings: bool,
    watch: Watch,
    refused: float | None = None,
) -> Done:
    """Writes a row for every picture. `model` is a run folder, the version folder of a SavedModel or a file, as
    `choosing.meant` finds them; `refused` is the per cent of known pictures that may be called unknown.

    Raises:
        UserError: the model does not load, or has no features, or does not say how strange pictures are; a path that
            does not exist; a folder without pictures; what is at `to` is of another model, other pictures or other
            options; the disk is full.
        Stopped: SIGTERM or Ctrl-C asked for it; the parts so far are there, and the same call goes on.
    """
    with tempfile.TemporaryDirectory(prefix="listing_") as work:
        pictures = listing.make(paths, Path(work))
        plan = {
            "layout": target.LAYOUT,
            "model": {"path": str(model), "sha256": _digest(model)},
            "options": {"top": top, "embeddings": embeddings, "unknown": refused},
            "pictures": {"count": pictures.count, "sha256": pictures.sha256},
        }
        if (there := target.finished(to, plan)) is not None:
            target.clear(to)
            return Done(there["rows"], there["unreadable"], before=True)
        target.check(to, plan)
        done = parts.done(to.parts, pictures.count)
        if len(done) < parts.count(pictures.count):
            network = _network(model, top, embeddings, refused)  # first, so that what does not load leaves nothing
            target.begin(to, plan)
            _make(network, pictures, to.parts, done, watch)
        return _end(to, plan, pictures, watch)


def _network(model: Path, top: int, embeddings: bool, refused: float | None) -> Network:
    if model.is_file():
        if embeddings:
            raise UserError(f"{model} has no features: of an export its SavedModel has them, or take the run.")
        return OfFile(model, top, refused)
    with quiet.tensorflow():
        from app.scoring import in_tensorflow

        made = in_tensorflow.of_run if kinds.is_run(model) else in_tensorflow.of_saved_model
        return made(model, top, embeddings, refused)


def _digest(model: Path) -> str:
    """Of all files that decide the answers."""
    if model.is_file():
        files = [model, *([model.with_suffix(".bin")] if model.suffix == ".xml" else [])]
    elif kinds.is_run(model):
        files = [model / "model.keras", model / "classifier.json", model / "unknown.npz"]
    else:
        files = [model / "saved_model.pb", *sorted(model.glob("variables/*")), *sorted(model.glob("assets/*"))]
    return hashlib.sha256("".join(digest(file) for file in files if file.is_file()).encode()).hexdigest()


def _make(network: Network, pictures: Listing, folder: Path, done: set[int], watch: Watch) -> None:
    """Writes the parts that are not done."""
    total = pictures.count
    left = total - sum(parts.rows_of(number, total) for number in done)
    if done:
        console.print(f"Going on: {total - left:,} of {counted(total, 'picture is', 'pictures are')} answered already")
    over = threading.Event()
    with stopping.requests() as request, quiet.libraries(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # of broken notes beside pixels that are whole
        files: list[File] = []
        answers: list[Answer] = []
        written = total - left
        with closing(_answered(network, _units(pictures, done), request, over)) as rows:
            for part, file, answer in watch(rows, left, "Predicting"):
                files.append(file)
                answers.append(answer)
                if len(files) == parts.rows_of(part, total):
                    parts.write(folder, part, parts.table(network, files, answers))
                    written += len(files)
                    files, answers = [], []
        if request.signal is not None:
            raise Stopped(request.signal, written)


def _units(pictures: Listing, done: set[int]) -> Iterator[_Unit]:
    """Of the parts that are not done. None has pictures of two parts: a part is the same wherever one begins."""
    files = pictures.read()
    for number in range(parts.count(pictures.count)):
        rows = islice(files, parts.ROWS)
        if number in done:
            deque(rows, maxlen=0)
        while some := list(islice(rows, UNIT)):
            yield _Unit(number, some)


def _answered(
    network: Network, units: Iterable[_Unit], request: Request, over: threading.Event
) -> Generator[tuple[int, File, Answer], None, None]:
    """Each file with its part and its answer, in order, until somebody asks to stop; as many threads as the network
    takes are at it."""
    answer = functools.partial(network.answer, over=over)
    with ThreadPoolExecutor(network.at_once) as pool:
        waiting: deque[tuple[_Unit, Future[list[Answer]]]] = deque()
        units = iter(units)
        try:
            while True:
                for unit in islice(units, network.at_once + AHEAD - len(waiting)):
                    waiting.append((unit, pool.submit(answer, unit.files)))
                if not waiting:
                    return
                unit, future = waiting.popleft()
                while not future.done() and request.signal is None:
                    wait([future], LOOK)
                if request.signal is not None:
                    return
                for file, one in zip(unit.files, future.result(), strict=True):
                    yield unit.part, file, one
        finally:
            over.set()
            pool.shutdown(cancel_futures=True)


def _end(to: Target, plan: dict[str, Any], pictures: Listing, watch: Watch) -> Done:
    """All parts are there: the index of them, or one file of them."""
    total, ends, odd = pictures.count, [], None
    files = pictures.read()
    while some := list(islice(files, parts.ROWS)):
        ends.append((parts.name(some[0]), parts.name(some[-1])))
        odd = odd or next((file.path for file in some if parts.text(file.path) != file.path), None)
    numbers = watch(range(len(ends)), len(ends), "Reading the parts again")
    tables = (parts.read(to.parts, number) for number in numbers)
    first, unreadable = next(tables), 0
    joined = None if to.is_folder else to.parts / f"_joined{to.suffix}"
    with assembling.joined(joined, first.schema) as write:
        for part in chain([first], tables):
            unreadable += part.num_rows - part["error"].null_count
            write(part)
    if joined is None:
        rows = [
            _entry(to.path / parts.NAME.format(number), parts.rows_of(number, total), *between)
            for number, between in enumerate(ends)
        ]
    else:
        rows = [_entry(joined, total, ends[0][0], ends[-1][1]) | {"file": to.path.name}]
    target.end(to, {"rows": total, "unreadable": unreadable, "parts": rows, "plan": plan}, joined)
    return Done(total, unreadable, before=False, odd=odd)


def _entry(file: Path, rows: int, first: str, last: str) -> dict[str, Any]:
    return {"file": file.name, "rows": rows, "first": first, "last": last, "sha256": digest(file)}
