"""Data sets that a CSV file names."""

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.datasets.files import manifests
from app.datasets.loading.named import load
from app.program.errors import UserError
from tests.makers.image_folders import SPLITS, animals, examples, fill, order, picture, places


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    return animals(tmp_path / "animals")


def write(path: Path, *rows: tuple[object, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def named(root: Path, manifest: Path) -> list[tuple[object, ...]]:
    """A row for each image of a folder, in the order of the folder."""
    return [(os.path.relpath(path, manifest.parent), path.parent.name) for path in sorted(root.rglob("*.png"))]


def test_a_manifest_is_the_folder_it_names(three_classes: Path, tmp_path: Path) -> None:
    path = tmp_path / "lists" / "animals.csv"
    path.parent.mkdir()
    write(path, ("file", "label"), *named(three_classes, path))
    data, wanted = load(str(path)), load(str(three_classes))
    assert (data.labels, data.fingerprint) == (wanted.labels, wanted.fingerprint)
    assert data.name == str(path)
    for split in SPLITS:
        assert examples(getattr(data, split)) == examples(getattr(wanted, split))
    assert order(data.train, 3, 1) == order(wanted.train, 3, 1)


def test_splits_that_are_named_are_kept_and_the_content_decides_the_others(tmp_path: Path) -> None:
    fill(tmp_path, range(80))
    splits = ["Train", "val", "TEST", ""]
    rows = [(f"{seed:04}.png", "ab"[seed % 2], splits[seed // 2 % 4]) for seed in range(80)]
    data = load(str(write(tmp_path / "all.csv", ("file", "label", "split"), *rows)))
    kept = {"Train": "train", "val": "validation", "TEST": "test", "": "train"}  # no split is missing
    assert places(data) == {picture(seed): (kept[rows[seed][2]], rows[seed][1]) for seed in range(80)}
    rows = [(file, label, split.replace("val", "")) for file, label, split in rows]
    found = places(load(str(write(tmp_path / "some.csv", ("file", "label", "split"), *rows))))
    for seed, (_, label, split) in enumerate(rows):
        place = found[picture(seed)]
        assert place[1] == label
        assert (place[0] == "test") == (split == "TEST")
    assert {split for split, _ in found.values()} == {*SPLITS}


def test_what_was_divided_is_divided_alike_from_its_manifest(three_classes: Path, tmp_path: Path) -> None:
    fill(three_classes / "a, 猫", range(500, 520))
    for seed, name in enumerate((b"caf\xe9.png", b'"two"\nlines, .png', b" spaces .png"), start=1000):
        Path(os.fsdecode(os.fsencode(three_classes) + b"/ant/" + name)).write_bytes(picture(seed))
    (three_classes / "ant" / "broken.jpg").write_text("no picture")
    data = load(str(three_classes))
    manifests.write(tmp_path / "split.csv", data.files)
    again = load(str(tmp_path / "split.csv"))
    assert (again.labels, again.fingerprint, again.files) == (data.labels, data.fingerprint, data.files)
    for split in SPLITS:
        assert examples(getattr(again, split)) == examples(getattr(data, split))
    assert len(data.unreadable) == 1
    assert again.unreadable == ()


def test_spreadsheets_are_read(three_classes: Path, tmp_path: Path) -> None:
    rows = "".join(f"{file},a note,{label} ,\r\n" for file, label in named(three_classes, tmp_path / "x.csv"))
    (tmp_path / "X.CSV").write_bytes(b"\xef\xbb\xbf" + f"File,notes, LABEL,split\r\n{rows}\r\n".encode())
    assert load(str(tmp_path / "X.CSV")).fingerprint == load(str(three_classes)).fingerprint


def test_missing_files_may_be_quarantined(three_classes: Path, tmp_path: Path) -> None:
    path = tmp_path / "animals.csv"
    write(path, ("file", "label"), *named(three_classes, path))
    wanted = load(str(path))
    write(path, ("file", "label"), *named(three_classes, path), ("animals/gone.png", "ant"))
    (tmp_path / "list.txt").write_text("animals/gone.png\n")
    assert load(str(path), quarantine=tmp_path / "list.txt").fingerprint == wanted.fingerprint


# ---- what is wrong with it


def no_label_column(path: Path) -> str:
    write(path, ("file", "class"), ("0.png", "a"))
    return r"has no column 'label'; it has 'file', 'class'"


def other_delimiter(path: Path) -> str:
    path.write_text("file;label\n0.png;a\n")
    return r"has no column 'file'; it has 'file;label'"


def nothing(path: Path) -> str:
    path.touch()
    return r"has no column 'file'; it has none"


def no_rows(path: Path) -> str:
    write(path, ("file", "label"))
    return r"names no image"


def missing_files(path: Path) -> str:
    write(path, ("file", "label"), ("0000.png", "a"), ("not, there.png", "b"), ("nor this", "b"))
    return r"line 3: .*not, there.png does not exist; mend the line or remove it. 1 more like it"


def folder(path: Path) -> str:
    (path.parent / "inside").mkdir()
    write(path, ("file", "label"), ("0000.png", "a"), ("inside", "b"))
    return r"line 3: .*inside is not a file"


def named_twice(path: Path) -> str:
    write(path, ("file", "label"), ("0000.png", "a"), ("0001.png", "b"), ("x/../0000.png", "b"))
    return r"line 4: .*0000.png is named again, after line 2"


def no_label(path: Path) -> str:
    write(path, ("file", "label"), ("0000.png", "a"), ("0001.png", " "))
    return r"line 3 has no label"


def no_file(path: Path) -> str:
    write(path, ("file", "label"), ("", "a"))
    return r"line 2 has no file"


def half_a_row(path: Path) -> str:
    write(path, ("file", "label"), ("0000.png", "a"), ("0001.png",))
    return r"line 3 has no label"


def unknown_split(path: Path) -> str:
    write(path, ("file", "label", "split"), ("0000.png", "a", "holdout"))
    return r"line 2: 'holdout' is no split; the splits are train, validation, test"


def comma_without_quotes(path: Path) -> str:
    path.write_text("file,label\na, b.png,a\n")
    return r"line 2 has more fields .* put quotes around"


def quote_without_end(path: Path) -> str:
    path.write_text('file,label\n"0000.png,a\n')
    return r"unexpected end of data"


def label_in_latin_1(path: Path) -> str:
    path.write_bytes(b"file,label\n0000.png,caf\xe9\n")
    return r"line 2: the class name 'caf\\udce9' has control characters or is not UTF-8"


def one_class(path: Path) -> str:
    write(path, ("file", "label"), ("0000.png", "a"), ("0001.png", "a"))
    return r"has one class, 'a'"


@pytest.mark.parametrize(
    "make",
    [
        no_label_column,
        other_delimiter,
        nothing,
        no_rows,
        missing_files,
        folder,
        named_twice,
        no_label,
        no_file,
        half_a_row,
        unknown_split,
        comma_without_quotes,
        quote_without_end,
        label_in_latin_1,
        one_class,
    ],
)
def test_a_manifest_to_train_nothing_on_is_refused_by_name(tmp_path: Path, make: Callable[[Path], str]) -> None:
    fill(tmp_path, range(5))
    words = make(tmp_path / "list.csv")
    with pytest.raises(UserError, match=words) as caught:
        load(str(tmp_path / "list.csv"))
    assert str(tmp_path / "list.csv") in str(caught.value)


def test_a_folder_may_be_called_as_a_manifest(three_classes: Path) -> None:
    shutil.move(three_classes, three_classes.with_suffix(".csv"))
    assert load(str(three_classes.with_suffix(".csv"))).train.count > 0
