"""What is remembered of image files: nothing is read twice, and nothing that changed is taken for what it was."""

import io
import os
import sqlite3
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from app.commands import data as commands
from app.datasets.checks import check
from app.datasets.files import looking, manifests, scanning
from app.datasets.files.manifests import read_known
from app.datasets.index import SETTLED, Index, Known
from app.datasets.loading import load, of_run
from app.datasets.prepared import records
from app.program.progress import unwatched
from app.run_folder.data_name import real_name
from tests.makers.image_folders import age, animals, picture
from tests.makers.untrained_runs import trained_on


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = animals(tmp_path / "photos")
    age(root)
    return root


class Reads:
    """Which files were opened, and how many decoded, since it was cleared."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()
        self.decoded = 0

    def clear(self) -> None:
        self.opened.clear()
        self.decoded = 0


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    found = Reads()
    read_bytes, look = Path.read_bytes, looking.look

    def counted(path: Path) -> bytes:
        found.opened[path.name] += 1
        return read_bytes(path)

    def looked(name: str, encoded: bytes, likeness: bool = False) -> Known:
        found.decoded += 1
        return look(name, encoded, likeness)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr(scanning, "look", looked)
    return found


def test_the_first_start_decodes_every_image_once_and_later_ones_open_none(photos: Path, reads: Reads) -> None:
    first = load(str(photos))
    assert set(reads.opened.values()) == {1}
    assert sum(reads.opened.values()) == reads.decoded == 120
    reads.clear()
    assert load(str(photos)) == first
    assert not reads.opened
    assert check(str(photos)).images == 120
    assert set(reads.opened.values()) == {1}, "for what pictures look like, which no training asks for"
    reads.clear()
    assert check(str(photos)).images == 120
    assert load(str(photos)).fingerprint == first.fingerprint
    assert not reads.opened


def test_a_check_remembers_for_trainings_and_finds_the_same_the_second_time(photos: Path, reads: Reads) -> None:
    (photos / "ant" / "cut.png").write_bytes(picture(7)[:60])
    (photos / "ant" / "tiny.jpg").write_bytes(picture(8))  # a PNG by its content
    age(photos)
    first = check(str(photos))
    reads.clear()
    assert check(str(photos)) == first
    assert {"truncated", "wrong extension", "tiny"} <= {finding.kind for finding in first.findings}
    ((file, why),) = load(str(photos)).unreadable
    assert file == str(photos / "ant" / "cut.png")
    assert why
    assert not reads.opened


def test_an_image_that_changed_is_read_again_and_alone(photos: Path, reads: Reads) -> None:
    before = load(str(photos))
    reads.clear()
    (photos / "ant" / "0200.png").write_bytes(picture(999))
    after = load(str(photos))
    assert list(reads.opened) == ["0200.png"]
    assert after.fingerprint != before.fingerprint


def test_a_copy_with_the_same_bytes_is_opened_but_not_decoded(photos: Path, reads: Reads) -> None:
    before = load(str(photos))
    reads.clear()
    age(photos, -30.0)
    assert load(str(photos)).fingerprint == before.fingerprint
    assert sum(reads.opened.values()) == 120
    assert reads.decoded == 0


def test_a_change_that_keeps_size_and_time_is_found_by_a_full_check(photos: Path) -> None:
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(2):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "BMP")
        contents.append(buffer.getvalue())
    file = photos / "ant" / "same.bmp"
    file.write_bytes(contents[0])
    (photos / "beetle" / "other.bmp").write_bytes(contents[1])
    age(photos)
    status = file.stat()
    assert not check(str(photos)).faults
    file.write_bytes(contents[1])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not check(str(photos)).faults
    assert {finding.kind for finding in check(str(photos), full=True).findings} >= {"two labels"}
    assert {finding.kind for finding in check(str(photos)).findings} >= {"two labels"}, "the full check remembers"


def test_what_changed_a_moment_ago_is_not_known_by_its_time(tmp_path: Path, reads: Reads) -> None:
    """It could change again within one tick of the clock, with the same size."""
    root = animals(tmp_path / "photos")
    load(str(root))
    reads.clear()
    load(str(root))
    assert sum(reads.opened.values()) == 120
    assert reads.decoded == 0
    assert SETTLED < 60e9


@pytest.mark.parametrize("form", ["{}/", "{}/.", "{}/../photos", "link"])
def test_one_folder_has_one_index_whatever_it_is_called(photos: Path, form: str, reads: Reads) -> None:
    load(str(photos))
    reads.clear()
    if form == "link":
        (photos.parent / "link").symlink_to(photos)
    load(str(photos.parent / "link") if form == "link" else form.format(photos))
    assert not reads.opened


def test_a_lost_or_damaged_index_costs_time_alone(photos: Path, reads: Reads) -> None:
    first = load(str(photos))
    file = Index(photos).file
    for content in (None, b"", b"no database", b"SQLite format 3\0" + bytes(200)):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        reads.clear()
        assert load(str(photos)) == first
        assert reads.decoded == 120
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM files").fetchone() == (120,)
    database.close()


def test_a_cache_that_cannot_be_written_is_done_without(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load(str(photos)).train.count > 0


def test_reading_that_is_interrupted_goes_on_where_it_was(
    photos: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "AT_ONCE", 10)
    look, seen = looking.look, []

    def interrupted(name: str, encoded: bytes, likeness: bool = False) -> Known:
        seen.append(name)
        if len(seen) == 60:
            raise KeyboardInterrupt
        return look(name, encoded, likeness)

    monkeypatch.setattr(scanning, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(str(photos))
    monkeypatch.setattr(scanning, "look", look)
    known = len(Index(photos).read())
    assert 0 < known < 70  # two threads may overtake each other
    reads.clear()
    load(str(photos))
    assert sum(reads.opened.values()) == 120 - known


@pytest.mark.parametrize("full", [False, True])
def test_a_check_that_is_interrupted_says_how_far_it_came(
    full: bool, photos: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = scanning.look  # type: ignore[attr-defined]

    def interrupted(name: str, encoded: bytes, likeness: bool = False) -> Known:
        if reads.decoded == 60:
            raise KeyboardInterrupt
        return counted(name, encoded, likeness)

    monkeypatch.setattr(scanning, "look", interrupted)
    with pytest.raises(typer.Exit) as left:
        commands.check(str(photos), full=full)
    assert left.value.exit_code == 130
    known = len(Index(photos).read())
    way = "without --full the same" if full else "the same"
    words = f"Interrupted: {known} images were looked at, {120 - known} are left; {way} command goes on from there."
    assert words in capsys.readouterr().err
    monkeypatch.setattr(scanning, "look", counted)
    reads.clear()
    commands.check(str(photos))
    assert reads.decoded == 120 - known


def test_names_that_are_not_utf_8_are_remembered(photos: Path, reads: Reads) -> None:
    name = os.fsdecode(b"\xff\xfe.png")
    (photos / "ant" / name).write_bytes(picture(77))
    age(photos)
    load(str(photos))
    reads.clear()
    load(str(photos))
    assert not reads.opened


def test_a_split_file_knows_its_images_where_the_index_is_lost(photos: Path, tmp_path: Path, reads: Reads) -> None:
    first = load(str(photos))
    manifests.write(tmp_path / "split.csv", first.files, first.known)
    assert set(read_known(tmp_path / "split.csv")) == {str(file.path) for file in first.files}
    Index(photos).file.unlink()
    reads.clear()
    assert load(str(photos), told=tmp_path / "split.csv") == first
    assert not reads.opened
    assert load(str(tmp_path / "split.csv")).fingerprint == first.fingerprint, "it is a manifest still"


def test_what_a_split_file_tells_is_no_less_than_what_a_check_noted(photos: Path, tmp_path: Path, reads: Reads) -> None:
    """Files that are only as it says by their bytes are remembered with their notes."""
    first = load(str(photos))
    noted = check(str(photos))
    assert {finding.kind for finding in noted.findings} == {"tiny"}
    manifests.write(tmp_path / "split.csv", first.files, first.known)
    Index(photos).file.unlink()
    age(photos, -30.0)
    reads.clear()
    load(str(photos), told=tmp_path / "split.csv")
    assert reads.decoded == 0
    assert check(str(photos)) == noted


@pytest.mark.parametrize("told", ["many", "", "[[1]]"])
def test_a_split_file_that_somebody_changed_tells_nothing(told: str, photos: Path, tmp_path: Path) -> None:
    first = load(str(photos))
    manifests.write(tmp_path / "split.csv", first.files, first.known)
    lines = (tmp_path / "split.csv").read_text().splitlines()
    fields = lines[1].split(",")
    fields[3 if told == "many" else 7 :] = [told]
    (tmp_path / "split.csv").write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    assert read_known(tmp_path / "split.csv") == {}
    assert load(str(tmp_path / "split.csv")).fingerprint == first.fingerprint


def test_shards_are_held_against_their_checksums_once(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    records.write(load(str(photos)), folder, unwatched)
    (shard,) = folder.glob("train-*")
    load(f"records:{folder}")
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # a moment after: not settled
    with pytest.raises(Exception, match="is damaged, its checksum is another"):
        load(f"records:{folder}")
    shard.write_bytes(content)
    age(folder)
    load(f"records:{folder}")
    assert Index(folder).read()[shard.name].changed == shard.stat().st_mtime_ns
    assert time.time_ns() - shard.stat().st_mtime_ns > SETTLED


def test_a_data_set_has_one_real_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names = ("photos", "photos/", "./photos", "link", str(tmp_path / "photos"), "photos/../photos")
    assert {real_name(name) for name in names} == {os.path.realpath(tmp_path / "photos")}
    assert {real_name(f"records:{name}") for name in names} == {f"records:{os.path.realpath(tmp_path / 'photos')}"}
    assert [real_name(name) for name in ("digits", "tfds:dots")] == ["digits", "tfds:dots"]


def test_the_data_of_a_run_is_found_from_another_working_directory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    run = trained_on(tmp_path / "run", load("photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert of_run(run).name == str(photos.resolve())
    photos.rename(
        tmp_path / "elsewhere" / "photos"
    )  # and by the name that it was given, where it has been moved with it
    assert of_run(run).name == "photos"


@pytest.mark.parametrize("name", ["photos", "photos/", "{}", "{}/../photos", "link"])
def test_a_run_has_its_quarantine_whatever_its_data_is_called(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("link").symlink_to("photos")
    quarantine = tmp_path / "list.txt"
    quarantine.write_text("ant/0200.png\n")
    run = trained_on(tmp_path / "run", load("photos", quarantine=quarantine))
    run.quarantine.write_text(quarantine.read_text())
    assert run.quarantine_of(name.format(photos)) == run.quarantine
    assert run.quarantine_of(str(photos / "ant")) is None
