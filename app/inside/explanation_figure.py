"""The picture of an explanation: the image, and beside it what each method says about it."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DOTS = 120  # per inch
LEAST, MOST = 312, 2000  # pixels of the longer side of a panel: smaller pictures are enlarged, larger ones reduced
LINE, GAP = 20, 10  # pixels: of text, and between panels
PIXELS = ("antialiased", "nearest")  # how they are drawn that are more than there is room for, and others
LETTER = 9  # pixels, about, of a letter's width
HEAT = colormaps["inferno"]  # rises evenly in lightness: it reads without colours too
BRIGHTEST = 99.5  # the percentile of a heat map that gets the last colour: single pixels outshine saliency maps
OPAQUE = 0.5  # the heat, as a share of the strongest, from which on it hides the image


class Panel(NamedTuple):
    """`picture` is uint8 RGB (height, width, 3); `heat`, 0 to 1, is laid over it, whatever its own size."""

    title: str
    picture: NDArray[np.uint8]
    heat: NDArray[np.float64] | None = None


def drawn(title: str, picture: NDArray[np.uint8], classes: Sequence[tuple[str, float]], rows: Sequence[Any]) -> Figure:
    """A row for every class, which is a name and a score: the picture, and the `Panel`s of that class beside it. Each
    pixel of a picture of usual size is one of the figure."""
    height, width = _size(picture)
    across, lines = 1 + len(rows[0]), 2  # of a caption
    letters = max(12, width // LETTER)
    step = lines * LINE + height + GAP
    wide = GAP + across * (width + GAP)
    high = LINE + len(rows) * step
    figure = Figure(figsize=(wide / DOTS, high / DOTS), dpi=DOTS)
    figure.text(0.5, 1 - LINE / 2 / high, _short(title, wide // LETTER), fontsize=9, ha="center", va="center")
    for line, ((name, score), panels) in enumerate(zip(classes, rows, strict=True)):
        caption = "\n".join(textwrap.wrap(f"{name}  {score:.1%}", letters)[:lines])
        if len(textwrap.wrap(name, letters)) > lines:
            caption = f"{_short(name, 2 * letters - 8)}  {score:.1%}"
            caption = "\n".join(textwrap.wrap(caption, letters)[:lines])
        bottom = high - LINE - (line + 1) * step + GAP
        for place, panel in enumerate([Panel(caption, picture), *panels]):
            left = GAP + place * (width + GAP)
            axis = figure.add_axes((left / wide, bottom / high, width / wide, height / high))
            middle = (left + width / 2) / wide, (bottom + height + lines * LINE / 2) / high
            figure.text(*middle, panel.title, fontsize=9, ha="center", va="center", linespacing=1.1)
            axis.axis("off")
            if panel.heat is None:
                axis.imshow(panel.picture, interpolation=PIXELS[panel.picture.shape[0] <= height])
            else:
                overlay(axis, panel.picture, panel.heat)
            if panel.picture.shape == picture.shape:
                axis.set_aspect("auto")  # it fills its place to the pixel
    return figure


def _size(picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Height and width of its panels, in pixels."""
    longer = max(picture.shape[:2])
    scale = -(-LEAST // longer) if longer < LEAST else min(1.0, MOST / longer)
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    return height, width


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def overlay(axis: Axes, picture: NDArray[np.uint8], heat: NDArray[np.float64]) -> None:
    """`heat` (height, width), 0 to 1, over the picture, which is grey and darker so that all colour is heat. Where the
    network saw the picture at another size, the heat is stretched to it."""
    rows, columns = picture.shape[:2]
    if rows > heat.shape[0] or columns > heat.shape[1]:
        share = [max(1.0, new / old) for new, old in zip((rows, columns), heat.shape, strict=True)]
        heat = scipy.ndimage.zoom(heat, share, order=1, mode="nearest", grid_mode=True)
    axis.imshow(_dark(picture), cmap="gray", vmin=0, vmax=255, interpolation=PIXELS[max(rows, columns) < MOST])
    axis.imshow(_colours(heat), extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))


def laid_over(picture: NDArray[np.uint8], heat: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The same as pixels, uint8 RGB (height, width, 3), where both are of one size."""
    colours = _colours(heat)
    opacity = colours[..., 3:]
    return np.rint(_dark(picture)[..., np.newaxis] * (1 - opacity) + 255 * colours[..., :3] * opacity).astype(np.uint8)


def _dark(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(0.6 * picture.mean(axis=-1))


def _colours(heat: NDArray[np.float64]) -> NDArray[np.float64]:
    """(height, width, 4), 0 to 1: red, green, blue, opacity."""
    heat = np.clip(heat / (np.percentile(heat, BRIGHTEST) or 1.0), 0, 1)
    colours = HEAT(heat)
    colours[..., 3] = np.minimum(1, heat / OPAQUE) * 0.85
    return np.asarray(colours)
