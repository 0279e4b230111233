"""The real command: what it says, what it ends with, and that a mistake changes nothing.

Most are called as `main`, which saves each a start of TensorFlow; a process of its own have full disks, and of every
kind of command one, for what TensorFlow says by itself.
"""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.commands import printing
from app.datasets import loading
from app.datasets.prepared import records
from app.program import progress
from app.run_folder.folder import Run
from tests import ROOT
from tests.makers import exports
from tests.oracles.references import REFERENCES

# What the commands themselves do about TensorFlow's log counts, not what the tests ask for.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
# The limit for the size of a file stands for a full disk: writes fail in the kernel, halfway through a file. Python
# ignores the signal that comes with it.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.executable, [sys.executable, "-m", "app", *sys.argv[2:]])
"""


@dataclass
class Stage:
    """What a case may use: a folder of its own, copies of the run and of its export, and the pictures (read only)."""

    folder: Path
    finished: Path
    version: Path
    pictures: Path

    def run(self) -> Path:
        """A copy of the finished run, without the report, which is large."""
        shutil.copytree(self.finished, self.folder / "run", ignore=shutil.ignore_patterns("report.html"))
        return self.folder / "run"

    def export(self, without: str = "") -> Path:
        """A copy of the export's version folder."""
        return exports.without(self.version, self.folder / "exports" / "pictures" / "1", *without.split())

    def images(self, *counts: int) -> Path:
        """A folder of as many classes, each with as many pictures."""
        for label, count in zip(("digit", "flower", "temple"), counts, strict=False):
            (self.folder / "data" / label).mkdir(parents=True)
            for path in sorted((self.pictures / label).glob("*.jpg"))[:count]:
                shutil.copy(path, self.folder / "data" / label)
        return self.folder / "data"


@dataclass
class Command:
    """Arguments, what its error must name, and the size above which no file can be written."""

    arguments: list[Any]
    names: list[Any] = field(default_factory=list)
    limit: int | None = None


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    names: list[str]
    before: dict[str, str]
    after: dict[str, str]
    stage: Stage


Case = Callable[[Stage], Command]


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below, and the hash of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def in_a_process(command: Command) -> tuple[int, str, str]:
    program = ["-m", "app"] if command.limit is None else ["-c", LIMITED, str(command.limit)]
    done = subprocess.run(
        [sys.executable, *program, *map(str, command.arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def in_this_process(command: Command, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, command.arguments)])
    out, err = capfd.readouterr()
    if isinstance(ended.value.code, str):  # which the interpreter would print
        return 1, out, f"{err}{ended.value.code}\n"
    return int(ended.value.code or 0), out, err


@pytest.fixture
def outcome(
    request: pytest.FixtureRequest,
    finished_run: Run,
    exported: Path,
    pictures: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
) -> Outcome:
    """What became of the command of a case."""
    case: Case = request.param
    stage = Stage(tmp_path_factory.mktemp(case.__name__), finished_run.folder, exported, pictures)
    command = case(stage)
    before = tree(stage.folder)
    alone = command.limit is not None or case in IN_A_PROCESS
    code, out, err = in_a_process(command) if alone else in_this_process(command, capfd)
    return Outcome(code, out, err, [str(name) for name in command.names], before, tree(stage.folder), stage)


def of(*cases: Case, rarer: Sequence[Case] = ()) -> pytest.MarkDecorator:
    marked = [pytest.param(case, marks=pytest.mark.slow) for case in rarer]
    return pytest.mark.parametrize("outcome", [*cases, *marked], indirect=True, ids=lambda case: case.__name__)


# ---- without TensorFlow


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], [], ["trian"], ["train", "digits"]], ids=str)
def test_help_and_misspelt_commands_do_not_import_tensorflow(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('tensorflow', 'keras', 'sklearn', 'numpy'):\n    sys.modules[name] = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=ROOT,
        env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if "--help" in arguments else 2)
    assert "Traceback" not in done.stderr
    if arguments == ["--help"]:
        commands_of_all = "networks train check records evaluate predict export verify import dream"
        for command in commands_of_all.split():
            assert command in done.stdout
    # The poison works: a command that computes cannot start.
    if arguments == []:
        poisoned = subprocess.run(
            [sys.executable, "-m", "app", "networks", "--diagram", "lenet_bn", "--to", str(tmp_path / "a.svg")],
            cwd=ROOT,
            env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert "import of" in poisoned.stderr


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_family_is_listed_without_tensorflow(arguments: list[str], fresh_process: Callable[..., str]) -> None:
    script = (
        "import sys\n"
        "from app.__main__ import app\n"
        "app(['networks', *sys.argv[1:]], standalone_mode=False)\n"
        "print(sorted({'tensorflow', 'keras'} & {*sys.modules}))"
    )
    assert fresh_process(script, *arguments).splitlines()[-1] == "[]"


def test_the_family_can_be_read_on_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.networks.cards import CARDS

    found = {}
    for width in (80, 140):
        monkeypatch.setattr(printing.output, "_width", width)
        with pytest.raises(SystemExit):
            main(["networks"])
        found[width] = capsys.readouterr().out.splitlines()
        assert max(len(line.rstrip()) for line in found[width]) <= width
        assert not any("…" in line for line in found[width])
    for name, card in CARDS.items():
        figures, origin = (line for line in found[80] if line.split()[:1] == [name])
        (whole,) = (line for line in found[140] if line.split()[:1] == [name])
        assert f"{card.side} x {card.side}" in figures
        assert f"{card.parameters:,} " in figures
        assert card.top_1 is None or f" {card.top_1:.1%}" in figures
        for part in (*figures.split(), card.paper, card.source or ""):
            assert part in whole
        assert card.paper in origin


# ---- a user's mistakes


def empty_folder(stage: Stage) -> Command:
    (stage.folder / "data").mkdir()
    return Command(
        ["train", stage.folder / "data", "--network", "lenet_bn", "--to", stage.folder / "run"], [stage.folder]
    )


def missing_folder(stage: Stage) -> Command:
    data = stage.folder / "nosuch"
    return Command(["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"], [data, "does not exist"])


def one_class(stage: Stage) -> Command:
    data = stage.images(6)
    return Command(["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"], [data, "'digit'"])


def class_without_images(stage: Stage) -> Command:
    data = stage.images(6, 6, 0)
    (data / "temple" / "notes.txt").write_text("none yet")
    return Command(["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"], [data / "temple"])


def text_named_jpg(stage: Stage) -> Command:
    data = stage.images(6, 6)
    (data / "flower" / "text.jpg").write_text("no picture")
    words = [data / "flower" / "text.jpg", "1 of the 13", "5%"]
    return Command(["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"], words)


def truncated_jpegs(stage: Stage) -> Command:
    data = stage.images(6, 6)
    for path in (data / "flower").iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    first = min((data / "flower").iterdir())
    return Command(["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"], [first, "6 of the 12"])


def unknown_network(stage: Stage) -> Command:
    arguments = ["train", stage.images(6, 6), "--network", "inception_v9", "--to", stage.folder / "run"]
    return Command(arguments, ["'inception_v9'", "the nearest names are inception_v", "`networks` lists all"])


def unknown_recipe(stage: Stage) -> Command:
    arguments = ["train", "digits", "--network", "lenet_bn", "--recipe", "nosuch", "--to", stage.folder / "run"]
    return Command(arguments, ["'nosuch'", "default, densenet_d2l"])


def unknown_recipe_key(stage: Stage) -> Command:
    arguments = ["train", "digits", "--network", "lenet_bn", "--set", "rate=1", "--to", stage.folder / "run"]
    return Command(arguments, ["'rate'", "optimizer.rate"])


def bad_recipe_value(stage: Stage) -> Command:
    arguments = ["train", "digits", "--network", "lenet_bn", "--set", "epochs=many", "--to", stage.folder / "run"]
    return Command(arguments, ["epochs=many"])


def unknown_data_set(stage: Stage) -> Command:
    return Command(["train", "tfds:nosuch", "--network", "lenet_bn", "--to", stage.folder / "run"], ["'nosuch'"])


def image_too_small(stage: Stage) -> Command:
    data = stage.images(8, 8)
    settings = ["--set", "image_size=32", "--to", stage.folder / "run"]
    return Command(["train", data, "--network", "inception_v3", *settings], ["inception_v3", "32 x 32", "75 x 75"])


def train_into_something_else(stage: Stage) -> Command:
    (stage.folder / "thesis").mkdir()
    (stage.folder / "thesis" / "chapter_1.txt").write_text("years of work")
    to = stage.folder / "thesis"
    return Command(["train", stage.images(6, 6), "--network", "lenet_bn", "--to", to], [to, "is not a run folder"])


def train_into_a_file(stage: Stage) -> Command:
    to = stage.folder / "thesis.txt"
    to.write_text("years of work")
    return Command(["train", stage.images(6, 6), "--network", "lenet_bn", "--to", to], [to])


def train_below_a_file(stage: Stage) -> Command:
    (stage.folder / "thesis.txt").write_text("years of work")
    to = stage.folder / "thesis.txt" / "run"
    return Command(["train", stage.images(6, 6), "--network", "lenet_bn", "--to", to], [to])


def train_nothing(stage: Stage) -> Command:
    return Command(["train", "digits", "--to", stage.folder / "run"], ["--network", "--from"])


def train_from_no_run(stage: Stage) -> Command:
    arguments = ["train", "digits", "--from", stage.images(6, 6), "--to", stage.folder / "run"]
    return Command(arguments, [stage.folder / "data", "is not a run folder"])


def train_heads_that_do_not_exist(stage: Stage) -> Command:
    arguments = ["train", "digits", "--network", "lenet_bn", "--set", "auxiliary=0.3", "--to", stage.folder / "run"]
    return Command(arguments, ["lenet_bn", "auxiliary"])


def no_label_column(stage: Stage) -> Command:
    data = stage.folder / "list.csv"
    data.write_text("file,class\none.jpg,cat\n")
    arguments = ["train", data, "--network", "lenet_bn", "--to", stage.folder / "run"]
    return Command(arguments, [data, "'label'", "'file', 'class'"])


def records_into_something_else(stage: Stage) -> Command:
    (stage.folder / "thesis").mkdir()
    (stage.folder / "thesis" / "chapter_1.txt").write_text("years of work")
    return Command(["records", stage.images(6, 6), "--to", stage.folder / "thesis"], [stage.folder / "thesis"])


def damaged_shard(stage: Stage) -> Command:
    folder = stage.folder / "records"
    records.write(loading.load(str(stage.images(6, 6))), folder, progress.unwatched)
    shard = folder / "train-00000-of-00001"
    shard.write_bytes(shard.read_bytes().replace(b"\xff\xd9", b"\xff\xd8"))
    return Command(["train", f"records:{folder}", "--network", "lenet_bn", "--to", stage.folder / "run"], [shard])


def check_against_no_run(stage: Stage) -> Command:
    return Command(["check", stage.images(6, 6), "--run", stage.folder], [stage.folder, "is not a run folder"])


def importing(stage: Stage, name: str, content: bytes, source: str) -> Command:
    file = stage.folder / name
    file.write_bytes(content)
    arguments = ["import", file, "--network", "inception_v3", "--source", source, "--to", stage.folder / "runs" / "new"]
    return Command(arguments, [file])


def import_a_foreign_file(stage: Stage) -> Command:
    return importing(stage, "holiday.h5", b"a picture of the sea" * 100, "keras")


def import_an_index_without_its_data(stage: Stage) -> Command:
    command = importing(stage, "model.ckpt.index", b"", "slim")
    return Command(
        [stage.folder / "model.ckpt" if part == command.names[0] else part for part in command.arguments],
        [stage.folder / "model.ckpt"],
    )


def import_a_pickle_that_runs_code(stage: Stage) -> Command:
    class Remove:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(stage.folder / "ran"),)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"conv.weight": Remove()}))
        archive.writestr("archive/version", "3")
    return importing(stage, "weights.pth", buffer.getvalue(), "torchvision")


def import_from_an_unknown_source(stage: Stage) -> Command:
    command = importing(stage, "weights.pth", b"", "pytorch")
    return Command(command.arguments, ["'pytorch'", "torchvision, timm"])


def import_into_something_else(stage: Stage) -> Command:
    command = importing(stage, "weights.pth", b"", "torchvision")
    to = stage.folder / "runs" / "new"
    to.mkdir(parents=True)
    (to / "chapter_1.txt").write_text("years of work")
    return Command(command.arguments, [to])


def evaluate_no_run(stage: Stage) -> Command:
    return Command(["evaluate", stage.images(6, 6)], [stage.folder / "data", "is not a run folder"])


def evaluate_unfinished_run(stage: Stage) -> Command:
    (stage.run() / "model.keras").unlink()
    return Command(["evaluate", stage.folder / "run"], [stage.folder / "run", "is not finished"])


def export_no_run(stage: Stage) -> Command:
    return Command(["export", stage.folder / "nosuch", "--to", stage.folder / "exports"], [stage.folder / "nosuch"])


def export_to_a_file(stage: Stage) -> Command:
    to = stage.folder / "exports"
    to.write_text("years of work")
    return Command(["export", stage.run(), "--to", to], [to, "is not a folder"])


def export_a_version_that_exists(stage: Stage) -> Command:
    version = stage.export()
    version.parent.rename(version.parent.with_name("run"))
    arguments = ["export", stage.run(), "--to", stage.folder / "exports", "--version", 1]
    return Command(arguments, [stage.folder / "exports" / "run" / "1", "choose another --version"])


def export_in_an_unknown_format(stage: Stage) -> Command:
    arguments = ["export", stage.run(), "--to", stage.folder / "exports", "--formats", "saved_model,coreml"]
    return Command(arguments, ["'coreml'", "saved_model, tflite, onnx, openvino"])


def verify_no_export(stage: Stage) -> Command:
    return Command(["verify", stage.images(3, 3)], [stage.folder / "data", "is not an export"])


def verify_half_a_saved_model(stage: Stage) -> Command:
    version = stage.export(without="*.tflite")
    graph = version / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    return Command(["verify", stage.folder / "exports"], [version])


def predict_with_no_model(stage: Stage) -> Command:
    image = min(stage.images(3, 3).rglob("*.jpg"))
    return Command(["predict", stage.folder / "nosuch", image], [stage.folder / "nosuch"])


def predict_a_missing_file(stage: Stage) -> Command:
    return Command(["predict", stage.run(), stage.folder / "nosuch.jpg"], [stage.folder / "nosuch.jpg"])


def dream_of_a_layer_that_does_not_exist(stage: Stage) -> Command:
    to = stage.folder / "dream.png"
    return Command(["dream", "--model", stage.finished, "--layer", "stem3", "--to", to], ["'stem3'", "stem_3"])


def full_disk_at_the_start(stage: Stage) -> Command:
    to = stage.folder / "run"
    return Command(["train", stage.images(8, 8), "--network", "lenet_bn", "--to", to], [to / "classifier.json"], 200)


def full_disk_at_a_checkpoint(stage: Stage) -> Command:
    to = stage.folder / "run"
    settings = ["--set", "epochs=1", "--set", "image_size=32", "--set", "batch_size=8", "--to", to]
    arguments = ["train", stage.images(8, 8), "--network", "lenet_bn", *settings]
    return Command(arguments, [to / "checkpoints" / "last.keras"], 100_000)


def full_disk_within_an_epoch(stage: Stage) -> Command:
    to = stage.folder / "run"
    settings = [part for one in ("image_size=32", "batch_size=4", "checkpoint.every=1") for part in ("--set", one)]
    arguments = ["train", stage.images(8, 8), "--network", "lenet_bn", *settings, "--to", to]
    return Command(arguments, [to / "checkpoints" / "step-00000001", "could not be written"], 100_000)


def unfinished(stage: Stage) -> list[Any]:
    """What goes on with a run that lacks nothing but its end."""
    run = stage.run()
    for name in ("metrics.json", "model.keras", "unknown.npz"):
        (run / name).unlink(missing_ok=True)
    settings = ["epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1"]
    setting = [part for one in settings for part in ("--set", one)]
    return ["train", stage.pictures, "--network", "lenet_bn", "--to", run, *setting]


def full_disk_at_the_model(stage: Stage) -> Command:
    return Command(unfinished(stage), [stage.folder / "run" / "model.keras"], 100_000)


def full_disk_at_the_report(stage: Stage) -> Command:
    return Command(unfinished(stage), [stage.folder / "run" / "report.html"], 2_000_000)


def full_disk_at_the_export(stage: Stage) -> Command:
    return Command(["export", stage.run(), "--to", stage.folder / "exports"], [stage.folder / "exports"], 100_000)


def full_disk_at_the_device_file(stage: Stage) -> Command:
    arguments = ["export", stage.run(), "--to", stage.folder / "exports", "--formats", "tflite"]
    return Command(arguments, [stage.folder / "exports"], 100_000)


def full_disk_at_a_shard(stage: Stage) -> Command:
    arguments = ["records", stage.images(10, 10), "--to", stage.folder / "records"]
    return Command(arguments, [stage.folder / "records" / "train-00000-of-00001"], 5_000)


MISTAKES = (
    empty_folder,
    missing_folder,
    text_named_jpg,
    unknown_network,
    unknown_data_set,
    image_too_small,
    train_into_something_else,
    evaluate_no_run,
    export_to_a_file,
    export_a_version_that_exists,
    verify_no_export,
    predict_a_missing_file,
    train_from_no_run,
    import_a_foreign_file,
    import_a_pickle_that_runs_code,
)
RARER_MISTAKES = (  # tests of the functions behind the commands see most of it
    one_class,
    class_without_images,
    truncated_jpegs,
    unknown_recipe,
    unknown_recipe_key,
    bad_recipe_value,
    train_into_a_file,
    train_below_a_file,
    evaluate_unfinished_run,
    export_no_run,
    export_in_an_unknown_format,
    verify_half_a_saved_model,
    predict_with_no_model,
    train_nothing,
    train_heads_that_do_not_exist,
    import_an_index_without_its_data,
    import_from_an_unknown_source,
    import_into_something_else,
    no_label_column,
    records_into_something_else,
    damaged_shard,
    check_against_no_run,
    dream_of_a_layer_that_does_not_exist,
)
FULL_DISKS = (full_disk_at_the_start, full_disk_at_a_checkpoint)
RARER_FULL_DISKS = (
    full_disk_within_an_epoch,
    full_disk_at_the_report,
    full_disk_at_the_export,
    full_disk_at_the_model,
    full_disk_at_the_device_file,
    full_disk_at_a_shard,
)


def assert_one_clear_sentence(outcome: Outcome) -> None:
    assert outcome.code not in (0, 2), "2 is for a command line that cannot be parsed"
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert [line for line in lines if line.startswith("Error:")] == lines[-1:], outcome.err
    assert "Traceback" not in outcome.err
    assert not [line for line in lines if "0000 00:00" in line or "WARNING" in line], "TensorFlow's log is no answer"
    for name in outcome.names:
        assert name in lines[-1]
    assert len(lines[-1]) < 600


@of(*MISTAKES, rarer=RARER_MISTAKES)
def test_a_mistake_is_answered_in_one_sentence_and_changes_nothing(outcome: Outcome) -> None:
    assert_one_clear_sentence(outcome)
    assert outcome.after == outcome.before


@of(*FULL_DISKS, rarer=RARER_FULL_DISKS)
def test_a_full_disk_is_named_and_nothing_that_was_there_is_lost(outcome: Outcome) -> None:
    assert_one_clear_sentence(outcome)
    assert {path: outcome.after.get(path) for path in outcome.before} == outcome.before
    made = {path for path in outcome.after if path not in outcome.before and outcome.after[path] != "folder"}
    finished = {
        "full_disk_at_a_checkpoint": {"run/classifier.json", "run/history.csv", "run/split.csv"},
        "full_disk_within_an_epoch": {"run/classifier.json", "run/split.csv"},
        "full_disk_at_a_shard": {"records/unfinished.json"},
        "full_disk_at_the_report": {"run/model.keras", "run/unknown.npz"},
    }
    assert made == finished.get(outcome.stage.folder.name[:-1], set()), "half-written files were left"


# ---- figures


def networks(stage: Stage) -> Command:
    return Command(["networks", "--json"])


def evaluate(stage: Stage) -> Command:
    return Command(["evaluate", stage.finished, "--json"])


def check(stage: Stage) -> Command:
    data = stage.images(6, 6)
    (data / "flower" / "text.jpg").write_text("no picture")
    return Command(["check", data, "--to", stage.folder / "found", "--json"])


def predict_with_a_run(stage: Stage) -> Command:
    images = stage.images(2, 2, 2)
    (stage.folder / "broken.jpg").write_text("no picture")
    return Command(["predict", stage.finished, images, stage.folder / "broken.jpg", "--top", 2, "--json"])


def verify(stage: Stage) -> Command:
    stage.export(without="saved_model.pb variables")
    return Command(["verify", stage.folder / "exports", "--json"])


def verify_a_tampered_answer(stage: Stage) -> Command:
    golden = stage.export(without="saved_model.pb variables") / "golden" / "golden.json"
    content = json.loads(golden.read_text())
    content[0]["probabilities"].reverse()
    golden.write_text(json.dumps(content))
    return Command(["verify", stage.folder / "exports"])


def export(stage: Stage) -> Command:
    return Command(["export", stage.run(), "--to", stage.folder / "exports", "--formats", "tflite", "--json"])


IN_A_PROCESS = (text_named_jpg, truncated_jpegs, evaluate, predict_with_a_run, export)


def only_json(outcome: Outcome) -> Any:
    """Standard output, which holds nothing else."""
    assert "Traceback" not in outcome.err
    return json.loads(outcome.out)


@of(networks)
def test_networks_have_the_published_figures(outcome: Outcome) -> None:
    rows = only_json(outcome)
    assert outcome.code == 0
    assert {row["name"] for row in rows} == set(REFERENCES)
    for row in rows:
        assert set(row) == {
            "name",
            "paper",
            "input",
            "parameters",
            "trainable",
            "multiply_adds",
            "top_1",
            "top_5",
            "accuracy_source",
            "source",
        }
        reference = REFERENCES[row["name"]]
        counts = reference.counts[min(classes for classes in reference.counts if classes is not None)]
        assert tuple(row["input"]) == reference.input_shape
        assert (row["parameters"], row["trainable"]) == (counts.total, counts.trainable)
        assert row["multiply_adds"] == pytest.approx(reference.multiply_adds, rel=1e-3)
        assert row["top_1"] is None or 0.5 < row["top_1"] < row["top_5"] < 1


def test_the_smallest_images_are_those_of_the_references() -> None:
    from app.networks.cards import CARDS

    assert {name: card.minimum for name, card in CARDS.items()} == {
        name: reference.minimum for name, reference in REFERENCES.items()
    }


@of(evaluate)
def test_evaluate_prints_the_figures_of_the_run(outcome: Outcome) -> None:
    found = only_json(outcome)
    assert outcome.code == 0
    assert {"top_1", "top_5", "loss", "count", "per_class"} <= set(found)
    wanted = json.loads((outcome.stage.finished / "metrics.json").read_text())
    inexact = ("loss", "ece", "calibrated")  # another process: another order of additions
    for key in inexact:
        assert found[key] == pytest.approx(wanted[key], rel=1e-4, abs=1e-6)
    assert {key: found[key] for key in found if key not in inexact} == {
        key: wanted[key] for key in wanted if key not in inexact
    }


@of(check)
def test_check_prints_and_writes_what_it_found(outcome: Outcome) -> None:
    found = only_json(outcome)
    assert outcome.code == 1, "there is a fault"
    data = outcome.stage.folder / "data"
    assert [(row["file"], row["kind"]) for row in found["findings"] if row["fault"]] == [
        (str(data), "too many unreadable"),
        (str(data / "flower" / "text.jpg"), "undecodable"),
    ]
    assert found["images"] == 13
    folder = outcome.stage.folder / "found"
    assert json.loads((folder / "check.json").read_text()) == found
    assert (folder / "quarantine.txt").read_text() == "flower/text.jpg\n"


@of(predict_with_a_run)
def test_predict_names_every_picture_and_every_failure(outcome: Outcome) -> None:
    rows = only_json(outcome)
    assert outcome.code == 1, "one of the files could not be read"
    *named, broken = rows
    files = sorted(str(path) for path in (outcome.stage.folder / "data").rglob("*.jpg"))
    assert [row["file"] for row in named] == files
    for row in named:
        assert set(row) == {"file", "classes", "scores"}
        assert len(row["classes"]) == len(row["scores"]) == 2
        assert row["scores"] == sorted(row["scores"], reverse=True)
    assert broken["file"] == str(outcome.stage.folder / "broken.jpg")
    assert (broken["classes"], broken["scores"]) == ([], [])
    assert "{{" not in broken["error"]
    assert broken["error"]


def test_predict_gives_the_same_with_a_run_and_its_export(finished_run: Run, exported: Path, pictures: Path) -> None:
    from app.evaluation.prediction import predict
    from app.program.progress import unwatched

    files = [pictures / "digit", min((pictures / "temple").iterdir())]
    wanted, found = ([*predict(model, files, 2, unwatched)] for model in (finished_run.folder, exported))
    assert len(found) == 34
    assert len({row["classes"][0] for row in wanted}) > 1
    for row, right in zip(found, wanted, strict=True):
        assert (row["file"], row["classes"]) == (right["file"], right["classes"])
        assert row["scores"] == pytest.approx(right["scores"], abs=1e-5)


@pytest.mark.slow
def test_predict_takes_an_export_without_a_certificate(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(exported, tmp_path / "pictures" / "1", ignore=shutil.ignore_patterns("certificate.json"))
    pictures = sorted((exported / "golden").glob("*.png"))[:2]
    said = []
    for model in (exported, tmp_path / "pictures"):
        with pytest.raises(SystemExit) as end:
            main(["predict", str(model), *map(str, pictures)])
        assert not end.value.code
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != ""


PREPARED = "preprocessing: 32 x 32 RGB, bilinear with antialias, squashed, -1..1\n"


@pytest.mark.parametrize("command", ["train", "evaluate", "batch-norm report"])
def test_a_score_is_printed_with_the_preprocessing(
    command: str, finished_run: Run, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1")
    again = ["--network", "lenet_bn", "--to", finished_run.folder, *(f"--set={setting}" for setting in settings)]
    arguments: dict[str, list[Any]] = {
        "train": [pictures, *again],
        "evaluate": [finished_run.folder],
        "batch-norm report": [finished_run.folder, pictures],
    }
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), *map(str, arguments[command])])
    assert ended.value.code == 0
    assert PREPARED in capsys.readouterr().out


CERTIFICATE = {
    "artefact",
    "precision",
    "held_out",
    "not_compared",
    "top_1_agreement",
    "max_difference",
    "tolerance",
    "differing",
    "images",
    "accuracy",
    "bytes",
    "milliseconds",
}


@of(verify)
def test_verify_prints_its_certificate(outcome: Outcome) -> None:
    found = only_json(outcome)
    assert outcome.code == 0
    assert set(found) == {
        "ok",
        "rows",
        "changed",
        "missing",
        "added",
        "says",
        "not_repeated",
        "not_served",
        "elsewhere",
    }
    assert found["ok"] is True
    assert [row["artefact"] for row in found["rows"]] == ["trained network", "LiteRT model.tflite"]
    assert all(set(row) == CERTIFICATE for row in found["rows"])
    assert outcome.after == outcome.before


@of(verify_a_tampered_answer)
def test_verify_fails_and_says_of_what(outcome: Outcome) -> None:
    assert outcome.code == 1
    assert "DISAGREES" in outcome.out
    assert "LiteRT model.tflite" in outcome.out
    assert PREPARED in outcome.out
    assert outcome.after == outcome.before


@of(export)
def test_export_prints_its_certificate(outcome: Outcome) -> None:
    found = only_json(outcome)
    assert outcome.code == 0
    assert found["ok"] is True
    assert all(set(row) == CERTIFICATE for row in found["rows"])
    written = json.loads((outcome.stage.folder / "exports" / "run" / "1" / "certificate.json").read_text())
    assert {key: written[key] for key in ("ok", "rows")} == {"ok": found["ok"], "rows": found["rows"]}


# ---- stopping


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_training_that_is_asked_to_stop_says_how_to_go_on(
    asked: signal.Signals, code: int, pictures: Path, tmp_path: Path
) -> None:
    arguments = ["train", pictures, "--network", "lenet_bn", "--to", tmp_path / "run", "--set", "image_size=32"]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *map(str, arguments), "--set", "epochs=100000"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, and Python leaves an ignored signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch 2 "):
            process.send_signal(asked)
            break
    out, rest = process.communicate()
    assert process.returncode == code, "".join(lines) + rest
    assert out == ""
    assert "Traceback" not in rest
    found = re.fullmatch(r"Stopped and saved after step (\d+)\. The same command goes on\.", rest.splitlines()[-1])
    assert found
    checkpoint = tmp_path / "run" / "checkpoints" / f"step-{int(found[1]):08}"
    assert {path.name for path in checkpoint.iterdir()} == {"variables.safetensors", "state.json", "SHA256SUMS"}
    assert not list((tmp_path / "run").rglob(".*"))
