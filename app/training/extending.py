"""Training a finished run for more epochs: from its weights and optimizer, with the schedule of the longer run."""

import random
from collections.abc import Iterator

import keras

from app.datasets.dataset import Data
from app.pipeline.input_pipeline import steps_per_epoch
from app.program.errors import UserError
from app.program.progress import console
from app.program.shown import counted
from app.recipe import Recipe
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run, read_history
from app.training import optimizers
from app.training.beginning import build, total_steps
from app.training.checkpoints import checkpoint
from app.training.checkpoints.checkpoint import State


def extend(run: Run, begun: Classifier, wanted: Classifier, data: Data) -> Classifier:
    """Makes of a finished run one that goes on after its last step with the recipe of `wanted`, whose description with
    the epochs so far is returned, and says what is not as in a run of so many epochs from the beginning. The network
    of before is kept beside the checkpoints. What is interrupted here is done by the next call.

    Raises:
        UserError: it was not trained to its end, or has not kept its last epoch; or its epochs had another number of
            steps, before pictures were lost.
    """
    before, now = begun.recipe, wanted.recipe
    assert before
    assert now
    wanted = wanted.model_copy(update={"extended": (*begun.extended, before.epochs)})
    last, done = run.checkpoints / "last.keras", total_steps(data, before)
    if last.is_file():
        try:
            model = keras.models.load_model(last)
        except (ValueError, OSError) as error:
            raise UserError(f"{last} is damaged; `--from {run.folder}` with another --to begins anew.") from error
        _check_steps(run, model, steps_per_epoch(data.train, now))
        _set_seeds(model, wanted, now, done)
        checkpoint.build_metrics(model)
        model.reset_metrics()
        rows = tuple({**row, "epoch": int(row["epoch"])} for row in read_history(run.history))
        checkpoint.write(run.checkpoints, model, State(classifier=wanted, step=done, history=rows))
        if run.is_finished:
            run.model.replace(run.checkpoints / f"epoch-{before.epochs}.keras")
        for made in (run.metrics, run.batch_norm, last):  # the last file tells that all steps are done
            made.unlink(missing_ok=True)
    elif not _is_begun(run, wanted):
        raise UserError(
            f"{run.folder} has no {last.relative_to(run.folder)}, so it cannot be extended: finish it by the command "
            f"that began it, or begin with its weights by --from {run.folder} and another --to."
        )
    console.print(
        f"{run.folder} goes on after epoch {before.epochs}, up to {now.epochs}. "
        + " ".join(_differences(begun, wanted, before, now, data))
    )
    return wanted


def _check_steps(run: Run, model: keras.Model, steps: int) -> None:
    """Raises:
    UserError: the epochs that `model` was trained for did not have so many steps: its optimizer has counted others, and
        seeds, rates and the ends of epochs would not be those of one run.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # within one that scales the loss
    rate = optimizer.get_config()["learning_rate"]["config"]
    before = round(rate["epoch"] * rate["accumulate"])
    if before != steps:
        raise UserError(
            f"{run.folder} was trained in epochs of {counted(before, 'step', 'steps')}, and its images are enough for "
            f"{steps} now, so it cannot be extended: begin with its weights by --from {run.folder} and another --to."
        )


def _set_seeds(model: keras.Model, wanted: Classifier, recipe: Recipe, done: int) -> None:
    """Gives dropout the seeds that it had after so many batches, which Keras does not save with a network: the first
    number is drawn when the network is built, the second counts the batches."""
    random.seed(recipe.seed)
    built = build(wanted, recipe)
    for mine, first in zip(model.variables, built.variables, strict=True):
        if first.name == "seed_generator_state":
            mine.assign([first.numpy()[0], done])


def _is_begun(run: Run, wanted: Classifier) -> bool:
    """Whether an earlier call came as far as the checkpoint, and no further."""
    found = checkpoint.newest(run.checkpoints)
    return found is not None and found.state.classifier.recipe == wanted.recipe


def _differences(begun: Classifier, wanted: Classifier, before: Recipe, now: Recipe, data: Data) -> Iterator[str]:
    yield f"It will not be the run that trains {now.epochs} epochs from the beginning."
    steps, done = steps_per_epoch(data.train, now), total_steps(data, before)
    old, new = (float(optimizers.rate(recipe, steps, total_steps(data, recipe))(done)) for recipe in (before, now))
    if now.schedule.name in ("cosine", "polynomial"):
        yield (
            f"The {now.schedule.name} schedule had ended, at a rate of {old:.2g}, and goes on where the longer one is "
            f"by then, at {new:.2g}."
        )
    was, is_ = begun.arguments.get("momentum"), wanted.arguments.get("momentum")
    if was != is_:
        yield f"The momentum of batch normalisation, chosen from the length, was {was:.4g} and is {is_:.4g}."
