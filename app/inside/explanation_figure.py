"""The picture of an explanation: the image, and beside it what each method says about it."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

SIDE = 2.6  # of a panel, in inches
DOTS = 120  # per inch
HEAT = colormaps["inferno"]  # rises evenly in lightness: it reads without colours too
BRIGHTEST = 99.5  # the percentile of a heat map that gets the last colour: single pixels outshine saliency maps
OPAQUE = 0.5  # the heat, as a share of the strongest, from which on it hides the image


class Panel(NamedTuple):
    """`picture` is uint8 RGB (height, width, 3); `heat` (height, width), 0 to 1, is laid over it."""

    title: str
    picture: NDArray[np.uint8]
    heat: NDArray[np.float64] | None = None


def drawn(title: str, picture: NDArray[np.uint8], classes: Sequence[tuple[str, float]], rows: Sequence[Any]) -> Figure:
    """A row for every class, which is a name and a score: the picture, and the `Panel`s of that class beside it."""
    columns = 1 + len(rows[0])
    figure = Figure(figsize=(columns * SIDE, len(rows) * (SIDE + 0.35) + 0.3), dpi=DOTS, layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, score), panels in zip(axes, classes, rows, strict=True):
        caption = "\n".join(textwrap.wrap(name, 26)[:2])
        for axis, panel in zip(line, [Panel(f"{caption}  {score:.1%}", picture), *panels], strict=True):
            axis.set_title(panel.title, fontsize=9)
            axis.axis("off")
            if panel.heat is None:
                axis.imshow(panel.picture)
            else:
                overlay(axis, panel.picture, panel.heat)
    return figure


def overlay(axis: Axes, picture: NDArray[np.uint8], heat: NDArray[np.float64]) -> None:
    """`heat` (height, width), 0 to 1, over the picture, which is grey and darker so that all colour is heat."""
    heat = np.clip(heat / (np.percentile(heat, BRIGHTEST) or 1.0), 0, 1)
    axis.imshow(0.6 * picture.mean(axis=-1), cmap="gray", vmin=0, vmax=255)
    colours = HEAT(heat)
    colours[..., 3] = np.minimum(1, heat / OPAQUE) * 0.85
    axis.imshow(colours)
