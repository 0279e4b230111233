"""The page of a comparison: which network to take for which budget, and how each came there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from app.program.files import whole
from app.program.shown import brief, counted
from app.reports import made_by, page
from app.reports.page import COLOURS

History = Sequence[dict[str, float]]
DASHES = ("solid", "dash", "dot")
SYMBOLS = ("circle", "square", "diamond")
# What accuracy may cost: key of a row, what it is called, by how much it is divided to be shown.
COSTS = (
    ("milliseconds", "an answer, ms per image", 1.0),
    ("training_seconds", "training, s", 1.0),
    ("multiply_adds", "multiply-adds of an answer, millions", 1e6),
    ("parameters", "parameters, millions", 1e6),
    ("bytes", "size of model.keras, MB", 1e6),
)


def frontier(rows: Sequence[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """The rows that no other beats in top-1 at the same or a lower cost, the cheapest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda row: (row[cost], -row["top_1"])):
        if not best or row["top_1"] > best[-1]["top_1"]:
            best.append(row)
    return best


def write(folder: Path, found: dict[str, Any], histories: dict[str, History]) -> None:
    """Writes report.html and comparison.md, its table, beside the comparison.json whose content is `found`; `histories`
    has the epochs of each network, the rows of its history.csv."""
    rows = sorted((row for row in found["rows"] if "error" not in row), key=lambda row: -row["top_1"])
    with whole(folder / "comparison.md") as beside:
        beside.write_text(_markdown(rows))
    # In the order of `rows`, so that neighbours in the legend differ in colour.
    styles = {row["network"]: (COLOURS[i % 6], i // 6 % 3) for i, row in enumerate(rows)}
    page.write(
        folder / "report.html",
        "comparison.html.jinja",
        title=f"{counted(len(rows), 'network', 'networks')} on {found['data']}",
        rows=rows,
        failed=[row for row in found["rows"] if "error" in row],
        classes=found.get("classes"),  # comparisons of before do not say
        budget=_described(found["budget"]),
        choices=[(title, divisor, key, frontier(rows, key)) for key, title, divisor in COSTS],
        trade_offs=[_trade_off(rows, styles, *cost) for cost in COSTS if rows],
        curves=[
            _curves(histories, styles, by, key, title, found["recipe"]["batch_size"])
            for key, title in (("val_accuracy", "Validation accuracy"), ("val_loss", "Validation loss"))
            for by in ("steps", "seconds of training")
        ],
        command=made_by.comparison(folder, found),
    )


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| network | image | parameters | multiply-adds | training | top-1 | answer | file |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row["network"],
            f"{row['image_size']} px",
            f"{brief(row['parameters'] / 1e6)} M",
            f"{brief(row['multiply_adds'] / 1e6)} M",
            f"{row['training_seconds']:.0f} s",
            f"{row['top_1']:.1%}",
            f"{row['milliseconds']:.2f} ms",
            f"{row['bytes'] / 1e6:.1f} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _described(budget: dict[str, Any]) -> str:
    amount = budget["amount"]
    return {
        "recipe": "the epochs of the recipe",
        "seconds": f"{amount:g} seconds of training",
        "multiply_adds": f"{amount:.3g} multiply-adds of training",
    }[budget["kind"]]


def _trade_off(
    rows: Sequence[dict[str, Any]], styles: dict[str, tuple[str, int]], key: str, title: str, by: float
) -> str:
    """Wrong answers over one cost; a line joins those that are worth it, and these are named.

    On a logarithmic axis, the best above: among good networks accuracies differ by little, errors by much.
    """
    best = frontier(rows, key)
    least = min([1 - row["top_1"] for row in rows if row["top_1"] < 1], default=0.02) / 2  # stands for none

    def error(row: dict[str, Any]) -> float:
        return max(1 - row["top_1"], least)

    figure = go.Figure(
        layout={
            "title": f"Test error for {title.split(',')[0]}",
            "xaxis": {"title": title, **page.logarithmic(row[key] / by for row in rows)},
            "yaxis": {
                **page.logarithmic(error(row) for row in rows),
                "title": "test top-1 error",
                "tickformat": "~%",
                "autorange": "reversed",
            },
            "height": 400,
            "showlegend": False,
        }
    )
    figure.add_scatter(
        x=[row[key] / by for row in best],
        y=[error(row) for row in best],
        mode="lines",
        line={"color": "#8c959f", "width": 1, "shape": "hv"},
        hoverinfo="skip",
    )
    for row in rows:
        colour, variant = styles[row["network"]]
        figure.add_scatter(
            x=[row[key] / by],
            y=[error(row)],
            name=row["network"],
            text=[row["network"] if row in best else ""],
            mode="markers+text",
            textposition="top center",
            textfont={"size": 11},
            cliponaxis=False,
            marker={"color": colour, "symbol": SYMBOLS[variant], "size": 10},
            hovertemplate=f"{row['network']}: {1 - row['top_1']:.2%} wrong at %{{x:.3g}}<extra></extra>",
        )
    return page.plot(figure)


def _scale(histories: dict[str, History], key: str) -> dict[str, Any]:
    if not key.endswith("loss"):
        return {"tickformat": "~%"}
    return page.logarithmic(row[key] for history in histories.values() for row in history)


def _curves(
    histories: dict[str, History], styles: dict[str, tuple[str, int]], by: str, key: str, title: str, batch_size: int
) -> str:
    figure = go.Figure(
        layout={
            "title": f"{title} over {by}",
            "xaxis": {"title": by},
            "yaxis": _scale(histories, key),
            "height": 340 + 20 * len(styles),  # on a telephone the legend takes a line for each
        }
    )
    for network, (colour, variant) in styles.items():
        history = histories[network]
        places, total = [], 0.0
        for row in history:
            total += row["seconds"] * (row["images_per_second"] / batch_size if by == "steps" else 1)
            places.append(total)
        figure.add_scatter(
            x=places,
            y=[row[key] for row in history],
            name=network,
            mode="lines+markers",
            line={"color": colour, "dash": DASHES[variant]},
            marker={"symbol": SYMBOLS[variant]},
        )
    return page.plot(figure)
