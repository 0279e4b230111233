"""The end of a training: the network to keep, its figures, golden images and report."""

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


def finish(data: Data, classifier: Classifier, recipe: Recipe, run: Run, watch: Watch) -> None:
    """The trained weights, or their running average, in a float32 network with softmax and without auxiliary heads;
    figures, golden images and report of the test images."""
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
    with whole(run.model) as beside:
        model.save(beside)
    trained = load(run.folder)
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing, watch)
    temperature = evaluating.fit_temperature(trained.model, data.validation, trained.preprocessing, watch)
    figures = evaluation.metrics(probabilities, truth, data.labels, temperature)
    chosen = data.test.at(spread(data.test.count, GOLDEN)).as_numpy_iterator()
    golden.keep(run, ((encoded, data.labels[int(label)]) for encoded, label in chosen))
    run_report.write(run, classifier, figures, probabilities, truth, data.test)
    write_json(run.metrics, figures)
