"""The ensemble of the batch-norm paper: networks of one recipe that begin differently and drop out differently."""

from pathlib import Path

from app.datasets import label_sets, loading
from app.datasets.dataset import Data
from app.program import progress
from app.program.errors import UserError
from app.program.progress import Watch
from app.recipe import Recipe
from app.run_folder.folder import Run
from app.training import training
from app.training.devices.devices import Devices

# Section 4.2.3 of 1502.03167: "increased initial weights in the convolutional layers", and "Dropout (with the Dropout
# probability of 5% or 10%)". By how much the weights were increased the paper does not say.
DROPOUT = (0.05, 0.1)
INITIAL_WEIGHTS = (1.0, 1.5)


def recipes(recipe: Recipe, count: int, random: bool = True) -> list[Recipe]:
    """A recipe for each member: seeds that count up from the recipe's, all pairs of dropout and of initial weights in
    turn; where these are not `random`, they are what they are."""
    pairs = [(dropout, weights) for weights in (INITIAL_WEIGHTS if random else (1.0,)) for dropout in DROPOUT]
    return [
        recipe.model_copy(
            update={
                "seed": recipe.seed + number,
                "dropout": pairs[number % len(pairs)][0],
                "initial_weights": pairs[number % len(pairs)][1],
            }
        )
        for number in range(count)
    ]


def train(
    count: int,
    data: Data | str,
    network: str | None,
    to: Path,
    recipe: Recipe,
    watch: Watch = progress.unwatched,
    start: Path | None = None,
    quarantine: Path | None = None,
    deterministic: bool = False,
    devices: Devices | None = None,
    extend: bool = False,
) -> list[Run]:
    """Trains so many members, one after the other, in the run folders `to`/1, `to`/2 ...; the same call again goes on.
    The data is loaded once. All else is as for `training.train`.

    Raises:
        UserError: `to` is a run itself; members of a linear probe; what `training.train` raises.
    """
    if Run(to).classifier.exists():
        raise UserError(f"{to} is a run; choose another --to for {count} of them.")
    if recipe.fine_tuning.probe:
        raise UserError("The members of a linear probe (fine_tuning.probe) would be all the same: leave --members out.")
    devices = devices or Devices()
    members = {to / str(number): each for number, each in enumerate(recipes(recipe, count, start is None), start=1)}
    for folder, each in members.items():
        training.check(network, folder, each, start, devices, extend)
    told = next((split for folder in members if (split := Run(folder).split).is_file()), None)
    loaded = loading.load(data, watch, quarantine, told) if isinstance(data, str) else data
    label_sets.check_one(loaded.name, loaded.label_sets, "an ensemble")
    return [
        training.train(loaded, network, folder, each, watch, start, quarantine, deterministic, devices, extend)
        for folder, each in members.items()
    ]
