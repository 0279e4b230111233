"""The recipe of Inception-v3 (`inception_v3`, arXiv:1512.00567, section 8) scaled to a run of some hundred steps.

    python -m app train digits --network inception_v3 --recipe digits_v3 --to runs/digits_v3

Optimizer, clipping and label smoothing are those of the paper. Scaled to the run: 18 epochs for 100, and the rate times
0.94 so much more often that as much of it is left at the end; the running average by its warm-up, whose decay is at
most (1 + n) / (10 + n) after n steps; batch-norm momentum "auto". Not the paper's: no auxiliary head, which needs
images of 299 pixels where these have 75, no crops, mirror images or colours, which make other digits of digits.

Measured, 720 steps each: 99.7 %, 98.9 % and 98.6 % of the test images with the seeds 0, 1 and 2; by the
seconds of an epoch 5.4 minutes of training on two cores. After 16 epochs, 4.9 minutes, 98.9 % and 97.5 % with the seeds
0 and 1; after 14, 97.8 % with 0.
"""

from app.recipe import BatchNorm, Optimizer, Recipe, Schedule

EPOCHS = 18

RECIPE = Recipe(
    epochs=EPOCHS,
    batch_size=32,
    label_smoothing=0.1,
    weight_average=0.9999,
    optimizer=Optimizer(
        name="rmsprop", rate=0.045, momentum=0.9, rho=0.9, epsilon=1.0, initial_accumulator=1.0, l2=4e-5, clip=2.0
    ),
    schedule=Schedule(name="exponential", factor=0.94, every=2 * EPOCHS / 100),
    batch_norm=BatchNorm(momentum="auto"),
)
