"""The commands that pages and sentences show do again what was done: read by a shell and by the program itself."""

import html
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from app import __main__ as program
from app import recipe
from app.batch_norm import report
from app.images.preprocessing import Preprocessing
from app.recipe import RECIPES, Recipe
from app.reports import made_by, run_report
from app.run_folder.classifier import Classifier, DataRecord, Origin
from app.run_folder.folder import Run
from app.studies.comparing import Budget

HOSTILE = 'my photos; it\'s $HOME & "more" `x` [bold]'
NAMES = sorted(path.stem for path in RECIPES.glob("[!_]*.py"))
EPOCH = {"epoch": 1, "loss": 2, "val_loss": 1, "accuracy": 0.5, "val_accuracy": 0.5, "images_per_second": 9}


def understood(command: str) -> dict[str, Any]:
    """The parameters of the command that the program would perform."""
    python, _, app, *arguments = shlex.split(command)
    assert (python, app) == ("python", "app")
    found = typer.main.get_command(program.app)
    while hasattr(found, "commands"):
        found = found.commands[arguments.pop(0)]
    return found.make_context(str(found.name), arguments).params


def classifier(wanted: Recipe, origin: Origin | None = None) -> Classifier:
    return Classifier(
        network="lenet_bn",
        arguments={},
        labels=("a", "b"),
        preprocessing=Preprocessing(height=8, width=8),
        recipe=wanted,
        versions={},
        seed=0,
        data=DataRecord(name=f"data/{HOSTILE}", fingerprint="", train=5, validation=2, test=1, unreadable=0),
        origin=origin,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_command_on_a_runs_page_trains_the_same(name: str, tmp_path: Path) -> None:
    # A probe takes no steps, and so nothing about them.
    settings = ("seed=7",) if name == "linear_probe" else ("batch_norm.momentum=auto", "optimizer.rate=1.25e-7")
    run, wanted = Run(tmp_path / HOSTILE), recipe.load(name, settings)
    run.folder.mkdir()
    run.quarantine.write_text("a/1.png\n")
    run.history.write_text("\n".join(",".join(map(str, row)) for row in (EPOCH.keys(), EPOCH.values())))
    run_report.write_running(run, classifier(wanted), epochs=4)
    (shown,) = re.findall(r"Made by <code>(.*)</code>", run.report.read_text())
    given = understood(html.unescape(shown))
    assert "2 classes,\n5 training, 2 validation, 1 test image.</p>" in run.report.read_text()
    assert given["data"] == f"data/{HOSTILE}"
    assert given["network"] == "lenet_bn"
    assert given["start"] is None
    assert given["to"] == run.folder
    assert given["quarantine"] == run.quarantine
    assert recipe.load(given["recipe"], given["settings"]) == wanted


def test_a_run_that_left_nothing_out_and_began_with_another_says_so(tmp_path: Path) -> None:
    origin = Origin(path=f"runs/{HOSTILE}", sha256="")
    given = understood(made_by.training(Run(tmp_path), classifier(Recipe(), origin)))
    assert given["start"] == Path(f"runs/{HOSTILE}")
    assert given["network"] is None
    assert given["quarantine"] is None
    assert given["settings"] in (None, [], ())


@pytest.mark.parametrize(
    "budget", [Budget.of(), Budget.of(seconds=90), Budget.of(seconds=1000 / 3), Budget.of(multiply_adds=123456789e6)]
)
def test_the_command_of_a_comparison_compares_the_same(budget: Budget) -> None:
    wanted = recipe.load("photos", ("augmentation.colour=full",))
    found = {
        "rows": [{"network": "lenet_bn"}, {"network": "googlenet"}],
        "data": HOSTILE,
        "budget": budget._asdict(),
        "recipe": wanted.model_dump(mode="json"),
    }
    given = understood(made_by.comparison(Path("compared") / HOSTILE, found))
    assert given["data"] == HOSTILE
    assert given["networks"].split(",") == ["lenet_bn", "googlenet"]
    assert given["to"] == Path("compared") / HOSTILE
    assert Budget.of(given["seconds"], given["multiply_adds"]) == budget
    assert recipe.load(given["recipe"], given["settings"]) == wanted


def test_the_command_that_mends_averages_names_the_run_and_the_data() -> None:
    shown = report.remedy(Path("runs") / HOSTILE, HOSTILE)
    start, end = "`", "` mends it."
    assert shown.startswith(f"{start}python -m app batch-norm recalibrate ")
    assert shown.endswith(end)
    given = understood(shown.removeprefix(start).removesuffix(end))
    assert given["run"] == Path("runs") / HOSTILE
    assert given["data"] == HOSTILE
