"""`report.html` of a run: its figures, curves, confusion matrix and pictures with what the network took them for."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image

from app.datasets.dataset import Split
from app.networks import english
from app.recipe_keys import flat
from app.reports import made_by, page
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run, read_history

PICTURES = 24
LARGEST = 160  # pixels: the longer side of a picture on the page
TRAINING, VALIDATION = page.COLOURS[:2]


def write(
    run: Run,
    classifier: Classifier,
    figures: dict[str, Any],
    probabilities: NDArray[Any],
    truth: NDArray[Any],
    test: Split,
    file: Path | None = None,
    strangeness: NDArray[Any] | None = None,
) -> None:
    """Writes the page of a training; to `file`, where that is not to be the run's yet. `figures` are
    `evaluation.metrics` of `probabilities` (count, classes) and of `truth` (count,), both in the order of `test`; of
    several labels a picture those of `several_labels.metrics`, with `truth` (count, classes). `strangeness` (count,) is
    theirs, of a run that has it."""
    history = read_history(run.history)
    recipe = classifier.recipe
    assert recipe is not None  # an import has none, and no report
    _write(
        run,
        classifier,
        "run_report.html.jinja",
        [
            *_curves(history),
            *([_confusion(figures, classifier)] if "confusion" in figures else []),
            *_strange(figures, strangeness),
            *_range_test(run, recipe.optimizer.rate),
        ],
        file,
        recipe=flat(recipe.model_dump()),
        figures=figures,
        old=json.loads(run.old_classes.read_text()) if run.old_classes.is_file() else None,
        named=dict(zip(classifier.labels, _named(classifier), strict=True)),
        seconds=sum(row["seconds"] for row in history),
        pictures=_pictures(probabilities, truth, classifier, test),
    )


def write_running(run: Run, classifier: Classifier, epochs: int) -> None:
    """Writes the page of a training that has not ended: the curves of the epochs so far, of `epochs`."""
    history = read_history(run.history)
    _write(run, classifier, "running_report.html.jinja", _curves(history), epochs=epochs, history=history)


def _write(
    run: Run, classifier: Classifier, template: str, plots: Sequence[str], file: Path | None = None, **content: Any
) -> None:
    title, command = run.folder.resolve().name, made_by.training(run, classifier)
    said = {"title": title, "classifier": classifier, "plots": plots, "command": command, **content}
    page.write(file or run.report, template, **said)


def _curves(history: Sequence[dict[str, float]]) -> list[str]:
    several = "average_precision" in (history[0] if history else {})
    shown = ("average_precision", "Mean average precision") if several else ("accuracy", "Accuracy")
    return [_curve(history, "loss", "Loss"), _curve(history, *shown)]


def _curve(history: Sequence[dict[str, float]], key: str, title: str) -> str:
    epochs = [row["epoch"] for row in history]
    # A first validation loss can be a hundred times the last: moving averages lag behind the first steps.
    scale = page.logarithmic(row[f"{prefix}{key}"] for row in history for prefix in ("", "val_"))
    figure = go.Figure(
        layout={
            "title": title,
            "xaxis": {"title": "epoch", **page.whole_numbers(max(epochs, default=1))},
            "yaxis": scale if key == "loss" else {"tickformat": "~%"},
            "height": 360,
        }
    )
    for name, prefix, colour, dash in (("training", "", TRAINING, "solid"), ("validation", "val_", VALIDATION, "dash")):
        values = [row[f"{prefix}{key}"] for row in history]
        figure.add_scatter(x=epochs, y=values, name=name, mode="lines+markers", line={"color": colour, "dash": dash})
    return page.plot(figure)


def _range_test(run: Run, rate: float) -> list[str]:
    """The loss at rising rates and the rate that was chosen by it, where there was such a test."""
    points = read_history(run.rates)
    if not points:
        return []
    rates = [point["rate"] for point in points]
    figure = go.Figure(
        layout={
            "title": f"Range test: the rate {rate:.2g} was chosen",
            "xaxis": {"title": "learning rate", "type": "log"},
            "yaxis": page.logarithmic(point["loss"] for point in points),
            "height": 360,
        }
    )
    for name, key, width in (("loss of a step", "loss", 1), ("its running mean", "smoothed", 3)):
        line = {"color": TRAINING, "width": width}
        figure.add_scatter(x=rates, y=[point[key] for point in points], name=name, mode="lines", line=line)
    figure.add_vline(x=rate, line={"color": VALIDATION, "dash": "dash"})
    return [page.plot(figure)]


def _confusion(figures: dict[str, Any], classifier: Classifier) -> str:
    matrix = np.array(figures["confusion"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    few = len(classifier.labels) <= 20
    labels = _named(classifier)
    across, down = (
        {"type": "category", "tickvals": named, "ticktext": [page.short(label) for label in named]}
        for named in (page.some(labels, 20), page.some(labels, 40))  # a telephone has no room for more
    )
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=labels,
            y=labels,
            text=matrix,
            texttemplate="%{text}" if few else None,
            hovertemplate="%{y} taken for %{x}: %{text}<extra></extra>",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            showscale=False,
        ),
        layout={
            "title": "Confusion: rows are true, columns predicted",
            "xaxis": across,
            "yaxis": down | {"autorange": "reversed"},
            "height": min(900, 240 + 28 * len(classifier.labels)),
        },
    )
    return page.plot(figure)


def _strange(figures: dict[str, Any], strangeness: NDArray[Any] | None) -> list[str]:
    if strangeness is None or "unknown" not in figures:
        return []
    threshold = figures["unknown"]["threshold"]
    most = max(2 * threshold - float(strangeness.min()), float(np.quantile(strangeness, 0.99)))
    figure = go.Figure(
        go.Histogram(
            x=np.minimum(strangeness, most),  # some are very far
            nbinsx=60,
            marker={"color": VALIDATION},
            hovertemplate="%{x}: %{y}<extra></extra>",
        ),
        layout={
            "title": "Strangeness of the test images",
            "xaxis": {"title": "right of the line: unknown"},
            "yaxis": {"title": "images"},
            "height": 360,
        },
    )
    figure.add_vline(x=threshold, line={"dash": "dash"})
    return [page.plot(figure)]


def _named(classifier: Classifier) -> list[str]:
    """The labels as people read them."""
    return [english.named(label, classifier.names) for label in classifier.labels]


def _pictures(
    probabilities: NDArray[Any], truth: NDArray[Any], classifier: Classifier, test: Split
) -> list[dict[str, Any]]:
    """Mistakes first, the surest of them foremost; then right answers, spread over the split. Of several labels an
    answer is right where all that are named are there, and no others."""
    classes = np.arange(probabilities.shape[1])
    if truth.ndim == 1:
        named, there = (numbers[:, np.newaxis] == classes for numbers in (probabilities.argmax(axis=1), truth))
        sure = probabilities.max(axis=1)
    else:
        named, there = probabilities >= np.array(classifier.thresholds), truth > 0
        sure = np.abs(probabilities - there).max(axis=1)
    is_right = (named == there).all(axis=1)
    wrong = sorted(np.flatnonzero(~is_right), key=lambda i: -sure[i])[: PICTURES // 2]
    right = np.flatnonzero(is_right)
    spread = (
        right[np.linspace(0, len(right) - 1, min(PICTURES - len(wrong), len(right))).astype(int)] if len(right) else []
    )
    chosen = [int(i) for i in (*wrong, *spread)]
    read = test.at(sorted(chosen)).as_numpy_iterator()
    decode, labels = classifier.preprocessing.decode, _named(classifier)
    thumbnails = {i: thumbnail(decode(encoded).numpy()) for i, (encoded, _) in zip(sorted(chosen), read, strict=True)}
    return [
        {
            "source": thumbnails[i],
            "right": bool(is_right[i]),
            "true": _listed(labels, there[i]),
            "taken": _listed(labels, named[i]),
            "best": [(labels[j], float(probabilities[i, j])) for j in np.argsort(-probabilities[i])[:3]],
        }
        for i in chosen
    ]


def _listed(labels: Sequence[str], which: NDArray[np.bool_]) -> str:
    return ", ".join(labels[i] for i in np.flatnonzero(which).tolist()) or "none of the labels"


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """An address that holds the picture (height, width, 3)."""
    picture = Image.fromarray(pixels)
    scale = LARGEST / max(picture.size)
    # Small pictures are enlarged in whole pixels: digits of 8 x 8 stay what they are.
    filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], filter_)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG" if scale > 1 else "JPEG")
    kind = "png" if scale > 1 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
