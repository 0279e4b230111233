"""The pictures of a layer: all its channels on one image, and the patches of a data set that they answer most to."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from app.inside.explanation_figure import overlay
from app.networks.receptive_field import Field

if TYPE_CHECKING:
    from app.inside.survey import Patch

DOTS = 120  # per inch
COLOURS = colormaps["viridis"].with_extremes(bad="white", under="#b0b0b0")
DEAD = -1.0  # drawn grey
FEW, ACROSS = 256, (16, 32)  # tiles side by side, for so many channels and for more


def channels(
    layer: str,
    picture: NDArray[np.uint8],
    answer: NDArray[np.float32],
    looks: Field,
    branches: Mapping[str, slice],
) -> Figure:
    """All channels of a map (rows, columns, channels) as tiles, each scaled by itself, a block of tiles per branch;
    above them the picture, with what the unit in the middle of the map sees of it."""
    across = ACROSS[answer.shape[-1] > FEW]
    heights = [math.ceil((part.stop - part.start) / across) for part in branches.values()]
    tile = 10.0 / across  # inches
    layout = ConstrainedLayoutEngine(h_pad=0.04, hspace=0.02)
    figure = Figure(figsize=(10.6, 2.6 + sum(heights) * tile + 0.4 * len(heights)), dpi=DOTS, layout=layout)
    axes = figure.subplots(1 + len(heights), 1, height_ratios=[2.3, *(height * tile for height in heights)])
    axes[0].imshow(picture)
    axes[0].axis("off")
    rows, columns = looks
    axes[0].set_title(
        f"{layer}: {answer.shape[0]} x {answer.shape[1]} x {answer.shape[2]}, each unit sees {rows.size} x "
        f"{columns.size} pixels, every {rows.stride}",
        fontsize=9,
    )
    middle = [unit // 2 * axis.stride for unit, axis in zip(answer.shape, looks, strict=False)]
    corner = (columns.first + middle[1] - 0.5, rows.first + middle[0] - 0.5)
    axes[0].add_patch(Rectangle(corner, columns.size, rows.size, fill=False, edgecolor="#ff7f0e", linewidth=1.5))
    for axis, (name, part) in zip(axes[1:], branches.items(), strict=True):
        block = answer[..., part]
        dead = int((block.max(axis=(0, 1)) <= 0).sum())
        gone = f", {dead} of them nowhere above 0" if dead else ""
        axis.imshow(tiled(block, across), cmap=COLOURS, vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        axis.set_title(f"{name}: channels {part.start} to {part.stop - 1}{gone}", fontsize=8, loc="left")
        # Where a line of tiles begins, the number of its first channel: what `--channel` takes.
        lines = range(math.ceil(block.shape[-1] / across))
        axis.set_yticks(
            [(line + 0.5) * (answer.shape[0] + 1) - 1 for line in lines],
            [str(part.start + line * across) for line in lines],
            fontsize=6,
        )
        axis.set_xticks([])
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
    return figure


def tiled(block: NDArray[np.float32], across: int) -> NDArray[np.float64]:
    """Channels of (rows, columns, channels) side by side in lines of `across`, a pixel apart, each from 0 to 1 at its
    strongest; one that is nowhere above 0 is `DEAD`, and what is no channel is not a number."""
    rows, columns, count = block.shape
    low = np.minimum(block.min(axis=(0, 1)), 0)  # before an activation values may be negative
    span = block.max(axis=(0, 1)) - low
    alive = block.max(axis=(0, 1)) > 0
    scaled = np.where(alive, (block - low) / np.where(alive, span, 1), DEAD)
    lines = math.ceil(count / across)
    sheet = np.full((lines * (rows + 1) - 1, across * (columns + 1) - 1), np.nan)
    for channel in range(count):
        line, place = divmod(channel, across)
        top, left = line * (rows + 1), place * (columns + 1)
        sheet[top : top + rows, left : left + columns] = scaled[..., channel]
    return sheet


def patches(
    layer: str,
    picture: NDArray[np.uint8],
    answer: NDArray[np.float32],
    looks: Field,
    found: "Mapping[int, Sequence[Patch]]",
    labels: Sequence[str],
) -> Figure:
    """A line per channel: where it answers on the picture, then the patches to which it answers most, with the class of
    their images. A circle marks what the unit looks at where it sees the whole image."""
    columns = 1 + max(len(best) for best in found.values())
    figure = Figure(figsize=(columns * 1.25, len(found) * 1.5 + 0.4), dpi=DOTS, layout="constrained")
    figure.suptitle(f"{layer}: each unit sees {looks.rows.size} x {looks.columns.size} pixels", fontsize=9)
    axes: Any = figure.subplots(len(found), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for line, (channel, best) in zip(axes, found.items(), strict=True):
        heat = np.maximum(answer[..., channel], 0)
        overlay(line[0], picture, looks.spread(heat / (heat.max() or 1), *picture.shape[:2]))
        line[0].set_title(f"channel {channel}", fontsize=8)
        for axis, patch in zip(line[1:], best, strict=False):
            axis.imshow(patch.pixels)
            axis.set_title(f"{labels[patch.label][:16]}  {patch.value:.3g}", fontsize=7)
            if patch.pixels.shape == picture.shape:
                axis.plot(patch.middle[1], patch.middle[0], "o", ms=9, mfc="none", mec="#ff7f0e", mew=1.5)
    return figure
