"""Pictures that belong together, such as those of one patient, are in one split."""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.datasets.checks import check
from app.datasets.dataset import Data, Finding, ImageFile, Picture
from app.datasets.files import dividing, manifests
from app.datasets.index import Known
from app.datasets.loading import load
from app.program.errors import UserError
from tests.makers.image_folders import SPLITS, fill


def drawn(group: str) -> str:
    """By the first 48 bits of the SHA-256 of a group's name: below 0.2 test, then 0.08 of validation."""
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:6], "big") / 2**48
    return "test" if share < 0.2 else "validation" if share < 0.28 else "train"


def pictures(rows: Iterable[tuple[str, str, str | None, str]], first: int = 0) -> list[Picture]:
    """Of (what it shows, label, split, group); no two files have the same bytes."""
    return [
        Picture(
            ImageFile(Path(f"{number}.png"), label, split, group),
            Known(1, 0, hashlib.sha256(str(number).encode()).hexdigest(), shown),
        )
        for number, (shown, label, split, group) in enumerate(rows, start=first)
    ]


def placed(pictures: list[Picture]) -> dict[str, str]:
    """The split of every file, by its name."""
    splits = dividing.divide(pictures)
    found = {str(picture.file.path): split for split, members in splits.items() for picture in members}
    assert len(found) == len(pictures) == sum(map(len, splits.values()))
    return found


def of_groups(pictures: list[Picture]) -> dict[str, set[str]]:
    found = defaultdict(set)
    places = placed(pictures)
    for one in pictures:
        found[one.file.group].add(places[str(one.file.path)])
    return found


def visits(count: int, labels: str = "ab") -> list[Picture]:
    """So many groups of one to nine pictures, each of one class."""
    return pictures(
        (f"{group} {number}", labels[group % len(labels)], None, f"patient {group}")
        for group in range(count)
        for number in range(1 + group * 7 % 9)
    )


def write(path: Path, rows: Iterable[tuple[object, ...]], header: str = "file,label,group") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def manifest(root: Path, count: int = 60) -> Path:
    """Pictures in three classes; the burst of each is the tens of its number."""
    fill(root, range(count))
    rows = [(f"{number:04}.png", "abc"[number // 10 % 3], f"burst {number // 5}") for number in range(count)]
    return write(root / "photos.csv", rows)


def findings(path: Path) -> list[Finding]:
    """Without what is said of every picture of these tests."""
    return [found for found in check(str(path)).findings if found.kind != "tiny"]


def split_of(data: Data) -> dict[str, str | None]:
    return {file.path.name: file.split for file in data.files}


# ---- the rule


def test_the_name_of_a_group_decides_for_all_of_it() -> None:
    found = of_groups(visits(400))
    assert found == {f"patient {group}": {drawn(f"patient {group}")} for group in range(400)}
    shares = Counter(split for (split,) in found.values())
    assert 50 < shares["test"] < 110
    assert 15 < shares["validation"] < 50


def test_what_a_group_shows_and_how_much_of_it_there_is_moves_it_nowhere() -> None:
    before = of_groups(visits(100))
    more = pictures(((f"new {number}", "b", None, f"patient {number % 130}") for number in range(900)), first=5000)
    after = of_groups([*visits(100), *more])
    assert {group: after[group] for group in before} == before
    assert len(after) == 130


def test_equal_pictures_make_one_of_the_groups_that_have_them() -> None:
    pairs = [("cat 1", "cat 9"), ("cat 9", "cat 4"), ("cat 7", "cat 2")]
    rows = [(f"{group} {number}", "cat", None, group) for group in (f"cat {i}" for i in range(30)) for number in (0, 1)]
    rows += [(f"dog {number}", "dog", None, f"dog {number}") for number in range(30)]
    shared = [(f"shared {number}", "cat", None, group) for number, pair in enumerate(pairs) for group in pair]
    found = of_groups(pictures([*rows, *shared]))
    assert all(len(splits) == 1 for splits in found.values())
    for members in (("cat 1", "cat 4", "cat 9"), ("cat 2", "cat 7")):
        smallest = min(members, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        assert {*found[members[0]], *found[members[1]], *found[members[-1]]} == {drawn(smallest)}
    alone = [f"cat {i}" for i in range(30) if i not in (1, 2, 4, 7, 9)]
    assert {group: found[group] for group in alone} == {group: {drawn(group)} for group in alone}


def test_the_groups_in_the_order_of_their_lines_make_no_difference() -> None:
    found = visits(80)
    assert placed(found) == placed(found[::-1])


@pytest.mark.parametrize("count", [3, 4, 7])
def test_three_groups_fill_three_splits(count: int) -> None:
    for name in "abcdefgh":
        found = pictures(
            (f"{name} {group} {number}", "xyz"[number], None, f"{name}{group}")
            for group in range(count)
            for number in range(3)
        )
        splits = of_groups(found)
        assert all(len(places) == 1 for places in splits.values())
        assert set().union(*splits.values()) == {*SPLITS}


def test_no_group_is_moved_where_no_split_is_empty() -> None:
    """Also where a class is in one split alone: the next group of it would move the first one back."""
    rows = [(f"{group} {number}", "a", None, f"a{group}") for group in range(60) for number in range(2)]
    rows += [(f"b{group}", "b", None, f"b{group}") for group in range(6)]
    found = of_groups(pictures(rows))
    assert found == {group: {drawn(group)} for group in found}
    assert {drawn(f"b{group}") for group in range(6)} < {*SPLITS}, "a class that is not in every split"


def test_a_class_of_one_group_is_trained_on() -> None:
    """Whatever its hash says; and a group with several classes leaves no class without training images."""
    for number in range(40):
        rows = [(f"{group} {label}", label, None, f"{number} {group}") for group in range(5) for label in "ab"]
        rows += [("c", "c", None, f"{number} alone"), ("d", "d", None, f"{number} 0")]
        found = pictures(rows)
        assert all(len(splits) == 1 for splits in of_groups(found).values())
        places = placed(found)
        trained = {one.file.label for one in found if places[str(one.file.path)] == "train"}
        assert trained == {*"abcd"}, number


def test_pictures_without_groups_are_divided_as_ever() -> None:
    """By the hash of the file, of equal ones the smallest: runs that were trained before go on."""
    found = pictures((f"{number % 150}", "ab"[number % 2], None, "") for number in range(200))
    digests = defaultdict(list)
    for one in found:
        digests[one.shown].append(one.known.encoded)
    places = placed(found)
    for one in found:
        share = int(min(digests[one.shown])[:12], 16) / 16**12
        wanted = "test" if share < 0.2 else "validation" if share < 0.28 else "train"
        assert places[str(one.file.path)] == wanted


# ---- groups beside splits that are named


def test_a_picture_without_a_split_follows_its_group() -> None:
    rows: list[tuple[str, str, str | None, str]] = []
    for number, split in enumerate((*SPLITS, None)):
        rows += [(f"{number} {label} {i}", label, split, f"{number} {label}") for label in "ab" for i in range(3)]
    rows += [(f"later {number}", "a", None, f"{number} b") for number in range(3)]
    rows += [("0 a 0", "a", None, "9 a"), ("2 a 1", "a", None, "8 a")]  # equal pictures, and so of the same group
    found = pictures(rows)
    places = placed(found)
    assert [places[f"{number}.png"] for number in range(18)] == [split for split in SPLITS for _ in range(6)]
    assert [places[f"{number}.png"] for number in range(18, 24)] == ["train"] * 6  # no split is missing
    assert [places[f"{number}.png"] for number in range(24, 29)] == ["train", "validation", "test", "train", "test"]


# ---- from the manifest to the run, and back


def test_a_manifest_with_groups_is_divided_by_them_and_the_shares_are_told(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    data = load(str(path))
    assert {file.path.name: file.group for file in data.files} == {
        f"{number:04}.png": f"burst {number // 5}" for number in range(60)
    }
    splits = defaultdict(set)
    for file in data.files:
        splits[file.group].add(file.split)
    assert all(len(found) == 1 for found in splits.values())
    shares = [f"{getattr(data, split).count / 60:.1%} {split}" for split in SPLITS]
    assert data.notes[0] == f"12 groups, each in one split: {', '.join(shares)}"
    assert [found.reason for found in findings(path)] == [*data.notes]


def test_a_second_run_and_a_grown_data_set_divide_as_the_first_did(tmp_path: Path) -> None:
    assert {drawn(f"burst {number}") for number in range(24)} == {*SPLITS}, "no split is empty at first"
    first = split_of(load(str(manifest(tmp_path, 120))))
    assert split_of(load(str(manifest(tmp_path, 120)))) == first
    grown = split_of(load(str(manifest(tmp_path, 180))))
    assert {file: grown[file] for file in first} == first
    assert len(grown) == 180


def test_the_split_file_of_a_run_has_the_groups_and_is_trained_on_alike(tmp_path: Path) -> None:
    data = load(str(manifest(tmp_path)))
    manifests.write(tmp_path / "split.csv", data.files, data.known)
    assert (tmp_path / "split.csv").read_text().startswith("file,label,split,group,size,changed,sha256,picture,notes\n")
    again = load(str(tmp_path / "split.csv"))
    assert (again.fingerprint, again.files, again.notes) == (data.fingerprint, data.files, ())
    read = manifests.read_pictures(tmp_path / "split.csv")
    assert tuple(one.file for one in read) == data.files
    assert tuple(one.known for one in read) == data.known
    # What is added later needs no split: it follows its group.
    fill(tmp_path, [900, 901])
    lines = (tmp_path / "split.csv").read_text().splitlines()
    members = [next(file for file in data.files if file.split == split) for split in ("train", "test")]
    lines += [
        f"{tmp_path}/{number:04}.png,a,,{one.group},,,,," for number, one in zip((900, 901), members, strict=True)
    ]
    (tmp_path / "grown.csv").write_text("\n".join(lines))
    grown = split_of(load(str(tmp_path / "grown.csv")))
    assert (grown["0900.png"], grown["0901.png"]) == ("train", "test")


def test_a_split_file_without_groups_is_what_it_was(tmp_path: Path) -> None:
    fill(tmp_path / "a", range(9))
    fill(tmp_path / "b", range(9, 18))
    data = load(str(tmp_path))
    manifests.write(tmp_path / "split.csv", data.files, data.known)
    assert (tmp_path / "split.csv").read_text().startswith("file,label,split,size,changed,sha256,picture,notes\n")
    assert tuple(one.file for one in manifests.read_pictures(tmp_path / "split.csv")) == data.files


def test_a_group_that_is_named_in_two_splits_is_a_leak(tmp_path: Path) -> None:
    fill(tmp_path, range(24))
    splits = ["train"] * 3 + ["val"] * 2 + ["test"] * 3
    rows = [
        (f"{number:04}.png", "ab"[number % 2], splits[number % 8], f"{splits[number % 8]} {number}")
        for number in range(20)
    ]
    rows += [("0020.png", "a", "train", "p"), ("0021.png", "a", "val", "p"), ("0022.png", "a", "val", "q")]
    rows += [("0023.png", "a", "test", "p")]
    path = write(tmp_path / "list.csv", rows, "file,label,split,group")
    assert load(str(path)).notes == (f"groups in more than one split: 1; `python -m app check {path}` names them",)
    report = check(str(path))
    assert {(Path(found.file).name, found.kind, found.reason) for found in findings(path)} == {
        (name, "group leak", f"of the group 'p', as {tmp_path}/0023.png, which is in test")
        for name in ("0020.png", "0021.png")
    }
    assert report.faults == 2
    assert sorted(report.quarantine) == ["0020.png", "0021.png"]


def test_classes_of_few_groups_are_told(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    fill(tmp_path, range(60, 70))
    lines = path.read_text() + "".join(f"{number:04}.png,rare,{'xy'[number % 2]}\n" for number in range(60, 70))
    path.write_text(lines)
    data = load(str(path))
    there = {file.split for file in data.files if file.label == "rare"}
    assert "train" in there
    lacking = " and ".join(split for split in SPLITS if split not in there)
    words = f"none of the 2 groups of 'rare' is in {lacking}; to have one there, name the splits in a column 'split'"
    assert words in data.notes[1:]
    assert words in {found.reason for found in findings(path) if found.kind == "class not in a split"}


@pytest.mark.parametrize(("line", "group"), [(2, ""), (5, "  "), (61, "")])
def test_a_gap_among_the_groups_is_refused_by_its_line(tmp_path: Path, line: int, group: str) -> None:
    path = manifest(tmp_path)
    lines = path.read_text().splitlines()
    lines[line - 1] = ",".join([*lines[line - 1].split(",")[:2], group])
    path.write_text("\n".join(lines))
    words = f"{path}, line {line} has no group: write one, such as the name of the file where an image"
    with pytest.raises(UserError, match=f"^{re.escape(words)}.*, or remove the column.$"):
        load(str(path))


def test_too_few_groups_stop_a_training(tmp_path: Path) -> None:
    fill(tmp_path, range(20))
    rows = [(f"{number:04}.png", "ab"[number % 2], f"p{number % 4 // 2}") for number in range(20)]
    path = write(tmp_path / "list.csv", rows)
    with pytest.raises(UserError, match=r"list.csv has too few groups for a \w+ split: give each class at least three"):
        load(str(path))


def test_groups_are_one_however_their_accents_are_written(tmp_path: Path) -> None:
    path = manifest(tmp_path)
    path.write_text(path.read_text().replace("burst 1\n", "Zo\u00eb\n", 3).replace("burst 1\n", " Zoe\u0308 \n"))
    assert len({file.group for file in load(str(path)).files}) == 12
