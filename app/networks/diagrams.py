"""A network as the papers draw it: from the image at the bottom to the classes at the top, a box for every block.

A block is what the network's table has a row for. Its layers carry its name and, behind an underscore, more: so a block
is found by the shortest name that its layers begin with. Blocks of one stage that follow each other are drawn once.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import keras
import matplotlib as mpl
from keras import layers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from app.networks import cards, counting
from app.program.errors import UserError
from app.program.files import whole

HEIGHT, GAP, WIDTH = 0.36, 0.5, 1.5  # inches: of a box, between blocks, of a column
# Colours that differ in lightness too: Okabe and Ito's, on white.
COLOURS = {"convolution": "#cfe4f5", "pool": "#f7dfa8", "dense": "#d5ebd0", "other": "#eeeeee"}


@dataclass(frozen=True)
class Step:
    """A layer that is drawn: what it does in a few words, and which of `COLOURS` it has."""

    text: str
    kind: str


@dataclass(frozen=True)
class Block:
    """`columns` stand side by side on the same map, each from bottom to top; `above` is what joins them. `shape` is the
    last block's output, (height, width, channels) or (channels,), where `repeated` ones are drawn once."""

    name: str
    columns: tuple[tuple[Step, ...], ...]
    above: tuple[Step, ...]
    shape: tuple[int, ...]
    repeated: int = 1


def blocks(model: keras.Model) -> list[Block]:
    """The blocks of a network of the family, from the image up, those of a stage collapsed."""
    names = {layer.name for layer in model.layers}

    def root(layer: Any) -> str:
        words = layer.name.split("_")
        return next(name for end in range(1, len(words) + 1) if (name := "_".join(words[:end])) in names)

    inner: dict[str, list[Any]] = {}
    for layer in model.layers:
        inner.setdefault(root(layer), []).append(layer)
    every = (_block(name, inner[name], model.get_layer(name)) for name in inner)
    found = [block for block in every if block.columns]  # without activations that stand alone
    return [_collapsed(list(group)) for _, group in groupby(found, key=_sort)]


def _sort(block: Block) -> Any:
    """What repetitions of a module share: the stage, and all but the channels of its steps. A layer has none."""
    if _single(block):
        return block.name
    steps = [[step.text.split(",")[0] for step in column] for column in (*block.columns, block.above)]
    return _stage(block.name), steps


def _stage(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _collapsed(group: list[Block]) -> Block:
    first, last = group[0], group[-1]
    if len(group) == 1:
        return first
    return replace(last, name=_stage(last.name), columns=first.columns, repeated=len(group))


def _block(name: str, inside: list[Any], last: Any) -> Block:
    columns: dict[str, list[Step]] = {}
    above: list[Step] = []
    for layer in inside:
        step = _step(layer)
        if step is None:
            continue
        if layer.name.endswith("_shortcut_conv"):
            step = replace(step, text=f"{step.text}, shortcut")
        branch = re.match(r"_b(\d+)", layer.name[len(name) :])
        if branch is None and columns and len(columns) > 1:
            above.append(step)
            continue
        column = columns.setdefault(branch[1] if branch else "", [])
        fork = branch and re.search(r"_b(\d+)", layer.name[len(name) + branch.end() :])
        if fork and int(fork[1]) > 0:
            column[-1] = replace(
                column[-1], text=column[-1].text.replace(" conv", f" | {step.text.split(' conv')[0]} conv")
            )
        else:
            column.append(step)
    ordered = tuple(tuple(columns[key]) for key in sorted(columns, key=lambda key: int(key or 0)))
    return Block(name, ordered, tuple(above), tuple(side or 0 for side in last.output.shape[1:]))


def _step(layer: Any) -> Step | None:
    """None for what the papers' figures leave out: normalisation, activation, padding."""
    if isinstance(layer, layers.Conv2D):
        return Step(f"{_sides(layer.kernel_size)} conv{_stride(layer)}, {layer.filters}", "convolution")
    if isinstance(layer, layers.MaxPooling2D):
        return Step(f"{_sides(layer.pool_size)} max pool{_stride(layer)}", "pool")
    if isinstance(layer, layers.AveragePooling2D):
        return Step(f"{_sides(layer.pool_size)} average pool{_stride(layer)}", "pool")
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return Step("global average pool", "pool")
    if isinstance(layer, layers.Dense):
        return Step(f"dense, {layer.units}", "dense")
    if isinstance(layer, layers.Dropout):
        return Step(f"dropout {layer.rate:g}", "other")
    if isinstance(layer, layers.Add):
        return Step("+ shortcut", "other")
    if isinstance(layer, layers.InputLayer):
        return Step("image", "other")
    if type(layer).__name__ == "LocalResponseNormalization":
        return Step("local response normalisation", "other")
    return None


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _stride(layer: Any) -> str:
    return f" / {layer.strides[0]}" if max(layer.strides) > 1 else ""


def draw(model: keras.Model, file: Path) -> None:
    """Writes the diagram as SVG, its words as text, the same bytes for the same network.

    Raises:
        UserError: the file cannot be written.
    """
    found = blocks(model)
    widest = max(len(block.columns) for block in found)
    width, height = widest * WIDTH + 1.6, sum(_height(block) + GAP for block in found) + GAP + 0.3
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    middle, at = widest * WIDTH / 2 + 0.2, GAP / 2
    for i, block in enumerate(found):
        _draw_block(axes, block, middle, at)
        at += _height(block)
        shape = " x ".join(f"{side}" if side else "?" for side in block.shape)
        if i < len(found) - 1:
            axes.annotate("", (middle, at + GAP), (middle, at), arrowprops={"arrowstyle": "-|>", "color": "#444444"})
            axes.text(middle + 0.1, at + GAP / 2, shape, va="center", fontsize=8, color="#444444")
            at += GAP
    axes.text(middle, at + 0.3, model.name, ha="center", fontsize=12, weight="bold")
    # Text stays text, and names of inner parts do not depend on the day.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": model.name}), whole(file) as beside:
        figure.savefig(beside, format="svg", metadata={"Date": None, "Title": model.name})


def of_the_family(name: str, file: Path) -> Path:
    """Draws the network of that name as it was published; returns the file.

    Raises:
        UserError: there is no such network; the file exists or cannot be written.
    """
    cards.check_name(name)
    if file.exists():
        raise UserError(f"{file} exists; choose another --to, or delete it.")
    if not file.parent.is_dir():
        raise UserError(f"The folder {file.parent} does not exist; make it, or choose another --to.")
    draw(counting.published(name), file)
    return file


def _height(block: Block) -> float:
    return (max(len(column) for column in block.columns or ((),)) + len(block.above)) * HEIGHT + _frame(block)


def _frame(block: Block) -> float:
    """The room for the title of a module; a single layer has none."""
    return 0.0 if _single(block) else 0.34


def _single(block: Block) -> bool:
    return len(block.columns) == 1 and len(block.columns[0]) == 1 and not block.above


def _draw_block(axes: Axes, block: Block, middle: float, bottom: float) -> None:
    count = max(1, len(block.columns))
    left = middle - count * WIDTH / 2
    if not _single(block):
        _box(axes, (left - 0.08, bottom), (count * WIDTH + 0.16, _height(block)), "#fafafa", "#888888")
        times = f"{block.repeated} x " if block.repeated > 1 else ""
        title = times + block.name.replace("_", " ")
        axes.text(middle, bottom + _height(block) - 0.17, title, ha="center", va="center", fontsize=9, weight="bold")
    tallest = max((len(column) for column in block.columns), default=0)
    for i, column in enumerate(block.columns):
        for text, at in _stacked(column):
            _draw_step(axes, text, left + i * WIDTH, bottom + at, WIDTH)
    for text, at in _stacked(block.above):
        _draw_step(axes, text, left, bottom + tallest * HEIGHT + at, count * WIDTH)


def _stacked(steps: Iterable[Step]) -> Iterator[tuple[Step, float]]:
    return ((step, i * HEIGHT) for i, step in enumerate(steps))


def _draw_step(axes: Axes, step: Step, left: float, bottom: float, width: float) -> None:
    _box(axes, (left + 0.05, bottom + 0.05), (width - 0.1, HEIGHT - 0.1), COLOURS[step.kind], "#666666")
    axes.text(left + width / 2, bottom + HEIGHT / 2, step.text, ha="center", va="center", fontsize=7)


def _box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], inside: str, edge: str) -> None:
    style = "round,pad=0,rounding_size=0.05"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, facecolor=inside, edgecolor=edge, linewidth=0.7))
