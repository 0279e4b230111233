"""The commands that made a run or a comparison: they do the same again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.program.shown import command
from app.recipe import Recipe, settings_of
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run


def training(run: Run, classifier: Classifier) -> str:
    """The one that trained a run. What it left out is in the run's own list, wherever the one that was given is now."""
    recipe, data, origin = classifier.recipe, classifier.data, classifier.origin
    assert recipe is not None  # an import has neither
    assert data is not None
    begin = ("--from", origin.path) if origin else ("--network", classifier.network)
    left_out = ("--quarantine", run.quarantine) if run.quarantine.is_file() else ()
    return command("train", data.name, *begin, "--to", run.folder, *left_out, *_settings(recipe))


def comparison(folder: Path, found: dict[str, Any]) -> str:
    """The one that made the comparison.json whose content is `found`."""
    networks = ",".join(row["network"] for row in found["rows"])
    kind, amount = found["budget"]["kind"], found["budget"]["amount"]
    budget = () if kind == "recipe" else (f"--{kind.replace('_', '-')}", _number(amount))
    recipe = Recipe.model_validate(found["recipe"])
    return command("compare", found["data"], "--networks", networks, "--to", folder, *budget, *_settings(recipe))


def _settings(recipe: Recipe) -> Iterator[str]:
    for setting in settings_of(recipe):
        yield from ("--set", setting)


def _number(amount: float) -> str:
    """In few digits where these are all."""
    short = f"{amount:g}"
    return short if float(short) == amount else repr(amount)
