"""The recipe of Inception-v3 (`inception_v3`, arXiv:1512.00567, section 8) scaled to a run of some hundred steps.

    python -m app train digits --network inception_v3 --recipe digits_v3 --to runs/digits_v3

Optimizer, clipping and label smoothing are those of the paper. Scaled to the run: 16 epochs for 100, and the rate times
0.94 so much more often that as much of it is left at the end; batches of 64 images, with twice the rate for twice the
images; the running average by its warm-up, whose decay is at most (1 + n) / (10 + n) after n steps; batch-norm momentum
"auto". Not the paper's: no auxiliary head, which needs images of 299 pixels where these have 75; no crops, and neither
mirror images nor colours, which make other digits of digits.

Measured, 320 steps each: 99.4 %, 99.4 % and 98.6 % of the test images with the seeds 0, 1 and 2; by the seconds of an
epoch 4.9 minutes of training on two cores. After 15 epochs, 4.6 minutes, 98.3 % with the seed 0.
"""

from app.recipe import BatchNorm, Optimizer, Recipe, Schedule

EPOCHS = 16

RECIPE = Recipe(
    epochs=EPOCHS,
    batch_size=64,
    label_smoothing=0.1,
    weight_average=0.9999,
    optimizer=Optimizer(
        name="rmsprop", rate=0.09, momentum=0.9, rho=0.9, epsilon=1.0, initial_accumulator=1.0, l2=4e-5, clip=2.0
    ),
    schedule=Schedule(name="exponential", factor=0.94, every=2 * EPOCHS / 100),
    batch_norm=BatchNorm(momentum="auto"),
)
