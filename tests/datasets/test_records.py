"""TFRecord shards: that they are the data they were written from, and stay so."""

import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from PIL import Image

from app.datasets.dataset import Data
from app.datasets.loading.named import load
from app.datasets.prepared import records
from app.images.decoding import decode
from app.program.errors import UserError
from app.program.progress import unwatched
from tests.makers.image_folders import SPLITS, animals, examples, fill, order, places


@pytest.fixture
def three_classes(tmp_path: Path) -> Path:
    return animals(tmp_path / "animals")


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SHARD", 7)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records_are_the_data_they_were_written_from(three_classes: Path, tmp_path: Path) -> None:
    data = load(str(three_classes))
    records.write(data, tmp_path / "records", unwatched)
    found = load(f"records:{tmp_path / 'records'}")
    assert found.name == f"records:{tmp_path / 'records'}"
    assert (found.labels, found.fingerprint, found.image_size) == (data.labels, data.fingerprint, None)
    for split in SPLITS:
        mine, theirs = getattr(found, split), getattr(data, split)
        assert mine.count == theirs.count
        assert examples(mine) == examples(theirs)
        for seed, epoch in ((0, 0), (0, 1), (12345, 1)):
            # The same order: a training on records is that on the files.
            assert order(mine, seed, epoch) == order(theirs, seed, epoch)
        assert order(mine, 0, 1, 2) == order(theirs, 0, 1)[2:]
        # Keras warns of a validation whose end it does not know.
        assert int(mine.in_order().cardinality()) == mine.count


def test_pictures_that_only_pillow_reads_are_converted(three_classes: Path, tmp_path: Path) -> None:
    """Among PNGs, two are saved as TIFFs, one of them on top of a name that says JPEG, and one is damaged."""

    def shown(data: Data) -> list[list[tuple[bytes, int]]]:
        splits = [examples(getattr(data, split)) for split in SPLITS]
        return [sorted((decode(encoded).numpy().tobytes(), label) for encoded, label in split) for split in splits]

    before = shown(load(str(three_classes)))
    pixels = {path: Image.open(path).copy() for path in sorted((three_classes / "ant").iterdir())[:2]}
    for path, name in zip(pixels, ("first.tif", "second.jpg"), strict=True):
        pixels[path].save(path.with_name(name), "TIFF")
        path.unlink()
    (three_classes / "ant" / "broken.tif").write_bytes((three_classes / "ant" / "first.tif").read_bytes()[:70])
    assert sum(getattr(load(str(three_classes)), split).count for split in SPLITS) == 118, "training goes without"
    data = load(str(three_classes), converts=True)
    assert [Path(file).name for file, _ in data.unreadable] == ["broken.tif"]
    assert "pictures converted to PNG: 2 TIFF" in data.notes
    records.write(data, tmp_path / "records", unwatched)
    found = load(f"records:{tmp_path / 'records'}")
    # What a picture shows divides them, not how it is packed: where each was it is now, and shows the same.
    assert shown(found) == before
    assert {path.name for path in three_classes.rglob("*.tif")} == {"first.tif", "broken.tif"}, "nothing is changed"
    assert not load(str(three_classes)).notes[0].startswith("pictures converted"), "nor remembered as a picture"
    assert sum(getattr(load(str(three_classes)), split).count for split in SPLITS) == 118


def test_other_programs_can_read_them(three_classes: Path, tmp_path: Path) -> None:
    data = load(str(three_classes))
    records.write(data, tmp_path / "records", unwatched)
    files = [path.name for path in sorted((tmp_path / "records").glob("*-of-*"))]
    counts = {split: getattr(data, split).count for split in SPLITS}
    shards = {split: -(-count // 7) for split, count in counts.items()}
    assert files == sorted(f"{split}-{i:05}-of-{n:05}" for split, n in shards.items() for i in range(n))
    text, number = tf.io.FixedLenFeature((), tf.string), tf.io.FixedLenFeature((), tf.int64)
    keys = {"image/encoded": text, "image/class/text": text, "image/filename": text, "image/class/label": number}
    found: Counter[tuple[str, bytes, int, str, str]] = Counter()
    for file in files:
        for serialized in tf.data.TFRecordDataset(str(tmp_path / "records" / file)):
            row = {key: value.numpy() for key, value in tf.io.parse_single_example(serialized, keys).items()}
            name, label = row["image/filename"].decode(), row["image/class/text"].decode()
            found[file.split("-")[0], row["image/encoded"], int(row["image/class/label"]), label, name] += 1
    assert found == Counter(
        (file.split, file.path.read_bytes(), data.labels.index(file.label), file.label, file.path.name)
        for file in data.files
    )


def test_the_index_has_the_checksums(three_classes: Path, tmp_path: Path) -> None:
    data = load(str(three_classes))
    records.write(data, tmp_path / "records", unwatched)
    index = json.loads((tmp_path / "records" / "index.json").read_text())
    assert index["labels"] == ["Zebra", "ant", "beetle"]
    assert index["fingerprint"] == data.fingerprint
    shards = [shard for split in SPLITS for shard in index[split]]
    assert {shard["file"] for shard in shards} | {"index.json"} == set(contents(tmp_path / "records"))
    for shard in shards:
        assert shard["sha256"] == hashlib.sha256((tmp_path / "records" / shard["file"]).read_bytes()).hexdigest()
    assert {split: sum(shard["count"] for shard in index[split]) for split in SPLITS} == {
        split: getattr(data, split).count for split in SPLITS
    }


def test_prepared_data_sets_become_records_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "SHARD", 1000)
    data = load("digits")
    records.write(data, tmp_path / "records", unwatched)
    found = load(f"records:{tmp_path / 'records'}")
    assert (found.labels, found.fingerprint, found.image_size) == (data.labels, data.fingerprint, 64)
    assert places(found) == places(data)
    assert len(list((tmp_path / "records").glob("train-*"))) == 2


# ---- interruptions


def stopping(after: int) -> Callable[[Iterable[Any], int, str], Iterator[Any]]:
    """A watch during which somebody presses Ctrl-C."""
    seen = itertools.count(1)

    def watch(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
        for item in items:
            if next(seen) > after:
                raise KeyboardInterrupt
            yield item

    return watch


@pytest.mark.parametrize("after", [3, 20, 110])
def test_an_interrupted_writing_goes_on_after_the_last_whole_shard(
    three_classes: Path, tmp_path: Path, after: int
) -> None:
    data = load(str(three_classes))
    records.write(data, tmp_path / "whole", unwatched)
    with pytest.raises(KeyboardInterrupt):
        records.write(data, tmp_path / "records", stopping(after))
    with pytest.raises(UserError, match=r"records in .*records are unfinished; the `records` command .* goes on"):
        load(f"records:{tmp_path / 'records'}")
    (tmp_path / "records" / ".4711-train-00099-of-00099").write_bytes(b"what a killed process leaves")
    kept = {path: path.stat().st_ino for path in (tmp_path / "records").glob("[!.]*-of-*")}
    assert (len(kept) == 0) == (after < 7)
    read: list[Any] = []

    def watch(items: Iterable[Any], count: int, what: str) -> Iterator[Any]:
        for item in items:
            read.extend([item] * what.startswith("Writing"))
            yield item

    records.write(data, tmp_path / "records", watch)
    assert contents(tmp_path / "records") == contents(tmp_path / "whole")
    assert {path: path.stat().st_ino for path in kept} == kept
    if after == 110:
        assert len(read) < 60, "the training images were read again, although all of their shards were there"


def test_a_full_disk_leaves_no_half_shard(three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(str(three_classes))
    writer = tf.io.TFRecordWriter
    opened: list[str] = []

    class Full(writer):  # type: ignore[misc, valid-type]
        def __init__(self, path: str) -> None:
            opened.append(path)
            super().__init__(path)

        def write(self, record: bytes) -> None:
            if len(opened) == 3:
                raise tf.errors.ResourceExhaustedError(None, None, f"{opened[-1]}; No space left on device")
            super().write(record)

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    with pytest.raises(UserError, match=r"train-00002-of-\d+ could not be written: no space left on the device"):
        records.write(data, tmp_path / "records", unwatched)
    assert [path.name.split("-of")[0] for path in sorted((tmp_path / "records").iterdir())] == [
        "train-00000",
        "train-00001",
        "unfinished.json",
    ]
    monkeypatch.setattr(tf.io, "TFRecordWriter", writer)
    records.write(data, tmp_path / "records", unwatched)
    assert load(f"records:{tmp_path / 'records'}").fingerprint == data.fingerprint


def test_files_that_changed_names_are_written_anew(three_classes: Path, tmp_path: Path) -> None:
    """The same images, but in another order: the shards that are there hold others than the missing ones would."""
    with pytest.raises(KeyboardInterrupt):
        records.write(load(str(three_classes)), tmp_path / "records", stopping(20))
    for position, path in enumerate(sorted(three_classes.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"renamed {position:04}.png"))
    data = load(str(three_classes))
    records.write(data, tmp_path / "records", unwatched)
    found = load(f"records:{tmp_path / 'records'}")
    assert len(places(found)) == 120
    assert examples(found.train) == examples(data.train)


# ---- damage


@pytest.fixture
def written(three_classes: Path, tmp_path: Path) -> tuple[Data, Path]:
    data = load(str(three_classes))
    records.write(data, tmp_path / "records", unwatched)
    return data, tmp_path / "records"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_damaged_shard_is_named_and_written_again(written: tuple[Data, Path], damage: Callable[[Path], None]) -> None:
    data, folder = written
    wanted = contents(folder)
    shard = sorted(folder.glob("train-00003-*"))[0]
    others = {path: path.stat().st_ino for path in folder.glob("*-of-*") if path != shard}
    damage(shard)
    with pytest.raises(UserError) as caught:
        load(f"records:{folder}")
    assert str(shard) in str(caught.value)
    assert f"`python -m app records DATA --to {folder}`" in str(caught.value)
    records.write(data, folder, unwatched)
    assert contents(folder) == wanted
    assert {path: path.stat().st_ino for path in others} == others


def no_records(folder: Path) -> str:
    shutil.rmtree(folder)
    return "holds no records"


def damaged_index(folder: Path) -> str:
    (folder / "index.json").write_text('{"labels": [')
    return "index.json is damaged"


@pytest.mark.parametrize("damage", [no_records, damaged_index])
def test_records_that_are_none_are_refused(written: tuple[Data, Path], damage: Callable[[Path], str]) -> None:
    _, folder = written
    words = damage(folder)
    with pytest.raises(UserError, match=words) as caught:
        load(f"records:{folder}")
    assert str(folder) in str(caught.value)


def test_a_folder_that_holds_something_else_is_left_alone(
    written: tuple[Data, Path], three_classes: Path, tmp_path: Path
) -> None:
    data, folder = written
    before = contents(folder)
    fill(three_classes / "ant", [555])
    with pytest.raises(UserError, match=r"holds records of .*animals as it was, not of .*animals as it is"):
        records.write(load(str(three_classes)), folder, unwatched)
    assert contents(folder) == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    for place in (tmp_path / "other", tmp_path / "other" / "thesis.txt"):
        with pytest.raises(UserError, match=r"exists and holds no records; choose another --to"):
            records.write(data, place, unwatched)
    assert contents(tmp_path / "other") == {"thesis.txt": b"years of work"}


def test_writing_what_is_written_changes_nothing(written: tuple[Data, Path]) -> None:
    data, folder = written
    before = contents(folder)
    times = {path: path.stat().st_ino for path in folder.glob("*-of-*")}
    records.write(data, folder, unwatched)
    assert contents(folder) == before
    assert {path: path.stat().st_ino for path in times} == times
