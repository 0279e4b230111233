"""The end of a training: golden images and the network to keep; then its figures and its report.

The network is worth more than all that is measured on it: what fails here leaves a run that is finished, and that
`evaluate` completes.
"""

from pathlib import Path

import keras

from app.batch_norm import in_training, measuring
from app.datasets import label_sets, loading
from app.datasets.dataset import Data, spread
from app.evaluation import evaluating, own_figures, several_labels, strangeness
from app.pipeline import balance
from app.program import unexpected
from app.program.errors import UserError
from app.program.files import whole, write_json
from app.program.progress import Watch, console
from app.program.shown import command
from app.recipe import Recipe
from app.reports import run_report
from app.run_folder import golden
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.run_folder.trained import load
from app.training import old_classes
from app.training.callbacks import weight_average

GOLDEN = 32
NAMED = 5  # labels that a sentence names


def keep_network(data: Data, classifier: Classifier, recipe: Recipe, run: Run, watch: Watch) -> Classifier:
    """The trained weights, or their running average, in a float32 network with softmax and without auxiliary heads; of
    several labels a picture with sigmoids, and with a threshold for each label, which is in the description that is
    returned. Golden images are there first, where they can be had: the run is finished with its network.

    Raises:
        UserError: the file of the trained weights is damaged; or they are to be those of the best validation, and no
            validation loss was a number.
    """
    file = run.checkpoints / f"{recipe.checkpoint.use}.keras"
    if recipe.checkpoint.use == "best" and not file.is_file():
        raise UserError(
            f"{run.folder} has no best epoch: its validation loss was never a finite number. Train again into another "
            "folder, with a lower rate, as in --set optimizer.rate=0.005."
        )
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
    try:
        in_training.after_training(model, balance.of(data, recipe), classifier.preprocessing, recipe, run)
    except Exception as error:
        again = command("batch-norm", "recalibrate", run.folder, data.name)
        console.print(
            f"The statistics of batch normalisation could not be measured, and stay as they are; `{again}` measures "
            f"them. {_why(error)}"
        )
    try:
        _keep_golden(data, run)
    except Exception as error:
        console.print(f"The golden images could not be kept. {_why(error)}")
    if data.label_sets:
        classifier = _with_thresholds(model, data, classifier, watch)
        write_json(run.classifier, classifier.model_dump(mode="json"))
    with whole(run.model) as beside:
        model.save(beside)
    return classifier


def _with_thresholds(model: keras.Model, data: Data, classifier: Classifier, watch: Watch) -> Classifier:
    """The description with the thresholds that suit the answers to the validation images best; says which labels have
    none of their own."""
    probabilities, numbers = evaluating.predict(model, data.validation, classifier.preprocessing, watch)
    truth = label_sets.rows(data.label_sets, len(data.labels))[numbers]
    thresholds = several_labels.fit(probabilities, truth)
    absent = [label for label, there in zip(data.labels, truth.max(axis=0).tolist(), strict=True) if not there]
    if absent:
        more = f" and {len(absent) - NAMED} more" if absent[NAMED:] else ""
        console.print(
            f"No validation image of {data.name} has the label {', '.join(map(repr, absent[:NAMED]))}{more}: the "
            f"threshold of such a label cannot be fitted, and is {several_labels.UNFITTED:g}."
        )
    return classifier.model_copy(update={"thresholds": thresholds})


def complete(data: Data, classifier: Classifier, run: Run, watch: Watch) -> bool:
    """Makes what a finished run lacks beside its network: figures and report of the test images, of which the figures
    are written last, and golden images. Returns whether something was missing.

    Raises:
        UserError: it could not be made, for whatever reason.
    """
    lacking = False
    try:
        if not (run.golden / "golden.json").is_file():  # of an adapted run whose origin had none
            _keep_golden(data, run)
            lacking = True
        # Figures that are there stay those of all images, where some were lost since.
        is_whole = classifier.data is None or classifier.data.test == data.test.count
        if not run.metrics.is_file() or (is_whole and not strangeness.is_there(run)):
            _measure(data, classifier, run, watch)
            lacking = True
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{run.folder} is trained and has its network, but not all of its figures, report and golden images; "
            f"`{command('evaluate', run.folder)}` makes what is missing. {_why(error)}"
        ) from error
    return lacking


def complete_later(folder: Path, watch: Watch) -> None:
    """The same, of the data that the run was trained on, for whoever evaluates it on that; nothing where nothing is
    missing, it is not finished, or nobody knows how it was trained. What cannot be made is said, and no more."""
    run = Run(folder)
    if not run.is_finished or not run.history.is_file() or (run.metrics.is_file() and strangeness.is_there(run)):
        return
    classifier = run.read_finished()
    if classifier.data is None:
        return
    try:
        complete(loading.of_run(run, watch), classifier, run, watch)
    except UserError as error:
        console.print(str(error))


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, UserError) else unexpected.sentence(error)


def _measure(data: Data, classifier: Classifier, run: Run, watch: Watch) -> None:
    trained = load(run.folder)
    figures, probabilities, truth, known, strange = own_figures.measure(trained, data, watch)
    strangeness.write(run, known)
    if isinstance(known, str):
        console.print(known)
    if not data.label_sets:
        old_classes.measure(run, classifier, trained, watch)
    run_report.write(run, classifier, figures, probabilities, truth, data.test, strangeness=strange)
    write_json(run.metrics, figures)


def _keep_golden(data: Data, run: Run) -> None:
    chosen = data.test.at(spread(data.test.count, GOLDEN)).as_numpy_iterator()
    texts = label_sets.texts(data.labels, data.label_sets)
    golden.keep(run, ((encoded, texts[int(label)]) for encoded, label in chosen))
