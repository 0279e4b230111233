"""The versions on the disk and those that are served: looked at every second, new ones loaded and swapped in, old ones
let go when they have answered what they have begun."""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from app.program.errors import UserError
from app.serving import configuration
from app.serving.configuration import Served
from app.serving.models import Models
from app.serving.refusals import RefusedError
from app.serving.signatures import Servable
from app.serving.versions import AGAIN, Broken, Loaded, Versions, files_of, mark_of

SECONDS = 1.0  # from one look to the next, TensorFlow Serving's
LOG = logging.getLogger("app.serving")


class Watching:
    """Keeps `models` what a configuration says; within its block, by a thread of its own.

    A version is loaded while those before it answer, and only when all that are wanted are there the others go. One
    that does not load is named in the status, `tell` is told, and counts as if it were not there until its files
    change, or it is tried again: of the latest, the one before answers. What is exported anew in the place of a version
    is another. `file` is where the configuration came from, if from a file: it is read again every so many `seconds`,
    or never for 0.
    """

    def __init__(
        self,
        models: Models,
        load: Callable[[Path], Servable],
        tell: Callable[[str], None] = lambda sentence: None,
        file: Path | None = None,
        seconds: float = 0,
    ) -> None:
        self._models, self._load_version, self._tell = models, load, tell
        self._file, self._seconds, self._waited = file, seconds, 0.0
        self._read = _text(file)
        self._tried: object = None  # what it said, and what versions there were, when it could not be served
        self._networks: dict[str, Versions] = {}
        self._config: dict[str, Served] = {}
        self._roots: set[Path] = set()
        self._told: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        models.reload = self._reload

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="watching", daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()  # what it loads is loaded to its end: in the midst of it no runtime can be left

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            try:
                self._look_at_file(SECONDS)
                self.poll()
            except Exception:  # a look that fails is not the last one
                LOG.exception("The versions could not be looked at")

    def apply(self, config: Sequence[Served]) -> None:
        """Serves these, and no others, when all of them are there.

        Raises:
            RefusedError: one has no version that loads, or a label is of none that is served; then all is as before.
        """
        with self._lock:
            told, broken = {**self._told}, {name: {**network.broken} for name, network in self._networks.items()}
            try:
                for served in config:
                    self._renew(served, at_once=True)
                    self._check(served)
            except BaseException:
                for name, network in self._networks.items():
                    network.ready, network.coming, network.broken = {}, {}, broken.get(name, {})
                    self._publish(name)
                self._let_go()
                self._told = told
                raise
            self._config = {served.name: served for served in config}
            self._roots = self._roots or {served.base.resolve().parent for served in config}
            for served in config:
                self._answer_by_ready(served.name)
            self._let_go()

    def poll(self) -> None:
        with self._lock:
            for served in self._config.values():
                self._renew(served)
            self._let_go()
            self._collect()

    def _renew(self, served: Served, at_once: bool = False) -> None:
        """Loads what is wanted and not there, the newest first; not `at_once`, only what has not changed since the last
        look: it may still be copied."""
        network = self._networks.setdefault(served.name, Versions())
        folders = self._folders(served)
        for number, broken in [*network.broken.items()]:
            if folders is not None and broken[:2] != (folders.get(number), files_of(broken.folder)):
                del network.broken[number]
        while folders is not None:
            missing = sorted(network.missing(served, folders))
            network.coming = dict.fromkeys(missing, "START")
            ready = [number for number in missing if at_once or network.settled(folders[number])]
            if ready:
                network.coming[ready[-1]] = "LOADING"
            self._publish(served.name)
            if not ready or self._ended.is_set():
                break
            self._load(network, ready[-1], folders[ready[-1]])
            if not at_once:
                self._answer_by_ready(served.name)
            folders = self._folders(served)

    def _folders(self, served: Served) -> dict[int, Path] | None:
        """None where they cannot be seen, which says nothing about whether they are there."""
        try:
            folders = served.folders()
        except OSError as error:
            self._tell_once(served.name, f"{served.base} cannot be looked at: {error.strerror}.")
            return None
        lost = sorted((served.policy.numbers or frozenset()) - folders.keys())
        numbers = ", ".join(map(str, lost))
        self._tell_once(served.name, f"{served.base} has no version {numbers} yet." if lost else "")
        return folders

    def _load(self, network: Versions, number: int, folder: Path) -> None:
        files, mark = files_of(folder), mark_of(folder)
        try:
            servable = self._load_version(folder)
        except (Exception, SystemExit) as error:
            if not isinstance(error, UserError):
                LOG.exception("%s", folder)
            said = str(error) or type(error).__name__
            before = network.broken.get(number)
            tries = before.tries if before and before[:2] == (folder, files) else 0
            network.broken[number] = Broken(folder, files, said, tries + 1, time.monotonic() + AGAIN)
            self._tell_once(str(folder), f"Not served: {said}")
            return
        self._tell_once(str(folder), "")
        network.broken.pop(number, None)
        network.ready[number] = Loaded(folder, mark, servable)
        network.seen.pop(folder, None)

    def _answer_by_ready(self, name: str) -> None:
        network = self._networks[name]
        for number, loaded in network.ready.items():
            if number in network.loaded:  # of other files
                network.let_go(number)
            network.loaded[number] = loaded
            LOG.info("%s: version %d is served", name, number)
        network.ready = {}
        self._publish(name)

    def _check(self, served: Served) -> None:
        network = self._networks[served.name]
        folders = self._folders(served) or {}
        available = network.wanted(served, folders) - network.missing(served, folders)
        if not available:
            errors = [broken.error for _, broken in sorted(network.broken.items(), reverse=True)]
            there = ", ".join(map(str, sorted(folders))) or "none"
            none = f"{served.base} has no version of model {served.name} that is asked for; it has {there}."
            raise RefusedError(errors[0] if errors else none, "FAILED_PRECONDITION")
        for label, number in served.labels.items():
            if number not in available:
                what = f"Request to assign label to version {number} of model {served.name}"
                why = "which is not currently available for inference"
                others = ", ".join(map(str, sorted(available)))
                raise RefusedError(f"{what}, {why}; '{label}' can be of {others}.", "FAILED_PRECONDITION")

    def _let_go(self) -> None:
        """Of versions that are not wanted, when those that are wanted are there."""
        for name, network in self._networks.items():
            served = self._config.get(name)
            folders = self._folders(served) if served else {}
            if folders is None or (served and network.missing(served, folders)):
                continue
            wanted = network.wanted(served, folders) if served else set[int]()
            if folders and not wanted:  # what is there is broken
                continue
            for number in network.loaded.keys() - wanted - network.spoilt:
                network.let_go(number)
                LOG.info("%s: version %d is served no longer", name, number)
            self._publish(name)
        # A request can ask for any number of names.
        known = self._config.keys()
        self._networks = {name: each for name, each in self._networks.items() if name in known or each.is_there}

    def _collect(self) -> None:
        """The memory of versions that nobody asks any more; networks make circles of references."""
        leaving = [
            (network, number, ref)
            for network in self._networks.values()
            for number, ref in network.leaving.items()
            if ref is not None
        ]
        if not leaving:
            return
        gone = [(network, number) for network, number, ref in leaving if ref() is None]
        gc.collect()
        for network, number in gone:
            network.leaving[number] = None
        for name in self._networks:
            self._publish(name)

    def _publish(self, name: str) -> None:
        others = {other: model for other, model in self._models.models.items() if other != name}
        network, served = self._networks[name], self._config.get(name)
        if served or network.loaded:  # one that is new is told of when it answers: till then all is as before
            others[name] = network.model(served.labels if served else {})
        self._models.models = others

    def _reload(self, message: Any) -> None:
        """What a request says is to be served; it says paths, and so only beside what this was started with.

        Raises:
            RefusedError: it cannot be; then all is as before.
        """
        config = configuration.of_message(message)
        for served in config:
            if not self._roots & {*_resolved(served.base).parents}:
                roots = " or ".join(sorted(map(str, self._roots)))
                said = f"The base_path of model {served.name} is not in {roots}; start the server with it."
                raise RefusedError(said, "PERMISSION_DENIED")
        self.apply(config)

    def _look_at_file(self, seconds: float) -> None:
        """Serves what the file of the configuration says now, if it says something else than before. Where that cannot
        be served it is tried again when something else is there: a label may be of a version that is still copied."""
        self._waited += seconds
        if self._file is None or not self._seconds or self._waited < self._seconds:
            return
        self._waited = 0
        text, said = _text(self._file), ""
        before, self._tried = self._tried, None
        try:
            if text != self._read:
                config = configuration.of_file(self._file)
                self._tried = text, _on_disk(config)
                if self._tried == before:
                    return
                self.apply(config)
                self._read, self._tried = text, None
        except (UserError, RefusedError) as error:
            why = error.message if isinstance(error, RefusedError) else error
            said = f"The configuration stays as it was: {why}"
        self._tell_once(str(self._file), said)

    def _tell_once(self, about: str, sentence: str) -> None:
        """Until there is something else to say about it."""
        before = self._told.pop(about, "")
        if sentence:
            self._told[about] = sentence
        if sentence not in ("", before):
            self._tell(sentence)


def _on_disk(config: Iterable[Served]) -> object:
    """Another one where other versions are there."""
    found: set[object] = set()
    for served in config:
        with contextlib.suppress(OSError):
            found |= {(folder, files_of(folder)) for folder in served.folders().values()}
    return found


def _resolved(path: Path) -> Path:
    """The root where there can be no such path."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle; a null in a name
        return Path(path.anchor)


def _text(file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError:
        return None
