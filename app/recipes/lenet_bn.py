"""LeNet with batch normalisation, as "Dive into Deep Learning" trains it: https://d2l.ai, chapter 8.5, first edition.

    python -m app train tfds:fashion_mnist --network lenet_bn --recipe lenet_bn --to runs/lenet_bn

SGD without momentum at the rate 1.0, which LeNet without batch normalisation does not stand, for 5 epochs in batches of
256 images of 28 x 28. The first weights are Xavier's (Glorot's uniform), which is the builder's own choice.

Departure: images have three channels, unless `--set image.colour=grey` makes the one of the book.
"""

from app.recipe import BatchNorm, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=5,
    batch_size=256,
    image_size=28,
    optimizer=Optimizer(name="sgd", rate=1.0, momentum=0.0),
    schedule=Schedule(name="constant"),
    batch_norm=BatchNorm(momentum=0.9),
)
