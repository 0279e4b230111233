"""Folders and files on `s3://` and `gs://`: brought into the user's cache folder once, and used from there.

inceptions/remote/s3/bucket/photos/...    files as they lie in the bucket

A file there is as old as the object, to the second, and the fraction of the second is a hash of the object's tag: by
size and time of change alone it is known whether it is still the same. So there is no list that could be wrong, what
was interrupted goes on, and a cache that was emptied is filled with the same names and times again.
"""

import contextlib
import csv
import functools
import hashlib
import importlib.util
import os
import posixpath
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from app.program import unexpected
from app.program.errors import UserError
from app.program.parallel import in_parallel
from app.program.progress import Watch, console, unwatched
from app.program.shown import brief, counted
from export.picture_files import LIMITS

# What reads each, and where it finds out who asks.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or for a public bucket FSSPEC_S3_ANON=true",
    "gs": "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or for a public bucket "
    "FSSPEC_GS_TOKEN=anon",
}
AT_ONCE = 32  # files: each waits for the network, and not for a core
WAITS = (0.0, 1.0, 4.0, 10.0)  # seconds before each try
CLOCKS = (1, 100, 1_000, 1_000_000_000)  # nanoseconds between the times that file systems know


class Entry(NamedTuple):
    """An object: its `size` in bytes, and what the time of change of its file is, in nanoseconds."""

    size: int
    changed: int

    def is_at(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        times = (self.changed // clock * clock for clock in CLOCKS)
        return status.st_size == self.size and status.st_mtime_ns in times


def is_remote(name: object) -> bool:
    """Whether it is an address, or was one before a path was made of it."""
    return re.match(r"(?!records:|tfds:)[A-Za-z][A-Za-z0-9+]+://|(s3|gs):/", str(name)) is not None


def named(name: object) -> str:
    """The name of a folder or file as an address, also where a path has been made of it; without a slash behind it."""
    scheme, _, rest = str(name).partition(":")
    return f"{scheme}://{rest.strip('/')}"


def check(name: object) -> None:
    """Raises:
    UserError: an address that can be nothing here, or whose package is not installed.
    """
    scheme, _, rest = named(name).partition("://")
    if scheme not in PACKAGES:
        raise UserError(f"{named(name)}: {scheme}:// is not read here; pictures lie in a folder, on s3:// or on gs://.")
    if not rest:
        raise UserError(f"{name} names no bucket; write {scheme}://BUCKET/FOLDER.")
    if importlib.util.find_spec(PACKAGES[scheme]) is None:
        raise UserError(f"{named(name)} is read by {PACKAGES[scheme]}: `pip install -e '.[cloud]'` installs it.")


def place(name: object) -> Path:
    """Where the files of `name` lie on this machine, once they are fetched; of what is not remote, the path itself."""
    return _root().joinpath(*named(name).split("://", 1)) if is_remote(name) else Path(str(name))


def shown(path: Path | str) -> str:
    """The name of a file for people: its address, where it was fetched."""
    name = str(path)
    if "inceptions" not in name or not Path(name).is_relative_to(_root()):  # the first is quick, for a million of them
        return name
    scheme, *rest = Path(name).relative_to(_root()).parts
    return f"{scheme}://{'/'.join(rest)}"


def fetched(name: object, watch: Watch = unwatched) -> Path:
    """The folder, manifest or file `name` on this machine, as it is now: what is new or changed is fetched, of a folder
    what is gone there goes here, and of a manifest its pictures come with it. What is not remote is where it is.

    Raises:
        UserError: there is nothing of that name, or nobody may read it; the network breaks, and again; no space.
    """
    if not is_remote(name):
        return Path(str(name))
    check(name)
    address = named(name)
    scheme, _, key = address.partition("://")
    with _named(address):
        import fsspec

        store = fsspec.filesystem(scheme)
        store.invalidate_cache()  # it remembers what lay where, and this may be a later look
        found = _listed(store, address)
    if key not in found:
        _fetch(store, address, found, watch)
        _remove_others(place(address), {_root() / scheme / one for one in found})
    else:
        _fetch(store, address, {key: found[key]}, watch)
        if key.lower().endswith(".csv"):
            _fetch(store, address, _of_manifest(store, address), watch)
    return place(address)


def _root() -> Path:
    return platformdirs.user_cache_path("inceptions") / "remote"


def _listed(store: Any, address: str) -> dict[str, Entry]:
    """All files of that name, or below it, by their names with the bucket."""
    told = store.find(address, detail=True)
    found = {str(key).strip("/"): info for key, info in told.items() if info["type"] == "file"}
    # What programs write to stand for a folder has no content; a part that is `..` would lead out of the cache.
    found = {key: info for key, info in found.items() if ".." not in key.split("/") and not info["name"].endswith("/")}
    if not found:
        raise FileNotFoundError(address)
    return {key: Entry(int(info["size"]), _changed(info)) for key, info in found.items()}


def _changed(info: dict[str, Any]) -> int:
    when: Any = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), 0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    tag = info.get("ETag") or info.get("etag") or when
    fraction = int(hashlib.sha256(str(tag).encode()).hexdigest()[:8], 16) % 1_000_000_000
    return int(when.timestamp() if isinstance(when, datetime) else when) * 1_000_000_000 + fraction


def _of_manifest(store: Any, address: str) -> dict[str, Entry]:
    """The files that a manifest names and that are there; whoever reads it misses the others, also in the cache."""
    folder = posixpath.dirname(address.partition("://")[2])
    with place(address).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as content:
        rows = csv.reader(content)
        columns = [column.strip().lower() for column in next(rows, [])]
        if "file" not in columns:
            return {}
        at = columns.index("file")
        names = {posixpath.normpath(f"{folder}/{row[at]}") for row in rows if len(row) > at and row[at]}
    if not names:
        return {}
    with _named(address):
        # One list of a folder, and not a question for every file.
        around = posixpath.commonpath([posixpath.dirname(one) for one in names])
        found = _listed(store, f"{address.partition('://')[0]}://{around or folder.partition('/')[0]}")
    for key in names - {*found}:
        if ".." not in key.split("/"):  # which would lead out of the cache
            (_root() / address.partition("://")[0] / key).unlink(missing_ok=True)
    return {key: entry for key, entry in found.items() if key in names}


def _fetch(store: Any, address: str, found: dict[str, Entry], watch: Watch) -> None:
    folder = _root() / address.partition("://")[0]
    large = [key for key, entry in found.items() if entry.size > LIMITS.bytes and not key.lower().endswith(".csv")]
    wanted = {key: entry for key, entry in found.items() if key not in {*large}}
    missing = [(key, entry) for key, entry in wanted.items() if not entry.is_at(folder / key)]
    if large:
        count = counted(len(large), "file", "files")
        more = ", ..." if large[1:] else ""
        console.print(f"{count} of more than {LIMITS.bytes // 10**6} MB not fetched: {large[0]}{more}")
    if not missing:
        return
    need = sum(entry.size for _, entry in missing)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    files = f"{counted(len(missing), 'file', 'files')}, {_size(need)}"
    if need > 0.95 * free:
        raise UserError(
            f"{address} has {files}, to fetch, and {folder} has {_size(free)} left; set XDG_CACHE_HOME to a folder on "
            "a larger disk."
        )
    console.print(f"{address}: {files}, to fetch into {place(address)}")
    done = 0
    try:
        fetching = in_parallel(functools.partial(_fetch_one, store, folder), missing, AT_ONCE * 8, AT_ONCE)
        for _ in watch(fetching, len(missing), "Fetching"):
            done += 1
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{address}: after {done:,} of {len(missing):,} files the next could not be fetched ({_line(error)}); the "
            "same command goes on from there."
        ) from error


def _fetch_one(store: Any, folder: Path, item: tuple[str, Entry]) -> None:
    key, entry = item
    path = folder / key
    beside = path.with_name(f".{os.getpid()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}")
    for number, wait in enumerate(WAITS, start=1):
        time.sleep(wait)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            store.get_file(key, str(beside))
            if beside.stat().st_size != entry.size:
                raise OSError(f"{key} came with {beside.stat().st_size} bytes and not {entry.size}")
            os.utime(beside, ns=(entry.changed, entry.changed))
            beside.replace(path)
            return
        except Exception as error:
            if number == len(WAITS) or "No space left" in str(error) or isinstance(error, PermissionError):
                raise
        finally:
            beside.unlink(missing_ok=True)


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    """What lies in the cache and not in the bucket any more, or was left by a process that was killed."""
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in wanted]:
        path.unlink(missing_ok=True)
    for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError):  # it holds something
            inner.rmdir()


@contextlib.contextmanager
def _named(address: str) -> Iterator[None]:
    """Around questions to the store, of which each package answers failures in its own way."""
    try:
        yield
    except FileNotFoundError as error:
        bucket = address.partition("://")[2].partition("/")[0]
        gone = "bucket" in str(error).lower() and "not exist" in str(error)
        raise UserError(f"There is no bucket {bucket}." if gone else f"There is nothing at {address}.") from error
    except Exception as error:
        scheme = address.partition("://")[0]
        if "credential" in f"{type(error).__name__} {error}".lower() or "Anonymous caller" in str(error):
            raise UserError(f"{address} asks who you are: {CREDENTIALS[scheme]}.") from error
        if isinstance(error, PermissionError):
            raise UserError(f"{address} may not be read by whom your credentials say ({_line(error)}).") from error
        raise UserError(f"{address} cannot be reached ({_line(error)}); try again when it can.") from error


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {unexpected.line(error)}"


def _size(count: int) -> str:
    return f"{brief(count / 1e9)} GB" if count >= 1e9 else f"{brief(count / 1e6)} MB"
