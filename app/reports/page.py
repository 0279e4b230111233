"""What all pages share: one file that opens offline, plots to point at, colours that everybody can tell apart."""

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.program.files import whole
from app.program.shown import brief, counted

# Okabe and Ito's, for colour-blind readers: blue, vermilion, green, purple, orange, sky blue.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write(path: Path, template: str, **content: Any) -> None:
    """Writes the page `path` from a template that extends page.html.jinja; `title` and `command` are in `content`."""
    environment = Environment(
        loader=PackageLoader("app.reports", "."), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    environment.filters |= {"counted": counted, "brief": brief}
    page = environment.get_template(template).render(plotly=plotly.offline.get_plotlyjs(), **content)
    with whole(path) as beside:
        beside.write_text(page)


def plot(figure: go.Figure) -> str:
    """The figure, its title above it and its legend below: on a telephone the tool bar would cover the one, and the
    other leave no room for curves."""
    title = figure.layout.title.text
    figure.update_layout(
        template="plotly_white",
        title=None,
        margin={"l": 60, "r": 20, "t": 36, "b": 50},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
    )
    # An open menu of tools is in nobody's way, but a dozen of them are wider than a telephone.
    options = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d", "pan2d"]}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, config=options)
    return f"<figure>{f'<figcaption>{html.escape(title)}</figcaption>' if title else ''}{drawn}</figure>"


def logarithmic(values: Iterable[float]) -> dict[str, Any]:
    """A logarithmic axis for these values, with three ticks or more between them. Plotly's own may be a single one, or
    a 2 alone, whatever its power of ten. What has no logarithm is not drawn."""
    shown = [value for value in values if 0 < value < math.inf]
    if not shown:
        return {"type": "log"}
    low, high = min(shown), max(shown)
    room = max((high / low) ** 0.05, 1.05)  # about what plotly adds on both sides
    low, high = low / room, high * room
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 2, 3, 5, 7), range(1, 10)):
        ticks = [float(f"{digit}e{power}") for power in powers for digit in digits]
        if sum(low <= tick <= high for tick in ticks) >= 3:
            break
    else:  # so near to each other that the axis is all but linear
        step = _round((high - low) / 3)
        ticks = [float(f"{step * number:.12g}") for number in range(math.ceil(low / step), int(high / step) + 1)]
    return {"type": "log", "tickvals": ticks[:: math.ceil(len(ticks) / 30)], "tickformat": "~g"}


def _round(step: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above it."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (5, 2, 1) if digit * power <= step * (1 + 1e-9))


def whole_numbers(last: float) -> dict[str, Any]:
    """An axis of what is counted, up to `last`: no tick at one and a half epochs."""
    return {"tick0": 0, "dtick": max(1, math.ceil(last / 8)), "tickformat": "d"}


def short(name: str, most: int = 18) -> str:
    """A name as plots show it; of a long one its beginning and its end, which tell it from others."""
    return name if len(name) <= most else f"{name[: most // 2].rstrip()}…{name[-(most - most // 2 - 1) :].lstrip()}"


def some(names: Sequence[str], most: int) -> list[str]:
    """Of many names so many, evenly spread, as there is room for beside a plot."""
    return list(names[:: max(1, math.ceil(len(names) / most))])
