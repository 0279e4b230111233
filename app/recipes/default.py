"""SGD with momentum under a cosine, for small data sets: the recipe of `make demo`.

    python -m app train digits --network bn_inception --to runs/demo

Batch-norm momentum 0.9, because a run of some hundred steps is over before averages of 0.99 arrive.
"""

from app.recipe import Recipe

RECIPE = Recipe()
