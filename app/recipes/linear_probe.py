"""The classifier alone, on the features of trained weights: they are computed once, and it is fitted within seconds.

    python -m app train photos/ --from runs/imported --recipe linear_probe --to runs/photos

arXiv:1411.1792 asks so how general features are. It is logistic regression on what the network gives its classifier,
without augmentation; the strength of its penalty is what suits the validation images best or, where these are fewer
than a hundred, parts of the training images that were left out. The quickest answer to what trained weights are worth
for some images, and with few of them not far behind `fine_tuning`, which trains all of the network.
"""

from app.recipe import FineTuning, Recipe

RECIPE = Recipe(fine_tuning=FineTuning(probe=True))
