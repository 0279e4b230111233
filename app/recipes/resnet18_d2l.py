"""The small ResNet-18 of "Dive into Deep Learning", as that book trains it: https://d2l.ai, chapter 8.6.

    python -m app train tfds:fashion_mnist --network resnet18_d2l --recipe resnet18_d2l --to runs/resnet18_d2l

SGD without momentum at the rate 0.01, for 10 epochs in batches of 128 images, enlarged to 96 x 96. The first weights
are Xavier's (Glorot's uniform), which is the builder's own choice.

Departure: images have three channels, unless `--set image.colour=grey` makes the one of the book.
"""

from app.recipe import BatchNorm, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=10,
    batch_size=128,
    image_size=96,
    optimizer=Optimizer(name="sgd", rate=0.01, momentum=0.0),
    schedule=Schedule(name="constant"),
    batch_norm=BatchNorm(momentum="auto"),
)
