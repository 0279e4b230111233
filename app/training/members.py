"""The ensemble of the batch-norm paper: networks of one recipe that begin differently and drop out differently."""

from collections.abc import Callable
from pathlib import Path

from app.program.errors import UserError
from app.recipe import Recipe
from app.run_folder.folder import Run

# Section 4.2.3 of 1502.03167: "increased initial weights in the convolutional layers", and "Dropout (with the Dropout
# probability of 5% or 10%)". By how much the weights were increased the paper does not say.
DROPOUT = (0.05, 0.1)
INITIAL_WEIGHTS = (1.0, 1.5)


def recipes(recipe: Recipe, count: int) -> list[Recipe]:
    """A recipe for each member: seeds that count up from the recipe's, all pairs of dropout and of initial weights in
    turn."""
    pairs = [(dropout, weights) for weights in INITIAL_WEIGHTS for dropout in DROPOUT]
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


def train(to: Path, recipe: Recipe, count: int, train_one: Callable[[Path, Recipe], Run]) -> list[Run]:
    """Trains so many members, one after the other, in the run folders `to`/1, `to`/2 ...; the same call again goes on.
    `train_one` trains one in a folder by its recipe (see `training.train`).

    Raises:
        UserError: `to` is a run itself; what `train_one` raises.
    """
    if Run(to).classifier.exists():
        raise UserError(f"{to} is a run; choose another --to for {count} of them.")
    return [train_one(to / str(number), each) for number, each in enumerate(recipes(recipe, count), start=1)]
