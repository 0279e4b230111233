"""What came after the papers: SGD-Nesterov under a cosine with warm-up, RandAugment, MixUp, CutMix.

    python -m app train records:imagenet --network inception_v3 --recipe modern --to runs/modern

After He, Zhang, Zhang, Zhang, Xie, Li 2018, "Bag of tricks", arXiv:1812.01187, which trains Inception-v3, too: the rate
0.1 for every 256 images of a batch (1706.02677), 5 epochs of warm-up, a cosine (1608.03983), labels smoothed by 0.1,
MixUp with alpha 0.2 (1710.09412) for 200 epochs, an L2 penalty of 1e-4 that gamma, beta and biases do not take. It
evaluates the middle 224 x 224 pixels of a picture whose shorter side is 256, its aspect kept (section 2.1), which is
the crop of 0.875 here for every size.

Beside it: RandAugment, 2 operations of magnitude 9 (1909.13719), in the place of that paper's colours, and CutMix with
alpha 1 (1905.04899), which takes turns with MixUp. Four batches of 64 images make one step, so that a card of 16 GB
takes them; `--set batch_size=256 --set optimizer.accumulate=1` where there is room, and statistics of larger batches.

With AdamW: `--set optimizer.name=adamw --set optimizer.rate=1e-3 --set optimizer.weight_decay=0.05
--set optimizer.l2=0`.

Not run on ImageNet here. The Inception-v3 that its authors published (Gluon): 78.8 % top-1.
"""

from app.recipe import Augmentation, BatchNorm, Image, Optimizer, RandAugment, Recipe, Schedule

RECIPE = Recipe(
    epochs=200,
    batch_size=64,
    image=Image(aspect="keep", crop=0.875),
    label_smoothing=0.1,
    optimizer=Optimizer(name="sgd", rate=0.1 * 4 * 64 / 256, momentum=0.9, nesterov=True, l2=1e-4, accumulate=4),
    schedule=Schedule(name="cosine", warmup=5),
    batch_norm=BatchNorm(momentum="auto"),
    augmentation=Augmentation(
        flip=True, crop_area=0.08, randaugment=RandAugment(layers=2, magnitude=9), mixup=0.2, cutmix=1.0
    ),
)
