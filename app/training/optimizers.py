"""The optimizer of a recipe, and its learning rate.

Both are functions of the optimizer's own variables, `iterations` among them: whoever restores these goes on as if there
had been no stop. Keras has the three methods; what the papers' recipes need beside them is here.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from app.program.errors import UserError
from app.recipe import Recipe, Schedule

register = keras.saving.register_keras_serializable("inceptions")


def build(
    model: keras.Model, recipe: Recipe, steps: int, total: int, rates: Sequence[tuple[float, int]] = ()
) -> keras.optimizers.Optimizer:
    """The optimizer for `model` in a run of `total` batches, `steps` of them to an epoch. `rates` has for each weight
    that trains what its rate is multiplied by, and the batch at which it begins to train; empty is 1 and 0 for all.

    Raises:
        UserError: fewer batches than one optimizer step takes.
    """
    options = recipe.optimizer
    if total < options.accumulate:
        raise UserError(
            f"optimizer.accumulate={options.accumulate}: the run has {total} batches, too few for one optimizer step. "
            "Take more epochs or smaller batches."
        )
    arguments: dict[str, Any] = {
        "learning_rate": rate(recipe, steps, total),
        "weight_decay": options.weight_decay or None,
        "global_clipnorm": options.clip,
        "gradient_accumulation_steps": options.accumulate if options.accumulate > 1 else None,
        "l2": options.l2,
        "average": recipe.weight_average,
        "rates": rates,
    }
    optimizer: keras.optimizers.Optimizer
    if options.name == "sgd":
        optimizer = SGD(momentum=options.momentum, nesterov=options.nesterov, **arguments)
    elif options.name == "rmsprop":
        optimizer = RMSprop(
            rho=options.rho,
            momentum=options.momentum,
            epsilon=options.epsilon,
            initial_accumulator=options.initial_accumulator,
            **arguments,
        )
    else:
        optimizer = AdamW(epsilon=options.epsilon, **{**arguments, "weight_decay": options.weight_decay})
    # Decaying gamma, beta or a bias shrinks nothing that could over-fit, and moves what batch norm has to follow.
    weights = model.trainable_weights
    apart = [weight for weight, rate in zip(weights, rates, strict=True) if rate != (1, 0)] if rates else []
    optimizer.exclude_from_weight_decay(var_list=[*apart, *filter(_is_vector, weights)])
    return optimizer


def rate(recipe: Recipe, steps: int, total: int) -> "Rate":
    """The learning rate of a run of `total` batches, `steps` of them to an epoch."""
    accumulate = recipe.optimizer.accumulate
    return Rate(recipe.optimizer.rate, recipe.schedule, steps / accumulate, total // accumulate, accumulate)


@register
class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate that `Schedule` describes, with `epoch` and `total` in optimizer steps.

    Keras counts batches; with `accumulate` of them to a step, the rate stays the same until the step is done.
    """

    def __init__(
        self, rate: float, schedule: Schedule | dict[str, Any], epoch: float, total: int, accumulate: int = 1
    ) -> None:
        self.rate = rate
        self.schedule = Schedule.model_validate(schedule)
        self.epoch = epoch
        self.total = total
        self.accumulate = accumulate
        self.warmup = min(round(self.schedule.warmup * epoch), total - 1)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step // self.accumulate, "float32")
        rising = ops.minimum(step / self.warmup, 1.0) if self.warmup else 1.0
        return self.rate * rising * self._falling(ops.maximum(step - self.warmup, 0.0))

    def _falling(self, since: Any) -> Any:
        """The share of the rate that is left so many steps after the warm-up."""
        options = self.schedule
        if options.name == "exponential":
            times = since / (options.every * self.epoch)
            return options.factor ** (ops.floor(times) if options.staircase else times)
        x = ops.minimum(since / (self.total - self.warmup), 1.0)
        if options.name == "cosine":
            return (1 + ops.cos(math.pi * x)) / 2
        return (1 - x) ** options.power if options.name == "polynomial" else ops.ones_like(x)

    def get_config(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "schedule": self.schedule.model_dump(),
            "epoch": self.epoch,
            "total": self.total,
            "accumulate": self.accumulate,
        }


class Step(keras.optimizers.Optimizer):
    """What every step does beside Keras': before it, `l2` of the kernels joins the gradients; after it, the running
    average of the weights follows, if `average` is its decay. It begins with the weights that training begins with.
    For `rates` see `build`."""

    def __init__(
        self,
        *arguments: Any,
        l2: float = 0.0,
        average: float | None = None,
        rates: Sequence[tuple[float, int]] = (),
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.l2 = l2
        self.average = average
        self.rates = rates

    def build(self, variables: Any) -> None:
        if self.built:
            return
        super().build(variables)
        self.averages = []
        if self.average is not None:
            self.averages = [
                self.add_variable_from_reference(variable, "average", initializer=ops.convert_to_tensor(variable))
                for variable in variables
            ]

    def _clip_gradients(self, gradients: Any) -> Any:
        """Of several devices Keras would clip each one's gradients by themselves: here it is their sum."""
        context = tf.distribute.get_replica_context()
        if not self.global_clipnorm or context is None or context.num_replicas_in_sync == 1:
            return super()._clip_gradients(gradients)
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return [gradient / context.num_replicas_in_sync for gradient in super()._clip_gradients(whole)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.l2 and not _is_vector(variable):
            gradient = gradient + self.l2 * variable
        if self.rates:
            factor, begin = self.rates[self._get_variable_index(variable)]
            # At a rate of 0 a weight stays what it is, bit by bit, and its momentum 0.
            learning_rate = ops.where(self.iterations < begin, 0.0, factor * learning_rate)
        super().update_step(gradient, variable, learning_rate)
        if self.average is not None:
            average = self.averages[self._get_variable_index(variable)]
            steps = ops.cast(self.iterations, variable.dtype)
            # 1 - min(average, (1 + n) / (10 + n)), in this form since float32 has few digits next to 1.
            share = ops.maximum(1 - self.average, 9 / (10 + steps))
            self.assign_add(average, share * (variable - average))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2, "average": self.average, "rates": self.rates}


class FusedSGD(keras.optimizers.SGD):
    """Keras' step, with momentum, bit by bit, by TensorFlow's kernel of it, which needs no other memory than that of
    the weights; Keras takes four operations, three of which write tensors of their size."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            grad=ops.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


@register
class SGD(Step, FusedSGD):
    """Stochastic gradient descent with momentum."""


class FusedRMSprop(keras.optimizers.RMSprop):
    """Keras' step, with momentum, by the kernel of TensorFlow 1's RMSPropOptimizer, which goes over the weights three
    times; Keras does so some ten times."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        square, velocity = self._velocities[index].value, self._momentums[index].value  # as Keras calls them
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=square.handle,
            mom=velocity.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=ops.cast(gradient, variable.dtype),
        )


@register
class RMSprop(Step, FusedRMSprop):
    """RMSProp whose mean square begins at `initial_accumulator`."""

    def __init__(self, *arguments: Any, initial_accumulator: float = 0.0, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.initial_accumulator = initial_accumulator

    def add_optimizer_variables(self, trainable_variables: Any, name: str, initializer: Any = "zeros") -> Any:
        if name == "velocity":  # Keras' name of the mean square
            initializer = keras.initializers.Constant(self.initial_accumulator)
        return super().add_optimizer_variables(trainable_variables, name, initializer)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_accumulator": self.initial_accumulator}


class FusedAdamW(keras.optimizers.AdamW):
    """Keras' step by TensorFlow's kernel of it, which rounds elsewhere; Keras takes a dozen operations."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        index = self._get_variable_index(variable)
        mean, square = self._momentums[index].value, self._velocities[index].value  # as Keras calls them
        steps = ops.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=mean.handle,
            v=square.handle,
            beta1_power=ops.power(ops.cast(self.beta_1, variable.dtype), steps),
            beta2_power=ops.power(ops.cast(self.beta_2, variable.dtype), steps),
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=ops.cast(gradient, variable.dtype),
        )


@register
class AdamW(Step, FusedAdamW):
    """Adam with decoupled weight decay."""


def _is_vector(weight: Any) -> bool:
    """Whether it is a gamma, a beta or a bias."""
    return len(weight.shape) == 1
