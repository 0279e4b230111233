"""Files that are exchanged together: whenever a process dies, the next one finds all of them old or all of them new."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.program import files
from app.program.errors import UserError

OLD = {"a.json": "old a", "network": "old network", "untouched": "as ever"}
NEW = {"a.json": "new a", "b.json": "new b", "network": "new network"}


class Killed(BaseException):
    pass


@contextmanager
def killed_at(n: int) -> Iterator[list[str]]:
    """The n-th call into the file system does not come back, nor any later one; the list fills with their names."""
    calls: list[str] = []

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(f"{name} {Path(arguments[0]).name}" if isinstance(arguments[0], Path | str) else name)
            if len(calls) > n:
                raise Killed
            return real(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as monkeypatch:
        for target, name in (
            (os, "mkdir"),
            (Path, "write_text"),
            (os, "fsync"),
            (os, "rename"),
            (os, "replace"),
            (os, "rmdir"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(target, name, dying(name, getattr(target, name)))
        yield calls


def exchange(folder: Path) -> None:
    with files.exchanged(folder, last="network") as beside:
        for name, text in NEW.items():
            (beside / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def begun(folder: Path) -> Path:
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("before", [0, 1], ids=["read at once", "exchanged again"])
def test_whenever_an_exchange_dies_all_files_are_old_or_all_are_new(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[str] = []
    found: list[bool] = []
    while True:
        folder = begun(tmp_path / str(len(died)))
        with killed_at(len(died)) as calls:
            try:
                exchange(folder)
                break
            except Killed:
                died.append(calls[len(died)])
        with monkeypatch.context() as patched:
            patched.setattr(files, "_runs", lambda process: False)  # it is this one
            files.settle(folder, "network")
        assert contents(folder) in (OLD, OLD | NEW), died[-1]
        assert [path.name for path in folder.iterdir() if path.is_dir()] == [], died[-1]
        found.append(contents(folder) != OLD)
        if before:
            exchange(folder)
            assert contents(folder) == OLD | NEW
    assert contents(folder) == OLD | NEW
    renamed = died.index(f"rename .exchange-{os.getpid()}")
    assert found == [False] * (renamed + 1) + [True] * (len(died) - renamed - 1)
    moved = [call for call in died if call.startswith("replace")]
    assert moved[-1] == "replace network"
    assert len(moved) == 3


def test_half_of_a_settlement_can_be_settled_by_another_process(tmp_path: Path) -> None:
    folder = begun(tmp_path / "folder")
    (folder / "exchange").mkdir()
    (folder / "exchange" / "network").write_text("new network")  # its other files have taken their places
    files.settle(folder, "network")
    assert contents(folder) == OLD | {"network": "new network"}
    assert not (folder / "exchange").exists()


def test_what_a_process_is_writing_is_left_to_it(tmp_path: Path) -> None:
    with files.exchanged(begun(tmp_path / "folder"), last="network") as beside:
        (beside / "network").write_text("half")
        files.settle(tmp_path / "folder", "network")
        assert (beside / "network").read_text() == "half"
    assert contents(tmp_path / "folder") == OLD | {"network": "half"}
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "folder" / f".exchange-{ended.pid}").mkdir()
    files.settle(tmp_path / "folder", "network")
    assert not (tmp_path / "folder" / f".exchange-{ended.pid}").exists()


def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    folder = begun(tmp_path / "folder")

    def exchange_on_a_full_disk() -> None:
        with files.exchanged(folder, last="network") as beside:
            (beside / "network").write_text("new network")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError) as caught:
        exchange_on_a_full_disk()
    assert str(caught.value) == (
        f"{folder} could not be written: no space left on the device. What was there before is unchanged."
    )
    assert contents(folder) == OLD
    assert {path.name for path in folder.iterdir()} == OLD.keys()
