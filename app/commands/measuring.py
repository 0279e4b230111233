"""What a network says, and how often it is right."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.commands.options import (
    JsonOption,
    RunsArgument,
)
from app.commands.printing import answer, going_on, output, print_json, print_preprocessing, scores
from app.networks.english import named
from app.program import paths, quiet, remote
from app.program.errors import UserError
from app.program.progress import Watch
from app.program.shown import counted


def evaluate(
    runs: RunsArgument,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Other data than the run's own: its test images, or all of it for imported networks where it has no "
            "splits. Also ImageNet's validation folder, in class folders or as unpacked.",
        ),
    ] = None,
    crops: Annotated[
        int,
        typer.Option(
            metavar="1|10|12|144",
            help="Crops of an image to average over: 1 is the network's own preprocessing, 10 the corners and the "
            "middle, mirrored, 12 those and the whole, 144 GoogLeNet's.",
        ),
    ] = 1,
    leave_out: Annotated[
        Path | None,
        typer.Option(
            "--leave-out", metavar="FILE", help="Images not to count, a file name or number of ImageNet's a line."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Top-1, top-5, loss, calibration and figures per class on the test images.

    Of a network that names several labels a picture: mean average precision, F1 at the thresholds, figures per label.
    Several runs answer together, by the mean of their probabilities.
    The calibration error is how far these are from the share that is right.
    Ctrl-C and SIGTERM keep the answers so far; the same command again goes on with them.
    """
    runs = paths.runs(runs)
    paths.check_exists(leave_out)
    if data is not None:
        paths.check_data(data)
    with quiet.tensorflow():
        from app import evaluation
        from app.program.progress import watch
        from app.training import finishing
    with going_on("image"):
        for run in runs if data is None else ():
            finishing.complete_later(run, watch)
        figures = evaluation.evaluate(runs[0], data, watch, others=runs[1:], crops=crops, leave_out=leave_out)
    if as_json:
        print_json(figures)
        return
    classes = len(figures["per_class"])
    for row in figures["members"] if len(runs) > 1 else ():
        output.print(f"{row['run']} alone: {scores(row, classes)}", soft_wrap=True)
    output.print(
        f"{scores(figures, classes)}  "
        + (f"balanced accuracy {figures['balanced_accuracy']:.4f}  " if "balanced_accuracy" in figures else "")
        + (f"calibration error {figures['ece']:.4f}  " if "ece" in figures else "")
        + f"on {counted(figures['count'], 'image', 'images')}"
        + (f", {crops} crops of each" if crops > 1 else "")
    )
    if found := figures.get("calibrated"):
        output.print(
            f"at temperature {found['temperature']:.3f}: loss {found['loss']:.4f}  calibration error {found['ece']:.4f}"
        )
    for run in runs:
        print_preprocessing(run)
    names = figures.get("names", {})
    several = ("threshold", "average_precision") if "mean_average_precision" in figures else ()
    others = (key.replace("_", " ") for key in several)
    table = Table("label" if several else "class", "precision", "recall", "f1", "images", *others)
    for label, row in figures["per_class"].items():
        table.add_row(
            named(label, names),
            f"{row['precision']:.3f}",
            f"{row['recall']:.3f}",
            f"{row['f1']:.3f}",
            str(row["count"]),
            *("" if row[key] is None else f"{row[key]:.3f}" for key in several),
        )
    output.print(table)


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run folder, an export or a file of one; none with --server.")
    ],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Image files, or folders of them, also on s3:// or gs://."),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="How many classes to name; of several labels a picture, all that are there.")
    ] = 3,
    artefact: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Which of an export: saved_model, tflite, onnx, openvino, the name of a file such as "
            "model.int8.tflite, or auto, the fastest here. If left out the SavedModel, where there is one.",
        ),
    ] = None,
    unknown: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            metavar="PERCENT",
            help="Of pictures that show one of the classes, how many may be called unknown. If left out 5, where the "
            "model says how strange a picture is.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask a server, of `serve` or TensorFlow Serving: the address of a network, as in "
            "http://127.0.0.1:8501/v1/models/NAME. A token is taken from the variable SERVE_TOKEN.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER/",
            help="Write a row for each picture into a .parquet, .csv or .jsonl file, or a folder of parts: for many "
            "pictures, in batches. The same command goes on where it was ended.",
        ),
    ] = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="With --to: also what the classifier is given of each picture.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Name what is on pictures. Ends with exit code 1 when one of them could not be read, but for --to, whose file
    says which and why."""
    if embeddings and to is None:
        raise UserError("--embeddings are too many numbers to be printed: name a file for them with --to.")
    if server is not None:
        if to is not None:
            raise UserError("A server is asked for few pictures; leave --to out, or --server.")
        if artefact is not None or unknown is not None:
            option = "--artefact" if artefact is not None else "--unknown"
            raise UserError(f"A server answers with what it was started with; leave {option} out, or --server.")
        images = _fetched([model, *(images or ())])
        from app.program.progress import watch
        from app.serving.remote import predict as ask

        _print_rows(ask(server, images, top, watch, os.environ.get("SERVE_TOKEN")), as_json)
        return
    paths.check_model(model)
    if not images:
        raise UserError("Name the pictures, too, as in `predict MODEL IMAGE...`.")
    images = _fetched(images)
    from app.artefacts import choosing, predicting

    if to is not None:
        _write_answers(model, artefact, images, to, top, embeddings, unknown, as_json)
        return
    meant, watched = choosing.meant(model, artefact), _watched(as_json)
    if meant.is_file():  # of which TensorFlow, whose import takes seconds, knows nothing
        rows = predicting.predict(meant, images, top, watched, unknown)
    else:
        with quiet.tensorflow():
            from app.evaluation import prediction
        rows = prediction.predict(meant, images, top, watched, unknown)
    _print_rows(rows, as_json)


def _write_answers(
    model: Path,
    artefact: str | None,
    images: Sequence[Path],
    to: str,
    top: int,
    embeddings: bool,
    unknown: float | None,
    as_json: bool,
) -> None:
    from app.artefacts import choosing
    from app.program.progress import console, watch
    from app.scoring import bulk, target

    named_to = target.named(to, embeddings)
    with going_on("picture"):
        done = bulk.predict(choosing.meant(model, artefact), images, named_to, top, embeddings, watch, unknown)
    if done.odd:
        console.print(
            f"Not all names are UTF-8: what is not stands as in {done.odd.encode('utf-8', 'backslashreplace').decode()}"
        )
    if as_json:
        print_json({"to": to, "rows": done.rows, "unreadable": done.unreadable})
        return
    unreadable = f", of which {done.unreadable:,} could not be read" if done.unreadable else ""
    output.print(
        f"{to}{' was there already' if done.before else ''}: {counted(done.rows, 'picture', 'pictures')}{unreadable}",
        soft_wrap=True,
    )


def _fetched(images: Sequence[Path]) -> list[Path]:
    """The pictures on this machine.

    Raises:
        UserError: one of them does not exist, here or there.
    """
    from app.program.progress import watch

    paths.check_exists(*(image for image in images if not remote.is_remote(image)))
    return [remote.fetched(image, watch) for image in images]


def _watched(as_json: bool) -> Watch:
    """Of rows that are printed as they come: on a terminal they show how far it is, and a bar would lie across them."""
    from app.program.progress import console, unwatched, watch

    return watch if as_json or not console.is_terminal or _goes_into_a_file() else unwatched


def _goes_into_a_file() -> bool:
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):  # none
        return False


def _print_rows(rows: Iterable[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        rows = [*rows]
        print_json(rows)
    unread = False
    for row in rows:
        unread |= "error" in row
        if not as_json:
            output.print(f"{row['file']}: {row.get('error') or answer(row)}", soft_wrap=True)
    if unread:
        raise typer.Exit(1)
