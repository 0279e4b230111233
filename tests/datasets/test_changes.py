"""What became of the pictures of a data set since they were read."""

import os
import shutil
from pathlib import Path

import pytest

from app.datasets.changes import changes, pictures, spoiled
from app.datasets.dataset import ImageFile, Picture
from app.datasets.files import manifests
from app.datasets.index import Known
from app.datasets.loading import load
from tests.makers.image_folders import age, animals, fill, picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = animals(tmp_path / "photos")
    age(root)
    return root


def test_what_was_added_removed_or_changed_is_named(photos: Path, tmp_path: Path) -> None:
    before = load(str(photos))
    manifests.write(tmp_path / "split.csv", before.files, before.known)
    (photos / "ant" / "0200.png").unlink()
    (photos / "ant" / "0201.png").write_bytes(picture(999))
    fill(photos / "Zebra", [900, 901])
    found = changes(manifests.read_pictures(tmp_path / "split.csv"), pictures(load(str(photos))))
    assert found == (
        f"2 images were added: {photos}/Zebra/0900.png, {photos}/Zebra/0901.png; "
        f"1 image was removed: {photos}/ant/0200.png; 1 image was changed: {photos}/ant/0201.png"
    ), found


def test_the_first_ten_are_named_and_the_others_counted(photos: Path) -> None:
    before = pictures(load(str(photos)))
    fill(photos / "ant", range(900, 913))
    found = changes(before, pictures(load(str(photos))))
    assert found.startswith("13 images were added: ")
    assert found.endswith(" and 3 more")
    assert found.count(".png") == 10


def test_pictures_that_lie_elsewhere_are_the_same(photos: Path, tmp_path: Path) -> None:
    before = pictures(load(str(photos)))
    shutil.move(photos, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "ant" / "0200.png").rename(tmp_path / "elsewhere" / "ant" / "renamed.png")
    assert changes(before, pictures(load(str(tmp_path / "elsewhere")))) == ""


def test_another_class_or_split_is_told_with_both() -> None:
    def made(label: str, split: str) -> Picture:
        return Picture(ImageFile(Path("/photos/1.png"), label, split), Known(1, 1, "aa", "bb"))

    words = "1 image was put into another class or split: /photos/1.png (from 'ant' in train to 'bee' in test)"
    assert changes([made("ant", "train")], [made("bee", "test")]) == words
    assert changes([made("ant", "train")] * 2, [made("ant", "train")]) == "1 image was removed: /photos/1.png"


def test_what_can_be_read_no_more_is_found_among_all(photos: Path) -> None:
    data = load(str(photos))
    assert spoiled(data) == []
    gone, cut, other, touched = (photos / "ant" / f"020{number}.png" for number in range(4))
    gone.unlink()
    size = len(cut.read_bytes())
    cut.write_bytes(cut.read_bytes()[:20])
    other.write_bytes(picture(999) + b"0")
    os.utime(touched)
    assert sorted(spoiled(data)) == [
        (str(gone), "is gone"),
        (str(cut), f"was cut, 20 of {size} bytes are left"),
        (str(other), "was changed"),
    ]


def test_a_change_that_keeps_size_and_time_is_found_where_nothing_else_is(photos: Path) -> None:
    data = load(str(photos))
    file = photos / "ant" / "0200.png"
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert spoiled(data) == [(str(file), "was changed")]
