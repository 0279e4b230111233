"""Which pictures are listed, and in which order: those that `predict` takes, with little in memory."""

import os
import tracemalloc
from pathlib import Path

import pytest

from app.images import finding
from app.program.errors import UserError
from app.scoring import listing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    names = ["b/2.png", "b/10.PNG", "a-b/1.jpg", "a/z/1.jpg", "a/y.jpg", "a.png", "Z.webp", "é.png", "a/.hidden.jpg"]
    for name in [*names, "@eaDir/1.jpg", "notes.txt", "scan.bin", "b/x.tif"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"text")
    (root / "scan.bin").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "b" / "x.tif").write_bytes(b"II*\0")
    (root / "b" / "around").symlink_to(root)
    (root / "b" / "gone.jpg").symlink_to("nowhere")
    (root / "other").symlink_to(root / "b" / "..", target_is_directory=True)
    return root


@pytest.mark.parametrize("at_once", [2, 3, 20_000])
def test_pictures_are_listed_as_predict_takes_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at_once: int
) -> None:
    monkeypatch.setattr(listing, "AT_ONCE", at_once)
    (tmp_path / "work").mkdir()
    given = [folder, folder / "notes.txt", folder / "b", folder / ".DS_Store"]
    right = [str(path) for path in finding.pictures(given)]
    said = capsys.readouterr().err
    made = listing.make(given, tmp_path / "work")
    assert [file.path for file in made.read()] == right
    assert made.count == len(right) == 14
    assert capsys.readouterr().err == said
    assert "x.tif" in said
    assert "'.hidden.jpg'" in said
    assert [*(tmp_path / "work").iterdir()] == [made.file]


def test_another_size_or_time_is_another_listing(folder: Path, tmp_path: Path) -> None:
    first = listing.make([folder], tmp_path).sha256
    assert listing.make([folder], tmp_path).sha256 == first
    os.utime(folder / "a.png", (1, 1))
    second = listing.make([folder], tmp_path).sha256
    (folder / "Z.webp").write_bytes(b"more")
    assert len({first, second, listing.make([folder], tmp_path).sha256}) == 3


def test_what_is_not_there_or_holds_none_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.tif").write_bytes(b"II*\0")
    for paths in ([tmp_path / "nosuch"], [folder, tmp_path / "empty"]):
        with pytest.raises(UserError) as right:
            finding.pictures(paths)
        with pytest.raises(UserError) as found:
            listing.make(paths, tmp_path)
        assert str(found.value) == str(right.value)


def test_memory_does_not_grow_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "AT_ONCE", 600)  # more, since each time so many a file is open
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "00000.png").touch()
    listing.make([tmp_path / "photos"], tmp_path)  # what is made once is not counted
    peaks = []
    for count in (900, 3_600):
        for number in range(count):
            (tmp_path / "photos" / f"{number:05}.png").touch()
        tracemalloc.start()
        made = listing.make([tmp_path / "photos"], tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert made.count == count
    assert peaks[1] < 2 * peaks[0]
