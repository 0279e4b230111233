"""How the tables of names are written, and the functions that spell them out.

A table says which layer of a file goes to which layer of ours. What is regular is written once: a module is a row of
columns as in its figure, a column the names of its steps from bottom to top, `POOL` for a step without weights, a tuple
of two for a fork at the top. A unit `x` is our layers `x_conv` and `x_bn`; every source has one way to call the two.

A tensor of the file is its layer's name and a suffix for the weight's role; `SUFFIXES` has them per format.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Format = Literal["tensorflow", "keras", "pytorch", "caffe"]
Step = str | tuple[str, str] | None
Column = tuple[Step, ...]
Pairs = dict[str, str]  # ours -> theirs

POOL = None

OWN = {
    "kernel": "/kernel",
    "bias": "/bias",
    "gamma": "/gamma",
    "beta": "/beta",
    "moving_mean": "/moving_mean",
    "moving_variance": "/moving_variance",
}
SUFFIXES: dict[Format, dict[str, str]] = {
    "tensorflow": {
        "kernel": "/weights",
        "bias": "/biases",
        "depthwise_kernel": "/depthwise_weights",
        "pointwise_kernel": "/pointwise_weights",
        "gamma": "/gamma",
        "beta": "/beta",
        "moving_mean": "/moving_mean",
        "moving_variance": "/moving_variance",
    },
    "keras": OWN,
    "pytorch": {
        "kernel": ".weight",
        "bias": ".bias",
        "gamma": ".weight",
        "beta": ".bias",
        "moving_mean": ".running_mean",
        "moving_variance": ".running_var",
    },
    # The blobs of Caffe's layers have no names: `caffe.tensors` gives them these.
    "caffe": OWN,
}


@dataclass(frozen=True)
class Release:
    """What a network of Caffe computes between its weights, which its file tells too and is held against.

    `strided` are the convolutions of stride 2; all others have stride 1, and all are padded by half their kernel.
    `between` has the pools and response normalisations, as `caffe.wording` words them. `flattened` maps a dense layer
    that stands on a map to the convolution that makes it: its inputs go through one channel after the other.
    """

    strided: frozenset[str]
    between: frozenset[str]
    flattened: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Where the weights of `network` lie in the files of `source`.

    `layers` and `auxiliary` map our layers to theirs, `heads` are the prefixes of everything that belongs to auxiliary
    heads in the file. `ported_from` is the builder's argument for a port that computes something differently.
    `release` is there for files of Caffe.
    """

    network: str
    source: str
    format: Format
    layers: Pairs
    auxiliary: Pairs = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    ported_from: str | None = None
    release: Release | None = None

    def tensor(self, layer: str, role: str) -> str:
        """The file's name for the weight `role` of its layer `layer`."""
        return layer + SUFFIXES[self.format].get(role, f"/{role}")


def stem(*steps: Step) -> Pairs:
    """The steps `stem_1`, `stem_2`, ... of which only those with weights have a name."""
    return {f"stem_{place}": step for place, step in enumerate(steps, start=1) if isinstance(step, str)}


def module(ours: str, theirs: str, columns: Iterable[Column]) -> Pairs:
    """The units of the module `ours`, whose steps in the file are called `theirs` and the step's name."""
    units: Pairs = {}
    for branch, column in enumerate(columns):
        for place, step in enumerate(column, start=1):
            unit = f"{ours}_b{branch}" if place == len(column) else f"{ours}_b{branch}_{place}"
            if isinstance(step, tuple):
                units |= {f"{unit}_b{side}": f"{theirs}{tine}" for side, tine in enumerate(step)}
            elif step is not POOL:
                units[unit] = f"{theirs}{step}"
    return units


def slim(*columns: Column) -> tuple[Column, ...]:
    """Columns in TF-slim's names: `0a_1x1` in the second column is `/Branch_1/Conv2d_0a_1x1`.

    A name that is written out, as `Conv_1_0c_5x5`, stays.
    """

    def full(branch: int, step: str) -> str:
        return f"/Branch_{branch}/{step if step.startswith('Conv') else f'Conv2d_{step}'}"

    return tuple(
        tuple(
            (full(branch, step[0]), full(branch, step[1]))
            if isinstance(step, tuple)
            else POOL
            if step is POOL
            else full(branch, step)
            for step in column
        )
        for branch, column in enumerate(columns)
    )


def numbered(*lengths: int) -> tuple[Column, ...]:
    """Columns of torch's `Sequential`: of 1 step `.branch0`, of 3 steps `.branch0.0` to `.branch0.2`.

    A negative length is a column with a pool below its convolutions, which takes the first number; 0 a pool alone.
    """
    columns: list[Column] = []
    for branch, length in enumerate(lengths):
        if length == 1:
            columns.append((f".branch{branch}",))
        else:
            steps = tuple(f".branch{branch}.{place}" for place in range(abs(length)))
            columns.append((POOL, *steps[1:]) if length < 0 else steps)
    return tuple(columns)


def in_tensorflow(units: Mapping[str, str], scope: str) -> Pairs:
    return layers_of(units, lambda unit: (f"{scope}/{unit}", f"{scope}/{unit}/BatchNorm"))


def in_pytorch(units: Mapping[str, str]) -> Pairs:
    return layers_of(units, lambda unit: (f"{unit}.conv", f"{unit}.bn"))


def in_keras(units: Iterable[str]) -> Pairs:
    """Anonymous layers: the units, which must be in the order of their creation, are numbered."""
    places = {unit: str(place) for place, unit in enumerate(units)}
    return layers_of(places, lambda place: (f"conv2d[{place}]", f"batch_normalization[{place}]"))


def layers_of(units: Mapping[str, str], spell: Callable[[str], tuple[str, str]]) -> Pairs:
    """Our two layers of every unit, against what `spell` makes of the file's name for the unit."""
    layers: Pairs = {}
    for ours, theirs in units.items():
        layers[f"{ours}_conv"], layers[f"{ours}_bn"] = spell(theirs)
    return layers
