"""The end of a training: the network to keep, its figures, golden images and report."""

import io

import keras
import numpy as np
from PIL import Image

from app import evaluation
from app.batch_norm import in_training, measuring
from app.datasets.dataset import Data
from app.evaluation import evaluating
from app.program.errors import UserError
from app.program.files import whole, write_json
from app.program.progress import Watch
from app.recipe import Recipe
from app.reports import run_report
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
    _keep_golden(data, run)
    run_report.write(run, classifier, figures, probabilities, truth, data.test)
    write_json(run.metrics, figures)


def _keep_golden(data: Data, run: Run) -> None:
    """Test images spread over the split, as they are, with their labels: what exports are compared on."""
    run.golden.mkdir(exist_ok=True)
    chosen = set(np.linspace(0, data.test.count - 1, min(GOLDEN, data.test.count)).astype(int).tolist())
    kept: list[dict[str, str]] = []
    for i, (encoded, label) in enumerate(data.test.in_order().as_numpy_iterator()):
        if i in chosen:
            with Image.open(io.BytesIO(encoded)) as image:
                name = f"{len(kept):02}.{(image.format or 'img').lower()}"
            with whole(run.golden / name) as beside:
                beside.write_bytes(encoded)
            kept.append({"file": name, "label": data.labels[int(label)]})
    write_json(run.golden / "golden.json", kept)
