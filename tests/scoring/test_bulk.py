"""Answers about many pictures in a file: those that `predict` prints, whatever ended the command in between."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import dataset, parquet

from app.__main__ import main
from app.artefacts import loading, predicting
from app.program import files
from app.program.errors import UserError
from app.program.files import digest
from app.program.progress import unwatched
from app.program.stopping import Stopped
from app.run_folder.folder import Run
from app.scoring import asking, bulk, parts, target
from app.scoring.asking import OfFile
from app.scoring.bulk import Done
from app.scoring.listing import File
from tests import ROOT


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven parts for 99 pictures."""
    monkeypatch.setattr(parts, "ROWS", 16)
    monkeypatch.setattr(bulk, "UNIT", 8)


@pytest.fixture
def model(exported: Path) -> Path:
    return exported / "model.tflite"


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    """A copy, with two files that are no pictures for all that their names say."""
    shutil.copytree(pictures, tmp_path / "photos")
    (tmp_path / "photos" / "digit" / "03a.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "flower" / "gone.jpg").symlink_to("nowhere")
    return tmp_path / "photos"


def write(model: Path, photos: Path, to: str | Path, top: int = 2, embeddings: bool = False) -> Done:
    return bulk.predict(model, [photos], target.named(str(to), embeddings), top, embeddings, unwatched)


def as_printed(rows: list[dict[str, Any]], top: int) -> list[dict[str, Any]]:
    """Rows of columns as `predict --json` has them."""
    made = []
    for row in rows:
        places = range(1, top + 1) if row["class_1"] else ()
        one = {"file": row["file"], "classes": [row[f"class_{n}"] for n in places]}
        one |= {"scores": [float(row[f"score_{n}"]) for n in places]}
        made.append(one | ({"error": row["error"]} if row["error"] else {}))
    return made


def read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as content:
            return as_printed([*csv.DictReader(content)], 2)
    return as_printed(dataset.dataset(file).to_table().to_pylist(), 2)


def assert_alike(found: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    assert len(found) == len(right)
    for row, other in zip(found, right, strict=True):
        assert (row["file"], row["classes"], row.get("error")) == (other["file"], other["classes"], other.get("error"))
        np.testing.assert_allclose(row["scores"], other["scores"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["answers.parquet", "answers.csv", "answers.jsonl", "answers/"])
def test_the_rows_are_those_that_predict_prints(model: Path, photos: Path, tmp_path: Path, name: str) -> None:
    done = write(model, photos, f"{tmp_path}/{name}")
    right = [*predicting.predict(model, [photos], 2, unwatched)]
    assert done == Done(101, 2, before=False)
    assert [row["file"] for row in right if "error" in row] == [
        f"{photos}/digit/03a.png",
        f"{photos}/flower/gone.jpg",
    ]
    assert_alike(read(tmp_path / name), right)


def test_an_index_says_what_is_in_which_part(model: Path, photos: Path, tmp_path: Path) -> None:
    write(model, photos, f"{tmp_path}/answers/")
    index = json.loads((tmp_path / "answers" / "_index.json").read_text())
    assert (index["rows"], index["unreadable"]) == (101, 2)
    assert sorted(path.name for path in (tmp_path / "answers").iterdir()) == [
        "_index.json",
        *(f"part-{number:06}.parquet" for number in range(7)),
    ]
    assert [part["rows"] for part in index["parts"]] == [16] * 6 + [5]
    for part in index["parts"]:
        file = tmp_path / "answers" / part["file"]
        names = parquet.read_table(file)["file"].to_pylist()
        assert (part["first"], part["last"], part["sha256"]) == (names[0], names[-1], digest(file))


def test_no_score_loses_a_digit_in_a_text(model: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        write(model, photos, tmp_path / name)
    right, *others = (
        [np.array(row["scores"], np.float32).tobytes() for row in read(tmp_path / f"a.{kind}")]
        for kind in ("parquet", "csv", "jsonl")
    )
    assert others == [right, right]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["answers.parquet", "answers.csv", "answers/"])
def test_what_was_killed_goes_on_to_the_same_bytes(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write(model, photos, f"{tmp_path}/whole/{name}")
    real, written, at = parts.write, list[int](), [2, 3, 1]

    def killed(folder: Path, number: int, rows: Any) -> None:
        real(folder, number, rows)
        written.append(number)
        at[0] -= 1
        if at[0] == 0:
            at.pop(0)
            raise Killed

    monkeypatch.setattr(parts, "write", killed)
    for _ in range(3):
        with pytest.raises(Killed):
            write(model, photos, f"{tmp_path}/{name}")
    assert not (tmp_path / name).is_file()
    at[:] = [99]
    assert write(model, photos, f"{tmp_path}/{name}") == Done(101, 2, before=False)
    assert written == [*range(7)]
    assert contents(tmp_path / name) == contents(tmp_path / "whole" / name)
    assert not (tmp_path / f"{name}.parts").exists()


def contents(path: Path) -> dict[str, bytes]:
    found = path.iterdir() if path.is_dir() else [path, path.with_name(f"{path.name}.index.json")]
    return {file.name: file.read_bytes() for file in found}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_it_between_two_calls_and_loses_no_part(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    real = parts.write

    def asked(folder: Path, part: int, rows: Any) -> None:
        real(folder, part, rows)
        if part == 1:
            signal.raise_signal(number)

    monkeypatch.setattr(parts, "write", asked)
    with pytest.raises(Stopped) as stopped:
        write(model, photos, tmp_path / "a.csv")
    assert (stopped.value.code, stopped.value.step) == (code, 32)
    assert parts.done(tmp_path / "a.csv.parts", 101) == {0, 1}
    assert write(model, photos, tmp_path / "a.csv").rows == 101


def test_a_part_that_is_not_whole_is_made_again(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(model, photos, tmp_path / "right.parquet")
    half_of(model, photos, tmp_path / "a.parquet", monkeypatch)
    part = tmp_path / "a.parquet.parts" / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    write(model, photos, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "right.parquet").read_bytes()


def half_of(model: Path, photos: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Answers that a kill has left half written."""
    real = parts.write

    def killed(folder: Path, number: int, rows: Any) -> None:
        real(folder, number, rows)
        if number == 3:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(parts, "write", killed)
        with pytest.raises(Killed):
            write(model, photos, to)
    return {str(file): file.read_bytes() for file in to.parent.rglob("a.*/*") if file.is_file()}


def test_half_of_other_answers_is_not_gone_on_with(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, other = tmp_path / "a.parquet", tmp_path / "other.tflite"
    before = half_of(model, photos, to, monkeypatch)
    assert len(before) == 5
    other.write_bytes(model.read_bytes() + b" ")
    refused = "a.parquet.parts holds half of the answers {}: give that command again to end it, remove the folder to"
    with pytest.raises(UserError, match=refused.format(f"of another model, {model}")):
        write(other, photos, to)
    with pytest.raises(UserError, match=refused.format("with other options, --top 2")):
        write(model, photos, to, top=3)
    with pytest.raises(UserError, match=refused.format("of other pictures, 101 where there are 33")):
        write(model, photos / "temple", to)
    os.utime(photos / "temple" / "00.jpg", (1, 1))
    with pytest.raises(UserError, match=refused.format("of other pictures")):
        write(model, photos, to)
    assert {str(file): file.read_bytes() for file in tmp_path.rglob("a.*/*") if file.is_file()} == before
    assert not to.exists()


def test_answers_that_are_there_stay(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "a.csv"
    write(model, photos, to)
    before = contents(to)
    with monkeypatch.context() as patched:
        patched.setattr(loading, "load", lambda *_: pytest.fail("the network was loaded"))
        main_ends(["predict", str(model), str(photos), "--top", "2", "--to", str(to)])
        assert capsys.readouterr().out == f"{to} was there already: 101 pictures, of which 2 could not be read\n"
    with pytest.raises(
        UserError, match=r"a\.csv holds answers with other options, --top 2: move it, or choose another"
    ):
        write(model, photos, to, top=1)
    (photos / "temple" / "new.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.csv holds answers of other pictures, 101 where there are 102: move it"):
        write(model, photos, to)
    assert contents(to) == before


def main_ends(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


def test_what_somebody_else_put_there_stays(model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 half of what another program writes")
    with pytest.raises(UserError, match=r"a\.parquet exists, and no a.parquet.index.json beside it says of what it is"):
        write(model, photos, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="photos holds other files: choose another --to"):
        write(model, photos, photos)
    (tmp_path / "b.csv.parts").mkdir()
    (tmp_path / "b.csv.parts" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"b\.csv\.parts holds other files: move it"):
        write(model, photos, tmp_path / "b.csv")
    (tmp_path / "c.csv.index.json").write_text("{")
    with pytest.raises(UserError, match=r"c\.csv\.index\.json cannot be read"):
        write(model, photos, tmp_path / "c.csv")
    assert (tmp_path / "a.parquet").read_bytes().startswith(b"PAR1 half")


@pytest.mark.parametrize("end", ["before", "index", "file"])
def test_a_kill_at_the_very_end_is_mended(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    to = tmp_path / "a.csv"
    real = files.write_json

    def killed_before(path: Path, content: Any) -> None:
        if path == to.with_name("a.csv.index.json"):
            raise Killed
        real(path, content)

    def killed(at: target.Target, index: Any, joined: Path | None) -> None:
        files.write_json(at.index, index)
        if end == "file" and joined:
            joined.replace(at.path)
        raise Killed

    with monkeypatch.context() as patched:
        if end == "before":
            patched.setattr(target, "write_json", killed_before)
        else:
            patched.setattr(target, "end", killed)
        with pytest.raises(Killed):
            write(model, photos, to)
    assert to.exists() == (end == "file")
    assert write(model, photos, to).rows == 101
    write(model, photos, tmp_path / "right.csv")
    assert to.read_bytes() == (tmp_path / "right.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("a.*")) == ["a.csv", "a.csv.index.json"]


NAMES = [b'say "cheese", please.png', b"two\nlines.png", b"caf\xe9.png", "日本.png".encode(), b"a,b;c.png"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_name_survives(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(pictures / "digit" / "05.png", folder / os.fsdecode(name))
    main_ends(["predict", str(model), str(folder), "--top", "2", "--to", f"{tmp_path}/a.{kind}"])
    found = {row["file"].removeprefix(f"{folder}/") for row in read(tmp_path / f"a.{kind}")}
    assert found == {'say "cheese", please.png', "two\nlines.png", "caf\\udce9.png", "日本.png", "a,b;c.png"}
    assert "caf\\udce9.png" in capsys.readouterr().err


def test_a_table_of_text_has_no_embeddings_and_a_file_of_litert_none(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv: a table of text has no room for embeddings"):
        write(model, photos, tmp_path / "a.csv", embeddings=True)
    with pytest.raises(UserError, match=r"model\.tflite has no features: of an export its SavedModel has them"):
        write(model, photos, tmp_path / "a.parquet", embeddings=True)


def test_what_waits_decoded_is_bounded(model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WAITING", 30_000)
    monkeypatch.setattr(asking, "PIXELS", 15_000)
    monkeypatch.setattr(asking, "MOST_COPIES", 1)
    network = OfFile(model, 1)
    sizes: list[tuple[int, ...]] = []
    real = network._copies.get()

    def seen(images: Any) -> Any:
        sizes.append(images.shape)
        return real(images)

    network._copies.put(seen)
    listed = [File(str(path), 0, 0) for path in sorted(photos.rglob("*")) if path.is_file()]
    answers = network.answer(listed, threading.Event())
    assert [answer.error for answer in answers if answer.error] == ["This is no JPEG, PNG, GIF, WebP or BMP file."]
    assert sum(size[0] for size in sizes) == 99
    assert all(size[0] == 1 or size[0] * size[1] * size[2] <= 15_000 for size in sizes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "saved_model"])
def test_a_run_and_a_saved_model_answer_as_they_do_for_predict_with_their_features(
    finished_run: Run, exported: Path, photos: Path, tmp_path: Path, kind: str
) -> None:
    import tensorflow as tf

    from app.evaluation import prediction

    model = finished_run.folder if kind == "run" else exported
    assert write(model, photos, tmp_path / "a.parquet", embeddings=True).unreadable == 2
    assert_alike(read(tmp_path / "a.parquet"), [*prediction.predict(model, [photos], 2, unwatched)])
    table = parquet.read_table(tmp_path / "a.parquet")
    signature = tf.saved_model.load(str(exported)).signatures["features"]
    for row in table.to_pylist():
        if row["error"]:
            assert row["features"] is None
        else:
            right = signature(image_bytes=tf.constant([Path(row["file"]).read_bytes()]))["embedding"].numpy()[0]
            np.testing.assert_allclose(row["features"], right, rtol=0, atol=1e-4)
    assert str(table.schema.field("features").type) == f"fixed_size_list<element: float>[{len(right)}]"
    if kind == "saved_model":
        return
    write(model, photos, tmp_path / "a.jsonl", embeddings=True)
    features = [json.loads(line).get("features") for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    np.testing.assert_array_equal(
        [np.array(each, np.float32) for each in features if each],
        [np.array(row["features"], np.float32) for row in table.to_pylist() if row["features"]],
    )


@pytest.mark.slow
def test_an_export_of_before_that_fails_at_a_damaged_file_is_asked_one_by_one(tmp_path: Path) -> None:
    import tensorflow as tf

    from app.scoring.in_tensorflow import InTensorFlow

    def ask(contents: list[bytes]) -> dict[str, Any]:
        if b"damaged" in contents:
            raise tf.errors.InvalidArgumentError(None, None, "This file is damaged or cut short.")
        return {"classes": [[content] for content in contents], "scores": np.ones((len(contents), 1), np.float32)}

    listed = []
    for name in ("one", "damaged", "two"):
        (tmp_path / name).write_bytes(name.encode())
        listed.append(File(str(tmp_path / name), 3, 0))
    found = InTensorFlow(tmp_path, ask, 1, {}, 0).answer(listed, threading.Event())
    assert [(tuple(each.classes), each.error) for each in found] == [
        (("one",), None),
        ((), "This file is damaged or cut short."),
        (("two",), None),
    ]


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_ends_with_the_same_file(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    for copy in range(30):
        shutil.copytree(pictures, many / f"{copy:02}")

    def command(to: str) -> list[str]:
        return [sys.executable, "-m", "app", "predict", str(model), str(many), "--to", str(tmp_path / to)]

    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command("right.parquet"), check=True, env=environment, capture_output=True)
    ended = []
    for _ in range(4):
        done = len([*(tmp_path / "a.parquet.parts").glob("part-*")])
        process = subprocess.Popen(command("a.parquet"), env=environment, stderr=subprocess.PIPE)
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until:
            if len([*(tmp_path / "a.parquet.parts").glob("part-*")]) > done:
                process.kill()
            time.sleep(0.01)
        process.communicate()
        ended.append(process.returncode)
        if process.returncode == 0:
            break
    assert ended[0] == -signal.SIGKILL
    subprocess.run(command("a.parquet"), check=True, env=environment, capture_output=True)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "right.parquet").read_bytes()
