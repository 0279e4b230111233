"""Putting a checkpoint's tensors into a model: all of them or none, each accounted for in a report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

from .checkpoint import Checkpoint, bookkeeping, convert, stand_in
from .tensors import Array, Shape, Tensor, WeightsError

# The layers that have one output per class, and those that a network without top leaves out.
CLASSIFIERS = ("predictions", "auxiliary")
TOP = ("predictions", "bottleneck_dense", "bottleneck_bn")
# The networks that pad nothing themselves, while their ports do; the padding is layers called `..._pad`.
PADDED_PORTS = ("inception_v1", "bn_inception", "inception_v3")


class Row(NamedTuple):
    """`source` is the file's name of a tensor, `target` is our layer/weight; where there is none it is empty."""

    source: str
    target: str
    shape: Shape
    how: str


@dataclass(frozen=True)
class Report:
    """Every tensor of the file is in `loaded` or `skipped`, every weight of the model in `loaded` or `missing`."""

    loaded: list[Row] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    missing: list[Row] = field(default_factory=list)


class Step(NamedTuple):
    """One weight that will be set: to its tensor as it is converted, or to 1 where there is none (gamma)."""

    layer: str
    variable: Any
    tensor: Tensor | None


def assign(
    model: keras.Model,
    checkpoint: Checkpoint,
    *,
    auxiliary: bool = False,
    partial: tuple[str, ...] = (),
    drop_background: bool = False,
) -> Report:
    """Sets the weights of `model`, which a builder made, to those of `checkpoint`.

    Names and shapes are compared, and every value is read once, before the first weight is set: a file that does not
    fit or is damaged leaves the model as it was. `auxiliary` loads the auxiliary heads too. `partial` names scopes,
    prefixes of the file's names or of ours, in which tensors may be missing, superfluous or of another shape.
    `drop_background` leaves class 0 out of a file of 1001. Where the model has gamma and the file none, gamma is 1.

    Raises:
        WeightsError: a tensor that is missing, superfluous or of another shape outside of `partial`; another number
            of classes; a damaged file.
    """
    plan = _Plan(checkpoint, auxiliary, partial, drop_background)
    plan.check_port(model)
    plan.check_classes(model)
    plan.match(model)
    plan.account_for_the_rest(model)
    if plan.problems:
        others = f", and {len(plan.problems) - 1} more" if len(plan.problems) > 1 else ""
        raise WeightsError(f"{checkpoint.path}: {plan.problems[0]}{others}; {plan.way_out()}.")
    for step in plan.steps:
        if step.tensor is not None:
            step.tensor.read()
    for step in plan.steps:
        values = np.ones(step.variable.shape, "float32") if step.tensor is None else step.tensor.read()
        step.variable.assign(plan.converted(values, step)[0])
    return plan.report


class _Plan:
    def __init__(
        self, checkpoint: Checkpoint, auxiliary: bool, partial: tuple[str, ...], drop_background: bool
    ) -> None:
        self.checkpoint = checkpoint
        self.table = checkpoint.table
        self.auxiliary = auxiliary
        self.partial = tuple(partial)
        self.drop_background = drop_background
        self.layers: Mapping[str, str] = {**self.table.layers, **(self.table.auxiliary if auxiliary else {})}
        self.report = Report()
        self.steps: list[Step] = []
        self.problems: list[str] = []
        self.used: set[str] = set()
        if auxiliary and not self.table.auxiliary:
            raise WeightsError(f"{checkpoint.path}: {checkpoint.network} takes no auxiliary head from such a file.")

    def check_port(self, model: keras.Model) -> None:
        """Refuses a model that pads where the file's code base does not, or the reverse: every shape would fit."""
        pads = any(layer.name.endswith("_pad") for layer in model.layers)
        if self.checkpoint.network in PADDED_PORTS and pads != bool(self.table.ported_from):
            raise WeightsError(
                f"{self.checkpoint.path}: {self.checkpoint.source} pads {self.checkpoint.network} differently: "
                f"build it with ported_from={self.table.ported_from!r}."
            )

    def check_classes(self, model: keras.Model) -> None:
        classes = self.checkpoint.classes
        if classes is None or "predictions" not in _layers(model):
            return
        classes -= self.drop_background
        (units,) = model.get_layer("predictions").bias.shape
        if units != classes and not self.is_partial(self.layers["predictions"], "predictions"):
            without = " without the background" if self.drop_background else ""
            raise WeightsError(
                f"{self.checkpoint.path} has {classes} classes{without}, the model has {units}: build it with "
                f"classes={classes}{self.background(units)}, or name the classifier in partial: predictions."
            )

    def background(self, units: int) -> str:
        return ", or drop the background class" if self.checkpoint.classes == units + 1 == 1001 else ""

    def match(self, model: keras.Model) -> None:
        """Finds the tensor of every weight."""
        for layer, variable in _weights(model):
            target = f"{layer}/{variable.name}"
            shape = tuple(variable.shape)
            key = self.table.tensor(self.layers[layer], variable.name) if layer in self.layers else ""
            tensor = self.checkpoint.tensors.get(key)
            if tensor is None:
                self.without_tensor(layer, variable, key, target)
                continue
            self.used.add(key)
            step = Step(layer, variable, tensor)
            converted, how = self.converted(stand_in(tensor.shape), step)
            if converted.shape == shape:
                self.steps.append(step)
                self.report.loaded.append(Row(tensor.name, target, shape, how))
            elif self.is_partial(key, tensor.name, target):
                self.report.skipped.append(Row(tensor.name, "", tensor.shape, f"partial: {target} is {shape}"))
                self.report.missing.append(Row("", target, shape, "partial: as it was"))
            else:
                self.problems.append(f"{tensor.name} of shape {tensor.shape} does not fit {target} of shape {shape}")

    def without_tensor(self, layer: str, variable: Any, key: str, target: str) -> None:
        shape = tuple(variable.shape)
        if variable.name == "gamma" and layer in self.layers and not self.checkpoint.arguments.get("scale", True):
            self.steps.append(Step(layer, variable, None))
            self.report.missing.append(Row("", target, shape, "set to 1: the file has no gamma"))
        elif self.is_partial(key, target):
            self.report.missing.append(Row("", target, shape, "partial: as it was"))
        else:
            self.problems.append(f"it has no {key or 'tensor'} for {target} of shape {shape}")

    def converted(self, values: Array, step: Step) -> tuple[Array, str]:
        if step.tensor is None:
            return values, ""
        values, changes = convert(values, self.table, step.variable.name, len(step.variable.shape))
        done = [*step.tensor.done, *changes]
        if self.drop_background and step.layer in CLASSIFIERS:
            values = values[..., 1:]
            done.append("background dropped")
        return values, ", ".join(done) or "as it is"

    def account_for_the_rest(self, model: keras.Model) -> None:
        """Every tensor that no weight took needs a reason."""
        layers = _layers(model)
        absent = {theirs: ours for ours, theirs in self.table.layers.items() if ours not in layers}
        gammas = {self.table.tensor(theirs, "gamma") for ours, theirs in self.layers.items() if ours in layers}
        for key, tensor in self.checkpoint.tensors.items():
            if key in self.used:
                continue
            reason = bookkeeping(key)
            if reason is None and not self.auxiliary and key.startswith(self.table.heads):
                reason = "auxiliary head"
            if reason is None and "predictions" not in layers and absent.get(_layer(key)) in TOP:
                reason = "the model has no top"
            if reason is None and self.is_partial(key, tensor.name):
                reason = "partial: the model has no such weight"
            if reason is not None:
                self.report.skipped.append(Row(tensor.name, "", tensor.shape, reason))
            elif key in gammas:
                self.problems.append(f"{tensor.name} is a gamma, and the model has none (scale=False)")
            else:
                self.problems.append(f"the model has no place for {tensor.name} of shape {tensor.shape}")

    def is_partial(self, *names: str) -> bool:
        return any(name.startswith(self.partial) for name in names)

    def way_out(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.checkpoint.arguments.items())
        return f"build {self.checkpoint.network} with {arguments or 'its defaults'}, or name the scope in partial"


def _weights(model: keras.Model) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        for variable in layer.weights:
            yield layer.name, variable


def _layers(model: keras.Model) -> set[str]:
    return {layer for layer, _ in _weights(model)}


def _layer(key: str) -> str:
    """The layer of the file that the tensor `key` belongs to."""
    separator = "/" if "/" in key else "."
    return key.rpartition(separator)[0]
