"""Inception-v4 and Inception-ResNet. Szegedy, Ioffe, Vanhoucke, Alemi 2016, arXiv:1602.07261, section 4

    python -m app train records:imagenet --network inception_v4 --recipe inception_v4 --to runs/inception_v4

So for `inception_resnet_v2`; with `inception_resnet_v1` and `inception_resnet_v2_paper`, which have no auxiliary head,
add `--set auxiliary=0`.

From the paper: RMSProp with decay 0.9 and epsilon 1.0, the rate 0.045 times 0.94 every two epochs, a running average of
the weights. The text gives no length; after these 160 epochs 0.7 % of the rate is left.

From the authors' release (TF-slim): momentum 0.9, 0.4 for the loss of the auxiliary head, an L2 penalty of 4e-5 with
the factor of one half, batch-norm momentum 0.9997, average decay 0.9999, crops of 5 to 100 % of the area, colours. The
mean square of RMSProp begins at 1, as in TensorFlow 1. Labels are smoothed by 0.1 as for Inception-v3 (`inception_v3`).
Its evaluation takes the middle 87.5 % of both sides.

The rate is for batches of 32 images, each applied on its own by one of 20 replicas.

Departures: the aspect of a picture is kept, where TF-slim squashes those 87.5 % (`--set image.aspect=squash`); one
machine where the paper has asynchronous replicas; biases take no L2 penalty, which those of
Inception-ResNet-v2 do in TF-slim; the batch-norm statistics of the averaged weights are measured, where the release
averages the moving averages.

Not run on ImageNet here. The paper: top-1 and top-5 error on one crop 20.0 % and 5.0 % for Inception-v4, 19.9 % and
4.9 % for Inception-ResNet-v2, 21.3 % and 5.5 % for Inception-ResNet-v1.
"""

from app.recipe import Augmentation, BatchNorm, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=160,
    batch_size=32,
    image=Image(aspect="keep", crop=0.875),
    label_smoothing=0.1,
    auxiliary=0.4,
    weight_average=0.9999,
    optimizer=Optimizer(
        name="rmsprop", rate=0.045, momentum=0.9, rho=0.9, epsilon=1.0, initial_accumulator=1.0, l2=4e-5
    ),
    schedule=Schedule(name="exponential", factor=0.94, every=2),
    batch_norm=BatchNorm(momentum=0.9997),
    augmentation=Augmentation(flip=True, crop_area=0.05, colour="fast"),
)
