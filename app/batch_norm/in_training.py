"""Population statistics within a training: before its validations and at its end."""

import keras

from app.batch_norm import inspection, measuring, population
from app.batch_norm.batches import Batches, Watched
from app.batch_norm.report import GAP, description, remedy, sentence
from app.datasets.dataset import Data
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.files import write_json
from app.program.progress import console, unwatched
from app.recipe import Recipe
from app.run_folder.folder import Run

IN_TRAINING = 2048  # images: cheap beside an epoch, and enough


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


def plain_batches(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> Batches:
    """Training images without augmentation, as they come in use, in batches as in training."""
    return Batches(data.train, preprocessing, min(recipe.batch_size, data.train.count), recipe.seed, IN_TRAINING)


def before_validations(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> population.Recalibrate:
    return population.Recalibrate(training_pictures(data, preprocessing, recipe), "epoch")


def training_pictures(data: Data, preprocessing: Preprocessing, recipe: Recipe) -> Watched:
    """The images of `plain_batches` alone."""
    return Watched(plain_batches(data, preprocessing, recipe), unwatched, "")
