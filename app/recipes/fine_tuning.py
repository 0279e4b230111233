"""Fine-tuning in two stages: first the new classifier alone, then all with it, the lower the slower.

    python -m app train photos/ --from runs/imported --recipe fine_tuning --to runs/photos

Two stages and a lower rate for lower layers are those of arXiv:1801.06146 (sections 3.2 and 3.3), which divides by 2.6
from layer to layer of three; here a stage is a module of some twenty, hence 0.9. Batch normalisation stays as it came,
gamma and beta and statistics. So does what the start does to its pictures, unless `--set image.aspect=...` says
otherwise.

An epoch is at least ten steps: 30 images in batches of 32 are one step a pass, and 15 of these are over before the
rate has risen and fallen. What it gains is the more, the more the new classes are like those that the weights have
learnt. Errors in % on the 600 test images of horse, ship and truck after so many pictures of each, with `bn_inception`
at 0.35 of its width and 64 pixels that had learnt the seven other classes of CIFAR-10. Those for 30 are medians of five
seeds, by `benchmarks/fine_tuning.py`; the others of a trial of two, of the probe of five; what has no figure was not
measured:

    pictures of each class                            10      30     100
    from weights, two stages: this recipe           22.9    18.2       -
    from weights, one stage at one rate                -    18.2       -
    `linear_probe`                                  22.5    22.8    19.8
    random weights, rate 0.05, 150 steps            47.3    36.7       -
    random weights, rate 0.05, 450 steps               -    35.7       -

The errors with 30 are 0.51 of those from random weights (the median of the seeds). Two stages are no better than one
there.

Where the new classes are easy and the weights know little it does not help: the same network at a quarter of its width,
after the digits 0 to 4 alone, names 80, 72 and 60 % of 5 to 9 right after ten images of each (seeds 0, 1, 2), from
random weights 86, 83 and 81 %.
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
