"""GoogLeNet, as far as its paper says how it was trained. Szegedy et al. 2014, arXiv:1409.4842, sections 5 and 6

    python -m app train records:imagenet --network googlenet --recipe googlenet --to runs/googlenet

From the paper: SGD with momentum 0.9, a rate that falls by 4 % every 8 epochs, 0.3 for the loss of each auxiliary head,
the network's dropout of 0.4 and 0.7, crops of 8 to 100 % of the area with an aspect ratio of 3/4 to 4/3, photometric
distortions, averaged weights for use. Pictures keep their aspect, as in the 144 crops of section 7, of whose smallest
scale, 256 pixels for 224, the middle is evaluated here: a crop of 0.875.

Open in the paper: the first rate, the batch size and the length, here those that 1502.03167 (section 4.2) gives for it,
0.0015 for batches of 32 images and 31 million steps to its best, which are 775 epochs of ImageNet; and the L2 penalty,
here that of its release in Caffe.

Departures: one machine where the paper has asynchronous replicas; an exponential average, which follows the last tenth
of the run, where Polyak's is over all steps; resizing is bilinear, not at random; the release moves biases at twice the
rate.

Not run on ImageNet here. The release: 68.7 % top-1.
"""

from app.recipe import Augmentation, Image, Optimizer, Recipe, Schedule

RECIPE = Recipe(
    epochs=775,
    batch_size=32,
    image=Image(aspect="keep", crop=0.875),
    auxiliary=0.3,
    weight_average=0.9999,
    optimizer=Optimizer(name="sgd", rate=0.0015, momentum=0.9, l2=2e-4),
    schedule=Schedule(name="exponential", factor=0.96, every=8),
    augmentation=Augmentation(flip=True, crop_area=0.08, colour="full"),
)
