"""BN-x5: batch normalisation with the training that it makes possible. Ioffe and Szegedy 2015, arXiv:1502.03167, 4.2.2

    python -m app train records:imagenet --network bn_inception --recipe batch_norm_x5 --to runs/bn_x5

What section 4.2.1 changes, against the training of GoogLeNet (`googlenet`): five times the rate, no dropout, an L2
penalty five times weaker, a rate that falls six times faster, and weaker photometric distortions, here none. Shuffling
within the shards needs no setting: every epoch has an order of its own, of all images. There is no local response
normalisation in `bn_inception`. The rate is for batches of 32 images.

Open in the paper: the L2 penalty, here that of GoogLeNet's release in Caffe, 2e-4; the fall of the rate, here
GoogLeNet's, 4 % every 8 epochs (1409.4842, section 6); the length, here the 6 million steps of BN-x30; the single crop
that is evaluated, here as in `googlenet`.

Not run on ImageNet here. The paper: 72.2 % after 2.1 million steps, 73.0 % at best.
"""

from app.recipe import Augmentation, BatchNorm, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=150,
    batch_size=32,
    image=Image(aspect="keep", crop=0.875),
    dropout=0.0,
    optimizer=Optimizer(name="sgd", rate=5 * 0.0015, momentum=0.9, l2=2e-4 / 5),
    schedule=Schedule(name="exponential", factor=0.96, every=8 / 6),
    batch_norm=BatchNorm(momentum="auto"),
    augmentation=Augmentation(flip=True, crop_area=0.08),
)
