"""Several networks on the same data: their budget, their figures, what is reused, and the page."""

import json
import pickle
import re
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import pytest
from typer.testing import CliRunner

from app import recipe, run_folder, training
from app.__main__ import app
from app.datasets import loading
from app.datasets.dataset import Data
from app.datasets.prepared import records
from app.networks.counting import multiply_adds
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Recipe
from app.reports import comparison
from app.run_folder import folder
from app.studies import comparing
from app.studies.comparing import Budget
from app.training.beginning import untrained

SETTINGS = ("epochs=2", "image_size=32", "batch_size=8")


@pytest.fixture(scope="module")
def compared(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`lenet_bn` on `pictures`, beside a network that cannot take such small ones. Read only."""
    folder = tmp_path_factory.mktemp("compared") / "both"
    networks = ["lenet_bn", "inception_v3"]
    comparing.compare(str(pictures), networks, folder, recipe.load("default", SETTINGS), Budget())
    return folder


@pytest.mark.slow
def test_a_row_has_the_figures_of_its_run(compared: Path) -> None:
    found = json.loads((compared / "comparison.json").read_text())
    row, failed = found["rows"]
    trained = run_folder.load(compared / "lenet_bn")
    figures = json.loads((compared / "lenet_bn" / "metrics.json").read_text())
    assert {key: row[key] for key in ("top_1", "top_5", "loss")} == {
        key: figures[key] for key in ("top_1", "top_5", "loss")
    }
    assert row["parameters"] == trained.model.count_params()
    assert row["multiply_adds"] == multiply_adds(trained.model)
    assert row["bytes"] == (compared / "lenet_bn" / "model.keras").stat().st_size
    assert row["image_size"] == 32
    data = folder.Run(compared / "lenet_bn").read_classifier().data
    assert data is not None
    assert row["steps"] == 2 * (data.train // 8)
    assert row["milliseconds"] > 0
    assert row["training_seconds"] > 0
    assert (found["classes"], found["fingerprint"]) == (3, data.fingerprint)
    assert failed["network"] == "inception_v3"
    assert "75" in failed["error"]


@pytest.mark.slow
def test_the_page_and_the_table_have_every_network(compared: Path) -> None:
    page = (compared / "report.html").read_text()
    assert "lenet_bn" in page
    assert "inception_v3" in page  # with the reason why it is not compared
    assert "python -m app compare" in page
    assert ">top-1</th>" in page
    assert ">top-5</th>" not in page  # of three classes it is always right
    assert "1 network on" in page
    assert "--set image_size=32" in page
    head, _, *lines = (compared / "comparison.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| lenet_bn"]
    assert head.count("|") == lines[0].count("|")


@pytest.mark.slow
def test_a_network_that_was_compared_is_not_trained_again(
    compared: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(comparing, "ProcessPoolExecutor", refuse)
    before = (compared / "comparison.json").read_bytes()
    found = comparing.compare(str(pictures), ["lenet_bn"], compared, recipe.load("default", SETTINGS), Budget())
    assert [row["network"] for row in found["rows"]] == ["lenet_bn", "inception_v3"]
    assert (compared / "comparison.json").read_bytes() == before


@pytest.mark.slow
def test_another_comparison_does_not_go_into_the_folder(compared: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another recipe"):
        comparing.compare(str(pictures), ["lenet_bn"], compared, recipe.load("default", ()), Budget())
    with pytest.raises(UserError, match="another budget"):
        comparing.compare(
            str(pictures), ["lenet_bn"], compared, recipe.load("default", SETTINGS), Budget("seconds", 5.0)
        )
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no comparison"):
        comparing.compare(str(pictures), ["lenet_bn"], tmp_path, recipe.load("default", SETTINGS), Budget())


@pytest.mark.slow
def test_images_that_changed_do_not_go_into_the_same_table(compared: Path, pictures: Path, tmp_path: Path) -> None:
    """Nor does what was given as other data; but the same images elsewhere are the same."""
    shutil.copytree(pictures, tmp_path / "moved")
    shutil.copytree(compared, tmp_path / "to")
    wanted = recipe.load("default", SETTINGS)

    def again() -> dict[str, Any]:
        return comparing.compare(str(tmp_path / "moved"), ["lenet_bn"], tmp_path / "to", wanted, Budget())

    assert [row["network"] for row in again()["rows"]] == ["lenet_bn", "inception_v3"]
    gone = next((tmp_path / "moved" / "digit").iterdir())
    shutil.copy(gone, tmp_path / "moved" / "temple" / "other.jpg")
    gone.unlink()
    before = (tmp_path / "to" / "comparison.json").read_bytes()
    with pytest.raises(UserError, match=r"has a row of lenet_bn on other images than .* now; choose another --to"):
        again()
    assert (tmp_path / "to" / "comparison.json").read_bytes() == before


def test_a_budget_of_multiply_adds_becomes_steps(pictures: Path) -> None:
    data, wanted = loading.load(str(pictures)), recipe.load("default", SETTINGS)
    cost = 3 * 8 * multiply_adds(untrained(data, "lenet_bn", wanted))
    found = comparing._within(Budget("multiply_adds", 5.5 * cost), data, "lenet_bn", wanted)
    assert found == wanted.model_copy(update={"steps": 5})
    assert comparing._within(Budget("multiply_adds", 1.0), data, "lenet_bn", wanted).steps == 1
    assert comparing._within(Budget(), data, "lenet_bn", wanted) == wanted


def test_a_budget_of_seconds_becomes_the_steps_that_fit(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_step_seconds", lambda model, batch_size: 0.25)
    wanted = recipe.load("default", SETTINGS)
    assert comparing._within(Budget("seconds", 10.0), loading.load(str(pictures)), "lenet_bn", wanted).steps == 40


class InThisProcess:
    """A pool of one process, as far as what is sent to it and back goes."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: Any, *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(function(*pickle.loads(pickle.dumps(arguments))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future


def test_the_data_is_loaded_once_whatever_the_networks(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    trained: list[tuple[str, str, int | None]] = []
    real = loading.load

    def load(name: str, *arguments: Any) -> Data:
        loads.append(name)
        return real(name, *arguments)

    def train(data: Data, network: str, to: Path, recipe: Recipe, *_: object) -> None:
        trained.append((data.fingerprint, network, recipe.steps))
        raise UserError("that is enough")

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(comparing, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(comparing, "_step_seconds", lambda model, batch_size: 0.25)
    networks = ["lenet_bn", "resnet18"]
    wanted = recipe.load("default", SETTINGS)
    comparing.compare(str(pictures), networks, tmp_path / "to", wanted, Budget("seconds", 10.0))
    assert loads == [str(pictures)]
    fingerprint = real(str(pictures)).fingerprint
    assert trained == [(fingerprint, network, 40) for network in networks]
    # Where none could be compared, the page says why.
    assert (tmp_path / "to" / "report.html").read_text().count("that is enough") == 2


@pytest.mark.parametrize("kind", ["files", "records", "digits"])
def test_every_kind_of_data_can_be_handed_to_another_process(kind: str, pictures: Path, tmp_path: Path) -> None:
    data = loading.load("digits" if kind == "digits" else str(pictures))
    if kind == "records":
        records.write(data, tmp_path / "records", unwatched)
        data = loading.load(f"records:{tmp_path / 'records'}")
    there = pickle.loads(pickle.dumps(data))
    assert (there.name, there.labels, there.fingerprint) == (data.name, data.labels, data.fingerprint)
    for mine, other in zip(
        (data.train, data.validation, data.test), (there.train, there.validation, there.test), strict=True
    ):
        assert other.count == mine.count
        assert list(other.at([0, 3]).as_numpy_iterator()) == list(mine.at([0, 3]).as_numpy_iterator())


def row(network: str, top_1: float, milliseconds: float) -> dict[str, Any]:
    return {"network": network, "top_1": top_1, "milliseconds": milliseconds}


def test_worth_their_cost_are_those_that_nobody_beats_for_less() -> None:
    rows = [row("slow", 0.9, 5.0), row("best", 0.95, 4.0), row("equal", 0.8, 2.0), row("cheap", 0.8, 1.0)]
    assert [found["network"] for found in comparison.frontier(rows, "milliseconds")] == ["cheap", "best"]


def test_a_plot_names_what_is_worth_its_cost_and_has_a_place_for_a_network_without_errors() -> None:
    rows = [row("perfect", 1.0, 5.0), row("dear", 0.96, 9.0), row("cheap", 0.92, 1.0)]
    drawn = comparison._trade_off(rows, {each["network"]: ("#0072B2", 0) for each in rows}, *comparison.COSTS[0])
    assert [name for name in ("perfect", "dear", "cheap") if f'"text":["{name}"]' in drawn] == ["perfect", "cheap"]
    (line, *marks) = [json.loads(found) for found in re.findall(r'"y":(\[[^]]*\])', drawn)]
    assert line == pytest.approx([0.08, 0.02])
    assert [mark for (mark,) in marks] == pytest.approx([0.02, 0.04, 0.08])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--networks", "inception_v9"], "There is no network 'inception_v9'"),
        (["--networks", "lenet_bn", "--seconds", "5", "--multiply-adds", "1e9"], "two budgets"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", "digits", *arguments, "--to", str(tmp_path / "to")])
    assert done.exit_code != 0
    assert sentence in str(done.exception)
    assert not (tmp_path / "to").exists()
