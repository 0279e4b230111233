"""The end of a training: golden images and the network to keep; then its figures and its report."""

import keras

from app import evaluation
from app.batch_norm import in_training, measuring
from app.datasets.dataset import Data, spread
from app.evaluation import evaluating
from app.program.errors import UserError
from app.program.files import whole, write_json
from app.program.progress import Watch
from app.recipe import Recipe
from app.reports import run_report
from app.run_folder import golden
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.run_folder.trained import load
from app.training.callbacks import weight_average

GOLDEN = 32


def keep_network(data: Data, classifier: Classifier, recipe: Recipe, run: Run) -> None:
    """The trained weights, or their running average, in a float32 network with softmax and without auxiliary heads.
    Golden images are there first: the run is finished with its network."""
    file = run.checkpoints / f"{recipe.checkpoint.use}.keras"
    try:
        kept = keras.models.load_model(file, compile=bool(recipe.weight_average))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is damaged; remove {run.folder} to begin the run again.") from error
    if recipe.weight_average:
        weight_average.use(kept)
    model = classifier.build()
    for layer in model.layers:
        layer.set_weights(kept.get_layer(layer.name).get_weights())
    for layer in measuring.layers_of(model):
        layer.trainable = kept.get_layer(layer.name).trainable  # a frozen layer keeps the statistics it came with
    in_training.after_training(model, data, classifier.preprocessing, recipe, run)
    _keep_golden(data, run)
    with whole(run.model) as beside:
        model.save(beside)


def complete(data: Data, classifier: Classifier, run: Run, watch: Watch) -> bool:
    """Makes what a finished run lacks beside its network: figures and report of the test images, of which the figures
    are written last, and golden images. Returns whether something was missing."""
    lacking = False
    if not (run.golden / "golden.json").is_file():  # of an adapted run whose origin had none
        _keep_golden(data, run)
        lacking = True
    if not run.metrics.is_file():
        _measure(data, classifier, run, watch)
        lacking = True
    return lacking


def _measure(data: Data, classifier: Classifier, run: Run, watch: Watch) -> None:
    trained = load(run.folder)
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing, watch)
    temperature = evaluating.fit_temperature(trained.model, data.validation, trained.preprocessing, watch)
    figures = evaluation.metrics(probabilities, truth, data.labels, temperature)
    run_report.write(run, classifier, figures, probabilities, truth, data.test)
    write_json(run.metrics, figures)


def _keep_golden(data: Data, run: Run) -> None:
    chosen = data.test.at(spread(data.test.count, GOLDEN)).as_numpy_iterator()
    golden.keep(run, ((encoded, data.labels[int(label)]) for encoded, label in chosen))
