"""The same data through different networks, with the same recipe and the same budget: which structure to take."""

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import keras
import numpy as np

from app import run_folder, training
from app.datasets import label_sets, loading
from app.datasets.dataset import Data
from app.networks.cards import CARDS, check_name
from app.networks.counting import multiply_adds
from app.program import paths, worker_process
from app.program.errors import UserError
from app.program.files import write_json
from app.program.progress import console, watch
from app.recipe import Recipe
from app.reports import comparison
from app.run_folder.data_name import real_name
from app.run_folder.folder import Run, read_history
from app.training import beginning
from app.training.devices.faults import memory_named

BATCH, CALLS = 32, 7  # images a call, and calls, to time an answer
TIMED = 5  # training steps, to find out how many fit into a budget of seconds
PASSES = 3  # a training step computes forwards, and backwards for the maps and for the weights


class Budget(NamedTuple):
    """What each network gets: the recipe's epochs or steps; or so many seconds of training; or so many multiply-adds,
    counting three times those of an answer for an image's part in a step."""

    kind: Literal["recipe", "seconds", "multiply_adds"] = "recipe"
    amount: float = 0.0

    @classmethod
    def of(cls, seconds: float | None = None, multiply_adds: float | None = None) -> Self:
        """The one that is given, or else the recipe's."""
        if seconds is not None:
            return cls("seconds", seconds)
        return cls() if multiply_adds is None else cls("multiply_adds", multiply_adds)


def compare(
    data_name: str, networks: Sequence[str] | Literal["all"], to: Path, recipe: Recipe, budget: Budget
) -> dict[str, Any]:
    """Trains and measures each network, or all of the family, in the run folder `to`/NETWORK, and writes
    comparison.json, comparison.md (its table) and report.html beside them, anew after every network. The same call
    again goes on where it was stopped; networks may be added.

    Returns what comparison.json holds: `data`, `place` and `fingerprint` of it, how many `classes` it has, `budget`,
    `recipe`, and `rows`, a dict per network: `network`,
    `image_size`, `parameters`, `multiply_adds` and `milliseconds` of an answer to one image, `steps`,
    `training_seconds`, `top_1`, `top_5` and `loss` of the test images, and `bytes` of model.keras; or `network` and
    `error`.

    Raises:
        UserError: unknown networks, or none; a folder that holds a comparison of something else, or of the same images
            before they changed.
    """
    networks = list(CARDS) if networks == "all" else networks
    for network in networks:
        check_name(network)
    found = _begun(to, data_name, recipe, budget)
    data = loading.load(data_name, watch)  # once for all; what is wrong with it is said before anything is written
    label_sets.check_one(data_name, data.label_sets, "`compare`")
    _check_images(to, found, data)
    found |= {"fingerprint": data.fingerprint, "classes": len(data.labels)}
    to.mkdir(parents=True, exist_ok=True)
    known = {row["network"]: row for row in found["rows"] if "error" not in row}
    for number, network in enumerate(networks, start=1):
        if network in known:
            console.print(f"{network} was compared before.")
            continue
        console.print(f"Network {number} of {len(networks)}: {network}")
        # A process of its own: its memory is free again before the next.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=worker_process.prepare) as process:
            try:
                row = process.submit(_member, data, network, to / network, recipe, budget).result()
            except UserError as error:
                row = {"network": network, "error": str(error)}
                console.print(f"{network}: {error}")
            except BrokenProcessPool:
                row = {"network": network, "error": "The process ended, perhaps for want of memory."}
                console.print(f"{network}: {row['error']}")
        found["rows"] = [*(each for each in found["rows"] if each["network"] != network), row]
        _write(to, found)
    if not (to / "report.html").is_file():
        _write(to, found)
    return found


def _begun(to: Path, data_name: str, recipe: Recipe, budget: Budget) -> dict[str, Any]:
    """What the folder holds of this comparison."""
    wanted = {
        "data": data_name,
        "place": real_name(data_name),
        "budget": budget._asdict(),
        "recipe": recipe.model_dump(mode="json"),
    }
    file = to / "comparison.json"
    if not file.is_file():
        if to.exists() and not (to.is_dir() and all(paths.is_run(each) for each in to.iterdir())):
            raise UserError(f"{to} exists and holds no comparison; choose another --to. Nothing in it was touched.")
        return wanted | {"rows": []}
    found = json.loads(file.read_text())
    for key in ("budget", "recipe"):
        if found[key] != wanted[key]:
            raise UserError(f"{to} compares with another {key}; choose another --to, or remove the folder.")
    return found | {key: wanted[key] for key in ("data", "place")}


def _check_images(to: Path, found: dict[str, Any], data: Data) -> None:
    """Rows stand in one table where they are of the same images, wherever these lie now.

    Raises:
        UserError: one of them is of others.
    """
    for row in found["rows"]:
        run = Run(to / row["network"])
        if "error" in row or not run.classifier.is_file():
            continue
        record = run.read_classifier().data
        if record and record.fingerprint != data.fingerprint:
            raise UserError(
                f"{to} has a row of {row['network']} on other images than those of {data.name} now; choose another "
                "--to, or remove the folder."
            )


def _member(data: Data, network: str, to: Path, recipe: Recipe, budget: Budget) -> dict[str, Any]:
    with memory_named(recipe.batch_size):
        return _measured(data, network, to, recipe, budget)


def _measured(data: Data, network: str, to: Path, recipe: Recipe, budget: Budget) -> dict[str, Any]:
    run = Run(to)
    begun = run.read_classifier().recipe if run.classifier.is_file() else None
    # Seconds are measured once: a training that was stopped goes on with the steps that it began with.
    recipe = begun or _within(budget, data, network, recipe)
    training.train(data, network, to, recipe, watch)
    trained = run_folder.load(to)
    figures, history = json.loads(run.metrics.read_text()), read_history(run.history)
    return {
        "network": network,
        "image_size": trained.preprocessing.height,
        "parameters": trained.model.count_params(),
        "multiply_adds": multiply_adds(trained.model),
        "steps": round(sum(row["seconds"] * row["images_per_second"] for row in history) / recipe.batch_size),
        "training_seconds": sum(row["seconds"] for row in history),
        **{key: figures[key] for key in ("top_1", "top_5", "loss")},
        "milliseconds": _milliseconds(trained.model),
        "bytes": run.model.stat().st_size,
    }


def _within(budget: Budget, data: Data, network: str, recipe: Recipe) -> Recipe:
    """The recipe with as many steps as the budget allows, at least one."""
    if budget.kind == "recipe":
        return recipe
    model = beginning.untrained(data, network, recipe)
    counted = budget.kind == "multiply_adds"
    cost = PASSES * multiply_adds(model) * recipe.batch_size if counted else _step_seconds(model, recipe.batch_size)
    return recipe.model_copy(update={"steps": max(1, int(budget.amount / cost))})


def _step_seconds(model: keras.Model, batch_size: int) -> float:
    """The median of some training steps, after the first, which traces."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch_size, *model.input_shape[1:])).astype(np.float32)
    labels = np.eye(model.output_shape[-1], dtype=np.float32)[rng.integers(model.output_shape[-1], size=batch_size)]
    model.compile(keras.optimizers.SGD(0.0, momentum=0.9), keras.losses.CategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)  # within the first step it would be traced twice
    return _median_seconds(lambda: model.train_on_batch(images, labels), TIMED)


def _milliseconds(model: keras.Model) -> float:
    """Of an answer, per image, in batches of 32."""
    images = np.random.default_rng(0).uniform(-1, 1, (BATCH, *model.input_shape[1:])).astype(np.float32)
    return 1000 * _median_seconds(lambda: model.predict_on_batch(images), CALLS) / BATCH


def _median_seconds(call: Callable[[], Any], times: int) -> float:
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _write(to: Path, found: dict[str, Any]) -> None:
    compared = [row["network"] for row in found["rows"] if "error" not in row]
    comparison.write(to, found, {network: read_history(Run(to / network).history) for network in compared})
    write_json(to / "comparison.json", found)
