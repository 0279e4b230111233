"""Photographs, from scratch: random crops and mirror images, more epochs, weight decay, a softer target.

    python -m app train photos/ --network bn_inception --recipe photos --to runs/photos

Photographs are no squares: their aspect is kept, and the middle square evaluated of which a side is 87.5 % of the
shorter one's, as is usual (256 and 224 pixels in 1812.01187, section 2.1). `--set image.aspect=pad --set image.crop=1`
where what matters may stand at an edge.
"""

from app.recipe import Augmentation, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=60,
    image=Image(aspect="keep", crop=0.875),
    label_smoothing=0.1,
    optimizer=Optimizer(rate=0.05, nesterov=True, weight_decay=1e-4),
    schedule=Schedule(warmup=2),
    augmentation=Augmentation(flip=True, crop_area=0.3),
)
