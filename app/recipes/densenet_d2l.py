"""The small DenseNet of "Dive into Deep Learning", as that book trains it: https://d2l.ai, chapter 8.7.

    python -m app train tfds:fashion_mnist --network densenet_d2l --recipe densenet_d2l --to runs/densenet_d2l

SGD without momentum at the rate 0.1, for 10 epochs in batches of 256 images, enlarged to 96 x 96. The first weights
are Xavier's (Glorot's uniform), which is the builder's own choice.

Departure: images have three channels, unless `--set image.colour=grey` makes the one of the book.
"""

from app.recipe import BatchNorm, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=10,
    batch_size=256,
    image_size=96,
    optimizer=Optimizer(name="sgd", rate=0.1, momentum=0.0),
    schedule=Schedule(name="constant"),
    batch_norm=BatchNorm(momentum="auto"),
)
