"""Folders on s3:// and gs://: that what is used is what lies there, whatever was interrupted, changed or removed.

fsspec's store in memory stands in for both, but for one test against a server that speaks S3.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from app.datasets import loading
from app.datasets.files import manifests
from app.program import paths, remote
from app.program.errors import UserError
from app.run_folder.data_name import real_name
from tests.makers.image_folders import SPLITS, animals, picture

PHOTOS = "memory://bucket/photos"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryFileSystem]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(remote.PACKAGES, "memory", "fsspec")
    monkeypatch.setitem(remote.CREDENTIALS, "memory", "nothing helps")
    monkeypatch.setattr(remote, "WAITS", (0.0, 0.0))
    found = fsspec.filesystem("memory")
    yield found
    found.store.clear()


def upload(store: Any, folder: Path, to: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.pipe(f"{to}/{path.relative_to(folder)}", path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_the_one_that_was_uploaded(store: MemoryFileSystem, tmp_path: Path) -> None:
    local = animals(tmp_path / "animals")
    upload(store, local, PHOTOS)
    paths.check_data(PHOTOS)
    mine, theirs = loading.load(PHOTOS), loading.load(str(local))
    assert (mine.name, mine.labels, mine.fingerprint) == (PHOTOS, theirs.labels, theirs.fingerprint)
    assert contents(remote.place(PHOTOS)) == contents(local)
    assert [getattr(mine, split).count for split in SPLITS] == [getattr(theirs, split).count for split in SPLITS]


def test_only_what_is_new_or_changed_is_fetched(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        store.pipe(f"{PHOTOS}/ant/{number}.png", picture(number))
    asked: list[str] = []
    get = store.get_file

    def noted(self: Any, key: str, to: str) -> None:
        asked.append(key)
        get(key, to)

    monkeypatch.setattr(MemoryFileSystem, "get_file", noted)
    folder = remote.fetched(PHOTOS)
    assert sorted(asked) == [f"bucket/photos/ant/{number}.png" for number in range(4)]
    asked.clear()
    assert remote.fetched(f"{PHOTOS}/") == folder, "a slash behind it makes no difference"
    assert asked == []
    # Another content of the same size, one that is new, and one less.
    swapped = bytes(reversed(picture(1)))
    store.pipe(f"{PHOTOS}/ant/1.png", swapped)
    store.pipe(f"{PHOTOS}/bee/9.png", b"new")
    store.rm(f"{PHOTOS}/ant/2.png")
    remote.fetched(PHOTOS)
    assert sorted(asked) == ["bucket/photos/ant/1.png", "bucket/photos/bee/9.png"]
    kept = {f"ant/{number}.png": picture(number) for number in (0, 3)}
    assert contents(folder) == kept | {"ant/1.png": swapped, "bee/9.png": b"new"}
    store.rm(f"{PHOTOS}/bee/9.png")
    assert [path.name for path in remote.fetched(PHOTOS).iterdir()] == ["ant"], "an empty class is none"
    assert "memory://bucket/photos: 2 files," in capsys.readouterr().err


def test_a_cache_that_was_emptied_is_filled_with_the_same_files_and_times(
    store: MemoryFileSystem, tmp_path: Path
) -> None:
    """So what a run has written about its pictures still holds."""
    upload(store, animals(tmp_path / "animals"), PHOTOS)
    for stored in store.store.values():
        stored.created -= timedelta(minutes=1)  # what changed a moment ago is not remembered
    before = loading.load(PHOTOS)
    manifests.write(tmp_path / "split.csv", before.files, before.known)
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    after = loading.load(PHOTOS, told=tmp_path / "split.csv")
    assert after.files == before.files
    assert after.fingerprint == before.fingerprint
    told = manifests.read_known(tmp_path / "split.csv")
    assert all(told[str(file.path)].is_at(file.path) for file in after.files)


def test_a_network_that_breaks_is_tried_again_and_gone_on_with(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        store.pipe(f"{PHOTOS}/ant/{number:02}.png", picture(number))
    get, asked = store.get_file, 0

    def breaking(self: Any, key: str, to: str) -> None:
        nonlocal asked
        asked += 1
        if asked % 2:
            Path(to).write_bytes(b"half")
            raise ConnectionError("reset by peer")
        get(key, to)

    def broken(self: Any, key: str, to: str) -> None:
        if key.endswith("07.png"):
            raise ConnectionError("reset by peer")
        get(key, to)

    monkeypatch.setattr(remote, "AT_ONCE", 1)
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "get_file", broken)
        words = r"after \d+ of 20 files the next could not be fetched \(ConnectionError: reset by peer\); the same"
        with pytest.raises(UserError, match=words):
            remote.fetched(PHOTOS)
    there = contents(remote.place(PHOTOS))
    assert there["ant/06.png"] == picture(6)
    assert "ant/07.png" not in there
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "get_file", breaking)
        folder = remote.fetched(PHOTOS)
    assert contents(folder) == {f"ant/{number:02}.png": picture(number) for number in range(20)}
    assert asked == 2 * (20 - len(there)), "what was there was not asked for again"


def test_what_a_killed_process_left_goes(store: MemoryFileSystem) -> None:
    store.pipe(f"{PHOTOS}/ant/1.png", picture(1))
    folder = remote.fetched(PHOTOS)
    (folder / "ant" / ".123-0123456789abcdef").write_bytes(b"half")
    remote.fetched(PHOTOS)
    assert contents(folder) == {"ant/1.png": picture(1)}


def test_a_manifest_comes_with_its_pictures_and_no_others(store: MemoryFileSystem) -> None:
    for number in range(24):
        store.pipe(f"memory://bucket/pictures/{number}.png", picture(number))
    rows = [f"../pictures/{number}.png,{'ant' if number % 2 else 'bee'}" for number in range(20)]
    store.pipe("memory://bucket/lists/all.csv", "\n".join(["file,label", *rows]).encode())
    data = loading.load("memory://bucket/lists/all.csv")
    assert data.labels == ("ant", "bee")
    assert len(data.files) == 20
    fetched = contents(remote.place("memory://bucket"))
    assert {*fetched} == {"lists/all.csv", *(f"pictures/{number}.png" for number in range(20))}
    mine = remote.place("memory://bucket").parents[2] / "mine.png"
    mine.write_bytes(picture(0))
    store.pipe("memory://bucket/lists/all.csv", "\n".join(["file,label", *rows, "../../../../mine.png,ant"]).encode())
    store.rm("memory://bucket/pictures/7.png")
    with pytest.raises(UserError, match=r"all\.csv, line 9: .*7\.png does not exist; mend the line or remove it"):
        loading.load("memory://bucket/lists/all.csv")
    assert mine.is_file()


def test_a_manifest_on_this_machine_says_where_its_missing_pictures_came_from(
    store: MemoryFileSystem, tmp_path: Path
) -> None:
    upload(store, animals(tmp_path / "animals"), PHOTOS)
    manifests.write(tmp_path / "split.csv", loading.load(PHOTOS).files)
    for path in remote.place(PHOTOS).rglob("*.*"):
        path.unlink()
    with pytest.raises(UserError, match=f"does not exist; it came from {PHOTOS}/.*, and `python -m app check DATA`"):
        loading.load(str(tmp_path / "split.csv"))
    loading.listing(PHOTOS)
    assert loading.load(str(tmp_path / "split.csv")).labels


def test_one_file_is_fetched_alone_and_called_by_its_address(store: MemoryFileSystem) -> None:
    store.pipe(f"{PHOTOS}/ant/1.png", picture(1))
    store.pipe(f"{PHOTOS}/ant/2.png", picture(2))
    mangled = Path(f"{PHOTOS}/ant/1.png".replace("memory", "s3"))  # as a command line makes it of an argument
    assert remote.named(mangled) == "s3://bucket/photos/ant/1.png"
    assert remote.is_remote(mangled)
    file = remote.fetched(f"{PHOTOS}/ant/1.png")
    assert contents(remote.place(PHOTOS)) == {"ant/1.png": picture(1)}
    assert remote.shown(file) == f"{PHOTOS}/ant/1.png"
    assert remote.shown(Path("photos/1.png")) == "photos/1.png"


def test_what_is_called_otherwise_is_no_address() -> None:
    for name in ("digits", "tfds:mnist", "records:/a/b", "records://a", "photos", "/photos", "C:/photos", "a:b/c"):
        assert not remote.is_remote(name)
    assert real_name("s3://bucket/photos/") == "s3://bucket/photos"


def test_keys_that_lead_out_of_the_cache_are_not_followed(store: MemoryFileSystem, tmp_path: Path) -> None:
    store.pipe(f"{PHOTOS}/ant/1.png", picture(1))
    store.store["/bucket/photos/../../../../../escaped.png"] = store.store["/bucket/photos/ant/1.png"]
    remote.fetched(PHOTOS)
    assert contents(remote.place(PHOTOS)) == {"ant/1.png": picture(1)}
    assert not [*tmp_path.rglob("escaped.png")]


REFUSED = {
    "memory://bucket/nothing": "There is nothing at memory://bucket/nothing",
    "memory://": "names no bucket; write memory://BUCKET/FOLDER",
    "https://example.org/photos": r"https:// is not read here; .* on s3:// or on gs://",
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_address_that_is_nothing_is_told_in_one_sentence(store: MemoryFileSystem, name: str) -> None:
    with pytest.raises(UserError, match=REFUSED[name]):
        remote.fetched(name)


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gs://bucket/photos is read by gcsfs: `pip install -e '\.\[cloud\]'`"):
        paths.check_data("gs://bucket/photos")


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.pipe(f"{PHOTOS}/ant/1.png", bytes(2_000_000))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(UserError, match=r"has 1 file, 2 MB, to fetch, and .* has 1 MB left; set XDG_CACHE_HOME"):
        remote.fetched(PHOTOS)


def test_what_is_too_large_for_a_picture_is_named_and_not_fetched(
    store: MemoryFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    store.pipe(f"{PHOTOS}/ant/1.png", picture(1))
    store.pipe(f"{PHOTOS}/ant/film.mp4", bytes(20_000_001))
    assert contents(remote.fetched(PHOTOS)) == {"ant/1.png": picture(1)}
    assert "1 file of more than 20 MB not fetched: bucket/photos/ant/film.mp4" in capsys.readouterr().err


class Refusing:
    """A store that fails as packages do, which each have errors of their own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def invalidate_cache(self) -> None:
        pass

    def find(self, address: str, detail: bool) -> dict[str, Any]:
        raise self.error


class NoCredentialsError(Exception):
    pass


FAILURES = {
    "no credentials": (
        NoCredentialsError("Unable to locate credentials"),
        "s3://b/p asks who you are: set AWS_PROFILE",
    ),
    "another's": (PermissionError("Access Denied"), r"may not be read by whom your credentials say \(.*Access Denied"),
    "no network": (OSError("Could not connect"), r"cannot be reached \(OSError: Could not connect\); try again"),
    "no bucket": (FileNotFoundError("The specified bucket does not exist"), "There is no bucket b"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_store_that_refuses_is_told_in_one_sentence(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, words = FAILURES[case]
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme: Refusing(error))
    with pytest.raises(UserError, match=words):
        remote.fetched("s3://b/p")


@pytest.mark.slow
def test_a_server_that_speaks_s3_is_read(tmp_path: Path, fresh_process: Any) -> None:
    """By the commands, in processes of their own: with credentials, without, and of a bucket that is not there."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1"
        )
        client.create_bucket(Bucket="bucket")
        for path in sorted(animals(tmp_path / "animals").rglob("*.png")):
            client.put_object(Bucket="bucket", Key=f"photos/{path.parent.name}/{path.name}", Body=path.read_bytes())
        client.put_object(Bucket="bucket", Key="photos/", Body=b"")  # as the console stands for a folder
        asked = (
            "from app.program import remote\nfrom app.program.errors import UserError\n"
            "try:\n    folder = remote.fetched(sys.argv[1])\n"
            "    print(len([*folder.rglob('*.png')]))\n"
            "except UserError as error:\n    print(error)\n"
        )
        there = {"AWS_ENDPOINT_URL": url, "XDG_CACHE_HOME": str(tmp_path / "cache"), **keys}
        script = "import sys\n" + asked
        assert fresh_process(script, "s3://bucket/photos", **there).strip().endswith("120")
        mine = contents(tmp_path / "cache" / "inceptions" / "remote" / "s3" / "bucket" / "photos")
        assert mine == contents(tmp_path / "animals")
        said = fresh_process(script, "s3://nosuch/photos", **there)
        assert "There is no bucket nosuch." in said or "There is nothing at s3://nosuch/photos." in said
        nobody = dict.fromkeys(keys, "") | {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
        said = fresh_process(script, "s3://bucket/photos", **{**there, **nobody})
        assert "s3://bucket/photos asks who you are" in said
    finally:
        server.stop()
    said = fresh_process(script, "s3://bucket/photos", **there)
    assert "s3://bucket/photos cannot be reached" in said
