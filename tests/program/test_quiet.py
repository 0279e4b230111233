"""Standard error while others are silent."""

import os
import sys
from pathlib import Path

import pytest

from app.program import quiet


def test_standard_error_comes_back_when_the_last_of_several_threads_has_loaded() -> None:
    before = os.fstat(2)
    first, second = quiet.native(), quiet.native()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert os.path.samestat(os.fstat(2), os.stat(os.devnull))
    second.__exit__(None, None, None)
    assert os.path.samestat(os.fstat(2), before)


def test_what_python_says_is_heard_while_something_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = os.dup(2)
    try:
        with (tmp_path / "heard").open("wb") as file, open(2, "w", closefd=False) as stderr:
            os.dup2(file.fileno(), 2)
            monkeypatch.setattr(sys, "stderr", stderr)
            quiet.apart()
            with quiet.native():
                os.write(2, b"of a library")
                print("of Python", file=sys.stderr)
            sys.stderr.close()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert (tmp_path / "heard").read_text() == "of Python\n"
