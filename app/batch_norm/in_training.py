"""Population statistics within a training: before its validations and at its end."""

import keras
import numpy as np

from app.batch_norm import inspection, measuring, population
from app.batch_norm.batches import Batches, Watched
from app.batch_norm.report import GAP, description, remedy, sentence
from app.datasets.dataset import Data
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import FEW
from app.program.errors import UserError
from app.program.files import write_json
from app.program.progress import console, unwatched
from app.recipe import Recipe
from app.run_folder.folder import Run

IN_TRAINING = 2048  # images: cheap beside an epoch, and enough
EARLY = FEW  # images: a few batches, while averages cannot have arrived
HELD = 128 * 2**20  # bytes of these


def after_training(model: keras.Model, data: Data, preprocessing: Preprocessing, recipe: Recipe, run: Run) -> None:
    """Says so where the moving averages are the reason of a gap, and recalibrates unless the recipe says "never".

    What cannot be measured stays as it is: the run is worth more than its statistics.
    """
    if not measuring.moves(model):
        return
    batches = plain_batches(data, preprocessing, recipe)
    try:
        found = inspection.inspect(model, batches)
    except UserError as error:
        console.print(f"The moving averages of batch normalisation stay as they are: {error}")
        return
    never = recipe.batch_norm.recalibrate == "never"
    if found.gap > GAP and not recipe.weight_average:  # there the moving averages are those of other weights
        again = remedy(run.folder, data.name)
        console.print(sentence(found, again if never else "They give way to the real statistics now."))
    if not never:
        described = description(model, found.population, batches, data.name)
        population.adopt(model, found.population)
        write_json(run.batch_norm, described)


def plain_batches(data: Data, preprocessing: Preprocessing, recipe: Recipe, most: int = IN_TRAINING) -> Batches:
    """Training images without augmentation, as they come in use, in batches as in training."""
    return Batches(data.train, preprocessing, min(recipe.batch_size, data.train.count), recipe.seed, most)


def before_validations(
    data: Data, preprocessing: Preprocessing, recipe: Recipe, epoch: int, steps: int
) -> population.Recalibrate:
    """For a training whose recipe says "end" or "epoch", with epochs of so many steps, after so many."""
    if recipe.batch_norm.recalibrate == "epoch":
        return population.Recalibrate(training_pictures(data, preprocessing, recipe), "epoch")
    bytes_ = 3 * preprocessing.height * preprocessing.width * np.float32().nbytes
    few = max(2, min(EARLY, HELD // bytes_))
    return population.Recalibrate(training_pictures(data, preprocessing, recipe, few), "early", epoch, steps)


def training_pictures(data: Data, preprocessing: Preprocessing, recipe: Recipe, most: int = IN_TRAINING) -> Watched:
    """The images of `plain_batches` alone."""
    return Watched(plain_batches(data, preprocessing, recipe, most), unwatched, "")
