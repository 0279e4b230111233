"""What networks are evaluated on: as little as is needed is read, and what one of them was trained on is said."""

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from app.datasets.files import scanning
from app.datasets.index import Known
from app.datasets.loading import held_out, load, of_run
from app.program.errors import UserError
from app.program.progress import unwatched
from tests.makers.image_folders import fill
from tests.makers.untrained_runs import trained_on


def divided(root: Path, first: int) -> Path:
    """Three splits of two classes with six pictures each, others for every `first`."""
    for place, split in enumerate(("train", "val", "test")):
        for position, label in enumerate(("ant", "bee")):
            start = first + place * 100 + position * 10
            fill(root / split / label, range(start, start + 6))
    return root


def test_what_one_of_the_runs_was_trained_on_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By what it shows, also in another format; not what was only validated or tested on."""
    mine, other = divided(tmp_path / "mine", 0), divided(tmp_path / "other", 1000)
    runs = [trained_on(tmp_path / "a", load(str(mine))), trained_on(tmp_path / "b", load(str(other)))]
    held_out.load(runs, str(other), unwatched)
    assert "trained on" not in capsys.readouterr().err
    for number in range(3):
        shutil.copy(mine / "train" / "ant" / f"000{number}.png", other / "test" / "ant" / f"seen {number}.png")
    Image.open(other / "train" / "bee" / "1010.png").save(other / "test" / "bee" / "seen.bmp")
    shutil.copy(mine / "val" / "ant" / "0100.png", other / "test" / "ant" / "validated.png")
    data = held_out.load(runs, str(other), unwatched)
    assert data.split.count == 17
    words = f"4 of the 17 images of {other} were trained on, so the figures are too good: 3 by {tmp_path}/a, 1 by "
    assert words + f"{tmp_path}/b." in capsys.readouterr().err
    (tmp_path / "list.txt").write_text("seen 0.png\nseen 1.png\nseen 2.png\nseen.bmp\n")
    held_out.load(runs, str(other), unwatched, tmp_path / "list.txt")
    assert "trained on" not in capsys.readouterr().err


def test_what_the_run_was_trained_on_that_it_began_with_counts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, other = divided(tmp_path / "mine", 0), divided(tmp_path / "other", 1000)
    first = trained_on(tmp_path / "first", load(str(mine)))
    run = trained_on(tmp_path / "tuned", load(str(other)), origin=first.folder)
    shutil.copy(mine / "train" / "ant" / "0000.png", other / "test" / "ant" / "seen.png")
    held_out.load([run], str(other), unwatched)
    assert f"1 of the 13 images of {other} was trained on" in capsys.readouterr().err
    shutil.rmtree(first.folder)
    held_out.load([run], str(other), unwatched)
    assert "trained on" not in capsys.readouterr().err


def test_only_test_images_are_read_where_the_folders_say_which_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained_on(tmp_path / "run", load(str(divided(tmp_path / "mine", 0))))
    other = divided(tmp_path / "other", 1000)
    (other / "train" / "ant" / "1000.png").write_bytes(b"no picture")
    opened: list[str] = []
    look = scanning.look  # type: ignore[attr-defined]

    def noted(name: str, encoded: bytes, likeness: bool = False) -> Known:
        opened.append(name)
        return look(name, encoded, likeness)

    monkeypatch.setattr(scanning, "look", noted)
    data = held_out.load([run], str(other), unwatched)
    assert data.split.count == 12
    assert sorted(opened) == sorted(name for _, _, names in os.walk(other / "test") for name in names)


def test_the_runs_own_test_images_are_those_of_its_training(tmp_path: Path) -> None:
    mine = divided(tmp_path / "mine", 0)
    data = load(str(mine))
    run = trained_on(tmp_path / "run", data)
    own, named = held_out.load([run], None, unwatched), held_out.load([run], str(mine), unwatched)
    assert own.split == named.split == data.test
    assert json.loads(run.classifier.read_text())["data"]["test"] == own.split.count


def test_data_that_changed_is_refused_with_what_changed(tmp_path: Path) -> None:
    mine = divided(tmp_path / "mine", 0)
    run = trained_on(tmp_path / "run", load(str(mine)))
    (mine / "test" / "ant" / "0200.png").unlink()
    with pytest.raises(UserError, match=r"\(1 image was removed: .*/test/ant/0200.png\), so some test images may"):
        held_out.load([run], None, unwatched)
    with pytest.raises(UserError, match=r"trained on any more: 1 image was removed: .*/test/ant/0200.png\."):
        of_run(run)
    assert held_out.load([run], str(mine), unwatched).split.count == 11
