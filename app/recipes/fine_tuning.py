"""Fine-tuning in two stages: first the new classifier alone, then all with it, the lower the slower.

    python -m app train photos/ --from runs/imported --recipe fine_tuning --to runs/photos

Two stages and a lower rate for lower layers are those of arXiv:1801.06146 (sections 3.2 and 3.3), which divides by 2.6
from layer to layer of three; here a stage is a module of some twenty, hence 0.9. Batch normalisation stays as it came,
gamma and beta and statistics. So does what the start does to its pictures, unless `--set image.aspect=...` says
otherwise.

What it gains depends on the weights that it begins with; published ones were not at hand. Measured where it does not
help: `bn_inception` at a quarter of its width, which has learnt the digits 0 to 4 alone, names 80, 72 and 60 % of 5 to
9 right after ten images of each (seeds 0, 1, 2), in one stage at one rate 81, 52 and 64 %, and from random weights 86,
83 and 81 %.
"""

from app.recipe import Augmentation, FineTuning, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=15,
    image=Image(aspect="keep", crop=0.875),
    epoch_steps=10,
    label_smoothing=0.1,
    fine_tuning=FineTuning(head_epochs=3, layer_decay=0.9),
    optimizer=Optimizer(rate=0.01, nesterov=True),
    schedule=Schedule(warmup=1),
    augmentation=Augmentation(flip=True, crop_area=0.5),
)
