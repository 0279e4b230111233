"""One training at a time writes a run folder, on whatever host: RUN/training.lock says which.

The lock is a file, since `flock` means nothing on many network drives, and to create a file that must not be there yet
is atomic on all of them. It names host, process and when that began. A training that was killed leaves it behind. On
its own host the list of processes tells whether it still runs; on another one only the file's time of change does,
which the owner renews every few seconds and which is compared with itself: the clocks of two hosts differ.
"""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from app.program.errors import UserError
from app.program.progress import console

NAME = "training.lock"
BEAT = 5.0  # seconds between two signs of life
# Without one for so long nobody is there: network drives may show a change a minute late.
SILENCE = 90.0
LOOK = 1.0  # seconds between two looks at the lock of another host


@dataclass(frozen=True)
class Owner:
    """`host` is its name; `system` tells two hosts or containers of one name apart, and a host from itself before it
    was started again; `began` is in seconds, see `_began`."""

    host: str
    system: str
    process: int
    began: float

    @classmethod
    def here(cls) -> "Owner":
        return cls(socket.gethostname(), _system(), os.getpid(), _began(os.getpid()))

    @property
    def is_alive(self) -> bool | None:
        """None where its processes cannot be seen from here."""
        here = Owner.here()
        if (self.host, self.system) != (here.host, here.system):
            return None
        try:
            ended = psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE  # and nobody has asked how
            return not ended and abs(_began(self.process) - self.began) < 1
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return False


class Seen(NamedTuple):
    """A lock as it was found: its owner, None where it names none, and its time of change, None where it is gone."""

    owner: Owner | None
    changed: float | None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within the block this process is the one that trains in the run folder `folder`, which is made for it, and goes
    again where nothing was put into it.

    Raises:
        UserError: another one does; the disk is full.
    """
    path, is_new = folder / NAME, not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):  # a finished run can be looked at; nothing can be trained there
        yield
        return
    mine = Owner.here()
    while not _created(path, mine):
        if stale := check(folder):
            _remove(path, stale)
    over = threading.Event()
    threading.Thread(target=_beat, args=(path, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        if _read(path) == mine:
            path.unlink(missing_ok=True)
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check(folder: Path) -> Seen | None:
    """The lock that nobody holds any more, where there is one. Waits where it takes a while to tell whether anybody is
    there.

    Raises:
        UserError: another process trains in the run folder.
    """
    path = folder / NAME
    if not path.exists():
        return None
    seen = _seen(path)
    alive = seen.owner.is_alive if seen.owner else None
    if alive is None:
        alive = _shows_life(path, seen)
    if alive:
        raise UserError(
            f"{folder} is being trained by {_who(seen.owner)}: wait until that has ended, or choose another --to."
        )
    return seen


def _created(path: Path, mine: Owner) -> bool:
    """Whether the lock was free, and is this process' now."""
    descriptor = None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(descriptor, "w") as file:
            json.dump(vars(mine), file)
    except FileExistsError:
        return False
    except OSError as error:
        if descriptor is not None:  # a full disk takes the name of a file, and nothing of what is in it
            path.unlink(missing_ok=True)
        raise UserError(f"{path} could not be written: {error.strerror}.") from error
    return True


def _seen(path: Path) -> Seen:
    changed = _changed(path)
    return Seen(_read(path), changed)


def _read(path: Path) -> Owner | None:
    """None where it is gone, or is just being written."""
    try:
        return Owner(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _shows_life(path: Path, seen: Seen) -> bool:
    """Whether the lock changes. One that has not for long is told by the clock of its own file system."""
    first = seen.changed
    probe = path.with_name(f".{os.getpid()}-{NAME}")
    try:
        probe.touch()
        age = probe.stat().st_mtime - (first or 0.0)
    finally:
        probe.unlink(missing_ok=True)
    until = time.monotonic() + SILENCE - age
    if first is not None and age < SILENCE:
        console.print(
            f"{path} is of {_who(seen.owner)}: looking for up to {SILENCE - age:.0f} s whether that still runs"
        )
    while first is not None and time.monotonic() < until:
        time.sleep(LOOK)
        if _changed(path) not in (first, None):
            return True
    return False


def _changed(path: Path) -> float | None:
    """The time of change; through an open file, since the attributes alone may be old on a network drive."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _remove(path: Path, stale: Seen) -> None:
    """Takes a lock away that nobody holds, as it was `stale`; one that somebody else has put there since, or renewed,
    goes back."""
    aside = path.with_name(f".{os.getpid()}-stale-{NAME}")
    with contextlib.suppress(OSError):
        path.rename(aside)
        if _seen(aside) != stale:
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(path)


def _began(process: int) -> float:
    """When a process began, in seconds: on Linux since the system was started, elsewhere since 1970. A clock that is
    set moves the second, and a training would seem to be another process."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()  # names may hold anything
    except FileNotFoundError:
        return psutil.Process(process).create_time()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of `man proc_pid_stat`, after two that end in ")"


def _who(owner: Owner | None) -> str:
    return f"process {owner.process} on {owner.host}" if owner else "another process"


def _system() -> str:
    """Of Linux: which start of the system it is, and whose processes are seen. Elsewhere nothing."""
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return ""
