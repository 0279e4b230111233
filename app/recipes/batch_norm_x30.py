"""BN-x30: as BN-x5, with thirty times the rate of GoogLeNet. Ioffe and Szegedy 2015, arXiv:1502.03167, section 4.2.2

    python -m app train records:imagenet --network bn_inception --recipe batch_norm_x30 --to runs/bn_x30

All else is that of `batch_norm_x5`, whose docstring says what the paper leaves open. It learns more slowly at first,
and ends higher. The rate is for batches of 32 images.

Not run on ImageNet here. The paper: 72.2 % after 2.7 million steps, 74.8 % after 6 million.
"""

from app.recipe import Augmentation, BatchNorm, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=150,
    batch_size=32,
    image=Image(aspect="keep", crop=0.875),
    dropout=0.0,
    optimizer=Optimizer(name="sgd", rate=30 * 0.0015, momentum=0.9, l2=2e-4 / 5),
    schedule=Schedule(name="exponential", factor=0.96, every=8 / 6),
    batch_norm=BatchNorm(momentum="auto"),
    augmentation=Augmentation(flip=True, crop_area=0.08),
)
