"""The optimizers of recipes against the papers' formulas in float64 NumPy, step by step; rates; accumulation; half
precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.program.errors import UserError
from app.recipe import Recipe
from app.training import optimizers
from app.training.callbacks import weight_average
from models import NETWORKS

Array = np.ndarray[Any, Any]
STEPS, TOTAL = 6, 48  # batches of an epoch, of a run
TF1 = {
    "name": "rmsprop",
    "rate": 0.045,
    "momentum": 0.9,
    "rho": 0.9,
    "epsilon": 1.0,
    "initial_accumulator": 1.0,
    "l2": 4e-2,
    "clip": 2.0,
}


def recipe(**values: Any) -> Recipe:
    return Recipe.model_validate({"schedule": {"name": "constant"}, **values})


def small_model(wanted: Recipe, total: int = TOTAL) -> keras.Model:
    keras.utils.set_random_seed(5)
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3, classifier_activation=None, width=0.5)
    model.compile(optimizer=optimizers.build(model, wanted, STEPS, total), loss="mse")
    return model


def gradients(model: keras.Model, count: int, scale: float = 1.0) -> list[list[Array]]:
    rng = np.random.default_rng(6)
    return [
        [(scale * rng.normal(size=weight.shape)).astype("float32") for weight in model.trainable_weights]
        for _ in range(count)
    ]


def values(weights: Any) -> list[Array]:
    return [weight.numpy().astype(np.float64) for weight in weights]


def stepped(model: keras.Model, steps: list[list[Array]]) -> list[list[Array]]:
    """The weights after each step, which is compiled as in training."""

    @tf.function(jit_compile=False)
    def step(gradients: Any) -> None:
        model.optimizer.apply(gradients, model.trainable_weights)

    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    found = []
    for gradient in steps:
        step(gradient)
        found.append(values(model.trainable_weights))
    return found


def clipped(gradients: list[Array], norm: float | None) -> list[Array]:
    """Algorithm 1 of 1211.5063, over all gradients together."""
    whole = np.sqrt(sum(float(np.sum(np.square(gradient))) for gradient in gradients))
    return [gradient * min(1, norm / whole) if norm else gradient for gradient in gradients]


def assert_equal(found: list[Array], wanted: list[Array], model: keras.Model) -> None:
    for mine, right, weight in zip(found, wanted, model.trainable_weights, strict=True):
        np.testing.assert_allclose(mine, right, rtol=2e-5, atol=1e-6, err_msg=weight.path)


# ---- steps


@pytest.mark.parametrize(
    "options",
    [
        TF1,
        {**TF1, "clip": None, "l2": 0.0},
        {**TF1, "initial_accumulator": 0.0, "epsilon": 1e-3, "momentum": 0.0},
    ],
    ids=["v3", "plain", "keras"],
)
def test_rmsprop_is_that_of_tensorflow_1(options: dict[str, Any]) -> None:
    """`epsilon` in the root, the rate in the momentum, a mean square that begins at `initial_accumulator`."""
    model = small_model(recipe(optimizer=options))
    weights = values(model.trainable_weights)
    squares = [np.full(weight.shape, options["initial_accumulator"]) for weight in weights]
    velocities = [np.zeros(weight.shape) for weight in weights]
    norms = []
    for found, steps in zip(stepped(model, gradients(model, 6, 0.1)), gradients(model, 6, 0.1), strict=True):
        given = clipped([gradient.astype(np.float64) for gradient in steps], options["clip"])
        norms.append(np.sqrt(sum(np.sum(np.square(gradient)) for gradient in steps)))
        for i, gradient in enumerate(given):
            if weights[i].ndim > 1:
                gradient = gradient + options["l2"] * weights[i]
            squares[i] = options["rho"] * squares[i] + (1 - options["rho"]) * gradient**2
            increment = options["rate"] * gradient / np.sqrt(squares[i] + options["epsilon"])
            velocities[i] = options["momentum"] * velocities[i] + increment
            weights[i] = weights[i] - velocities[i]
        assert_equal(found, weights, model)
    assert min(norms) > 2.0, "nothing is clipped: this test cannot see a difference"


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_its_formula(nesterov: bool) -> None:
    rate, momentum, l2, decay = 0.1, 0.8, 0.3, 0.2
    options = {"rate": rate, "momentum": momentum, "nesterov": nesterov, "l2": l2, "weight_decay": decay}
    model = small_model(recipe(optimizer=options))
    weights = values(model.trainable_weights)
    velocities = [np.zeros(weight.shape) for weight in weights]
    for found, steps in zip(stepped(model, gradients(model, 4)), gradients(model, 4), strict=True):
        for i, gradient in enumerate(steps):
            if weights[i].ndim > 1:
                weights[i] = weights[i] * (1 - rate * decay)
                gradient = gradient + l2 * weights[i]
            velocities[i] = momentum * velocities[i] - rate * gradient
            weights[i] = weights[i] + (momentum * velocities[i] - rate * gradient if nesterov else velocities[i])
        assert_equal(found, weights, model)


def test_adamw_is_that_of_its_paper() -> None:
    """Algorithm 2 of 1711.05101 with the epsilon of 1412.6980's section 2, whose rate takes both corrections."""
    rate, decay, epsilon = 0.01, 0.5, 1e-3
    model = small_model(recipe(optimizer={"name": "adamw", "rate": rate, "weight_decay": decay, "epsilon": epsilon}))
    weights = values(model.trainable_weights)
    means = [np.zeros(weight.shape) for weight in weights]
    squares = [np.zeros(weight.shape) for weight in weights]
    for n, (found, steps) in enumerate(zip(stepped(model, gradients(model, 4)), gradients(model, 4), strict=True), 1):
        for i, gradient in enumerate(steps):
            means[i] = 0.9 * means[i] + 0.1 * gradient
            squares[i] = 0.999 * squares[i] + 0.001 * gradient.astype(np.float64) ** 2
            corrected = rate * np.sqrt(1 - 0.999**n) / (1 - 0.9**n)
            weights[i] = weights[i] * (1 - rate * decay * (weights[i].ndim > 1))
            weights[i] = weights[i] - corrected * means[i] / (np.sqrt(squares[i]) + epsilon)
        assert_equal(found, weights, model)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [("sgd", "ResourceApplyKerasMomentum"), ("rmsprop", "ResourceApplyRMSProp"), ("adamw", "ResourceApplyAdam")],
)
def test_every_weight_takes_its_step_by_one_kernel(name: str, kernel: str) -> None:
    model = small_model(recipe(optimizer={"name": name}))
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda gradients: model.optimizer.apply(gradients, model.trainable_weights), autograph=False)
    graph = step.get_concrete_function(gradients(model, 1)[0]).graph
    found = [operation.type for operation in graph.get_operations()]
    assert found.count(kernel) == len(model.trainable_weights)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw"])
def test_l2_and_weight_decay_leave_gamma_beta_and_biases_alone(name: str) -> None:
    model = small_model(recipe(optimizer={"name": name, "l2": 0.1, "weight_decay": 0.1}))
    before = values(model.trainable_weights)
    (after,) = stepped(model, [[np.zeros_like(gradient) for gradient in gradients(model, 1)[0]]])
    kinds = {"kernel": 0, "bias": 0, "gamma": 0, "beta": 0}
    for weight, was, found in zip(model.trainable_weights, before, after, strict=True):
        assert np.array_equal(found, was) == (weight.name != "kernel"), weight.path
        kinds[weight.name] += 1
    assert kinds == {"kernel": 5, "bias": 5, "gamma": 4, "beta": 4}


def test_l2_is_the_penalty_of_slim_and_twice_that_of_keras() -> None:
    """slim adds l2 * tf.nn.l2_loss(w) to the loss, which has the factor of one half; Keras' regularizer has none."""
    l2 = 0.3
    model = small_model(recipe(optimizer={"rate": 1.0, "momentum": 0.0, "l2": l2}))
    kernels = [weight for weight in model.trainable_weights if weight.name == "kernel"]
    with tf.GradientTape() as tape:
        slim = tf.add_n([l2 * tf.nn.l2_loss(kernel.value) for kernel in kernels])
    wanted = tape.gradient(slim, [kernel.value for kernel in kernels])
    with tf.GradientTape() as tape:
        penalties = tf.add_n([keras.regularizers.L2(l2 / 2)(kernel) for kernel in kernels])
    same = tape.gradient(penalties, [kernel.value for kernel in kernels])
    before = values(kernels)
    stepped(model, [[np.zeros_like(gradient) for gradient in gradients(model, 1)[0]]])
    for was, kernel, one, other in zip(before, kernels, wanted, same, strict=True):
        np.testing.assert_allclose(was - kernel.numpy(), one, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(one, other, rtol=1e-6)


# ---- rates


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        ({"name": "cosine"}, lambda since, x: (1 + np.cos(np.pi * x)) / 2),
        ({"name": "constant"}, lambda since, x: 1.0),
        ({"name": "polynomial"}, lambda since, x: 1 - x),
        ({"name": "polynomial", "power": 0.5}, lambda since, x: np.sqrt(1 - x)),
        ({"name": "exponential", "factor": 0.94, "every": 2}, lambda since, x: 0.94 ** (since // (2 * 10))),
        ({"name": "exponential", "factor": 0.96, "every": 8 / 6}, lambda since, x: 0.96 ** (since * 6 // (8 * 10))),
        (
            {"name": "exponential", "factor": 0.5, "every": 0.7, "staircase": False},
            lambda since, x: 0.5 ** (since / (0.7 * 10)),
        ),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_the_rate_follows_its_formula(
    schedule: dict[str, Any], left: Callable[[float, float], float], warmup: float
) -> None:
    rate, steps, total = 0.4, 10, 50
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3)
    wanted = recipe(optimizer={"rate": rate}, schedule={**schedule, "warmup": warmup})
    optimizer = optimizers.build(model, wanted, steps, total)
    rising = warmup * steps
    for step in range(total + 1):
        optimizer.iterations.assign(step)
        since = max(0, step - rising)
        right = rate * left(since, since / (total - rising)) * (min(1, step / rising) if rising else 1)
        assert float(optimizer.learning_rate) == pytest.approx(right, rel=1e-5, abs=1e-8), step


def test_a_warm_up_longer_than_the_run_leaves_its_last_step() -> None:
    model = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3)
    optimizer = optimizers.build(model, recipe(optimizer={"rate": 0.4}, schedule={"warmup": 99}), 10, 20)
    rates = []
    for step in range(20):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.4 * step / 19 for step in range(20)])


# ---- accumulation


def test_accumulated_batches_are_one_step_with_their_mean_gradient() -> None:
    """And one step of the schedule and of the running average."""
    options = {**TF1, "weight_decay": 0.1}
    schedule = {"name": "polynomial", "warmup": 0.5}
    several = small_model(recipe(optimizer={**options, "accumulate": 3}, schedule=schedule, weight_average=0.9), 12)
    steps = gradients(several, 12)
    means = [[np.mean(three, axis=0) for three in zip(*steps[i : i + 3], strict=True)] for i in range(0, 12, 3)]
    keras.utils.set_random_seed(5)
    single = NETWORKS["lenet_bn"](input_shape=(16, 16, 3), classes=3, classifier_activation=None, width=0.5)
    wanted = recipe(optimizer=options, schedule=schedule, weight_average=0.9)
    single.compile(optimizer=optimizers.build(single, wanted, STEPS // 3, 4), loss="mse")
    before = values(several.trainable_weights)
    found, right = stepped(several, steps), stepped(single, means)
    assert_equal(found[1], before, several)
    for n in range(4):
        assert_equal(found[3 * n + 2], right[n], several)
    assert int(several.optimizer.iterations) == int(single.optimizer.iterations) == 4
    assert float(several.optimizer.learning_rate) == float(single.optimizer.learning_rate)
    assert_equal(values(several.optimizer.averages), values(single.optimizer.averages), several)
    assert max(np.abs(a - b).max() for a, b in zip(before, found[-1], strict=True)) > 0.01


def test_a_run_too_short_for_one_step_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer.accumulate=9: the run has 8 batches"):
        small_model(recipe(optimizer={"accumulate": 9}), 8)


# ---- the running average


@pytest.mark.parametrize("decay", [0.4, 0.9999])
def test_the_average_is_that_of_its_recurrence(decay: float) -> None:
    model = small_model(recipe(weight_average=decay, optimizer={"rate": 0.5}))
    average = values(model.trainable_weights)
    steps = gradients(model, 12)
    for n, weights in enumerate(stepped(model, steps)):
        share = min(decay, (1 + n) / (10 + n))
        average = [share * old + (1 - share) * new for old, new in zip(average, weights, strict=True)]
    assert_equal(values(model.optimizer.averages), average, model)
    statistics = values(model.non_trainable_weights)
    weight_average.use(model)
    assert_equal(values(model.trainable_weights), average, model)
    for mine, right in zip(values(model.non_trainable_weights), statistics, strict=True):
        np.testing.assert_array_equal(mine, right)


def test_everything_that_moves_is_among_the_variables_of_the_optimizer(tmp_path: Path) -> None:
    """What saves these goes on as if nothing had happened."""
    wanted = recipe(optimizer=TF1, schedule={"name": "exponential", "every": 0.4}, weight_average=0.9)
    first = small_model(wanted)
    steps = gradients(first, 7)
    stepped(first, steps[:4])
    second = small_model(wanted)
    second.set_weights(first.get_weights())
    second.optimizer.build(second.trainable_variables)
    for mine, theirs in zip(second.optimizer.variables, first.optimizer.variables, strict=True):
        mine.assign(theirs)
    first.save(tmp_path / "model.keras")
    third = keras.models.load_model(tmp_path / "model.keras")
    ends = [stepped(model, steps[4:])[-1] for model in (first, second)]
    ends.append(stepped(third, steps[4:])[-1])
    averages = [values(model.optimizer.averages) for model in (first, second, third)]
    for other in (1, 2):
        for mine, theirs in zip(ends[other] + averages[other], ends[0] + averages[0], strict=True):
            np.testing.assert_array_equal(mine, theirs)


# ---- half precision


@pytest.fixture
def half(set_policy: Callable[[str], None]) -> keras.Model:
    """`small_model` in float16, with all that a recipe can ask for."""
    set_policy("mixed_float16")
    model = small_model(recipe(optimizer={**TF1, "weight_decay": 0.1, "rate": 0.5}, weight_average=0.9))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return model


def test_in_float16_the_loss_is_scaled_and_the_steps_are_the_same(
    half: keras.Model, set_policy: Callable[[str], None]
) -> None:
    assert half(np.zeros((1, 16, 16, 3), "float32")).dtype == tf.float32, "the loss works on these logits"
    half.optimizer.build(half.trainable_variables)
    scale = float(half.optimizer.dynamic_scale)
    assert scale > 1
    steps = gradients(half, 3)
    found = stepped(half, [[gradient * scale for gradient in step] for step in steps])
    set_policy("float32")
    single = small_model(recipe(optimizer={**TF1, "weight_decay": 0.1, "rate": 0.5}, weight_average=0.9))
    for mine, right in zip(found, stepped(single, steps), strict=True):
        assert_equal(mine, right, half)
    assert int(half.optimizer.iterations) == 3
    assert float(half.optimizer.learning_rate) == 0.5
    average = values(single.optimizer.averages)
    weight_average.use(half)
    assert_equal(values(half.trainable_weights), average, half)


def test_in_float16_a_step_that_overflows_is_left_out(half: keras.Model) -> None:
    steps = gradients(half, 2)
    half.optimizer.build(half.trainable_variables)
    scale = float(half.optimizer.dynamic_scale)
    steps[0][3][:] = np.inf
    before = values(half.trainable_weights)
    after, later = stepped(half, steps)
    for was, mine, weight in zip(before, after, half.trainable_weights, strict=True):
        np.testing.assert_array_equal(was, mine, err_msg=weight.path)
    assert float(half.optimizer.dynamic_scale) == scale / 2
    assert any(not np.array_equal(was, mine) for was, mine in zip(after, later, strict=True))
    assert int(half.optimizer.iterations) == 1
