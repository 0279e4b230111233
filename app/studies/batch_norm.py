"""The experiment of section 4.2 of Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, scaled to one machine.

The arms of the paper's Figure 3, with a mini-Inception on the digits of scikit-learn for Inception on ImageNet, under
three regimes:

paper       the paper's learning rates and modifications; today's initial weights (He)
old         initial weights as in 2015, a truncated normal of deviation 0.1; the paper's factors on the highest rate at
            which the network without BN learns from these
tuned       the control: nothing differs but normalisation and activation, and each arm has its own best rate

A seed decides initial weights, order of the data and validation fold; all arms of a seed share the last two. Targets
are fixed beforehand and judged on the validation fold every 25 steps; rates are chosen there, too. The test images are
looked at once, at the end of a run.

Each run is a file of its own in the folder of the study, so that an interrupted study goes on where it was.
"""

import json
import math
import multiprocessing
import os
import signal
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.program import worker_process
from app.program.errors import UserError
from app.program.files import write_json

if TYPE_CHECKING:  # at run time it would bring TensorFlow with it, and that its noise, before a worker can silence it
    from app.program.progress import Watch
    from app.studies.short_training import Examples, Training

TARGETS = (0.90, 0.95, 0.98)
AFTER = 100  # steps that a run goes on once it has reached the last target
FOLDS = 5  # of the images that are not for testing, one in so many is for validation

# The paper names neither L2 nor decay of its networks: these are GoogLeNet's, 1409.4842 and its published solver.
DROPOUT = 0.4
WEIGHT_DECAY = 2e-4
DECAY, DECAY_STEPS = 0.96, 8 * 36  # 4 % every eight epochs of ours


@dataclass(frozen=True)
class Arm:
    """A network, and `factor` times the base rate. `modified` is section 4.2.1 of the paper: no dropout, a fifth of the
    L2, a rate that decays six times faster. What the paper changed besides has no counterpart here."""

    name: str
    normalization: Literal["batch"] | None
    activation: str
    factor: int = 1
    modified: bool = False


ARMS = (
    Arm("Inception", None, "relu"),
    Arm("BN-Baseline", "batch", "relu"),
    Arm("BN-x5", "batch", "relu", 5, modified=True),
    Arm("BN-x30", "batch", "relu", 30, modified=True),
    Arm("BN-x5-Sigmoid", "batch", "sigmoid", 5, modified=True),
    # Five times, so that normalisation is what it differs in from the arm before.
    Arm("Sigmoid without BN", None, "sigmoid", 5),
)
# One rate for each: what tells BN-x5 and BN-x30 from BN-Baseline is gone.
TUNED_ARMS = (
    Arm("Inception", None, "relu"),
    Arm("BN", "batch", "relu"),
    Arm("BN-Sigmoid", "batch", "sigmoid"),
    Arm("Sigmoid without BN", None, "sigmoid"),
)


@dataclass(frozen=True)
class Regime:
    """`deviation` is that of the initial weights, a truncated normal; None is He's, by the layer's width. `rates` is
    the base rate, or the grid from which each arm takes its best. A run that has not reached the last target after
    `cap` steps counts as never. `regularised` says whether arms have dropout, L2 and a decaying rate."""

    name: str
    deviation: float | None
    rates: tuple[float, ...]
    cap: int
    arms: tuple[Arm, ...] = ARMS
    regularised: bool = True


REGIMES = (
    Regime("paper", None, (0.0015,), 4_000),
    # The paper's rate is too low for these weights, whose signal shrinks from layer to layer. With dropout and decay
    # the network without BN would learn at none.
    Regime("old", 0.1, (0.03,), 4_000, regularised=False),
    Regime("tuned", None, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 1_000, TUNED_ARMS, regularised=False),
)


@dataclass(frozen=True)
class Protocol:
    """What a study does. The rates of a grid are chosen on the first `searched` seeds."""

    regimes: tuple[Regime, ...] = REGIMES
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    searched: int = 2


@dataclass(frozen=True)
class Job:
    """One training. `rate` is what the arm's factor is applied to."""

    regime: Regime
    arm: Arm
    rate: float
    seed: int

    @property
    def name(self) -> str:
        arm = self.arm.name.lower().replace(" ", "-")
        return f"{self.regime.name}-{arm}-rate-{self.rate * self.arm.factor:g}-seed-{self.seed}"


def study(folder: Path, watch: "Watch", protocol: Protocol | None = None) -> dict[str, Any]:
    """Runs what is missing in `folder`, writes study.json there, with every run, and returns it.

    `regimes`: name -> arm -> `_summary` and `_compare`; `runs`: all of them (see `_train`); `protocol`.

    Raises:
        UserError: `folder` holds a study of another protocol, or other files.
    """
    protocol = protocol or Protocol()
    claim(folder, protocol)
    searching = [
        Job(regime, arm, rate, seed)
        for regime in protocol.regimes
        for arm in regime.arms
        for rate in regime.rates
        for seed in (protocol.seeds[: protocol.searched] if len(regime.rates) > 1 else protocol.seeds)
    ]
    runs = _run_all(folder, searching, watch, "Training")
    best = {
        (regime.name, arm.name): _best_rate(regime, arm, runs) for regime in protocol.regimes for arm in regime.arms
    }
    confirming = [
        Job(regime, arm, best[regime.name, arm.name], seed)
        for regime in protocol.regimes
        for arm in regime.arms
        for seed in protocol.seeds
    ]
    runs |= _run_all(folder, [job for job in confirming if job not in runs], watch, "Training at the best rates")
    regimes: dict[str, dict[str, Any]] = {}
    for regime in protocol.regimes:
        regimes[regime.name] = arms = {
            arm.name: _summary([runs[job] for job in confirming if (job.regime, job.arm) == (regime, arm)])
            for arm in regime.arms
        }
        _compare(arms, regime.cap)
    found = {
        "protocol": _protocol(protocol),
        "regimes": regimes,
        "runs": [{"name": job.name, **run} for job, run in runs.items()],
    }
    write_json(folder / "study.json", found)
    return found


def claim(folder: Path, protocol: Protocol | None = None) -> None:
    """Makes `folder` this study's, or sees that it is.

    Raises:
        UserError: it holds a study of another protocol, or other files.
    """
    ours = _protocol(protocol or Protocol())
    record = folder / "protocol.json"
    if record.is_file():
        if json.loads(record.read_text()) != ours:
            raise UserError(f"{folder} holds a study with another protocol; choose another --to, or remove the folder.")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is no study; choose another --to. Nothing in it was touched.")
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    write_json(record, ours)


def _protocol(protocol: Protocol) -> dict[str, Any]:
    constants = {"targets": TARGETS, "after": AFTER, "folds": FOLDS, "dropout": DROPOUT, "weight_decay": WEIGHT_DECAY}
    decay = {"decay": DECAY, "decay_steps": DECAY_STEPS}
    return json.loads(json.dumps({**asdict(protocol), **constants, **decay}))


def _run_all(folder: Path, jobs: Sequence[Job], watch: "Watch", what: str) -> dict[Job, dict[str, Any]]:
    """The runs, by job; those without a file are trained, one to a core."""
    files = {job: folder / "runs" / f"{job.name}.json" for job in jobs}
    missing = [job for job in jobs if not files[job].is_file()]
    # The longest first: at the end no core waits long for another.
    missing.sort(key=lambda job: (job.arm.normalization is not None, -job.regime.cap))
    for job, run in watch(_trained(missing), len(missing), what):
        write_json(files[job], run)
    return {job: json.loads(file.read_text()) for job, file in files.items()}


def _trained(jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Jobs and runs, as they end."""
    if not jobs:
        return
    from app.studies.short_training import read_digits

    # Fresh processes: TensorFlow's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    workers = min(os.cpu_count() or 1, len(jobs))
    # Arrays: what belongs to a module that imports TensorFlow would have it imported, loudly, to be unpacked.
    rest, test = read_digits()
    arrays = (rest.images, rest.labels, test.images, test.labels)
    pool = ProcessPoolExecutor(workers, context, initializer=_prepare_worker, initargs=arrays)
    try:
        waiting: dict[Future[dict[str, Any]], Job] = {pool.submit(_train, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        # Interrupted: what runs is not waited for, its file is not written.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(cancel_futures=True)


# Of this worker: training and validation images together, test images; and the trainings that can begin again.
_data: tuple["Examples", "Examples"]
_compiled: dict[Any, "Training"] = {}


def _prepare_worker(images: Any, labels: Any, test_images: Any, test_labels: Any) -> None:
    global _data
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker_process.prepare()
    import tensorflow as tf

    from app.studies.short_training import Examples

    _data = (Examples(images, labels), Examples(test_images, test_labels))
    # Such small kernels gain nothing from a second thread; a second training does.
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _train(job: Job) -> dict[str, Any]:
    """A run: `looks` (step, accuracy, loss and percentiles of a unit, every 25 steps), `reached` (target -> step, None
    for never), `diverged` (the step at which the loss was no longer finite), accuracies, milliseconds per step.

    A target counts when two looks in a row reach it, from the first of them on. The run ends 100 steps after the last
    target, or at the cap.
    """
    import keras
    import numpy as np

    from app.studies.short_training import EVERY, Setting, Training

    arm, regime = job.arm, job.regime
    options: dict[str, Any] = {}
    if regime.regularised:
        decay = DECAY ** (1 / DECAY_STEPS)
        options = {"dropout": DROPOUT, "weight_decay": WEIGHT_DECAY, "decay": decay}
        if arm.modified:
            options = {"dropout": 0.0, "weight_decay": WEIGHT_DECAY / 5, "decay": decay**6}
    rate = job.rate * arm.factor
    initializer: str | dict[str, Any] = "he_normal"
    if regime.deviation is not None:
        initializer = keras.initializers.serialize(keras.initializers.TruncatedNormal(stddev=regime.deviation))
    setting = Setting(arm.normalization, arm.activation, initializer, rate, regime.cap, job.seed, **options)
    rest, test = _data
    fold = np.arange(len(rest.labels)) % FOLDS == job.seed % FOLDS
    if setting.structure in _compiled:
        training = _compiled[setting.structure]
        training.restart(setting, rest[~fold], rest[fold])
    else:
        training = _compiled[setting.structure] = Training(setting, rest[~fold], rest[fold])
    looks: list[Any] = []
    reached: dict[float, int | None] = dict.fromkeys(TARGETS)
    diverged = None
    end = regime.cap
    while training.step < end:
        look = training.look()
        if not math.isfinite(look.loss):
            diverged = look.step
            break
        looks.append(look)
        for target in TARGETS:
            if reached[target] is None and all(one.accuracy >= target for one in looks[-2:]) and len(looks) > 1:
                reached[target] = look.step - EVERY
        last = reached[TARGETS[-1]]
        if last is not None:
            end = min(regime.cap, last + AFTER)
    return {
        "regime": regime.name,
        "arm": arm.name,
        "rate": rate,
        "seed": job.seed,
        "reached": {f"{target:.0%}": step for target, step in reached.items()},
        "diverged": diverged,
        "validation": max((look.accuracy for look in looks), default=0.0),
        "test": training.accuracy(test),
        "milliseconds": statistics.median(training.milliseconds or [0.0]),
        "looks": [asdict(look) for look in looks],
    }


def _best_rate(regime: Regime, arm: Arm, runs: dict[Job, dict[str, Any]]) -> float:
    """The rate with the fewest steps to the last target, summed over the seeds; what is reached never counts as twice
    the cap, and among rates that never reach it the highest accuracy wins."""

    def cost(rate: float) -> tuple[float, float]:
        tried = [run for job, run in runs.items() if (job.regime, job.arm, job.rate) == (regime, arm, rate)]
        steps = sum(run["reached"][f"{TARGETS[-1]:.0%}"] or 2 * regime.cap for run in tried)
        return steps, -sum(run["validation"] for run in tried)

    return min(regime.rates, key=cost)


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of an arm, over its seeds: `rate`; per target `steps`: the `median` (None where it is never), `lowest`, `highest`
    and how many `never`; medians of the best validation accuracy, the final test accuracy, and milliseconds a step."""
    return {
        "rate": runs[0]["rate"],
        "seeds": len(runs),
        "steps": {target: _spread([run["reached"][target] for run in runs]) for target in runs[0]["reached"]},
        "diverged": sum(run["diverged"] is not None for run in runs),
        **{key: statistics.median(run[key] for run in runs) for key in ("validation", "test", "milliseconds")},
    }


def _spread(steps: Sequence[int | None]) -> dict[str, int | None]:
    # Never is later than anything; of an even number of seeds the later of the two in the middle counts.
    ordered = sorted(math.inf if step is None else step for step in steps)
    ends = {"median": ordered[len(ordered) // 2], "lowest": ordered[0], "highest": ordered[-1]}
    return {
        **{name: None if math.isinf(step) else int(step) for name, step in ends.items()},
        "never": sum(step is None for step in steps),
    }


def _compare(arms: dict[str, Any], cap: int) -> None:
    """Adds `speedup` to every arm and target: how many times fewer steps than the network without BN takes, of the
    medians; None where the arm never arrives. `at_least` where the network without BN never does: its cap counts."""
    base = next(iter(arms.values()))["steps"]
    for arm in arms.values():
        for target, steps in arm["steps"].items():
            ours, theirs = steps["median"], base[target]["median"]
            steps["speedup"] = (theirs or cap) / ours if ours else None
            steps["at_least"] = theirs is None
