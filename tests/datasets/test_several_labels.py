"""Manifests whose pictures have several labels, or none."""

import csv
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app.datasets import label_sets
from app.datasets.checks import checking
from app.datasets.dataset import ImageFile, Picture
from app.datasets.files.dividing import divide
from app.datasets.index import Known
from app.datasets.loading import held_out
from app.datasets.loading.named import load
from app.datasets.prepared import records
from app.program.errors import UserError
from app.program.progress import unwatched
from tests.makers.image_folders import SPLITS, examples, fill, picture

SETS = ((), ("a",), ("a", "b"), ("b", "c"), ("a", "b", "c"))


def write(path: Path, *rows: tuple[str, ...]) -> Path:
    fill(path.parent, range(len(rows)))
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "label", *(("split",) if len(rows[0]) > 1 else ()))])
        csv.writer(file).writerows((f"{number:04}.png", *row) for number, row in enumerate(rows))
    return path


def labelled(path: Path, count: int = 100) -> Path:
    return write(path, *(("|".join(SETS[number % 5]) or "|",) for number in range(count)))


def test_every_picture_has_the_labels_that_its_line_says(tmp_path: Path) -> None:
    data = load(str(labelled(tmp_path / "all.csv")))
    assert data.labels == ("a", "b", "c")
    wanted = {picture(number): SETS[number % 5] for number in range(100)}
    found = {}
    targets = label_sets.rows(data.label_sets, 3)
    for split in SPLITS:
        for encoded, number in examples(getattr(data, split)):
            found[encoded] = label_sets.names(number, data.labels, data.label_sets)
            assert targets[number].tolist() == [float(label in wanted[encoded]) for label in "abc"]
            assert label_sets.targets(number, 3, data.label_sets).numpy().tolist() == targets[number].tolist()
    assert found == wanted
    assert label_sets.texts(data.labels, data.label_sets)[0] == "|"


def test_the_order_of_labels_and_the_spaces_around_them_say_nothing(tmp_path: Path) -> None:
    one = load(str(write(tmp_path / "one.csv", *([("a|b",), ("b",), ("|",)] * 20))))
    other = load(str(write(tmp_path / "other.csv", *([(" b | a|b",), (" b",), (" | ",)] * 20))))
    assert (one.labels, one.label_sets, one.fingerprint) == (other.labels, other.label_sets, other.fingerprint)
    assert one.label_sets == ((), (0, 1), (1,))


def test_one_label_each_is_data_as_it_always_was(tmp_path: Path) -> None:
    data = load(str(write(tmp_path / "one.csv", *([("a|a",), ("b",)] * 20))))
    assert (data.labels, data.label_sets) == (("a", "b"), ())
    assert label_sets.rows(data.label_sets, 2).tolist() == np.eye(2).tolist()


def test_records_hold_the_labels_of_every_picture(tmp_path: Path) -> None:
    data = load(str(labelled(tmp_path / "data" / "all.csv")))
    records.write(data, tmp_path / "records", lambda items, count, what: items)
    found = load(f"records:{tmp_path / 'records'}")
    assert (found.labels, found.label_sets, found.fingerprint) == (data.labels, data.label_sets, data.fingerprint)
    for split in SPLITS:
        assert examples(getattr(found, split)) == examples(getattr(data, split))
    (shard,) = (tmp_path / "records").glob("test-*")
    wanted = {picture(number): SETS[number % 5] for number in range(100)}
    for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        labels = wanted[feature["image/encoded"].bytes_list.value[0]]
        assert [name.decode() for name in feature["image/class/text"].bytes_list.value] == [*labels]
        assert list(feature["image/class/label"].int64_list.value) == ["abc".index(label) for label in labels]


def test_records_are_written_anew_where_another_set_of_labels_is_gone(tmp_path: Path) -> None:
    """Of pictures that cannot be read, so that all others are as they were: the numbers of their sets are not."""
    rows = [("|".join(SETS[number % 5]) or "|",) for number in range(60)]
    path = write(tmp_path / "all.csv", *rows, ("a|c",))
    (tmp_path / "0060.png").write_bytes(b"no picture")
    records.write(load(str(path)), tmp_path / "records", unwatched)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    data = load(str(path))
    records.write(data, tmp_path / "records", unwatched)
    found = load(f"records:{tmp_path / 'records'}")
    for split in SPLITS:
        right, made = (
            [label_sets.names(number, one.labels, one.label_sets) for _, number in examples(getattr(one, split))]
            for one in (data, found)
        )
        assert made == right


def test_a_folder_is_one_class_whatever_it_is_called(tmp_path: Path) -> None:
    for place, name in enumerate(("a|b", "a", "b")):
        fill(tmp_path / name, range(100 * place, 100 * place + 20))
    data = load(str(tmp_path))
    assert (data.labels, data.label_sets) == (("a", "a|b", "b"), ())


@pytest.mark.parametrize("label", ["a|", "|a", "a||b", "a| |b", "||"])
def test_an_empty_part_is_named_with_its_line(label: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.csv", ("a|b",), (label,))
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert str(caught.value).startswith(f"{path}, line 3: '{label}' has an empty part; ")


def test_pictures_that_all_have_no_label_are_nothing_to_learn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no picture with a label; a classifier needs two labels or more"):
        load(str(write(tmp_path / "none.csv", *([("|",)] * 20))))


def made(seed: int) -> list[Picture]:
    """Pictures that are hashes alone, with up to three of six labels."""
    draw, pictures = random.Random(seed), []
    for number in range(draw.randrange(6, 40)):
        names = tuple(sorted(draw.sample("abcdef", draw.choice([0, 1, 1, 2, 2, 3]))))
        content = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()
        file = ImageFile(Path(str(number)), label_sets.text(names), None, several=names if len(names) != 1 else None)
        pictures.append(Picture(file, Known(1, 1, content, content)))
    return pictures


def test_a_label_with_three_pictures_is_in_every_split_where_that_can_be() -> None:
    lacking = wanted = 0
    for seed in range(300):
        pictures = made(seed)
        splits = divide(pictures)
        everywhere = [one.known.encoded for members in splits.values() for one in members]
        assert sorted(everywhere) == sorted(one.known.encoded for one in pictures)
        assert {s: {*m} for s, m in divide(pictures[::-1]).items()} == {s: {*m} for s, m in splits.items()}
        for label in "abcdef":
            counts = {split: sum(label in one.file.labels for one in members) for split, members in splits.items()}
            if sum(counts.values()) >= 3:
                wanted += 3
                lacking += sum(not count for count in counts.values())
                assert counts["train"]
    assert lacking < 0.01 * wanted  # where combinations count it is a fifth


def test_check_counts_labels_and_not_their_combinations(tmp_path: Path) -> None:
    report = checking.check(str(labelled(tmp_path / "all.csv")))
    assert {label: row["count"] for label, row in report.classes.items()} == {"a": 60, "b": 60, "c": 40}
    assert report.faults == 0
    assert json.dumps(report.as_json())


def test_check_counts_the_labels_of_records_as_those_of_the_manifest(tmp_path: Path) -> None:
    path = labelled(tmp_path / "data" / "all.csv")
    records.write(load(str(path)), tmp_path / "records", unwatched)
    assert checking.check(f"records:{tmp_path / 'records'}").classes == checking.check(str(path)).classes


def test_the_same_picture_with_other_labels_is_a_contradiction(tmp_path: Path) -> None:
    path = labelled(tmp_path / "all.csv")
    (tmp_path / "0001.png").write_bytes((tmp_path / "0002.png").read_bytes())
    found = [finding for finding in checking.check(str(path)).findings if finding.kind == "two labels"]
    assert {Path(finding.file).name for finding in found} == {"0001.png", "0002.png"}
    assert any(finding.reason.endswith("which is 'a|b'") for finding in found)


def test_named_test_images_keep_their_labels_where_they_alone_are_read(tmp_path: Path) -> None:
    rows = [("|".join(SETS[number % 5]) or "|", "test" if number % 3 == 0 else "") for number in range(60)]
    path = write(tmp_path / "all.csv", *rows)
    found = held_out._unseen(str(path), lambda items, count, what: items)
    assert found.split.count == 20
    named = [label_sets.names(number, found.labels, found.label_sets) for _, number in examples(found.split)]
    assert named == [SETS[number % 5] for number in range(0, 60, 3)]
