"""What `train` does with a run that is finished, or of something else: nothing is trained, and little is read."""

import json
import math
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from app import recipe, run_folder, training
from app.batch_norm import in_training
from app.datasets import loading
from app.datasets.dataset import Data
from app.evaluation import evaluating, metrics
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Checkpoint, Recipe
from app.reports import run_report
from app.run_folder import golden
from app.run_folder.folder import Run
from app.training import beginning, finishing
from app.training.callbacks.epochs import History
from app.training.checkpoints.saving import SaveCheckpoints
from app.training.devices.devices import Devices
from tests.makers.untrained_runs import untrained


class ReadError(Exception):
    """Somebody reads the data."""


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data can be loaded."""

    def refuse(*_: object) -> None:
        raise ReadError

    monkeypatch.setattr(loading, "load", refuse)


@pytest.fixture
def untrainable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network can be trained."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(keras.Model, "fit", refuse)


@pytest.fixture(scope="module")
def data(pictures: Path) -> Data:
    return loading.load(str(pictures))


def copied(run: Run, to: Path, *without: str) -> Run:
    shutil.copytree(run.folder, to, ignore=shutil.ignore_patterns(*without))
    return Run(to)


def recipe_of(run: Run) -> Recipe:
    found = run.read_classifier().recipe
    assert found
    return found


@pytest.mark.usefixtures("untrainable")
def test_a_run_that_was_killed_while_it_was_evaluated_gets_the_same_figures_without_training(
    finished_run: Run, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(finished_run, tmp_path / "run", "metrics.json", "report.html")
    network, golden = run.model.read_bytes(), run.golden.joinpath("golden.json").stat().st_mtime_ns
    assert run.is_finished
    training.train(data, "lenet_bn", run.folder, recipe_of(run))
    assert run.model.read_bytes() == network
    assert run.golden.joinpath("golden.json").stat().st_mtime_ns == golden
    assert json.loads(run.metrics.read_text()) == json.loads(finished_run.metrics.read_text())
    top_1 = json.loads(run.metrics.read_text())["top_1"]
    assert f"{100 * top_1:.2f} %" in run.report.read_text()
    assert "was trained; what was missing beside its network is there now" in capsys.readouterr().err
    training.train(data, "lenet_bn", run.folder, recipe_of(run))
    assert "is finished; nothing to do." in capsys.readouterr().err


@pytest.mark.usefixtures("untrainable")
def test_a_run_with_other_statistics_keeps_its_network_and_gets_the_figures_of_that(
    finished_run: Run, data: Data, tmp_path: Path
) -> None:
    """As `adapt` leaves it: network, classifier.json, and golden images where there were some."""
    run = Run(tmp_path / "adapted")
    run.folder.mkdir()
    shutil.copy(finished_run.classifier, run.classifier)
    trained = run_folder.load(finished_run.folder)
    trained.model.get_layer("stem_3_bn").moving_mean.assign_add(
        keras.ops.ones(trained.model.get_layer("stem_3_bn").moving_mean.shape)
    )
    trained.model.save(run.model)
    network = run.model.read_bytes()
    training.train(data, "lenet_bn", run.folder, recipe_of(run))
    assert run.model.read_bytes() == network
    found = json.loads(run.metrics.read_text())
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing)
    assert found["loss"] == metrics(probabilities, truth, data.labels)["loss"]
    assert found["loss"] != json.loads(finished_run.metrics.read_text())["loss"]
    assert len(json.loads((run.golden / "golden.json").read_text())) == min(finishing.GOLDEN, data.test.count)
    assert run.report.is_file()


def test_golden_images_are_there_before_the_network(
    finished_run: Run, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished_run, tmp_path / "run", "metrics.json", "model.keras", "golden")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(data, "lenet_bn", run.folder, recipe_of(run))
    assert (run.golden / "golden.json").is_file()
    assert not run.is_finished
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "predict", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(data, "lenet_bn", run.folder, recipe_of(run))
    assert run.is_finished
    assert not run.metrics.exists()


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("network", "settings", "words"),
    [
        ("resnet18", {}, r"another network \(lenet_bn, here resnet18\); choose another --to, or remove the folder\.$"),
        (
            "lenet_bn",
            {"seed": 7, "dropout": 0.5},
            r"another recipe \(seed 1, here 7, dropout none, here 0.5\); choose another --to, or --from \S+ with "
            r"another --to to begin with its weights, or remove the folder\.$",
        ),
        ("lenet_bn", {"epochs": 8}, r"another recipe \(epochs 6, here 8\); .* or --extend to train it for longer, or"),
        ("lenet_bn", {"epochs": 5}, r"another recipe \(epochs 6, here 5\); .* its weights, or remove the folder\.$"),
        ("lenet_bn", {}, None),
    ],
)
def test_another_network_or_recipe_is_found_before_any_data_is_read(
    network: str, settings: dict[str, Any], words: str | None, finished_run: Run
) -> None:
    wanted = recipe_of(finished_run).model_copy(update=settings)
    with pytest.raises(UserError if words else ReadError, match=words):
        training.train("photos", network, finished_run.folder, wanted)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 8}, None),
        ({}, None),
        ({"epochs": 8, "seed": 7}, "seed 1, here 7, epochs 6, here 8.*--extend is for more epochs of the same recipe"),
        ({"epochs": 5}, "--extend is for more epochs"),
        ({"epochs": 8, "steps": 99}, "--extend is for more epochs"),
    ],
)
def test_only_more_epochs_extend_a_run(settings: dict[str, Any], words: str | None, finished_run: Run) -> None:
    wanted = recipe_of(finished_run).model_copy(update=settings)
    with pytest.raises(UserError if words else ReadError) as caught:
        training.train("photos", "lenet_bn", finished_run.folder, wanted, extend=True)
    for word in (words or "").split(".*"):
        assert word in str(caught.value)


@pytest.mark.usefixtures("unread")
def test_another_origin_is_found_before_any_data_is_read(finished_run: Run, tmp_path: Path) -> None:
    start = untrained(tmp_path / "start", 32, ("a", "b"))
    with pytest.raises(UserError, match="another origin"):
        training.train("photos", None, finished_run.folder, recipe_of(finished_run), start=start.folder)


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/../{}", "link", "relative"])
def test_an_origin_is_the_same_by_whatever_path(
    form: str, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what lies there that counts; another run at the same path is another origin."""
    start = untrained(tmp_path / "start", 32, ("a", "b"))
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("start")
    other = {"link": "link", "relative": "start"}.get(form, form.format(start.folder, start.folder.name))
    recipe, network = recipe_of(finished_run), finished_run.read_classifier().network
    begun = finished_run.read_classifier().model_copy(update={"origin": beginning.origin_of(start.folder)})
    beginning.check_plan(finished_run.folder, begun, network, recipe, beginning.origin_of(Path(other)))
    start.model.write_bytes(b"another")
    with pytest.raises(UserError, match="another origin"):
        beginning.check_plan(finished_run.folder, begun, network, recipe, beginning.origin_of(Path(other)))


@pytest.mark.usefixtures("unread")
def test_a_start_that_is_not_finished_is_refused_before_any_data_is_read(tmp_path: Path) -> None:
    start = untrained(tmp_path / "start", 32, ("a", "b"))
    start.model.unlink()
    with pytest.raises(UserError) as caught:
        training.train("photos", None, tmp_path / "run", Recipe(), unwatched, start.folder)
    assert str(caught.value) == (
        f"The run {start.folder} is not finished: it has no model.keras. The same `train` command goes on."
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("untrainable")
@pytest.mark.parametrize("worker", [0, 1])
def test_only_the_chief_makes_what_is_missing_and_clears_checkpoints(
    worker: int, finished_run: Run, data: Data, tmp_path: Path
) -> None:
    run = copied(finished_run, tmp_path / "run", "metrics.json")
    (run.checkpoints / "step-00000003").mkdir()
    training.train(data, "lenet_bn", run.folder, recipe_of(run), devices=Devices(worker=worker, workers=2))
    assert (run.checkpoints / "step-00000003").exists() == (worker == 1)
    assert run.metrics.exists() == (worker == 0)


@pytest.mark.parametrize(
    ("use", "losses", "written", "kept"),
    [
        ("last", (3, 1, 2), 0, None),
        ("best", (3, 1, 2), 2, 1),
        ("best", (math.nan, 3, math.nan, 2, math.inf), 2, 3),
        ("best", (math.inf, math.nan), 0, None),
    ],
)
def test_the_best_epoch_is_written_only_for_a_recipe_that_uses_it(
    use: str, losses: tuple[float, ...], written: int, kept: int | None, finished_run: Run, tmp_path: Path
) -> None:
    wanted = recipe.load("default", (f"checkpoint.use={use}",))
    described = finished_run.read_classifier().model_copy(update={"recipe": wanted})
    progress: Any = SimpleNamespace(step=0, seconds=0.0)
    request: Any = SimpleNamespace(signal=None)
    saving = SaveCheckpoints(tmp_path, None, described, progress, History(tmp_path / "h.csv", ()), None, request)
    saves: list[Path] = []

    def save(path: Path) -> None:
        saves.append(path)
        path.write_text(str(epoch))

    saving.set_model(SimpleNamespace(save=save, stop_training=False, reset_metrics=lambda: None))
    saving._save = lambda seconds: None  # type: ignore[method-assign]
    for epoch, loss in enumerate(losses):
        saving.on_epoch_end(epoch, {"val_loss": loss})
    assert len(saves) == written
    best = tmp_path / "best.keras"
    assert (int(best.read_text()) if best.exists() else None) == kept


def test_losses_that_are_no_numbers_are_forgotten_by_a_training_that_goes_on(finished_run: Run, tmp_path: Path) -> None:
    rows: Any = [{"val_loss": loss} for loss in (math.nan, 3.0, math.nan)]
    nobody: Any = SimpleNamespace()
    described = finished_run.read_classifier()
    for found, best in ((rows, 3.0), (rows[:1], math.inf), ((), math.inf)):
        history = History(tmp_path / "h.csv", found)
        assert SaveCheckpoints(tmp_path, None, described, nobody, history, None, nobody).best_loss == best


def test_a_run_without_any_best_epoch_says_so(finished_run: Run, data: Data, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run", "metrics.json", "model.keras")
    wanted = recipe_of(finished_run).model_copy(update={"checkpoint": Checkpoint(use="best")})
    described = run.read_classifier().model_copy(update={"recipe": wanted})
    run.classifier.write_text(described.model_dump_json())
    with pytest.raises(UserError, match="has no best epoch: its validation loss was never a finite number"):
        training.train(data, "lenet_bn", run.folder, wanted)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the data sets that are loaded from now on."""
    real: Callable[..., Data] = loading.load
    loads: list[str] = []

    def load(name: str, *arguments: Any) -> Data:
        loads.append(name)
        return real(name, *arguments)

    monkeypatch.setattr(loading, "load", load)
    return loads


def test_data_that_is_loaded_is_not_loaded_again(
    finished_run: Run, data: Data, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = counted(monkeypatch)
    training.train(data, "lenet_bn", finished_run.folder, recipe_of(finished_run))
    assert loads == []
    training.train(str(pictures), "lenet_bn", finished_run.folder, recipe_of(finished_run))
    assert loads == [str(pictures)]
    others = pickle.loads(pickle.dumps(data))
    with pytest.raises(UserError, match="are not those that"):
        training.train(
            Data(**{**vars(others), "fingerprint": "other"}), "lenet_bn", finished_run.folder, recipe_of(finished_run)
        )


@pytest.mark.usefixtures("untrainable")
def test_other_versions_are_said_once_and_kept(
    finished_run: Run, data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished_run, tmp_path / "run", "metrics.json", "model.keras")
    now = run.read_classifier().versions
    older = {**now, "keras": "3.1", "tensorflow": "2.16"}
    begun = run.read_classifier().model_copy(update={"versions": older, "versions_before": ({"keras": "3.0"},)})
    run.classifier.write_text(begun.model_dump_json())

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    said = []
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(finishing, "keep_network", killed)
            with pytest.raises(KeyboardInterrupt):
                training.train(data, "lenet_bn", run.folder, recipe_of(run))
        said.append(capsys.readouterr().err)
    assert (
        f"{run.folder} goes on under other versions, and may end with other figures: keras {now['keras']} "
        f"(before: 3.1), tensorflow {now['tensorflow']} (before: 2.16)\n"
    ) in said[0]
    assert "other versions" not in said[1]
    found = run.read_classifier()
    assert found.versions == now
    assert found.versions_before == ({"keras": "3.0"}, older)


# ---- what fails after the last epoch


def failing(*_: object, **__: object) -> None:
    raise ValueError("chunk with 2 MB\nand more")


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of full traces, of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "inceptions" / "errors"


@pytest.mark.usefixtures("untrainable")
@pytest.mark.parametrize(
    "what", ["evaluation", pytest.param("report", marks=pytest.mark.slow), "golden pictures", "statistics"]
)
def test_an_error_after_the_last_epoch_leaves_a_run_that_evaluate_completes(
    what: str,
    finished_run: Run,
    data: Data,
    traces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = copied(finished_run, tmp_path / "run", "model.keras", "metrics.json", "report.html", "golden")
    place: dict[str, tuple[Any, str]] = {
        "evaluation": (evaluating, "predict"),
        "report": (run_report, "write"),
        "golden pictures": (golden, "keep"),
        "statistics": (in_training, "after_training"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*place[what], failing)
        if what == "statistics":  # all else can be made
            training.train(data, "lenet_bn", run.folder, recipe_of(run))
            said = capsys.readouterr().err
            assert "could not be measured, and stay as they are" in said
        else:
            with pytest.raises(UserError) as caught:
                training.train(data, "lenet_bn", run.folder, recipe_of(run))
            said = str(caught.value)
            assert "is trained and has its network" in said
            assert f"`python -m app evaluate {run.folder}` makes what is missing." in said
            assert "\n" not in said
    (written,) = {*re.findall(r"The full trace is in (\S+)\.", said)}
    assert Path(written).parent == traces
    assert "ValueError: chunk with 2 MB. " in said
    assert "in failing" in Path(written).read_text()
    assert run.is_finished
    assert not list(run.checkpoints.glob("step-*"))
    finishing.complete_later(run.folder, unwatched)
    assert json.loads(run.metrics.read_text())["count"] == data.test.count
    assert len(json.loads((run.golden / "golden.json").read_text())) == min(finishing.GOLDEN, data.test.count)
    assert "Confusion" in run.report.read_text()


@pytest.mark.usefixtures("untrainable")
def test_pictures_that_vanish_before_the_figures_are_made_cost_nothing_but_themselves(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(finished_run, tmp_path / "run", "model.keras", "metrics.json", "golden", "split.csv")
    shutil.copytree(pictures, tmp_path / "photos")
    data = loading.load(str(tmp_path / "photos"))
    lost = [next(file.path for file in data.files if file.split == split) for split in ("train", "test")]
    lost[0].unlink()
    lost[1].write_bytes(lost[1].read_bytes()[:99])
    training.train(data, "lenet_bn", run.folder, recipe_of(run))
    said = capsys.readouterr().err
    assert f"are of the rest: 2 images were removed: {lost[0]}, {lost[1]}\n" in said
    assert json.loads(run.metrics.read_text())["count"] == data.test.count - 1
    record = run.read_classifier().data
    assert record
    assert (record.train, record.test) == (data.train.count - 1, data.test.count - 1)
    assert evaluating.evaluate(run.folder, str(tmp_path / "photos"))["count"] == data.test.count - 1
    training.train(str(tmp_path / "photos"), "lenet_bn", run.folder, recipe_of(run))
    assert "is finished; nothing to do" in capsys.readouterr().err


def test_evaluate_completes_what_a_training_left_and_nothing_else(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is missing")

    monkeypatch.setattr(finishing, "complete", refuse)
    finishing.complete_later(finished_run.folder, unwatched)
    finishing.complete_later(untrained(tmp_path / "imported", 32, ("a", "b")).folder, unwatched)
    run = copied(finished_run, tmp_path / "run", "metrics.json")
    with pytest.raises(AssertionError, match="nothing is missing"):
        finishing.complete_later(run.folder, unwatched)
