"""The family, and published weights as runs."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from app.commands.options import (
    JsonOption,
)
from app.commands.printing import output, print_json
from app.program import paths, quiet

WIDE = 136  # columns of a terminal that has room for everything about a network in a line


def networks(
    diagram: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="Draw this one, block by block, as an SVG file.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The file of the diagram; NETWORK.svg if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The family: paper, input, parameters, multiply-adds, published accuracy, who publishes weights."""
    from app.networks.cards import check_name, describe

    if diagram is not None:
        check_name(diagram)
        with quiet.tensorflow():
            from app.networks import diagrams
        output.print(f"Wrote {diagrams.of_the_family(diagram, to or Path(f'{diagram}.svg'))}", soft_wrap=True)
        return
    rows = describe()
    if as_json:
        print_json(rows)
        return
    for table in _tables(rows):
        output.print(table)


def _tables(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """One table where there is room for it, and two for a terminal of 80 columns."""
    wide = output.width >= WIDE
    figures, origins = (Table(box=box.SIMPLE_HEAD, padding=(0, int(not wide), 0, 0)) for _ in range(2))
    for table in (figures, origins):
        table.add_column("network", no_wrap=True)
    for title in ("input", "parameters", "multiply-\nadds", "top-1", "top-5"):
        figures.add_column(title, justify="right", no_wrap=True)
    for title in ("figures of", "paper"):
        (figures if wide else origins).add_column(title, no_wrap=True)
    (figures if wide else origins).add_column("published weights")
    for row in rows:
        accuracy = ["" if row[key] is None else f"{row[key]:.1%}" for key in ("top_1", "top_5")]
        height, width, channels = row["input"]
        size = f"{height} x {width}" + (f" x {channels}" if channels != 3 else "")
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e9:.3g} G")
        origin = (row["accuracy_source"] or "", row["paper"], row["source"] or "")
        figures.add_row(row["name"], size, *counts, *accuracy, *(origin if wide else ()))
        origins.add_row(row["name"], *origin)
    return [figures] if wide else [figures, origins]


def import_(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A checkpoint of TF-slim or facenet, .h5, .caffemodel, .safetensors, .pth or .pt."
        ),
    ],
    network: Annotated[str, typer.Option(help="A name from `networks`.")],
    source: Annotated[
        str, typer.Option(help="Whose file it is: slim, keras, torchvision, timm, facenet, cadene or caffe.")
    ],
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A text file, a class per line; or `imagenet`, as published files are."),
    ] = None,
    partial: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="A scope whose tensors may be missing or left over; repeatable."),
    ] = None,
    auxiliary: Annotated[bool, typer.Option("--auxiliary", help="Keep the auxiliary heads, for fine-tuning.")] = False,
    drop_background: Annotated[
        bool, typer.Option("--drop-background", help="Leave out class 0 of TF-slim's 1001.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Published weights as a run folder: ready for evaluate, predict, export, and train --from."""
    from app.networks import synsets
    from app.networks.cards import check_name, check_source

    check_name(network)
    check_source(source)
    if labels != synsets.IN_PLACE_OF_A_FILE:
        paths.check_exists(labels)
    # TensorFlow's checkpoints are named by what their files begin with.
    if not file.exists() and not any(file.parent.glob(f"{glob.escape(file.name)}.*")):
        paths.check_exists(file)
    with quiet.tensorflow():
        from app.run_folder import importing
    report = importing.import_weights(file, network, source, to, labels, partial or (), auxiliary, drop_background)
    if as_json:
        print_json(importing.as_json(report))
        return
    # Lines, not a table: nobody reads a thousand rows, but many will search them for a name.
    for what in ("loaded", "skipped", "missing"):
        for row in getattr(report, what):
            shape = " x ".join(str(side) for side in row.shape) or "scalar"
            output.print(f"{what}: {row.source or '-'} -> {row.target or '-'}  {shape}  ({row.how})", soft_wrap=True)
    output.print(f"Imported {to}: {len(report.loaded)} tensors loaded, {len(report.skipped)} skipped", soft_wrap=True)
