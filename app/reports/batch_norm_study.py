"""The page of `study batch-norm`: the paper's table beside ours, its figures, and the control that it did without."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.program.shown import command
from app.reports import page
from app.reports.page import COLOURS

# Figure 3 of 1502.03167: millions of steps to 72.2 % top-1 on ImageNet, and the highest accuracy; None is never.
PAPER: dict[str, tuple[float | None, str]] = {
    "Inception": (31.0, "72.2 %"),
    "BN-Baseline": (13.3, "72.7 %"),
    "BN-x5": (2.1, "73.0 %"),
    "BN-x30": (2.7, "74.8 %"),
    "BN-x5-Sigmoid": (None, "69.8 %"),
    "Sigmoid without BN": (None, "0.1 %, as by chance"),
}
TITLES = {
    "paper": "The paper's learning rates and modifications",
    "old": "Initial weights as in 2015",
    "tuned": "The control: each arm with its own best rate",
}
TOO_FEW = 3  # seeds, for a median to be drawn


def write(folder: Path, found: dict[str, Any]) -> Path:
    """Writes report.html beside the study.json whose content is `found` (see `studies.batch_norm.study`)."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in found["regimes"]}
    for run in found["runs"]:
        runs[run["regime"]].append(run)
    regimes = [
        {
            "title": TITLES[regime["name"]],
            "name": regime["name"],
            "arms": found["regimes"][regime["name"]],
            "cap": regime["cap"],
            "curves": _curves(runs[regime["name"]], found["regimes"][regime["name"]]),
            "grid": _grid(runs[regime["name"]], found) if len(regime["rates"]) > 1 else None,
        }
        for regime in found["protocol"]["regimes"]
    ]
    report = folder / "report.html"
    page.write(
        report,
        "batch_norm_study.html.jinja",
        title="What batch normalisation does to the training of an Inception network",
        paper=PAPER,
        protocol=found["protocol"],
        regimes=regimes,
        units=[_unit(runs["paper"], arm) for arm in ("Sigmoid without BN", "BN-x5-Sigmoid", "Inception", "BN-x5")],
        command=command("study", "batch-norm", "--to", folder),
    )
    return report


def _curves(runs: Sequence[dict[str, Any]], arms: dict[str, Any]) -> str:
    """Validation accuracy over steps: the median of the seeds, and the range between the lowest and highest."""
    figure = go.Figure(
        layout={
            "xaxis": {"title": "steps", **page.logarithmic(look["step"] for run in runs for look in run["looks"])},
            "yaxis": {"title": "validation accuracy", "range": [0, 1.01], "tickformat": ".0%"},
            "height": 460,
        }
    )
    for colour, (name, arm) in zip(COLOURS, arms.items(), strict=False):
        own = [run["looks"] for run in runs if run["arm"] == name and run["rate"] == arm["rate"]]
        # Runs end at different steps; a median of one or two of them would be another thing.
        drawn = sorted({look["step"] for looks in own for look in looks})
        values = {step: [look["accuracy"] for looks in own for look in looks if look["step"] == step] for step in drawn}
        steps = [step for step in drawn if len(values[step]) >= min(TOO_FEW, len(own))]
        low, middle, high = ([float(f(values[step])) for step in steps] for f in (min, np.median, max))
        options = {"legendgroup": name, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=steps, y=low, line={"width": 0}, mode="lines", **options)
        figure.add_scatter(x=steps, y=high, line={"width": 0}, mode="lines", fill="tonexty", **options)
        figure.data[-1].fillcolor = f"rgba{(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)), 0.12)}"
        figure.add_scatter(
            x=steps,
            y=middle,
            name=f"{name}, rate {arm['rate']:g}",
            mode="lines",
            line={"color": colour},
            legendgroup=name,
        )
    return page.plot(figure)


def _unit(runs: Sequence[dict[str, Any]], arm: str) -> str:
    """The paper's Figure 1 (b, c): percentiles of what enters one unit, over the first run of the paper's regime."""
    run = next(run for run in runs if run["arm"] == arm)
    looks = run["looks"]
    figure = go.Figure(
        layout={
            "title": f"{arm}, rate {run['rate']:g}",
            "xaxis": {"title": "steps", **page.logarithmic(look["step"] for look in looks)},
            "yaxis": {"title": "input of the unit"},
            "height": 320,
            "showlegend": False,
        }
    )
    for position, (percentile, dash) in enumerate(((15, "dot"), (50, "solid"), (85, "dot"))):
        figure.add_scatter(
            x=[look["step"] for look in looks],
            y=[look["unit"][position] for look in looks],
            name=f"{percentile}th percentile",
            mode="lines",
            line={"color": COLOURS[0], "dash": dash},
        )
    return page.plot(figure)


def _grid(runs: Sequence[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Per arm and rate what each seed of the search came to: steps to the last target, "never", or "diverged"."""
    last = f"{found['protocol']['targets'][-1]:.0%}"
    searched = found["protocol"]["seeds"][: found["protocol"]["searched"]]
    cells: dict[str, dict[float, list[str]]] = {}
    for run in runs:
        if run["seed"] in searched:
            steps = run["reached"][last]
            outcome = "diverged" if run["diverged"] else "never" if steps is None else f"{steps:,}"
            cells.setdefault(run["arm"], {}).setdefault(run["rate"], []).append(outcome)
    return [{"arm": arm, "rates": dict(sorted(rates.items()))} for arm, rates in cells.items()]
