"""Labels that may be wrong."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.__main__ import app
from app.datasets import loading
from app.datasets.dataset import ImageFile
from app.evaluation import wrong_labels
from app.program.errors import UserError
from app.run_folder import out_of_fold
from app.run_folder.folder import Run
from tests.makers.untrained_runs import untrained


def test_the_least_believed_label_comes_first_and_what_is_surely_another_is_likely_wrong() -> None:
    """By hand: of the ants 0.9, 0.8 and 0.1, and of the bees 0.95, 0.7 and 0.4. The network is sure of an ant from
    (0.9 + 0.8 + 0.1) / 3 = 0.6 on, and of a bee from 0.683; so one 'ants' of 0.9 for bees is wrong, and one 'bees' of
    0.6 for ants, just."""
    files = [ImageFile(Path(str(i)), label, "train") for i, label in enumerate(["ants"] * 3 + ["bees"] * 3)]
    ants = np.array([0.9, 0.8, 0.1, 0.05, 0.3, 0.61])
    found = wrong_labels.rank(files, np.stack([ants, 1 - ants], axis=1), ("ants", "bees"))
    assert [str(one.file.path) for one in found] == ["2", "5", "4", "1", "0", "3"]
    assert [one.believed for one in found] == pytest.approx([0.1, 0.39, 0.7, 0.8, 0.9, 0.95])
    assert [one.suggested for one in found[:2]] == ["bees", "ants"]
    assert [str(one.file.path) for one in found if one.is_likely] == ["2", "5"]


def wrongly_labelled(pictures: Path, to: Path) -> tuple[Path, set[str]]:
    """The pictures with four labels that are wrong, as a manifest; and the names of those."""
    data = loading.load(str(pictures))
    rows = [[file.path, file.label, file.split] for file in data.files]
    chosen = [row for row in rows if row[2] == "train"][::16][:4]
    for row in chosen:
        row[1] = {"digit": "flower", "flower": "temple", "temple": "digit"}[str(row[1])]
    manifest = to / "wrong.csv"
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label", "split"), *rows])
    return manifest, {str(row[0]) for row in chosen}


@pytest.mark.slow
def test_labels_that_were_made_wrong_are_found_with_a_run_and_a_manifest_is_written(
    pictures: Path, finished_run: Run, tmp_path: Path
) -> None:
    manifest, wrong = wrongly_labelled(pictures, tmp_path)
    to = tmp_path / "found"
    done = CliRunner().invoke(app, ["check", str(manifest), "--with", str(finished_run.folder), "--to", str(to)])
    assert done.exit_code in (0, 1), done.output  # the pictures have notes, and perhaps faults, of their own
    with (to / "wrong_labels.csv").open(newline="") as file:
        ranking = [*csv.DictReader(file)]
    trained_on = [file for file in loading.load(str(manifest)).files if file.split != "test"]
    assert {row["file"] for row in ranking} == {str(file.path) for file in trained_on}
    believed = [float(row["believed"]) for row in ranking]
    assert believed == sorted(believed)
    assert len(wrong & {row["file"] for row in ranking[:8]}) >= 3
    with (to / "corrected.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["file"] for row in rows[: len(ranking)]] == [row["file"] for row in ranking]
    suggested = {row["file"]: row["suggested"] for row in rows if row["suggested"]}
    likely = {row["file"]: row["suggested"] for row in ranking if row["likely wrong"]}
    assert suggested == likely
    assert all(row["suggested"] != row["label"] for row in rows)
    assert f"{len(likely)} are likely wrong" in done.stdout or len(likely) == 1
    # As it is, it is the same data.
    assert loading.load(str(to / "corrected.csv")).fingerprint == loading.load(str(manifest)).fingerprint
    page = (to / "wrong_labels.html").read_text()
    assert page.count('<img src="data:image/') == len(ranking)
    assert 'src="http' not in page


def test_folds_answer_for_the_pictures_that_they_have_not_seen(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their classes may stand in another order; a picture that no fold knows is not ranked."""
    data = loading.load(str(pictures))
    files = [file for file in data.files if file.split != "test"]
    classes = data.labels[::-1]
    rng = np.random.default_rng(0)
    for number in (1, 2):
        (tmp_path / "folds").mkdir(exist_ok=True)
        run = untrained(tmp_path / "folds" / str(number), 32, classes)
        held = files[number - 1 : -1 : 2]
        rows = rng.dirichlet([1.0, 1.0, 1.0], len(held))
        names = tuple(str(file.path) for file in held)
        out_of_fold.write(run.out_of_fold, out_of_fold.Answers(names, tuple(f.label for f in held), classes, rows))
    found = wrong_labels.find(str(pictures), tmp_path / "folds")
    assert (len(found.suspects), found.unranked) == (len(files) - 1, 1)
    expected = {}
    for number in (1, 2):
        answers = out_of_fold.read(tmp_path / "folds" / str(number) / "out_of_fold.csv")
        for file, label, row in zip(answers.files, answers.labels, answers.probabilities, strict=True):
            expected[file] = row[classes.index(label)]
    assert {str(one.file.path): one.believed for one in found.suspects} == pytest.approx(expected)
    (tmp_path / "folds" / "2" / "out_of_fold.csv").unlink()
    with pytest.raises(UserError, match=r"The folds 2 of .* are not finished"):
        wrong_labels.find(str(pictures), tmp_path / "folds")


def test_folds_of_other_classes_or_none_are_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    run = untrained(tmp_path / "runs" / "1", 32, ("a", "b"))
    with pytest.raises(UserError, match="is a folder of runs, but not of folds; name one of them"):
        wrong_labels.find(str(pictures), tmp_path / "runs")
    answers = out_of_fold.Answers(("/a.png",), ("a",), ("a", "b"), np.array([[0.5, 0.5]]))
    out_of_fold.write(run.out_of_fold, answers)
    with pytest.raises(UserError, match=r"has other classes than .*new: 'digit'"):
        wrong_labels.find(str(pictures), tmp_path / "runs")


def test_few_pictures_are_judged_too_and_too_few_are_a_sentence(pictures: Path, tmp_path: Path) -> None:
    """Of three a class there are four beside those of the test: of five folds one is empty."""
    rows = []
    for name in ("digit", "flower"):
        for place, file in enumerate(sorted((pictures / name).iterdir())[:3]):
            rows.append((str(file), name, ("train", "validation", "test")[place]))
    run = untrained(tmp_path / "run", 32, ("a", "b"))
    for wanted in (rows, [row for row in rows if row[1:] != ("digit", "validation")]):
        manifest = tmp_path / "few.csv"
        with manifest.open("w", newline="") as content:
            csv.writer(content).writerows([("file", "label", "split"), *wanted])
        if wanted is rows:
            assert len(wrong_labels.find(str(manifest), run.folder).suspects) == 4
        else:
            with pytest.raises(UserError, match=r"few\.csv has too few different pictures to judge their labels"):
                wrong_labels.find(str(manifest), run.folder)


def test_what_has_no_files_has_no_labels_to_mend(finished_run: Run) -> None:
    done = CliRunner().invoke(app, ["check", "digits", "--with", str(finished_run.folder)])
    assert isinstance(done.exception, UserError)
    assert "digits has no files to mend labels of" in str(done.exception)


@pytest.mark.slow
def test_json_has_the_likely_ones(pictures: Path, finished_run: Run, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "photos")
    done = CliRunner().invoke(app, ["check", str(tmp_path / "photos"), "--with", str(finished_run.folder), "--json"])
    found = json.loads(done.stdout)["wrong_labels"]
    assert len(found["rows"]) == found["likely"]
    assert all(row["likely"] and row["suggested"] != row["label"] for row in found["rows"])
