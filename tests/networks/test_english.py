"""English names beside synsets, from what a user writes to what a user reads."""

import json
import shutil
from pathlib import Path

import pytest

from app.__main__ import main
from app.evaluation.prediction import predict
from app.networks import english
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder import load
from app.run_folder.folder import Run
from export import saved_model

TENCH, BIRD, MACHINE = LABELS = ("n01440764", "n02012849", "n03126707")
NAMES = {TENCH: "tench", BIRD: "crane", MACHINE: "crane"}


@pytest.fixture(scope="module")
def run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`finished_run` with synsets for classes, as if it were imported. Read only."""
    folder = tmp_path_factory.mktemp("synsets") / "run"
    shutil.copytree(finished_run.folder, folder, ignore=shutil.ignore_patterns("report.html", "checkpoints"))
    known = json.loads((folder / "classifier.json").read_text())
    del known["names"]  # as runs of before are
    (folder / "classifier.json").write_text(json.dumps(known | {"labels": LABELS, "data": None}))
    return Run(folder)


def test_a_classifier_names_its_synsets_and_nothing_else(run: Run, finished_run: Run) -> None:
    assert run.read_classifier().names == NAMES
    assert run.read_classifier().labels == LABELS
    assert finished_run.read_classifier().names == {}
    assert english.names_of(["cat", MACHINE]) == {MACHINE: "crane"}
    mine = run.read_classifier().model_copy(update={"names": {TENCH: "Schleie"}})
    assert type(mine).model_validate_json(mine.model_dump_json()).names == {TENCH: "Schleie"}


@pytest.mark.parametrize(
    ("text", "place"), [("tench", 0), ("Tench", 0), (TENCH, 0), (MACHINE, 2), ("1", 1)], ids=lambda value: str(value)
)
def test_a_class_is_found_by_label_name_or_number(text: str, place: int) -> None:
    assert english.number(text, LABELS, NAMES) == place


def test_what_is_no_class_or_several_is_refused() -> None:
    with pytest.raises(UserError, match=f"'crane' is the name of several classes; say which of {BIRD}, {MACHINE}"):
        english.number("crane", LABELS, NAMES)
    with pytest.raises(
        UserError, match=rf"no class 'tensh'; the nearest names are tench \({TENCH}\), crane .*from 0 to 2"
    ):
        english.number("tensh", LABELS, NAMES)
    with pytest.raises(UserError, match=r"nearest names are bee \(n1\), a, b, and"):
        english.number("c", ("a, b", "n1"), {"n1": "bee"})
    assert english.number("7", ("a", "7"), {}) == 1, "a label before a number"


def test_answers_have_the_names_beside_the_synsets(
    run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(pictures / "temple" / "00.jpg")

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            main([*arguments])
        return capsys.readouterr().out

    assert "crane (n03126707) 0." in said("predict", str(run.folder), picture)
    (row,) = json.loads(said("predict", str(run.folder), picture, "--json"))
    assert row["names"] == [NAMES[label] for label in row["classes"]]
    shown = said("explain", str(run.folder), picture, "--class", "tench", "--to", str(tmp_path / "shown"))
    assert shown.startswith(f"{picture}: tench ({TENCH}) 0.")
    for label, folder in zip(LABELS, ("digit", "flower", "temple"), strict=True):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(3):
            shutil.copy(min((pictures / folder).glob(f"0{number}.*")), tmp_path / "data" / label)
    figures = said("evaluate", str(run.folder), "--data", str(tmp_path / "data"))
    assert [f" {name} ({label}) " in figures for label, name in NAMES.items()] == [True] * 3
    told = json.loads(said("evaluate", str(run.folder), "--data", str(tmp_path / "data"), "--json"))
    assert told["names"] == NAMES
    assert [*told["per_class"]] == [*LABELS]


@pytest.mark.slow
def test_names_are_those_of_the_run_and_of_the_export(run: Run, pictures: Path, tmp_path: Path) -> None:
    mine = dict(zip(LABELS, ("Schleie", "Kranich", "Kran"), strict=True))
    shutil.copytree(run.folder, tmp_path / "run")
    classifier = run.read_classifier().model_copy(update={"names": mine})
    (tmp_path / "run" / "classifier.json").write_text(classifier.model_dump_json())
    trained = load(tmp_path / "run")
    served = [(trained.model, trained.preprocessing)]
    saved_model.write(served, LABELS, tmp_path / "export" / "1", [trained.names[label] for label in LABELS])
    for model in ("run", "export/1"):
        (row,) = predict(tmp_path / model, [pictures / "temple" / "00.jpg"], 3, unwatched)
        assert row["names"] == [mine[label] for label in row["classes"]]
