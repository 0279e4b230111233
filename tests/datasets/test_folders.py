"""Folders as people have them: every file below is used, refused or named, whatever lies where."""

import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.artefacts.predicting import unread
from app.datasets.checks import check
from app.datasets.checks.checking import FAULTS, NOTES, Report
from app.datasets.files import deciding, imagenet
from app.datasets.files.folders import unlabelled
from app.datasets.files.image_files import FileSplit
from app.datasets.loading import held_out, listing, load
from app.images.finding import is_left_by_a_system, look_into, pictures
from app.program.errors import UserError
from app.program.progress import unwatched
from export.picture_files import UNKNOWN
from tests.makers.image_folders import fill, picture


def found(root: Path) -> dict[str, list[str]]:
    """The findings of a check by their kinds, relative to `root`, without notes about sizes and numbers."""
    kinds: dict[str, list[str]] = {}
    for finding in check(str(root)).findings:
        if finding.kind not in ("tiny", "imbalance"):
            kinds.setdefault(finding.kind, []).append(os.path.relpath(finding.file, root))
    return kinds


def stopping(report: Report) -> list[str]:
    return [finding.reason for finding in report.findings if FAULTS.get(finding.kind) == "stops"]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(len(kind)).integers(0, 256, (20, 20, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


# ---- splits, and what lies beside them


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """Three splits of two classes, five pictures each."""
    for place, split in enumerate(("train", "val", "test")):
        for position, label in enumerate(("ant", "bee")):
            fill(tmp_path / "data" / split / label, range(place * 100 + position * 10, place * 100 + position * 10 + 5))
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["dev", "holdout"])
def test_a_folder_beside_train_that_is_no_known_split_is_refused(divided: Path, name: str) -> None:
    fill(divided / name / "ant", range(500, 505))
    with pytest.raises(UserError, match=f"/{name}, with 5 images, lies beside .*/train, .* call it train, "):
        load(str(divided))
    assert found(divided) == {"unknown split": [name]}


def test_a_class_called_train_with_folders_in_it_does_not_make_the_others_vanish(tmp_path: Path) -> None:
    fill(tmp_path / "car", range(10))
    fill(tmp_path / "bus", range(10, 20))
    fill(tmp_path / "train" / "monday", range(20, 30))
    with pytest.raises(UserError, match=r"if they are classes, put the images of .*/train into no folders .* 1 more"):
        load(str(tmp_path))
    assert found(tmp_path)["unknown split"] == ["bus", "car"]


def test_a_class_may_be_called_train_and_that_is_said(tmp_path: Path) -> None:
    for position, name in enumerate(("bus", "car", "train")):
        fill(tmp_path / name, range(position * 10, position * 10 + 10))
    data = load(str(tmp_path))
    assert data.labels == ("bus", "car", "train")
    assert [note for note in data.notes if f"{tmp_path}/train is taken for a class" in note]
    assert found(tmp_path) == {"split or class": ["train"]}


def test_a_root_with_test_and_validation_alone_has_their_folders_as_classes(divided: Path) -> None:
    for label in ("ant", "bee"):
        for path in (divided / "train" / label).iterdir():
            path.unlink()
        (divided / "train" / label).rmdir()
    (divided / "train").rmdir()
    assert {file.label for file in listing(str(divided)).files} == {"ant", "bee"}
    with pytest.raises(UserError, match="has no image to train on; add a split 'train'"):
        load(str(divided))
    assert "no training images" in found(divided)


def test_splits_without_class_folders_are_no_classes(tmp_path: Path) -> None:
    """As competitions give pictures away: train/cat.1.jpg, test/1.jpg."""
    fill(tmp_path / "train", range(10))
    fill(tmp_path / "test", range(10, 20))
    for ask in (load, check):
        with pytest.raises(UserError, match=r"has no class folders: test and train are splits; put the images of each"):
            ask(str(tmp_path))


def test_pictures_in_no_class_folder_are_named(divided: Path) -> None:
    wanted = load(str(divided)).fingerprint
    fill(divided, [900])
    fill(divided / "train", [901])
    fill(divided / "test", [902])
    data = load(str(divided))
    assert data.fingerprint == wanted
    (note,) = data.notes
    assert note.startswith("images in no class folder, left out: 3; `python -m app check ")
    assert note.endswith(f"{divided}/0900.png")
    assert found(divided) == {"no class": ["0900.png", "test/0902.png", "train/0901.png"]}
    assert check(str(divided)).faults == 3


def test_splits_inside_the_classes_are_refused(tmp_path: Path) -> None:
    for position, label in enumerate(("ant", "bee")):
        for place, split in enumerate(("train", "val")):
            fill(tmp_path / label / split, range(position * 100 + place * 10, position * 100 + place * 10 + 10))
    with pytest.raises(UserError, match=r"/ant/train is called as a split and lies inside a class: .* as train/ant"):
        load(str(tmp_path))
    assert found(tmp_path) == {"split inside a class": ["ant/train", "bee/train"]}
    fill(tmp_path / "ant" / "monday", range(500, 510))
    fill(tmp_path / "bee" / "monday", range(600, 610))
    assert found(tmp_path) == {}


# ---- the same answer from `check` and from `train`


def one_class(root: Path) -> str:
    fill(root / "ant", range(10))
    return "has one class, 'ant'"


def two_pictures_a_class(root: Path) -> str:
    fill(root / "ant", range(2))
    fill(root / "bee", range(2, 4))
    return "give each class at least three"


def wrapped(root: Path) -> str:
    fill(root / "ants_bees" / "ants", range(10))
    fill(root / "ants_bees" / "bees", range(10, 20))
    return f"lie inside, give {root}/ants_bees."


def wrapped_twice(root: Path) -> str:
    fill(root / "all" / "ants_bees" / "ants", range(10))
    fill(root / "all" / "ants_bees" / "bees", range(10, 20))
    return f"lie inside, give {root}/all/ants_bees."


def wrapped_splits(root: Path) -> str:
    for place, split in enumerate(("train", "val")):
        for position, label in enumerate(("ants", "bees")):
            fill(root / "ants_bees" / split / label, range(place * 50 + position * 10, place * 50 + position * 10 + 5))
    return f"lie inside, give {root}/ants_bees."


def wrapped_inside_the_splits(root: Path) -> str:
    for place, split in enumerate(("train", "val")):
        for position, label in enumerate(("cat", "dog")):
            start = place * 50 + position * 10
            fill(root / split / "images" / label, range(start, start + 5))
    return f"move them up, as {root}/train/images/cat to {root}/train/cat."


def wrapped_with_what_is_loose(root: Path) -> str:
    wrapped_splits(root)
    fill(root, [900])
    fill(root / "ants_bees", [901])
    return f"lie inside, give {root}/ants_bees."


def broken(root: Path) -> str:
    fill(root / "ant", range(8))
    fill(root / "bee", range(8, 16))
    for number in range(4):
        (root / "bee" / f"broken {number}.jpg").write_bytes(b"text")
    return "4 of the 20 images"


def only_tested(root: Path) -> str:
    for split in ("train", "val", "test"):
        fill(root / split / "ant", range(4))
        fill(root / split / "bee", range(10, 14))
    fill(root / "test" / "wasp", range(20, 24))
    return "The class 'wasp'"


@pytest.mark.parametrize(
    "make",
    [
        one_class,
        two_pictures_a_class,
        wrapped,
        wrapped_twice,
        wrapped_splits,
        wrapped_inside_the_splits,
        wrapped_with_what_is_loose,
        broken,
        only_tested,
    ],
)
def test_what_training_refuses_a_check_finds(tmp_path: Path, make: Callable[[Path], str]) -> None:
    words = make(tmp_path / "data")
    with pytest.raises(UserError) as refused:
        load(str(tmp_path / "data"))
    assert words in str(refused.value)
    assert stopping(check(str(tmp_path / "data")))[:1] == [str(refused.value)]


# ---- what systems leave, and what a picture is


LEFT = (
    "@eaDir/0001.png/SYNOFILE_THUMB_M.png",
    "__MACOSX/ant/._0001.png",
    ".thumbnails/normal/1.png",
    ".ipynb_checkpoints/1-checkpoint.png",
    "ant/@eaDir/0001.png/SYNOPHOTO_THUMB_XL.png",
    "ant/._0001.png",
    "ant/.AppleDouble/1.png",
    "ant/$RECYCLE.BIN/1.png",
    "ant/#recycle/1.png",
)
FILES = ("Thumbs.db", "ant/Thumbs.db", "ant/.DS_Store", "ant/desktop.ini", "ant/Icon\r")


def plant(root: Path) -> int:
    for seed, name in enumerate(LEFT, start=5000):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(seed))
    for name in FILES:
        (root / name).write_bytes(b"\0")
    return len(LEFT) + len(FILES)


def test_what_systems_leave_is_never_a_picture_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for position, label in enumerate(("ant", "bee")):
        fill(tmp_path / label, range(position * 100, position * 100 + 20))
    before, named = load(str(tmp_path)), pictures([tmp_path])
    assert before.notes == ()
    count = plant(tmp_path)
    after = load(str(tmp_path))
    assert (after.fingerprint, after.files) == (before.fingerprint, before.files)
    (note,) = after.notes
    assert note.startswith(f"{count} files passed over, left by systems and never a picture: '@eaDir' (2)")
    report = check(str(tmp_path))
    assert (report.images, report.faults, sum(times for _, times in report.left)) == (40, 0, count)
    capsys.readouterr()
    assert pictures([tmp_path]) == named
    assert capsys.readouterr().err.count(f"{count} files passed over") == 1


def test_a_pattern_of_a_shell_takes_no_thumbnails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, range(3))
    plant(tmp_path)
    given = sorted(path for path in tmp_path.iterdir() if path.name != "ant")
    assert pictures(given) == [tmp_path / f"{number:04}.png" for number in range(3)]
    assert "'@eaDir' (1)" in capsys.readouterr().err
    assert pictures([tmp_path / "@eaDir" / "0001.png"]) == [tmp_path / LEFT[0]], "what is named alone is meant"


def test_the_folders_that_a_path_goes_through_are_left_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, range(2))
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    fill(tmp_path / "other", [5])
    given = [Path(".."), tmp_path / "other" / "0005.png"]
    assert len(pictures(given)) == 4
    assert "passed over" not in capsys.readouterr().err
    for name in (".", ".."):
        assert not is_left_by_a_system(name)


def test_what_systems_leave_is_counted_alike_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b", "flat"):
        fill(tmp_path / folder / "@eaDir", range(2))
        for name in ("._1.png", "._2.png", "Thumbs.db"):
            (tmp_path / folder / name).write_bytes(b"")
    fill(tmp_path, [0])
    (tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    wanted = {"@eaDir": 2, "._*": 2, "Thumbs.db": 1}
    assert dict(imagenet.flat(tmp_path / "flat").left) == wanted
    assert look_into(tmp_path / "flat").left == wanted
    pictures([tmp_path / "0000.png", *(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()])
    said = capsys.readouterr().err
    assert said.startswith("10 files passed over")
    assert all(part in said for part in ("'@eaDir' (4)", "'._*' (4)", "'Thumbs.db' (2)"))


def test_classes_may_be_called_almost_anything() -> None:
    for name in ("recycled", "snapshot", "Icon", "thumbs", "eaDir", "MACOSX", "~tilde", "#1", "@home", "trash"):
        assert not is_left_by_a_system(name)
    for name in ("@EADIR", "THUMBS.DB", "Desktop.ini", "lost+found", "._x.jpg", ".x"):
        assert is_left_by_a_system(name)


NAMED = {
    "one.jfif": "JPEG",
    "two.jpe": "JPEG",
    "three": "PNG",
    "four.dib": "BMP",
    "five.jpg_large": "WEBP",
    "6.": "GIF",
}


def test_a_picture_is_one_by_its_content_whatever_it_is_called(tmp_path: Path) -> None:
    for position, label in enumerate(("ant", "bee")):
        fill(tmp_path / label, range(position * 100, position * 100 + 10))
    for name, kind in NAMED.items():
        (tmp_path / "bee" / name).write_bytes(encoded(kind))
    data = load(str(tmp_path))
    assert {file.path.name for file in data.files} >= {*NAMED}
    assert (len(data.files), data.notes, data.unreadable) == (26, (), ())
    assert {path.name for path in pictures([tmp_path / "bee"])} >= {*NAMED}
    assert sorted(found(tmp_path)["wrong extension"]) == ["bee/6.", "bee/five.jpg_large", "bee/three"]


def test_pictures_of_kinds_that_are_not_decoded_are_named(tmp_path: Path) -> None:
    for position, label in enumerate(("ant", "bee")):
        fill(tmp_path / label, range(position * 100, position * 100 + 10))
    foreign = {
        "scan.tif": encoded("TIFF"),
        "phone.heic": b"\0\0\0\x18ftypheic" + bytes(20),
        "a.jp2": encoded("JPEG2000"),
    }
    for name, content in foreign.items():
        (tmp_path / "ant" / name).write_bytes(content)
    (tmp_path / "ant" / "notes.txt").write_text("BMW is a brand of cars, and this is no picture of one.")
    data = load(str(tmp_path))
    assert len(data.files) == 20
    assert data.notes == (
        f"1 file passed over, not an image: {tmp_path}/ant/notes.txt",
        f"3 files passed over, not one of JPEG, PNG, GIF, BMP or WebP: {tmp_path}/ant/a.jp2, ...",
        f"`python -m app records {tmp_path} --to FOLDER` converts what Pillow reads: 3",
    )
    assert found(tmp_path) == {
        "not supported": ["ant/a.jp2", "ant/phone.heic", "ant/scan.tif"],
        "not an image": ["ant/notes.txt"],
    }
    reasons = [finding.reason for finding in check(str(tmp_path)).findings if finding.kind == "not supported"]
    way = "`python -m app records DATA --to FOLDER` converts it, or save it as JPEG or PNG"
    assert reasons == [f"it is a {kind} picture; {way}" for kind in ("JPEG 2000", "HEIC", "TIFF")]


def test_a_folder_of_such_alone_is_told_what_they_are(tmp_path: Path) -> None:
    fill(tmp_path / "ant", range(10))
    (tmp_path / "bee").mkdir()
    (tmp_path / "bee" / "scan.tif").write_bytes(encoded("TIFF"))
    words = r"/bee has no images \(JPEG, .*\); of scan.tif: it is a TIFF picture; `python .* or save it as JPEG or PNG"
    with pytest.raises(UserError, match=words + ": add some or remove it"):
        load(str(tmp_path))
    with pytest.raises(UserError, match=words):
        pictures([tmp_path / "bee"])
    # Whoever is asked what is on it says so, too.
    row = unread(tmp_path / "bee" / "scan.tif", UNKNOWN)
    assert row["error"] == "This is a TIFF picture, which is not decoded; save it as JPEG or PNG."
    assert unread(tmp_path / "ant" / "0001.png", UNKNOWN)["error"] == UNKNOWN


# ---- classes that are nearly one


def test_classes_that_differ_in_capital_letters_are_told(tmp_path: Path) -> None:
    for position, label in enumerate(("Cat", "cat", "hot dog", "hot_dog", "owl")):
        fill(tmp_path / label, range(position * 100, position * 100 + 10))
    words = ("The classes 'Cat' and 'cat' are learnt as 2; are they one?", "The classes 'hot dog' and 'hot_dog'")
    notes = load(str(tmp_path)).notes
    assert [note.startswith(word) for note, word in zip(notes, words, strict=True)] == [True, True]
    report = check(str(tmp_path))
    similar = [(finding.file, finding.reason) for finding in report.findings if finding.kind == "similar classes"]
    assert similar[0] == ("Cat", "the classes 'Cat' and 'cat' are learnt as 2; are they one?")
    assert (len(similar), report.faults) == (2, 0)


@pytest.mark.parametrize("names", [("dog", "dog "), (" dog", "dog ")])
@pytest.mark.parametrize("is_manifest", [False, True])
def test_classes_that_are_merged_are_told(tmp_path: Path, is_manifest: bool, names: tuple[str, str]) -> None:
    for position, label in enumerate((*names, "owl")):
        fill(tmp_path / label, range(position * 100, position * 100 + 10))
    name = tmp_path
    if is_manifest:
        rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(tmp_path.rglob("*.png"))]
        name = tmp_path / "list.csv"
        name.write_text("\n".join(["file,label", *rows]))
    data = load(str(name))
    assert data.labels == ("dog", "owl")
    assert [note for note in data.notes if f"{sorted(names)[0]!r} and 'dog ' are one class, 'dog'." in note]
    merged = [finding for finding in check(str(name)).findings if finding.kind == "merged classes"]
    assert [finding.file for finding in merged] == ["dog"]
    assert "merged classes" in NOTES


# ---- one of anything


def test_what_is_there_once_is_said_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path / "data" / "ant", range(20))
    fill(tmp_path / "data" / "bee", range(20, 24))
    (tmp_path / "list.txt").write_text("bee/0023.png\n")
    notes = load(str(tmp_path / "data"), quarantine=tmp_path / "list.txt").notes
    assert notes == (f"1 file was left out, as {tmp_path}/list.txt says",)
    for number in (21, 22, 23):
        (tmp_path / "data" / "bee" / f"00{number}.png").unlink()
    imbalance = [found.reason for found in check(str(tmp_path / "data")).findings if found.kind == "imbalance"]
    assert [reason.partition(";")[0] for reason in imbalance] == ["1 image, where 'ant' has 20"]
    for split in ("train", "dev"):
        fill(tmp_path / "beside" / split / "ant", [0])
    with pytest.raises(UserError, match="/dev, with 1 image, lies beside"):
        load(str(tmp_path / "beside"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"text")
    with pytest.raises(UserError, match="None of the 1 image in "):
        unlabelled(tmp_path / "broken", unwatched)
    two = FileSplit((str(tmp_path / "1.png"), str(tmp_path / "2.png")), (0, 1))
    (tmp_path / "list.txt").write_text("1.png\n")
    held_out.without(held_out.HeldOut("data", ("ant", "bee"), two), tmp_path / "list.txt")
    assert capsys.readouterr().err == f"1 image left out, as {tmp_path}/list.txt says\n"


# ---- all of it at once


FOLDERS = (
    *("ant", "bee", "Ant", "bee ", "train", "val", "test", "Training", "dev", "monday", "wrapper"),
    *("@eaDir", ".thumbnails", "__MACOSX"),
)
NAMES = ("1.png", "2.PNG", "3.jfif", "4", "5.tif", "6.txt", "7.jpg", "Thumbs.db", ".DS_Store", "._1.png")


def grow(folder: Path, rng: np.random.Generator, depth: int = 0) -> None:
    """A random tree: folders in folders, pictures, what is none, and what is broken."""
    folder.mkdir(exist_ok=True, parents=True)
    if depth < 3:
        for name in rng.choice(FOLDERS, rng.integers(0 if depth else 1, 5), replace=False):
            grow(folder / str(name), rng, depth + 1)
    for name in rng.choice(NAMES, rng.integers(0, 7 if depth else 3), replace=False):
        content = {"5.tif": b"II*\0", "6.txt": b"text", "7.jpg": b"no picture"}
        (folder / str(name)).write_bytes(content.get(str(name)) or picture(int(rng.integers(1 << 30))))


def answer(ask: Callable[[str], Any], root: Path) -> tuple[Any, str]:
    """What is answered, or the sentence of the refusal."""
    try:
        return ask(str(root)), ""
    except UserError as error:
        return None, str(error)


@pytest.mark.parametrize("seed", range(30))
def test_every_file_of_a_random_tree_is_used_refused_or_named(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "UNREADABLE_LIMIT", 1.0)
    root = tmp_path / "data"
    grow(root, np.random.default_rng(seed), depth=seed % 2)
    if seed % 2:  # a data set that can be trained on, with all kinds of things in it
        for place, label in enumerate(("ant", "bee", "Ant")):
            grow(root / ("train" if seed % 4 == 1 else "") / label, np.random.default_rng(seed), depth=1)
            fill(root / ("train" if seed % 4 == 1 else "") / label, range(place * 10, place * 10 + 5))
    there = {os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names}
    left = {path for path in there if any(map(is_left_by_a_system, Path(path).relative_to(root).parts))}
    data, refusal = answer(load, root)
    report, said = answer(check, root)
    read, _ = answer(listing, root)
    if read:
        beside = tuple(f"{finding.file}/" for finding in read.found if finding.kind == "unknown split")
        told = Counter(str(file.path) for file in read.files)
        told.update(finding.file for finding in read.found if os.path.isfile(finding.file))
        told.update(path for path in there - left if path.startswith(beside))
        assert told == Counter(there - left), "each once"
        assert sum(count for _, count in read.left) == len(left)
    if refusal:
        assert str(root) in refusal, "it names a folder, a class or a file of the data"
        assert said == refusal if said else refusal.startswith(stopping(report)[0])
    else:
        assert {str(file.path) for file in data.files} | {path for path, _ in data.unreadable} == {
            str(file.path) for file in read.files
        }
        assert stopping(report) == []
        assert report.images == len(data.files) + len(data.unreadable)
