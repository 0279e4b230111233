"""The recipes of the program: each names its source and a command that works, and trains."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from app import __main__ as program
from app import recipe, training
from app.program.progress import unwatched
from app.recipe import RECIPES
from models import NETWORKS

NAMES = sorted(path.stem for path in RECIPES.glob("[!_]*.py"))
PAPERS = set(NAMES) - {"default", "photos"}
SMALL = ("steps=2", "batch_size=8", "width=0.1", "optimizer.accumulate=1")


def docstring(name: str) -> str:
    return (RECIPES / f"{name}.py").read_text().split('"""')[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_a_command_that_parses(name: str) -> None:
    commands = re.findall(r"^ *python -m app (train .*)$", docstring(name), flags=re.MULTILINE)
    assert len(commands) == 1
    _, *arguments = shlex.split(commands[0])
    train = typer.main.get_command(program.app).commands["train"]  # type: ignore[attr-defined]
    given = train.make_context("train", arguments).params
    assert given["network"] in NETWORKS or given["start"]
    assert given["recipe"] == name or name == "default"
    recipe.load(given["recipe"], given["settings"] or ())


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_a_recipe_names_its_paper(name: str) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|https://d2l\.ai, chapter \d\.\d", docstring(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_says_in_settings_and_of_others_exists(name: str) -> None:
    text = docstring(name)
    settings = re.findall(r"--set ([\w.]+=[\w.-]*\w)", text)
    assert recipe.load(name, settings)
    for other in re.findall(r"`(\w+)`", text):
        assert other in NAMES or other in NETWORKS, other


def test_the_numbers_are_those_of_the_papers() -> None:
    """In the order of the papers: rate, epsilon, first mean square, clip, smoothing, auxiliary, factor, every."""

    def numbers(name: str) -> tuple[float | None, ...]:
        found = recipe.load(name)
        optimizer, schedule = found.optimizer, found.schedule
        return (
            optimizer.rate,
            optimizer.epsilon,
            optimizer.initial_accumulator,
            optimizer.clip,
            found.label_smoothing,
            found.auxiliary,
            schedule.factor,
            schedule.every,
        )

    assert numbers("inception_v3") == (0.045, 1.0, 1.0, 2.0, 0.1, 0.4, 0.94, 2.0)
    assert numbers("inception_v4") == (0.045, 1.0, 1.0, None, 0.1, 0.4, 0.94, 2.0)
    base, five, thirty = (recipe.load(name) for name in ("googlenet", "batch_norm_x5", "batch_norm_x30"))
    assert (base.optimizer.rate, base.auxiliary, base.schedule.factor, base.schedule.every) == (0.0015, 0.3, 0.96, 8)
    assert (five.optimizer.rate, thirty.optimizer.rate) == (0.0075, 0.045)
    for found in (five, thirty):
        assert found.optimizer.l2 == base.optimizer.l2 / 5
        assert found.schedule.every == base.schedule.every / 6
        assert (found.dropout, found.augmentation.colour) == (0.0, None)


def trained(name: str, network: str, data: Path, to: Path, *settings: str) -> None:
    run = training.train(str(data), network, to, recipe.load(name, (*SMALL, *settings)), unwatched)
    assert run.metrics.is_file()
    assert run.read_classifier().recipe == recipe.load(name, (*SMALL, *settings))


@pytest.mark.slow
def test_the_recipe_for_digits_trains(pictures: Path, tmp_path: Path) -> None:
    trained("digits_v3", "lenet_bn", pictures, tmp_path / "run", "image_size=32", "optimizer.accumulate=2")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PAPERS - {"fine_tuning", "linear_probe"}))
def test_a_recipe_trains(name: str, pictures: Path, tmp_path: Path) -> None:
    network = name if name in NETWORKS else "bn_inception" if name.startswith("batch_norm") else "inception_v3"
    sizes = {"googlenet": 65, "inception_v3": 299, "inception_v4": 299, "lenet_bn": 28}
    trained(name, network, pictures, tmp_path / "run", f"image_size={sizes.get(name, 75)}")
