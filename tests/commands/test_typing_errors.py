"""A typing error is answered before TensorFlow is imported, and says what is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.datasets.files import manifests
from app.networks import cards, synsets
from app.program import paths
from app.program.errors import UserError
from app.run_folder.folder import Run
from models import imagenet, weights

# In one process for all of them: every command begins with TensorFlow out of reach.
SCRIPT = """
import contextlib, io, json, os, sys
for name in ("tensorflow", "keras", "sklearn"):
    sys.modules[name] = None
from app.__main__ import main
os.chdir(sys.argv[1])
answers = []
for arguments in json.loads(sys.argv[2]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as ended:
            answers.append(str(ended.code) + out.getvalue())
        except BaseException as error:
            answers.append(repr(error))
print(json.dumps(answers))
"""
TRAIN = ["train", "photos", "--network", "lenet_bn", "--to", "new"]
# Of every command at least one: what is given, and what is answered.
ERRORS: list[tuple[list[str], str]] = [
    (["networks", "--diagram", "inceptoin_v3"], "There is no network 'inceptoin_v3'; the nearest names are inception_"),
    (["train", "photo", "--network", "lenet_bn", "--to", "new"], "photo does not exist. DATA is a folder"),
    (["train", "records:shards", "--network", "lenet_bn", "--to", "new"], "shards does not exist"),
    (["train", "a.txt", "--network", "lenet_bn", "--to", "new"], "a.txt is neither a folder nor a .csv file"),
    (["train", "list.csv", "--network", "lenet_bn", "--to", "new"], "no column 'label'; it has 'file', 'class'"),
    (["train", "photos", "--network", "lenet", "--to", "new"], "There is no network 'lenet'"),
    ([*TRAIN, "--set", "epoch=3"], "there is no recipe key 'epoch'"),
    ([*TRAIN, "--set", "epochs=many"], "epochs=many"),
    ([*TRAIN, "--recipe", "foto"], "There is no recipe 'foto'"),
    ([*TRAIN, "--quarantine", "nosuch.txt"], "nosuch.txt does not exist"),
    (["train", "photos", "--from", "nosuch", "--to", "new"], "nosuch does not exist; `train --to` makes a run folder"),
    (["train", "photos", "--from", "photos", "--to", "new"], "photos is not a run folder: it has no classifier.json"),
    (["train", "photos", "--from", "six", "--to", "new"], "six is not a run folder, but a folder of 2: name one of "),
    (["compare", "photo", "--networks", "lenet_bn", "--to", "new"], "photo does not exist. DATA is a folder"),
    (["compare", "photos", "--networks", "lenet_bn,lenet", "--to", "new"], "There is no network 'lenet'"),
    (["compare", "photos", "--networks", "all", "--set", "epoch=1", "--to", "new"], "no recipe key 'epoch'"),
    (["check", "photo"], "photo does not exist. DATA is a folder"),
    (["check", "photos", "--run", "nosuch"], "nosuch does not exist; `train --to` makes a run folder"),
    (["records", "list.csv", "--to", "new"], "no column 'label'; it has 'file', 'class'"),
    (["import", "a.h5", "--network", "inception_v3", "--source", "keras", "--to", "new"], "a.h5 does not exist"),
    (["import", "a.txt", "--network", "inception_v3", "--source", "kera", "--to", "new"], "There is no source 'kera'"),
    (
        ["import", "a.txt", "--network", "inceptio", "--source", "keras", "--to", "new"],
        "There is no network 'inceptio'",
    ),
    (
        ["import", "a.txt", "--network", "inception_v3", "--source", "keras", "--to", "new", "--labels", "imagenets"],
        "imagenets does not exist",
    ),
    (["evaluate", "nosuch"], "nosuch does not exist; `train --to` makes a run folder"),
    (["evaluate", "photos"], "photos is not a run folder: it has no classifier.json"),
    (["evaluate", "six", "--data", "photo"], "photo does not exist. DATA is a folder"),
    (["evaluate", "six", "--leave-out", "nosuch.txt"], "nosuch.txt does not exist"),
    (["predict", "nosuch", "a.txt"], "nosuch does not exist; `train --to` makes a run folder, and `export --to`"),
    (["predict", "six", "a.txt"], "six is not a run folder, but a folder of 2: name one of them, as in six/2"),
    (["predict", "six/2", "a.jpg"], "a.jpg does not exist"),
    (["predict", "six/2"], "Name the pictures, too, as in `predict MODEL IMAGE...`"),
    (["predict", "--server", "http://127.0.0.1:1", "a.txt"], "http://127.0.0.1:1 is no address of a network; one is"),
    (["predict", "--server", "http://127.0.0.1:1/v1/models/m", "a.jpg"], "a.jpg does not exist"),
    (["predict", "--server", "http://127.0.0.1:1", "--artefact", "onnx", "a.txt"], "leave --artefact out, or --server"),
    (["predict", "six/2", "a.txt", "--to", "a.xlsx"], "a.xlsx: let --to end in .parquet, .csv, .jsonl, or in / for"),
    (["predict", "six/2", "a.txt", "--to", "a.csv", "--embeddings"], "a.csv: a table of text has no room for"),
    (["predict", "six/2", "a.txt", "--embeddings"], "name a file for them with --to"),
    (["predict", "--server", "http://127.0.0.1:1", "a.txt", "--to", "a.csv"], "leave --to out, or --server"),
    (["dream", "--model", "nosuch", "--to", "a.png"], "nosuch does not exist; `train --to` makes a run folder"),
    (["dream", "a.jpg", "--model", "six/2", "--to", "a.png"], "a.jpg does not exist"),
    (["dream", "--model", "six/2", "--to", "a.jpg"], "a.jpg would be a PNG: let its name end in .png"),
    (["dream", "--model", "six/2"], "Name the picture to write with --to"),
    (["export", "nosuch", "--to", "new"], "nosuch does not exist; `train --to` makes a run folder"),
    (["verify", "nosuch"], "nosuch does not exist"),
    (["serve", "nosuch"], "nosuch does not exist"),
    (["serve", "photos"], "photos is not an export: it holds no version folder"),
    (["serve", "photos/cat"], "photos/cat is not an export: it holds no version folder"),
    (["serve", "a.txt"], "a.txt is a file; name the folder of the export, its root or one of its versions"),
    (["serve", "six", "--port", "0"], "six is not a run folder, but a folder of 2: name one of them, as in six/2"),
    (["serve", "six", "--label", "stable"], "'stable' is no label: --label NAME=VERSION, as in --label stable=3"),
    (["explain", "nosuch", "a.txt", "--to", "new"], "nosuch does not exist; `train --to` makes a run folder"),
    (["explain", "six/2", "a.jpg", "--to", "new"], "a.jpg does not exist"),
    (["explain", "six/2", "a.txt", "--method", "gradcam", "--to", "new"], "There is no method 'gradcam'"),
    (["activations", "nosuch", "a.txt", "--layer", "a", "--to", "a.png"], "nosuch does not exist; `train --to`"),
    (["activations", "six/2", "a.txt", "--layer", "a", "--to", "a.png", "--data", "photo"], "photo does not exist"),
    (["batch-norm", "report", "nosuch", "photos"], "nosuch does not exist; `train --to` makes a run folder"),
    (["batch-norm", "recalibrate", "six/2", "photo"], "photo does not exist. DATA is a folder"),
    (["batch-norm", "adapt", "six", "photos", "--to", "new"], "six is not a run folder, but a folder of 2"),
    (["study", "batch-norm", "--to", "photos"], "photos exists and is no study"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data, and with two runs in a folder, by number. Read only."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "a.txt").write_text("years of work")
    (folder / "list.csv").write_text("file,class\none.jpg,cat\n")
    for number in (2, 10):
        (folder / "six" / str(number)).mkdir(parents=True)
        (folder / "six" / str(number) / "classifier.json").write_text("{}")
    return folder


def test_every_command_answers_a_typing_error_before_tensorflow_is_imported(
    place: Path, fresh_process: Callable[..., str]
) -> None:
    before = sorted(place.rglob("*"))
    given = [arguments for arguments, _ in ERRORS]
    answers = json.loads(fresh_process(SCRIPT, place, json.dumps(given)))
    assert len(answers) == len(ERRORS)
    for (arguments, sentence), answer in zip(ERRORS, answers, strict=True):
        assert answer.startswith("Error: "), (arguments, answer)
        assert sentence in answer, arguments
        assert answer.count("\n") == 0
    assert sorted(place.rglob("*")) == before
    from app.__main__ import COMMANDS

    assert {command.__name__.rstrip("_") for command in COMMANDS} <= {arguments[0] for arguments in given}


def test_the_rooms_say_the_same() -> None:
    assert cards.SOURCES == weights.SOURCES
    assert synsets.BACKGROUND == imagenet.BACKGROUND
    with pytest.raises(UserError, match="nosuch does not exist; `train --to` makes a run folder"):
        Run(Path("nosuch")).read_classifier()


def test_a_manifest_is_read_by_the_columns_that_were_checked(tmp_path: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"")
    list_ = tmp_path / "list.CSV"
    list_.write_text("\ufeffLabel, FILE \ncat,one.jpg\n", encoding="utf-8")
    paths.check_data(str(list_))
    assert [file.label for file in manifests.listing(list_).files] == ["cat"]
    list_.write_text("")
    with pytest.raises(UserError, match="no column 'file'; it has none"):
        paths.check_data(str(list_))


def test_a_folder_of_members_stands_for_all_of_them_in_their_order(place: Path, tmp_path: Path) -> None:
    six = place / "six"
    assert paths.runs([six]) == [six / "2", six / "10"]
    assert paths.runs([six / "10", six]) == [six / "10", six / "2", six / "10"]
    assert paths.runs([six / "2"]) == [six / "2"]
    with pytest.raises(UserError, match=f"{tmp_path} is not a run folder: it has no classifier.json"):
        paths.runs([tmp_path])


def test_what_a_killed_import_left_is_no_member(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "six", tmp_path / "six")
    shutil.copytree(place / "six" / "2", tmp_path / "six" / ".incomplete-3-4711")
    assert paths.runs([tmp_path / "six"]) == [tmp_path / "six" / "2", tmp_path / "six" / "10"]


def test_the_word_imagenet_is_no_file_of_labels(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.__main__ import main
    from app.run_folder import importing

    asked: list[Any] = []

    def ask(*arguments: Any) -> Any:
        asked.append(arguments[4])
        raise UserError("enough")

    monkeypatch.setattr(importing, "import_weights", ask)
    arguments = ["import", str(place / "a.txt"), "--network", "inception_v3", "--source", "keras", "--to", "new"]
    for labels in ("imagenet", str(place / "a.txt")):
        with pytest.raises(SystemExit, match="enough"):
            main([*arguments, "--labels", labels])
    assert asked == [synsets.IN_PLACE_OF_A_FILE, place / "a.txt"]


def test_evaluate_and_export_take_the_folder_as_an_ensemble(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import evaluation, exporting
    from app.__main__ import main

    members = tmp_path / "six"
    for number in ("1", "2"):
        shutil.copytree(finished_run.folder, members / number, ignore=shutil.ignore_patterns("*.keras", "*.html"))
    asked: list[Any] = []

    def ask(*arguments: Any, **options: Any) -> Any:
        asked.append((arguments[0], options["others"], options.get("name")))
        raise UserError("enough")

    monkeypatch.setattr(evaluation, "evaluate", ask)
    monkeypatch.setattr(exporting, "export", ask)
    for arguments in (["evaluate"], ["export", "--to", str(tmp_path / "to")]):
        with pytest.raises(SystemExit, match="enough"):
            main([*arguments, str(members)])
    assert asked == [(members / "1", [members / "2"], None), (members / "1", [members / "2"], "six")]
