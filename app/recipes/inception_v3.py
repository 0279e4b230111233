"""Inception-v3. Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2015, arXiv:1512.00567, sections 4, 7 and 8

    python -m app train records:imagenet --network inception_v3 --recipe inception_v3 --to runs/inception_v3

From the paper: RMSProp with decay 0.9 and epsilon 1.0, the rate 0.045 times 0.94 every two epochs, gradients clipped at
2.0, labels smoothed by 0.1, 100 epochs, a running average of the weights, a batch-normalised auxiliary head.

From the authors' release (TF-slim and research/inception): momentum 0.9, 0.4 for the loss of the auxiliary head, an L2
penalty of 4e-5 with the factor of one half, batch-norm momentum 0.9997, average decay 0.9999, crops of 5 to 100 % of
the area, colours. The mean square of RMSProp begins at 1, as in TensorFlow 1.
Its evaluation takes the middle 87.5 % of both sides.

The rate is for batches of 32 images, of which the paper's 50 replicas applied each on its own: batches of n * 32 that
are one step want a higher rate, and a warm-up.

Departures: the aspect of a picture is kept, where TF-slim squashes those 87.5 % (`--set image.aspect=squash`); one
machine where the paper has asynchronous replicas; the L2 penalty is not among what is clipped; the
batch-norm statistics of the averaged weights are measured, where the release averages the moving averages.

Not run on ImageNet here; `digits_v3` is this recipe for small data, with what was measured. The paper: 21.2 % top-1 and
5.6 % top-5 error on one crop.
"""

from app.recipe import Augmentation, BatchNorm, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=100,
    batch_size=32,
    image=Image(aspect="keep", crop=0.875),
    label_smoothing=0.1,
    auxiliary=0.4,
    weight_average=0.9999,
    optimizer=Optimizer(
        name="rmsprop", rate=0.045, momentum=0.9, rho=0.9, epsilon=1.0, initial_accumulator=1.0, l2=4e-5, clip=2.0
    ),
    schedule=Schedule(name="exponential", factor=0.94, every=2),
    batch_norm=BatchNorm(momentum=0.9997),
    augmentation=Augmentation(flip=True, crop_area=0.05, colour="fast"),
)
