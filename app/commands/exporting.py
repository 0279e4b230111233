"""Exports, and verifying them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from app.commands.options import (
    JsonOption,
    RunsArgument,
)
from app.commands.printing import output, print_json, print_preprocessing
from app.program import paths, quiet
from app.program.errors import UserError
from app.program.shown import counted

Range = Literal["0..1", "-1..1", "0..255", "caffe", "torch"]
Layout = Literal["NHWC", "NCHW"]
NAMED = 5  # pictures that a certificate could not compare; it names all


def export(
    runs: RunsArgument,
    to: Annotated[Path, typer.Option(help="The folder of all exports; this one becomes NAME/VERSION in it.")],
    name: Annotated[
        str | None,
        typer.Option(help="What to serve it as; the run folder's name if left out, and 'ensemble' for several."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Which artefacts, separated by commas: saved_model, tflite, onnx, openvino. If left out "
            "saved_model,tflite, of several runs saved_model; onnx and openvino need the extra `runtimes`."
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version number; the next free one if left out.")
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Also smaller files: int8 of LiteRT, ONNX and OpenVINO, or LiteRT's float16 or dynamic, or what "
            "loses less, measured. The integer ones are the fast ones on Arm and on x86 with VNNI.",
        ),
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop",
            min=0,
            help="Points of accuracy that the smaller file may lose, chance apart, and at all that which --tune takes.",
        ),
    ] = 0.5,
    precision: Annotated[
        str, typer.Option(help="What the SavedModel computes in: float32, or bfloat16 for processors that have it.")
    ] = "float32",
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="Measure the artefacts on this machine, one and eight pictures at a time, and write the fastest into "
            "the certificate: `predict --artefact auto` takes it.",
        ),
    ] = False,
    page: Annotated[
        bool,
        typer.Option(
            "--page",
            help="Also page.html, one file that runs the network in a browser, without a server or a network, and "
            "checks itself. Its runtime, LiteRT.js, is fetched by npm the first time.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a SavedModel for TensorFlow Serving and a LiteRT file, or files for ONNX Runtime and OpenVINO, with the
    proof that they answer as the network.

    Several runs become one SavedModel, which answers by the mean of their probabilities.
    """
    if name is None and len(runs) == 1 and paths.runs_in(runs[0]):
        name = runs[0].resolve().name
    runs = paths.runs(runs)
    with quiet.tensorflow():
        from app import exporting
        from app.program.progress import watch
    wanted = formats.split(",") if formats is not None else None
    folder, found = exporting.export(
        runs[0], to, wanted, version, quantize, max_drop, watch, precision, others=runs[1:], name=name, page=page
    )
    if not as_json:
        _print_certificate(f"Exported {folder}", folder, found, as_json)
    try:
        if tune:
            found |= {"tuned": exporting.tune(folder, max_drop, watch)}
    except KeyboardInterrupt:
        typer.echo(f"\nInterrupted. {folder} was exported, but not measured.", err=True)
        raise typer.Exit(130) from None
    finally:
        if as_json:
            print_json(found)
    if tune and not as_json:
        _print_tuned(found["tuned"])


def verify(
    export_: Annotated[
        Path,
        typer.Argument(
            metavar="EXPORT",
            help="An export: its root, its name or a version folder; or, with --against, a file that somebody else "
            "converted: a SavedModel folder, .tflite, .onnx or OpenVINO's .xml.",
        ),
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Whether this file answers as the run does, and what explains it if not."),
    ] = None,
    range_: Annotated[
        Range | None,
        typer.Option("--range", help="With --against: what the file is given; found out if left out."),
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(help="With --against: the order of the axes; found out if left out."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="With --against: the name of the output, where several may be meant.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask an export's artefacts again, each in a fresh process, about the golden images and, where the run and its data
    are there, about those held out; exit code 1 when one disagrees, a file is another, gone or new, or says that it has
    other labels or another preprocessing.

    With --against, ask a file that somebody else converted of a run's network; exit code 1 when it does not answer as
    the run.
    """
    paths.check_exists(export_)
    if against is not None:
        _verify_foreign(export_, against, range_, layout, output, as_json)
        return
    if range_ or layout or output:
        raise UserError("--range, --layout and --output are of a file that is held --against RUN.")
    if export_.is_file():
        raise UserError(f"{export_} is a file and no export; hold it --against RUN, the run that it was converted of.")
    with quiet.tensorflow():
        from app import exporting
        from app.program.progress import console, watch
    folder, found = exporting.verify(export_, watch)
    if found["not_repeated"]:
        console.print(f"Only the golden images were compared: {found['not_repeated']}.")
    if found["not_served"]:
        console.print(f"Not asked by REST and gRPC: {found['not_served']}.")
    if found["elsewhere"]:
        console.print(f"{found['elsewhere']}.")
    headline = f"Verified {folder}" if found["ok"] else f"{folder} DISAGREES with its network"
    headline += exporting.differences(found["changed"], found["missing"], found["added"])
    headline += "".join(f"; {sentence}" for sentence in found["says"])
    _print_certificate(headline, folder, found, as_json)
    if not found["ok"]:
        raise typer.Exit(1)


def _print_tuned(tuned: dict[str, Any]) -> None:
    table = Table("artefact", box=None, padding=(0, 1, 0, 0))
    for title in ("ms at 1", "ms at 8", "points lost"):
        table.add_column(title, justify="right")
    for name, row in tuned["rows"].items():
        times = [f"{milliseconds:.1f}" for milliseconds in row["milliseconds"].values()]
        table.add_row(name, *times, "" if row["drop"] is None else f"{row['drop']:.2f}")
    output.print(table)
    threads = counted(tuned["threads"], "thread", "threads")
    output.print(
        f"Fastest on {tuned['processor']['name']}, {threads}: {tuned['take']['1']} for one picture at a time, "
        f"{tuned['take']['8']} for eight.",
        soft_wrap=True,
    )
    lost = {name: row["drop"] or 0 for name, row in tuned["rows"].items()}
    if left_out := [name for name in lost if lost[name] > tuned["max_drop"] and name not in tuned["take"].values()]:
        output.print(f"Not taken: {', '.join(left_out)}, for more than --max-drop {tuned['max_drop']:g} points lost.")


def _verify_foreign(
    file: Path, run: Path, range_: str | None, layout: str | None, output_: str | None, as_json: bool
) -> None:
    paths.check_run(run)
    with quiet.tensorflow():
        from app.exporting import foreign
        from app.program.progress import watch
    found = foreign.compare(file, run, range_, layout, output_, watch)
    if as_json:
        print_json(found)
    else:
        for sentence in found["sentences"]:
            output.print(sentence, soft_wrap=True)
        print_preprocessing(run)
    if not found["ok"]:
        raise typer.Exit(1)


def _print_certificate(headline: str, folder: Path, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    # An artefact's name has a line for itself: 80 columns have no room for it beside the figures.
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("images", no_wrap=True)
    for title in ("agreement", "difference", "allowed", "accuracy", "MB", "ms"):
        table.add_column(title, justify="right")
    for row in found["rows"]:
        table.add_row(row["artefact"])
        measured = [("golden", row)] + ([("held out", row["held_out"])] if row["held_out"] else [])
        for what, part in measured:
            table.add_row(
                f"  {part['images']} {what}",
                f"{part['top_1_agreement']:.1%}",
                f"{part['max_difference']:.1e}",
                "" if row["tolerance"] is None else f"{row['tolerance']:.0e}",
                "" if part["accuracy"] is None else f"{part['accuracy']:.1%}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['milliseconds']:.1f}",
            )
    output.print(table)
    # By those artefacts that take pixels.
    others = {name: why for row in found["rows"] for name, why in row["not_compared"].items()}
    for name, why in list(others.items())[:NAMED]:
        output.print(f"Not compared from its pixels: {name}; {why}.", soft_wrap=True)
    if len(others) > NAMED:
        output.print(f"... and {len(others) - NAMED} more, which certificate.json names.")
    print_preprocessing(folder)
    output.print(headline, soft_wrap=True)
