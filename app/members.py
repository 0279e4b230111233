"""The ensemble of the batch-norm paper: networks of one recipe that begin differently and drop out differently."""

from app.recipe import Recipe

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
