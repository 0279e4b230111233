"""A recipe: every number that training uses. `app/recipes/` holds them by name; a path to such a file works as well.

python -m app train DATA --network bn_inception --recipe photos --set optimizer.rate=0.01 --to RUN
"""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.program.errors import UserError
from app.recipe_keys import Part, complaint, flat, keys, nearest
from app.recipes._auto import AutoFloat, AutoInt

RECIPES = Path(__file__).with_name("recipes")


class Optimizer(Part):
    """`momentum` is for sgd and rmsprop, `nesterov` for sgd, `rho` for rmsprop, `epsilon` for rmsprop and adamw.

    rmsprop is TensorFlow's, with the rate inside the momentum and `epsilon` inside the root:

        square = rho * square + (1 - rho) * g^2
        velocity = momentum * velocity + rate * g / sqrt(square + epsilon)        w = w - velocity

    and `initial_accumulator` is the square before the first step: 1 in TensorFlow 1, with which the papers were made, 0
    in Keras.

    `weight_decay` is decoupled: every step takes rate * weight_decay * w away (1711.05101). `l2` is the penalty
    l2 / 2 * sum(w^2), whose gradient l2 * w joins that of the loss. With its one half it is the number that TF-slim,
    Caffe and the papers write; Keras' L2 regularizer, which has none, would take half of it. The loss that is shown is
    without it. Both leave gamma, beta and biases alone.

    `clip` scales all gradients together where their global norm exceeds it (1211.5063), before `l2` comes to them; None
    is without. `accumulate` takes the mean gradient of so many batches for one optimizer step: the images of a step are
    batch_size * accumulate, whereas batch normalisation still sees one batch at a time.

    `rate` "auto" is found by a range test on the run's own images and initial weights (see training/range_test.py)."""

    name: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    rate: AutoFloat = 0.05
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    rho: float = Field(default=0.9, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-7
    initial_accumulator: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    l2: NonNegativeFloat = 0.0
    clip: PositiveFloat | None = None
    accumulate: PositiveInt = 1


class Schedule(Part):
    """How the rate goes on after `warmup` epochs of linear rise from 0. Counted from there, with x from 0 to 1 over the
    rest of the run:

    cosine       rate * (1 + cos(pi x)) / 2
    polynomial   rate * (1 - x)^power: a straight line with 1; Caffe's release of GoogLeNet has 0.5
    exponential  rate * factor^(epochs / every), with `staircase` in whole powers alone
    constant     rate
    """

    name: Literal["cosine", "polynomial", "exponential", "constant"] = "cosine"
    warmup: NonNegativeFloat = 0.0
    power: PositiveFloat = 1.0
    factor: float = Field(default=0.94, gt=0, le=1)
    every: PositiveFloat = 2.0
    staircase: bool = True


class BatchNorm(Part):
    """`momentum` is the weight of the past in the moving averages, Keras' convention; "auto" derives it from the length
    of the run, see `resolved`. `recalibrate` says when the averages give way to population statistics (Algorithm 2 of
    1502.03167): "end" is before the final evaluation, "epoch" also before every validation. `early` does so, unless
    `recalibrate` is "never", on a few batches before validations at which the averages cannot have arrived: those with
    momentum^n above 0.05 after n steps since they began or were last measured, as in epochs of less than 29 steps with
    0.9. False leaves these to the averages, as the papers do."""

    momentum: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.9
    recalibrate: Literal["never", "end", "epoch"] = "end"
    early: bool = True

    @property
    def measures_early(self) -> bool:
        return self.early and self.recalibrate != "never"

    def resolved(self, steps: int) -> float:
        """The momentum of a run of so many steps.

        "auto" remembers the last tenth of the run, 1 / (1 - momentum) = steps / 10, so that exp(-10) of the initial
        values is left at its end; but no more than 100 steps, the 0.99 of the layer: some 10^3 images suffice
        (https://arxiv.org/abs/2105.07576), and the weights move on.
        """
        return min(0.99, max(0.0, 1 - 10 / steps)) if self.momentum == "auto" else self.momentum


class Image(Part):
    """How a picture becomes the network's input: keys of `app.images.preprocessing`, where they are described. None is
    what the run has that the training begins with, and else "squash", 1 and RGB. What a recipe file says here is for
    networks that begin with random weights; with trained ones it takes `--set`. Training without random crops
    sees what evaluation sees. A random crop (`augmentation.crop_area`) takes the place of `crop`. With "squash" it has
    about the picture's shape and is squashed; with "keep" it has about the network's shape, and is squashed by no more
    than 4/3; with "pad" it is a window of about the picture's shape, its aspect is kept and the rest filled, so that
    the network sees what is laid around pictures in training, too."""

    aspect: Literal["squash", "keep", "pad"] | None = None
    crop: Annotated[float, Field(gt=0, le=1)] | None = None
    colour: Literal["grey"] | None = None


class RandAugment(Part):
    """`layers` of the fourteen operations for each image, each at `magnitude` (N and M of 1909.13719); 0 layers is
    without. The scale is the paper's, on which 10 is the most that an operation does: what counts to 30, as
    torchvision does, has three times these numbers. ResNet-50 on ImageNet: 2 layers of 9."""

    layers: NonNegativeInt = 0
    magnitude: float = Field(default=9.0, ge=0, le=10)


class Augmentation(Part):
    """`flip` mirrors half of the images. `crop_area` is the smallest share of the picture that a random crop keeps,
    with an aspect ratio of 3/4 to 4/3 (1409.4842, section 6, with 0.08; TF-slim 0.05); 1 is no crop. `colour` changes
    brightness and saturation ("fast") or also hue and contrast ("full"), as TF-slim does; None leaves them.

    `mixup` and `cutmix` are the alpha of Beta(alpha, alpha), of which the share comes that an image keeps when a batch
    is mixed (1710.09412: 0.2 on ImageNet; 1905.04899: 1); 0 is without. With both, each batch has one of them. The
    training accuracy of mixed images counts the label of the larger share, and stays below that of validation."""

    flip: bool = False
    crop_area: float = Field(default=1.0, gt=0, le=1)
    colour: Literal["fast", "full"] | None = None
    randaugment: RandAugment = RandAugment()
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0


class Checkpoint(Part):
    """`use` says which weights the finished run keeps: those of the `last` epoch, which is what a rate that falls to 0
    is for, or those of the `best` validation loss, for rates that stay high. Among epochs that differ by an image or
    two of a small validation split, the best is a lottery.

    `every` is after how many steps the whole state of training is saved, to go on from it; None is once in a minute of
    training. It is also saved after every epoch. When it is saved changes nothing of what is computed."""

    use: Literal["last", "best"] = "last"
    every: PositiveInt | None = None


class FineTuning(Part):
    """For a run that begins with trained weights. `probe` computes once what the classifier is given of each training
    image, and fits the classifier on it by logistic regression: without steps, so that every key that is about these
    has to be left out. Otherwise, in its first `head_epochs` only what is new trains, the classifier,
    whose first gradients say nothing to the rest; then all that `freeze` leaves. `layer_decay` multiplies the rate of
    each stage of the network (stem, module, block) once more than that of the stage above it: 1 is one rate for all,
    1801.06146 has 1 / 2.6. Weights that wait or have a rate of their own take no `weight_decay`."""

    probe: bool = False
    head_epochs: NonNegativeFloat = 0.0
    layer_decay: float = Field(default=1.0, gt=0, le=1)


class Recipe(Part):
    """`steps` ends a run after so many optimizer steps, whatever `epochs` says; a step is a batch, or so many as
    `optimizer.accumulate` says. An epoch is one pass over the training images, or of few images so many passes that
    they make `epoch_steps` batches. `batch_size` "auto" is the smallest that is nearly as fast as any (see
    training/batch_sizes.py). `image_size` None is the size that the data or else the network was made for; `dropout`
    None is the network's own. `initial_weights` multiplies the kernels that convolutions begin with, where the run does
    not begin with trained ones. `remat` trains in less memory, for which it computes maps of the network twice (see
    training/recomputation.py): the weights are the same but for rounding.

    `balance` makes up for classes with fewer images than others. "weights" multiplies the loss of each training image
    by count / (classes * images of its class); of a mixed one, that of each of its labels. The loss that is shown, of
    training and of validation, is so weighted, and so is the one by which `checkpoint.use` finds the best epoch; the
    figures of the finished run are not. "sample" draws from every class equally often: an epoch is as long as before,
    and repeats the images of small classes, otherwise augmented, where it leaves out some of large ones. The statistics
    of batch normalisation are measured on images that are drawn in the same way. None, as `--set balance=none`, takes
    images as they come.

    `auxiliary` is the weight of each auxiliary head's loss beside the 1 of the predictions (1409.4842: 0.3; TF-slim:
    0.4); with 0 the heads are not built. They are for training only: the finished run is without them.

    `weight_average` is the decay of a running average of the weights, None is without. The finished run has the
    averaged weights and batch-norm statistics that were measured for them, which is why `batch_norm.recalibrate` cannot
    be "never" with it. After n steps the decay is min(weight_average, (1 + n) / (10 + n)), as in TensorFlow's
    ExponentialMovingAverage: a short run has the average of its last tenth or so. Validations see the averaged weights
    where statistics are measured for each of them ("epoch") or none move; otherwise the weights as they are.

    `freeze` says what keeps its values: "nothing"; "batch_norm", whose layers then are inference with the statistics
    they came with, gamma and beta included; "base", everything but the classifier; "auto" is "batch_norm" where the
    run begins with trained weights and "nothing" elsewhere.
    """

    seed: NonNegativeInt = 0
    epochs: PositiveInt = 12
    steps: PositiveInt | None = None
    epoch_steps: NonNegativeInt = 0
    batch_size: AutoInt = 32
    image_size: PositiveInt | None = None
    image: Image = Image()
    width: PositiveFloat = 1.0
    dropout: float | None = Field(default=None, ge=0, lt=1)
    initial_weights: PositiveFloat = 1.0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    remat: bool = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balance: Literal["weights", "sample"] | None = None
    auxiliary: NonNegativeFloat = 0.0
    weight_average: float | None = Field(default=None, gt=0, lt=1)
    freeze: Literal["auto", "nothing", "batch_norm", "base"] = "auto"
    fine_tuning: FineTuning = FineTuning()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch_norm: BatchNorm = BatchNorm()
    augmentation: Augmentation = Augmentation()
    checkpoint: Checkpoint = Checkpoint()

    @model_validator(mode="after")
    def _measures_what_it_averages(self) -> Self:
        if self.weight_average is not None and self.batch_norm.recalibrate == "never":
            raise PydanticCustomError(
                "statistics",
                f"weight_average={self.weight_average}: averaged weights need batch-norm statistics of their own; "
                "batch_norm.recalibrate has to be end or epoch",
            )
        return self

    @model_validator(mode="after")
    def _probes_without_steps(self) -> Self:
        probe = FineTuning(probe=True)
        if self.fine_tuning.probe:
            of_images = Recipe.model_construct(seed=self.seed, image_size=self.image_size, image=self.image)
            plain = of_images.model_copy(update={"fine_tuning": probe})
            values, wanted = flat(self.model_dump()), flat(plain.model_dump())
            if key := next((key for key in values if values[key] != wanted[key]), None):
                why = "a linear probe (fine_tuning.probe) fits the classifier without steps; leave it out"
                raise PydanticCustomError("probe", f"{key}={values[key]}: {why}")
        return self


def load(name: str, settings: Iterable[str] = (), from_weights: bool = False) -> Recipe:
    """The recipe called `name` (or in the file `name`), with `key=value` settings on top. Its own `image` is left out
    where a training begins `from_weights`: those were trained on pictures as their run prepares them.

    Raises:
        UserError: no such recipe, an unknown key, or a value that its key does not take.
    """
    recipe = _named(name)
    values = recipe.model_dump()
    if from_weights:
        values["image"] = Image().model_dump()
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting}: write key=value, as in --set epochs=3.")
        if key not in set(keys(Recipe)):
            raise UserError(
                f"--set {setting}: there is no recipe key '{key}'. The nearest are {', '.join(nearest(key, Recipe))}; "
                "app/recipe.py describes them all."
            )
        *parts, last = key.split(".")
        place = values
        for part in parts:
            place = place[part]
        place[last] = None if text.lower() == "none" else text
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--set {complaint(error, Recipe)}.") from error


def settings_of(recipe: Recipe) -> list[str]:
    """The `key=value` settings that make this recipe of the default one."""
    changed, default = flat(recipe.model_dump()), flat(Recipe().model_dump())
    return [f"{key}={value}" for key, value in changed.items() if value != default[key]]


def _named(name: str) -> Recipe:
    path = Path(name) if name.endswith(".py") else RECIPES / f"{name}.py"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in RECIPES.glob("[!_]*.py")))
        raise UserError(f"There is no recipe '{name}'. The recipes are {known}; the path of a .py file works as well.")
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValidationError as error:
        raise UserError(f"The recipe {path} does not run: {complaint(error, Recipe)}.") from error
    except Exception as error:
        raise UserError(f"The recipe {path} does not run: {type(error).__name__}: {error}.") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UserError(f"The recipe {path} must define RECIPE = Recipe(...), with Recipe from app.recipe.")
    return recipe
