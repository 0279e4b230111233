"""Photographs, from scratch: random crops and mirror images, more epochs, weight decay, a softer target.

python -m app train photos/ --network bn_inception --recipe photos --to runs/photos
"""

from app.recipe import Augmentation, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=60,
    label_smoothing=0.1,
    optimizer=Optimizer(rate=0.05, nesterov=True, weight_decay=1e-4),
    schedule=Schedule(warmup=2),
    augmentation=Augmentation(flip=True, crop_area=0.3),
)
