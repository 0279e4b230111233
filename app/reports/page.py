"""What all pages share: one file that opens offline, plots to point at, colours that everybody can tell apart."""

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.program.files import whole

# Okabe and Ito's, for colour-blind readers: blue, vermilion, green, purple, orange, sky blue.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def write(path: Path, template: str, **content: Any) -> None:
    """Writes the page `path` from a template that extends page.html.jinja; `title` and `command` are in `content`."""
    environment = Environment(
        loader=PackageLoader("app.reports", "."), autoescape=select_autoescape(default=True), undefined=StrictUndefined
    )
    page = environment.get_template(template).render(plotly=plotly.offline.get_plotlyjs(), **content)
    with whole(path) as beside:
        beside.write_text(page)


def plot(figure: go.Figure) -> str:
    figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 50, "b": 50})
    return figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
