"""Answers in a file and answers that are printed are the same: what is unknown, and several labels, too."""

import csv
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from pyarrow import parquet

from app.__main__ import main
from app.artefacts import loading, predicting
from app.artefacts.loading import Artefact
from app.program import remote
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder.folder import Run
from app.scoring import bulk, parts, target
from app.scoring.bulk import Done
from tests.makers.image_files import PHOTO, encoded
from tests.makers.image_folders import picture
from tests.makers.networks import disturb
from tests.makers.untrained_runs import untrained

LABELS = ("sand", "sea", "people")
Row = dict[str, Any]


def write(
    model: Path, photos: Path, to: Path, top: int = 2, refused: float | None = None, embeddings: bool = False
) -> Done:
    return bulk.predict(model, [photos], target.named(str(to), embeddings), top, embeddings, unwatched, refused)


def measured(images: Any) -> dict[str, Any]:
    """By the mean of each picture alone, so that none has to do with its neighbours."""
    light = images.mean(axis=(1, 2, 3)).astype(np.float32) / 255
    scores = np.stack([light, 1 - light, 2 * abs(light - 0.5)], axis=1)
    return {"probabilities": scores, "strangeness": 9 * light, "stranger": 100 * (1 - light)}


@pytest.fixture
def artefact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a file that is loaded as one that says how strange pictures are, of one label or of several."""

    def make(several: bool, names: Mapping[str, str] | None = None, judges: bool = True) -> Path:
        thresholds = (0.55, 0.52, 0.6) if several else ()
        file = tmp_path / "model.tflite"
        file.write_bytes(b"a network")
        judge = measured if judges else None
        made = Artefact(file, lambda images: measured(images)["probabilities"], LABELS, names or {}, thresholds, judge)
        monkeypatch.setattr(loading, "load", lambda *_: made)
        return file

    return make


@pytest.fixture
def photos(pictures: Path, tmp_path: Path) -> Path:
    shutil.copytree(pictures / "temple", tmp_path / "photos")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "photos" / "phone.jpg").write_bytes(encoded(PHOTO, "AVIF"))
    return tmp_path / "photos"


def read(file: Path) -> list[Row]:
    """As `predict --json` prints them."""
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as content:
            rows = [typed(row) for row in csv.DictReader(content)]
    else:
        rows = parquet.read_table(file).to_pylist()
    return [as_printed(row) for row in rows]


def typed(row: Mapping[str, str]) -> Row:
    """What a column of text stands for."""
    made: Row = {key: value or None for key, value in row.items()}
    for key, value in row.items():
        if value and key in ("classes", "names", "scores"):
            made[key] = [] if value == "|" else value.split("|")
        elif value and key == "unknown":
            made[key] = {"True": True, "False": False}[value]
    return made


def as_printed(row: Row) -> Row:
    if row["error"]:
        return {"file": row["file"], "classes": [], "scores": [], "error": row["error"]}
    made: Row = {"file": row["file"]}
    for key, start in (("classes", "class_"), ("scores", "score_"), ("names", "name_")):
        if key in row or f"{start}1" in row:
            made[key] = row[key] if key in row else [row[name] for name in row if name.startswith(start)]
    made["scores"] = [float(score) for score in made["scores"]]
    if "unknown" in row:
        made |= {"unknown": row["unknown"], "strangeness": float(row["strangeness"])}
    return made


def assert_alike(found: list[Row], right: list[Row], apart: float) -> None:
    assert len(found) == len(right)
    for row, other in zip(found, right, strict=True):
        assert row.keys() == other.keys()
        for key, value in other.items():
            if key in ("scores", "strangeness"):  # the second is a sum of large numbers
                within = apart if key == "scores" else 10 * apart
                np.testing.assert_allclose(row[key], value, rtol=within, atol=within, err_msg=row["file"])
            else:
                assert row[key] == value, row["file"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("several", [False, True])
def test_a_row_says_what_predict_says(
    artefact: Callable[..., Path], photos: Path, tmp_path: Path, several: bool, kind: str
) -> None:
    model = artefact(several, {"sea": "the sea"})
    counts = []
    for refused in (None, 40.0, 55.0):
        to = tmp_path / f"{refused}.{kind}"
        assert write(model, photos, to, refused=refused).unreadable == 2
        right = [*predicting.predict(model, [photos], 2, unwatched, refused)]
        assert_alike(read(to), right, 1e-7)
        counts.append(sum(row.get("unknown", False) for row in right))
    assert 0 < counts[0] < counts[1] < counts[2]
    named = {tuple(row["classes"]) for row in right if "error" not in row}
    assert {len(one) for one in named} == ({0, 1, 2} if several else {2})
    assert {row["error"] for row in right if "error" in row} == {
        "This is no JPEG, PNG, GIF, WebP or BMP file.",
        "This is an AVIF picture, which is not decoded; save it as JPEG or PNG.",
    }


def test_the_columns_of_a_table_of_text(artefact: Callable[..., Path], tmp_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for level in (0, 125, 255):
        (folder / f"{level:03}.png").write_bytes(encoded(PHOTO.point(lambda _, level=level: level), "PNG"))
    (folder / "broken.png").write_bytes(b"no picture")
    write(artefact(several=True), folder, tmp_path / "a.csv")
    said = (tmp_path / "a.csv").read_text().replace(str(folder), "grey")
    assert said == (
        "file,classes,scores,unknown,strangeness,error\n"
        "grey/000.png,sea|people,1.0|1.0,False,0.0,\n"
        "grey/125.png,|,|,False,4.4117646,\n"
        "grey/255.png,sand|people,1.0|1.0,True,9.0,\n"
        'grey/broken.png,,,,,"This is no JPEG, PNG, GIF, WebP or BMP file."\n'
    )


def test_another_rate_is_another_file(artefact: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    model, to = artefact(several=False), tmp_path / "a.csv"
    write(model, photos, to, refused=1.5)
    before = to.read_bytes()
    with pytest.raises(UserError, match=r"holds answers with other options, --top 2 --unknown 1\.5: move it"):
        write(model, photos, to, refused=40)
    with pytest.raises(UserError, match=r"other options, --top 2 --unknown 1\.5: move it"):
        write(model, photos, to)
    assert write(model, photos, to, refused=1.5).before
    assert to.read_bytes() == before


def test_what_a_model_cannot_say_leaves_nothing(artefact: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    model = artefact(several=False, judges=False)
    to = tmp_path / "answers" / "a.parquet"
    with pytest.raises(UserError, match=r"model\.tflite does not say how strange a picture is: leave --unknown out"):
        write(model, photos, to, refused=1)
    with pytest.raises(UserError, match=r"model\.tflite has no features"):
        write(model, photos, to, embeddings=True)
    assert not to.parent.exists()
    assert write(model, photos, to).rows == 35
    assert parquet.read_schema(to).names == ["file", "class_1", "score_1", "class_2", "score_2", "error"]


def test_pictures_of_a_cloud_have_their_addresses_and_go_on_from_an_empty_cache(
    artefact: Callable[..., Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = artefact(several=False)
    monkeypatch.setattr(parts, "ROWS", 16)
    monkeypatch.setattr(bulk, "UNIT", 8)
    monkeypatch.setitem(remote.PACKAGES, "memory", "fsspec")
    store = fsspec.filesystem("memory")
    for file in photos.iterdir():
        store.pipe(f"bucket/photos/{file.name}", file.read_bytes())

    class Killed(BaseException):
        pass

    def killed(folder: Path, number: int, rows: Any) -> None:
        real(folder, number, rows)
        raise Killed

    def fetched(cache: str) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        return remote.fetched("memory://bucket/photos")

    real = parts.write
    try:
        with monkeypatch.context() as patched:
            patched.setattr(parts, "write", killed)
            first = fetched("cache")
            with pytest.raises(Killed):
                write(model, first, tmp_path / "a.jsonl")
        shutil.rmtree(tmp_path / "cache")
        assert write(model, fetched("cache"), tmp_path / "a.jsonl").rows == 35
        assert write(model, fetched("another"), tmp_path / "a.jsonl").before
        assert_alike(read(tmp_path / "a.jsonl"), [*predicting.predict(model, [fetched("another")], 2, unwatched)], 1e-7)
    finally:
        store.store.clear()
    assert [row["file"] for row in read(tmp_path / "a.jsonl")] == [
        f"memory://bucket/photos/{name}" for name in sorted(file.name for file in photos.iterdir())
    ]
    (index,) = json.loads((tmp_path / "a.jsonl.index.json").read_text())["parts"]
    assert (index["first"], index["last"]) == ("memory://bucket/photos/00.jpg", "memory://bucket/photos/phone.jpg")


def test_rows_are_printed_as_they_come(
    artefact: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, asked = artefact(several=False), 0

    def interrupted(images: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return measured(images)

    made = Artefact(model, measured, LABELS, {}, (), interrupted)
    monkeypatch.setattr(loading, "load", lambda *_: made)
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(model), str(photos)])
    assert ended.value.code == 130
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{photos}/{name}" for name in ("00.jpg", "01.JPG", "02.jpeg")
    ]


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run that names several labels and says how strange pictures are, and its export."""
    from app import exporting
    from app.evaluation import strangeness
    from app.run_folder import golden

    run = untrained(tmp_path_factory.mktemp("several") / "run", 32, LABELS)
    known = run.read_classifier().model_copy(update={"activation": "sigmoid"})
    network = disturb(known.build())
    network.save(run.model)
    inputs = np.stack([known.preprocessing(known.preprocessing.decode(picture(seed))) for seed in range(40)])
    reading = strangeness.Reading(network, count=40)
    scores = reading.predict_on_batch(inputs)
    fitted = reading.fit()
    assert not isinstance(fitted, str), fitted
    strangeness.write(run, fitted)
    thresholds = np.quantile(scores, (0.4, 0.6, 0.8), axis=0, method="midpoint").diagonal()
    run.classifier.write_text(known.model_copy(update={"thresholds": tuple(thresholds.tolist())}).model_dump_json())
    golden.keep(run, ((picture(seed), "sand|sea") for seed in range(4)))
    version, _ = exporting.export(run.folder, tmp_path_factory.mktemp("exports"))
    return {"run": run.folder, "SavedModel": version, "LiteRT": version / "model.tflite"}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["run", "SavedModel", "LiteRT"])
@pytest.mark.parametrize("several", [False, True])
def test_every_form_of_a_network_says_the_same_into_a_file(
    finished_run: Run,
    exported: Path,
    strange: dict[str, Path],
    pictures: Path,
    tmp_path: Path,
    form: str,
    several: bool,
) -> None:
    from app.evaluation import prediction

    plain = {"run": finished_run.folder, "SavedModel": exported, "LiteRT": exported / "model.tflite"}
    asked = tmp_path / "asked"
    asked.mkdir()
    for seed in range(40):
        (asked / f"{seed:02}.png").write_bytes(picture(seed))
    shutil.copytree(pictures / "digit", asked / "digit")
    (asked / "broken.png").write_bytes(b"no picture")
    (asked / "phone.png").write_bytes(encoded(PHOTO, "AVIF"))
    model = strange[form] if several else plain[form]
    alone = predicting.predict if form == "LiteRT" else prediction.predict
    for refused in (None, 30.0) if several else (None,):
        for kind in ("parquet", "csv", "jsonl"):
            write(model, asked, tmp_path / f"{refused}.{kind}", refused=refused)
        right = [*alone(model, [asked], 2, unwatched, refused)]
        for kind in ("parquet", "csv", "jsonl"):
            assert_alike(read(tmp_path / f"{refused}.{kind}"), right, 1e-4)
    answered = [row for row in right if "error" not in row]
    assert len(answered) == 73
    if several:
        assert {len(row["classes"]) for row in answered} > {0, 1}
        assert {row["unknown"] for row in answered} == {False, True}
        assert write(model, asked, tmp_path / "a.parquet", refused=30.0).unreadable == 2
    else:
        with pytest.raises(UserError, match="does not say how strange a picture is"):
            write(model, asked, tmp_path / "a.parquet", refused=30.0)
