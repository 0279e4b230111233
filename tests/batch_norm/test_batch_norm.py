"""Population statistics (Algorithm 2 of 1502.03167) against a plain loop in float64 NumPy over a small network, and
what runs and commands make of them."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from app import __main__ as program
from app import evaluation, recipe, run_folder, training
from app.batch_norm import in_training, inspection, measuring, population, repair, report
from app.batch_norm.batches import Batches
from app.commands import batch_norm as commands
from app.datasets import loading
from app.evaluation import evaluating, strangeness
from app.program.errors import UserError
from app.program.progress import unwatched
from app.reports import run_report
from app.run_folder.folder import Run, read_history
from models import BatchNormalization, BNInception, LeNetBN

Array = np.ndarray[Any, Any]
EPSILON = 1e-3
NAMES = ("bottom", "left", "right_1", "right_2")


def images(count: int = 24, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal([1, -3, 0.5], [1, 0.2, 2], (count, 4, 4, 3)).astype("float32")


def split(x: Array, *sizes: int) -> list[Array]:
    """Batches of these sizes, the last one repeated."""
    parts, start = [], 0
    for size in [*sizes, *[sizes[-1]] * len(x)]:
        if start < len(x):
            parts.append(x[start : start + size])
        start += size
    return parts


def network(dropout: float = 0.0) -> keras.Model:
    """Convolutions of 1 x 1 in two columns of different depth: the oracle below is its forward pass."""
    keras.utils.set_random_seed(3)

    def step(x: Any, filters: int, name: str) -> Any:
        x = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_conv")(x)
        x = BatchNormalization(
            gamma_initializer=keras.initializers.RandomUniform(0.5, 2, seed=1),
            beta_initializer=keras.initializers.RandomNormal(0, 1, seed=2),
            name=name,
        )(x)
        return keras.layers.ReLU(name=f"{name}_relu")(x)

    image = keras.Input((4, 4, 3))
    bottom = keras.layers.Dropout(dropout, seed=4)(step(image, 6, "bottom"))
    left = step(bottom, 4, "left")
    right = step(step(bottom, 5, "right_1"), 4, "right_2")
    x = keras.layers.Concatenate()([left, right])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(x), name="small")


# ---- the oracle


def forward(model: keras.Model, x: Array, statistics: Callable[[str, Array], tuple[Array, Array]]) -> None:
    """The network in float64; `statistics` sees the input of every normalisation and says what to normalise by."""

    def step(x: Array, name: str) -> Array:
        kernel = np.asarray(model.get_layer(f"{name}_conv").kernel, np.float64)[0, 0]
        gamma, beta = (np.asarray(weight, np.float64) for weight in model.get_layer(name).get_weights()[:2])
        x = x @ kernel
        mean, variance = statistics(name, x)
        return np.maximum(gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta, 0)

    bottom = step(x.astype(np.float64), "bottom")
    step(bottom, "left")
    step(step(bottom, "right_1"), "right_2")


def papers(model: keras.Model, batches: Sequence[Array]) -> dict[str, tuple[Array, Array]]:
    """Steps 8 to 10 of Algorithm 2, word for word."""
    means: dict[str, list[Array]] = {name: [] for name in NAMES}
    variances: dict[str, list[Array]] = {name: [] for name in NAMES}

    def by_batch(name: str, x: Array) -> tuple[Array, Array]:
        m = x[..., 0].size
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        means[name].append(mean)
        variances[name].append(variance * m / (m - 1))
        return mean, variance

    for x in batches:
        forward(model, x, by_batch)
    return {name: (np.mean(means[name], axis=0), np.mean(variances[name], axis=0)) for name in NAMES}


def in_sequence(model: keras.Model, x: Array) -> dict[str, tuple[Array, Array]]:
    """All images at once: what a layer is given is what it will see in use."""
    found: dict[str, tuple[Array, Array]] = {}

    def of_all(name: str, x: Array) -> tuple[Array, Array]:
        found[name] = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
        return found[name]

    forward(model, x, of_all)
    return found


def apart(found: measuring.Population, right: dict[str, tuple[Array, Array]]) -> float:
    """The largest difference of a mean or a deviation, in deviations."""
    assert set(found.statistics) == set(right)
    return max(
        max(
            float(np.abs((found.statistics[name].mean - mean) / np.sqrt(variance)).max()),
            float(np.abs(np.sqrt(found.statistics[name].variance / variance) - 1).max()),
        )
        for name, (mean, variance) in right.items()
    )


# ---- the two forms


@pytest.mark.parametrize("size", [4, 8, 24])
def test_the_papers_form_is_algorithm_2(size: int) -> None:
    model, batches = network(), split(images(), size)
    found = population.population(model, batches)
    assert apart(found, papers(model, batches)) < 1e-6
    assert (found.form, found.images, found.batches, found.batch_size) == ("paper", 24, 24 // size, size)


def test_the_papers_form_leaves_out_a_batch_smaller_than_the_first() -> None:
    model, batches = network(), split(images(), 10)
    found = population.population(model, batches)
    assert apart(found, papers(model, batches[:2])) < 1e-6
    assert (found.images, found.batches) == (20, 2)


def test_the_papers_form_depends_on_the_split() -> None:
    model, x = network(), images()
    assert apart(population.population(model, split(x, 4)), papers(model, split(x, 12))) > 1e-3


@pytest.mark.parametrize("sizes", [(24,), (8,), (7,), (1,), (20, 3, 1)])
def test_the_exact_form_is_one_float64_pass_whatever_the_split(sizes: tuple[int, ...]) -> None:
    model, x = network(), images()
    found = population.population(model, split(x, *sizes), exact=True)
    assert apart(found, in_sequence(model, x)) < 1e-6
    assert (found.form, found.images) == ("exact", 24)


def test_far_from_zero_the_moments_do_not_cancel() -> None:
    image = keras.Input((4, 4, 3))
    model = keras.Model(image, BatchNormalization(name="only")(image))
    x = np.random.default_rng(5).normal(4000, 1, (24, 4, 4, 3)).astype("float32")
    right = {"only": (x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2), ddof=1))}
    for sizes in ((24,), (5,), (1,)):
        assert apart(population.population(model, split(x, *sizes), exact=True), right) < 1e-9


@pytest.mark.parametrize("exact", [True, False])
def test_dropout_is_off(exact: bool) -> None:
    batches = split(images(), 8)
    with_dropout = population.population(network(dropout=0.9), batches, exact)
    without = population.population(network(), batches, exact)
    assert apart(with_dropout, {name: (one.mean, one.variance) for name, one in without.statistics.items()}) < 1e-9


@pytest.mark.parametrize("exact", [True, False])
def test_recalibrating_moves_the_averages_and_nothing_else(exact: bool) -> None:
    model, batches = network(dropout=0.5), split(images(), 8)
    model.compile("adam", "sparse_categorical_crossentropy")
    before = {variable.path: variable.numpy() for variable in model.variables}
    nodes = {layer.name: len(layer._inbound_nodes) for layer in model.layers}
    found = population.recalibrate(model, batches, exact)
    for variable in model.variables:
        if "moving" not in variable.path:
            np.testing.assert_array_equal(variable.numpy(), before[variable.path])
    for name, statistics in found.statistics.items():
        np.testing.assert_array_equal(model.get_layer(name).moving_mean, statistics.mean.astype("float32"))
        np.testing.assert_array_equal(model.get_layer(name).moving_variance, statistics.variance.astype("float32"))
    assert {layer.name: len(layer._inbound_nodes) for layer in model.layers} == nodes


@pytest.mark.parametrize("exact", [True, False])
def test_a_frozen_layer_keeps_its_statistics_and_stays_in_inference(exact: bool) -> None:
    model, x = network(), images()
    model.get_layer("right_1").trainable = False
    before = model.get_layer("right_1").get_weights()
    found = population.recalibrate(model, [x], exact)
    assert set(found.statistics) == {"bottom", "left", "right_2"}
    for weight, old in zip(model.get_layer("right_1").get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    seen: dict[str, tuple[Array, Array]] = {}

    def statistics(name: str, x: Array) -> tuple[Array, Array]:
        if name == "right_1":
            return np.zeros(5), np.ones(5)
        seen[name] = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
        return seen[name][0], x.var((0, 1, 2), ddof=exact)

    forward(model, x, statistics)
    assert apart(found, seen) < 1e-6


def test_after_the_exact_form_inference_normalises_every_layer_to_zero_and_one() -> None:
    model, x = network(), images()
    population.recalibrate(model, split(x, 5), exact=True)
    for name in NAMES:
        layer = model.get_layer(name)
        seen = keras.Model(model.inputs, layer.input).predict(x, verbose=0).astype(np.float64)
        hat = (seen - np.asarray(layer.moving_mean)) / np.sqrt(np.asarray(layer.moving_variance, np.float64))
        np.testing.assert_allclose(hat.mean((0, 1, 2)), 0, atol=2e-6)
        np.testing.assert_allclose(hat.std((0, 1, 2), ddof=1), 1, atol=2e-6)


@pytest.mark.slow
def test_in_a_deep_network_the_exact_form_does_not_depend_on_the_split() -> None:
    model = BNInception(input_shape=(64, 64, 3), classes=10, width=0.25)
    x = np.random.default_rng(0).uniform(-1, 1, (96, 64, 64, 3)).astype("float32")
    one = population.population(model, split(x, 32), exact=True)
    other = population.population(model, split(x, 41), exact=True)
    assert apart(one, {name: (found.mean, found.variance) for name, found in other.statistics.items()}) < 1e-6


# ---- refusals


def with_nan(model: keras.Model) -> list[Array]:
    kernel = model.get_layer("right_1_conv").kernel.numpy()
    kernel[..., 2] = np.nan
    model.get_layer("right_1_conv").kernel.assign(kernel)
    return [images()]


def reused() -> keras.Model:
    image = keras.Input((4, 4, 3))
    layer = BatchNormalization(name="twice")
    return keras.Model(image, layer(keras.layers.ReLU()(layer(image))))


def nested() -> keras.Model:
    image = keras.Input((4, 4, 3))
    return keras.Model(image, network()(image))


def dense() -> keras.Model:
    image = keras.Input((4, 4, 3))
    x = keras.layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, BatchNormalization(name="after_the_pool")(x))


def frozen() -> keras.Model:
    model = network()
    model.trainable = False
    return model


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("make", "feed", "words"),
    [
        (network, lambda model: [], "no images"),
        (dense, lambda model: [images(1)], "after_the_pool has 1 value per channel .* variance needs 2 or more"),
        (dense, lambda model: [images(0)], "after_the_pool has 0 values per channel"),
        (network, with_nan, "before right_1 are not finite in 1 of its 5 channels .*the first is channel 2"),
        (reused, lambda model: [images()], "twice is used at 2 places"),
        (nested, lambda model: [images()], "lies inside another model"),
        (frozen, lambda model: [images()], "All 4 batch normalisations of small are frozen"),
        (lambda: LeNetBN(input_shape=(16, 16, 3), normalization=None), lambda model: [], "has no batch normalisation"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_the_network_stays_as_it_was(
    make: Callable[[], keras.Model], feed: Callable[[keras.Model], list[Array]], words: str, exact: bool
) -> None:
    model = make()
    batches = feed(model)
    before = model.get_weights()
    with pytest.raises(UserError, match=words):
        population.recalibrate(model, batches, exact)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


# ---- the callback


class Seen(keras.callbacks.Callback):
    """The averages of `bottom` at the beginning of every validation."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[Array] = []

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.means.append(self.model.get_layer("bottom").moving_mean.numpy())


@pytest.mark.parametrize("when", ["epoch", "end"])
def test_the_callback_recalibrates_before_every_validation_or_at_the_end(when: Any) -> None:
    model, x, labels = network(), images(), np.arange(24) % 3
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")  # the weights do not move
    seen = Seen()
    callbacks = [population.Recalibrate(split(x, 8), when), seen]
    model.fit(x, labels, 8, 2, verbose=0, validation_data=(x, labels), callbacks=callbacks, shuffle=False)
    right = papers(model, split(x, 8))["bottom"][0]
    assert len(seen.means) == 2
    for mean in seen.means:
        assert np.allclose(mean, right, rtol=1e-5, atol=1e-6) == (when == "epoch")
    np.testing.assert_allclose(model.get_layer("bottom").moving_mean, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("momentum", "steps", "early"),
    [
        (0.5, 0, [True, True]),
        (0.5, 30, [True, True]),  # 0.5^3 of what was measured after the epoch before is left
        (0.3, 0, [False, False]),  # 0.3^3 is less than 0.05
        (0.5, 2, [False, False]),  # after two steps and three more 0.5^5 is left
    ],
)
def test_the_callback_measures_early_while_the_averages_cannot_have_arrived(
    momentum: float, steps: int, early: list[bool]
) -> None:
    model, x, labels = network(), images(), np.arange(24) % 3
    for layer in model.layers:
        if isinstance(layer, BatchNormalization):
            layer.momentum = momentum
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    right = papers(model, split(x, 8))["bottom"][0]
    seen, measuring = Seen(), population.Recalibrate(split(x, 8), "early", 3, steps)
    options: dict[str, Any] = {"verbose": 0, "validation_data": (x, labels), "shuffle": False}
    model.fit(x, labels, 8, 2, callbacks=[measuring, seen], **options)
    assert [np.allclose(mean, right, rtol=1e-5, atol=1e-6) for mean in seen.means] == early
    assert len(list(measuring.batches)) == (3 if early[-1] else 0), "what is not needed any more is held"


def test_the_copy_that_is_measured_is_made_and_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[keras.Model] = []
    compiled = measuring.compiled

    def counted(function: Any, image: Any) -> Any:
        def forward(images: Any) -> Any:
            made.append(images)  # which a trace does, and a call does not
            return function(images)

        return compiled(forward, image)

    monkeypatch.setattr(measuring, "compiled", counted)
    model, x, labels = network(), images(), np.arange(24) % 3
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    callbacks = [population.Recalibrate(split(x, 8), "epoch")]
    model.fit(x, labels, 8, 3, verbose=0, validation_data=(x, labels), callbacks=callbacks, shuffle=False)
    assert len(made) == 1
    right = papers(model, split(x, 8))["right_2"][0]  # of the weights that the last validation saw
    np.testing.assert_allclose(model.get_layer("right_2").moving_mean, right, rtol=1e-4, atol=1e-5)


# ---- the clinic


def labelled(x: Array) -> list[tuple[Array, Array]]:
    return [(part, np.arange(len(part)) % 3) for part in split(x, 8)]


@pytest.mark.parametrize(
    ("name", "weight"),
    [("bottom", "moving_mean"), ("bottom", "moving_variance"), ("right_1", "moving_mean"), ("left", "moving_variance")],
)
def test_a_layer_with_falsified_averages_is_the_only_one_that_stands_out(name: str, weight: str) -> None:
    model, x = network(), images()
    population.recalibrate(model, split(x, 8))
    falsified = getattr(model.get_layer(name), weight)
    falsified.assign(falsified.numpy() * 4 + 1)
    found = {layer.name: layer.distance for layer in inspection.inspect(model, labelled(x)).layers}
    assert set(found) == set(NAMES)
    assert found.pop(name) > 0.3
    assert max(found.values()) < 1e-6


def test_a_distance_is_counted_in_deviations() -> None:
    real = measuring.Statistics(np.array([5.0, 0.0]), np.array([4.0, 9.0]))
    shifted = measuring.Statistics(np.array([9.0, 0.0]), np.array([4.0, 9.0]))
    doubled = measuring.Statistics(np.array([5.0, 0.0]), np.array([4.0, 36.0]))
    np.testing.assert_allclose(population.distances(shifted, real, 1e-12), [2, 0], atol=1e-9)
    np.testing.assert_allclose(population.distances(doubled, real, 1e-12), [0, np.log(2)], atol=1e-9)


def test_dead_frozen_and_unfoldable_layers_are_told() -> None:
    model, x = network(), images()
    gamma, beta, *rest = model.get_layer("left").get_weights()
    gamma[1], beta[2] = 0, -1e3  # one that gives one number, one that never passes the rectifier
    model.get_layer("left").set_weights([gamma, beta, *rest])
    model.get_layer("right_1").trainable = False
    found = {layer.name: layer for layer in inspection.inspect(model, labelled(x)).layers}
    assert {name: layer.dead for name, layer in found.items()} == {"bottom": 0, "left": 2, "right_1": 0, "right_2": 0}
    assert [name for name, layer in found.items() if layer.frozen] == ["right_1"]
    assert all(layer.foldable for layer in found.values())
    image = keras.Input((4, 4, 3))
    after_relu = keras.Model(image, keras.layers.GlobalMaxPooling2D()(BatchNormalization()(image)))
    assert not inspection.inspect(after_relu, labelled(x)).layers[0].foldable


def test_averages_that_are_not_numbers_are_as_far_as_it_gets_and_are_mended() -> None:
    model, batches = network(), split(images(), 8)
    right = population.population(model, batches)
    model.get_layer("bottom").moving_mean.assign(np.full(6, np.nan))
    found = {layer.name: layer.distance for layer in inspection.inspect(model, labelled(images())).layers}
    assert found["bottom"] == max(found.values()) == population.FARTHEST
    for exact in (False, True):
        population.recalibrate(model, batches, exact)
        np.testing.assert_allclose(model.get_layer("bottom").moving_mean, right.statistics["bottom"].mean, rtol=1e-5)


def test_frozen_layers_can_be_looked_at_and_are_no_reason_of_a_gap() -> None:
    model = frozen()
    found = inspection.inspect(model, labelled(images()))
    assert all(layer.frozen for layer in found.layers)
    assert found.gap == 0
    assert "all 4 layers are frozen" in report.sentence(found, "")


def test_both_accuracies_are_those_of_the_two_ways_to_normalise() -> None:
    model, x = network(), images(20)
    found = inspection.inspect(model, labelled(x))
    whole = labelled(x)[:2]  # the last batch is smaller
    by_batch = np.concatenate([model(part, training=True).numpy().argmax(axis=1) for part, _ in whole])
    moving = np.concatenate([network()(part, training=False).numpy().argmax(axis=1) for part, _ in whole])
    truth = np.concatenate([labels for _, labels in whole])
    assert (found.by_batch, found.by_moving_averages) == (np.mean(by_batch == truth), np.mean(moving == truth))
    assert found.gap == found.by_batch - found.by_moving_averages
    assert np.any(by_batch != moving)


# ---- runs


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished_run.folder, tmp_path / "run")
    return Run(tmp_path / "run")


def change(run: Run, edit: Callable[[keras.Model], None]) -> None:
    model = keras.models.load_model(run.model, compile=False)
    edit(model)
    model.save(run.model)


def falsify(model: keras.Model) -> None:
    layer = model.get_layer("stem_3_bn")
    layer.moving_mean.assign(layer.moving_mean + 3 * np.sqrt(layer.moving_variance))


def command(*arguments: object) -> str:
    """What a command prints."""
    done = CliRunner().invoke(program.app, [*map(str, arguments)])
    if done.exception:
        raise done.exception
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_training_ends_with_the_statistics_of_its_images(finished_run: Run, pictures: Path) -> None:
    found = json.loads(finished_run.batch_norm.read_text())
    assert (found["form"], found["batch_size"], found["order"]) == ("paper", 8, "shuffled by seed 1")
    model = run_folder.load(finished_run.folder).model
    data = loading.load(str(pictures))
    preprocessing = finished_run.read_classifier().preprocessing
    batches = [x for x, _ in Batches(data.train, preprocessing, 8, 1)]
    right = population.population(model, batches)
    for name, statistics in right.statistics.items():
        np.testing.assert_allclose(model.get_layer(name).moving_mean, statistics.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.get_layer(name).moving_variance, statistics.variance, rtol=1e-5)


SHORT = ("steps=12", "image_size=32", "batch_size=8", "optimizer.rate=0.1")


@pytest.mark.parametrize(
    ("when", "momentum"), [("never", "0.99"), pytest.param("epoch", "auto", marks=pytest.mark.slow)]
)
def test_a_training_says_where_its_averages_lag_and_mends_them_unless_told_not_to(
    when: str,
    momentum: str,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (report, in_training):
        monkeypatch.setattr(module, "GAP", -1.0)  # three classes and twelve steps leave no gap to rely on
    settings = recipe.load("default", [*SHORT, f"batch_norm.momentum={momentum}", f"batch_norm.recalibrate={when}"])
    run = training.train(str(pictures), "lenet_bn", tmp_path / "run", settings, unwatched)
    said = " ".join(capsys.readouterr().err.split())
    assert "Batch normalisation is a reason why this network does worse in use than in training" in said
    assert f"batch-norm recalibrate {run.folder}" in said if when == "never" else "give way" in said
    assert run.batch_norm.is_file() == (when != "never")
    model = run_folder.load(run.folder).model
    number = 0.99 if momentum == "0.99" else 1 - 10 / 12
    assert model.get_layer("stem_1_bn").momentum == pytest.approx(number)
    assert run.read_classifier().arguments["momentum"] == pytest.approx(number)
    distances = [layer["distance"] for layer in report.report(run.folder, str(pictures))["layers"]]
    assert min(distances) > 0.5 if when == "never" else max(distances) < 1e-4
    # The checkpoints are of before the end: what they have was recalibrated before the validation, or not at all.
    kept = keras.models.load_model(run.checkpoints / "last.keras", compile=False)
    np.testing.assert_allclose(
        kept.get_layer("stem_1_bn").moving_mean, model.get_layer("stem_1_bn").moving_mean, rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_the_curve_of_a_short_run_is_true_from_the_first_epoch(early: bool, pictures: Path, tmp_path: Path) -> None:
    """With a momentum that leaves 0.9 of what moving averages begin with; guessing costs log(3) = 1.1."""
    settings = ["steps=9", "image_size=32", "batch_size=8", "optimizer.rate=0.02", "batch_norm.momentum=0.99"]
    wanted = recipe.load("default", settings if early else [*settings, "batch_norm.early=false"])
    run = training.train(str(pictures), "lenet_bn", tmp_path / "run", wanted, unwatched)
    (row,) = read_history(run.history)
    kept = keras.models.load_model(run.checkpoints / "last.keras", compile=False)
    variance = float(np.mean(kept.get_layer("dense_1_bn").moving_variance))
    assert row["val_loss"] < 0.85 if early else row["val_loss"] > 0.95
    assert variance < 0.5 if early else variance > 0.8


def test_what_cannot_be_measured_does_not_cost_a_training(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = recipe.load("default", ["steps=4", "image_size=32", "batch_size=1"])
    run = training.train(str(pictures), "lenet_bn", tmp_path / "run", settings, unwatched)
    said = " ".join(capsys.readouterr().err.split())
    assert "stay as they are: dense_1_bn has 1 value per channel" in said
    assert said.count("Validations are with moving averages that have not arrived yet: dense_1_bn has 1") == 1
    assert run.metrics.is_file()


def test_a_falsified_run_is_found_by_report_and_healed_to_the_same_figures(run: Run, pictures: Path) -> None:
    clean = json.loads(command("batch-norm", "report", run.folder, pictures, "--json"))
    assert {"gap", "layers"} <= set(clean)
    assert all({"name", "distance", "dead", "frozen", "foldable"} <= set(layer) for layer in clean["layers"])
    assert clean["sentence"].startswith("Batch normalisation is not the reason")
    figures = json.loads(run.metrics.read_text())
    change(run, falsify)
    found = json.loads(command("batch-norm", "report", run.folder, pictures, "--json"))
    assert [layer["name"] for layer in found["layers"] if layer["distance"] > report.FAR] == ["stem_3_bn"]
    for layer, before in zip(found["layers"], clean["layers"], strict=True):
        assert layer["name"] == "stem_3_bn" or layer["distance"] == pytest.approx(before["distance"], abs=1e-9)
    assert found["gap"] > 0.1
    assert "deviations off in stem_3_bn" in found["sentence"]
    assert f"python -m app batch-norm recalibrate {run.folder} {pictures}" in found["sentence"]
    command("batch-norm", "recalibrate", run.folder, pictures, "--json")
    healed = json.loads(run.metrics.read_text())
    assert healed["top_1"] == figures["top_1"]
    assert healed["loss"] == pytest.approx(figures["loss"], rel=1e-5)


def test_the_report_is_a_table_and_a_sentence(run: Run, pictures: Path) -> None:
    said = command("batch-norm", "report", run.folder, pictures)
    assert all(f"{name}_bn" in said for name in ("stem_1", "stem_3", "dense_1", "dense_2"))
    assert "Batch normalisation is not the reason" in said


@pytest.mark.parametrize("exact", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_recalibrate_rewrites_the_model_and_its_figures(exact: bool, run: Run, pictures: Path) -> None:
    change(run, falsify)
    before = contents(run.folder)
    said = command("batch-norm", "recalibrate", run.folder, pictures, *["--exact"] * exact)
    after = contents(run.folder)
    changed = {name for name in after if after[name] != before.get(name)}
    assert (
        {"model.keras", "batch_norm.json"}
        <= changed
        <= {"model.keras", "batch_norm.json", "metrics.json", "report.html", "unknown.npz"}
    )
    assert strangeness.is_there(run), "of the network that the run has now"
    assert set(after) == set(before)
    record = json.loads(run.batch_norm.read_text())
    assert record["form"] == ("exact" if exact else "paper")
    assert ("spread" in record) != exact
    assert ("deviations at the median" in said) != exact
    trained = run_folder.load(run.folder)
    data = loading.load(str(pictures))
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing)
    figures = json.loads(run.metrics.read_text())
    assert figures == json.loads(
        json.dumps(evaluation.metrics(probabilities, truth, data.labels, figures["calibrated"]["temperature"]))
    )
    assert record["after"] == figures["top_1"]


def without_batch_norm(run: Run) -> None:
    described = json.loads(run.classifier.read_text())
    described["arguments"]["normalization"] = None
    run.classifier.write_text(json.dumps(described))
    run.read_classifier().build().save(run.model)


def broken(run: Run) -> None:
    def edit(model: keras.Model) -> None:
        kernel = model.get_layer("stem_3_conv").kernel
        kernel.assign(kernel * np.nan)

    change(run, edit)


def test_what_was_measured_is_counted_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"form": "paper", "batches": 1, "batch_size": 8, "images": 1, "layers": [{}], "before": None}
    commands._print_population(found, Path("run"))
    commands._print_population({**found, "batches": 2, "images": 1200, "layers": [{}, {}]}, Path("run"))
    assert capsys.readouterr().out == (
        "1 layer measured on 1 image, in 1 batch of 8\n2 layers measured on 1,200 images, in 2 batches of 8\n"
    )


@pytest.mark.parametrize("what", ["report", "recalibrate", "adapt"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(without_batch_norm, "has no batch normalisation"), (broken, "before stem_3_bn are not finite in 16 of its 16")],
)
def test_a_run_that_cannot_be_measured_stays_as_it_was(
    what: str, spoil: Callable[[Run], None], words: str, run: Run, pictures: Path, tmp_path: Path
) -> None:
    spoil(run)
    before = contents(run.folder)
    with pytest.raises(UserError, match=words):
        command("batch-norm", what, run.folder, pictures, *["--to", tmp_path / "other"] * (what == "adapt"))
    assert contents(run.folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("when", ["it measures", "it writes", "it exchanges"])
def test_a_recalibration_that_is_killed_leaves_a_run_of_one_piece(
    when: str, run: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are those of its network, whether both are old or both are new."""
    change(run, falsify)
    run.metrics.write_text(json.dumps(json.loads(run.metrics.read_text()) | {"loss": 9.0}))
    before = contents(run.folder)

    class KilledError(Exception):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with monkeypatch.context() as patched:
        if when == "it measures":
            patched.setattr(evaluating, "fit_temperature", killed)
        elif when == "it writes":
            patched.setattr(run_report, "write", killed)
        else:
            real = Path.replace

            def replace(self: Path, target: Path) -> Path:
                if self.name == "model.keras":
                    killed()
                return real(self, target)

            patched.setattr(Path, "replace", replace)
        with pytest.raises(KilledError):
            repair.recalibrate(run.folder, str(pictures))
    if when != "it exchanges":
        assert contents(run.folder) == before
        return
    assert run.model.read_bytes() == before["model.keras"]
    assert run.metrics.read_bytes() != before["metrics.json"], "the figures have been exchanged"
    trained = run_folder.load(run.folder)
    data = loading.load(str(pictures))
    probabilities, truth = evaluating.predict(trained.model, data.test, trained.preprocessing)
    figures = json.loads(run.metrics.read_text())
    assert figures["loss"] == evaluation.metrics(probabilities, truth, data.labels)["loss"]
    assert run.model.read_bytes() != before["model.keras"]
    assert not (run.folder / "exchange").exists()


def test_recalibrate_refuses_data_the_run_was_not_trained_on(run: Run, tmp_path: Path, pictures: Path) -> None:
    shutil.copytree(pictures, tmp_path / "others")
    next((tmp_path / "others" / "digit").iterdir()).unlink()
    before = contents(run.folder)
    with pytest.raises(UserError, match=r"is not what .* was trained on; `batch-norm adapt"):
        command("batch-norm", "recalibrate", run.folder, tmp_path / "others")
    assert contents(run.folder) == before


def darkened(pictures: Path, to: Path, flat: bool) -> Path:
    """The pictures at a fifth of their contrast, without class folders if `flat`."""
    for i, path in enumerate(sorted(path for path in pictures.rglob("*.*") if path.suffix not in (".gif", ".webp"))):
        folder = to if flat else to / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")) if image.mode != "I;16" else np.asarray(image)[..., None] // 256
        dark = np.broadcast_to(pixels * 0.2, (*pixels.shape[:2], 3)).round().astype(np.uint8)
        Image.fromarray(dark).save(folder / f"{i:02}.png")
    return to


@pytest.mark.parametrize("flat", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_adapt_takes_the_statistics_of_new_images_and_leaves_the_run_alone(
    flat: bool, run: Run, pictures: Path, tmp_path: Path
) -> None:
    domain, to = darkened(pictures, tmp_path / "dark", flat), tmp_path / "adapted"
    before = contents(run.folder)
    found = json.loads(command("batch-norm", "adapt", run.folder, domain, "--to", to, "--exact", "--json"))
    assert contents(run.folder) == before
    files = list(domain.rglob("*.png"))
    assert found["images"] == len(files)
    trained, old = run_folder.load(to), run_folder.load(run.folder)
    assert Run(to).read_classifier() == run.read_classifier()
    inputs = np.stack([trained.preprocessing(np.asarray(Image.open(file)).astype("float32")).numpy() for file in files])
    first = keras.Model(old.model.inputs, old.model.get_layer("stem_1_bn").input).predict(inputs, verbose=0)
    np.testing.assert_allclose(
        trained.model.get_layer("stem_1_bn").moving_mean, first.mean((0, 1, 2), np.float64), rtol=1e-4, atol=1e-5
    )
    known = strangeness.read(Run(to))
    assert known, "of the pictures that it was adapted to"
    assert np.mean(strangeness.Reading(trained.model, known).measured(inputs)[1].unknown) < 0.1
    if flat:
        assert (found["before"], found["after"]) == (None, None)
        assert "Without the network's labels" in found["note"]
    else:
        truth = np.array([old.labels.index(file.parent.name) for file in files])
        for model, accuracy in ((old.model, found["before"]), (trained.model, found["after"])):
            assert np.mean(model.predict(inputs, verbose=0).argmax(axis=1) == truth) == pytest.approx(accuracy)


def test_the_note_says_where_adaptation_cannot_help(run: Run) -> None:
    figures = json.loads(run.metrics.read_text()) | {"top_1": 0.9}
    run.metrics.write_text(json.dumps(figures))
    assert repair._note(0.2, 0.88, run) == ""
    assert "cannot undo an inversion" in repair._note(0.2, 0.3, run)
    assert "The old statistics did better" in repair._note(0.9, 0.3, run)


def bad_domains(pictures: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    few = tmp_path / "few"
    few.mkdir()
    for i in range(3):
        shutil.copy(next((pictures / "digit").glob(f"{i:02}.*")), few)
    yield few, "3 images are too few for statistics: their mean would be off by 0.58 of a deviation"
    empty = tmp_path / "empty"
    empty.mkdir()
    yield empty, "empty has no images"
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no picture")
    yield broken, "None of the 1 image in"
    yield tmp_path / "nowhere", "nowhere does not exist"


def test_adapt_refuses_a_bad_domain_and_a_target_that_exists(run: Run, pictures: Path, tmp_path: Path) -> None:
    for domain, words in bad_domains(pictures, tmp_path):
        with pytest.raises(UserError, match=words):
            command("batch-norm", "adapt", run.folder, domain, "--to", tmp_path / "adapted")
        assert not (tmp_path / "adapted").exists()
    with pytest.raises(UserError, match="exists; choose another --to"):
        command("batch-norm", "adapt", run.folder, pictures, "--to", run.folder)


@pytest.mark.parametrize("what", ["report", "recalibrate"])
def test_report_and_recalibrate_refuse_a_folder_without_classes(
    what: str, run: Run, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="has no class folders"):
        command("batch-norm", what, run.folder, darkened(pictures, tmp_path / "flat", flat=True))


def test_a_report_needs_the_labels_of_the_network(run: Run, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "others")
    (tmp_path / "others" / "digit").rename(tmp_path / "others" / "number")
    with pytest.raises(UserError, match="A report needs images whose labels it knows"):
        command("batch-norm", "report", run.folder, tmp_path / "others")
