"""The statistics of batch normalisation, and the study of what they do."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from app.commands.options import (
    DataArgument,
    JsonOption,
    RunArgument,
)
from app.commands.printing import output, print_json, print_preprocessing
from app.program import paths, quiet
from app.program.shown import counted

ExactOption = Annotated[
    bool,
    typer.Option("--exact", help="Layer after layer, each with the ones before it in use: any split, same result."),
]


def report(run: RunArgument, data: DataArgument, as_json: JsonOption = False) -> None:
    """Moving averages against the real statistics, per layer, and what they cost in accuracy."""
    paths.check_run(run)
    paths.check_data(data)
    with quiet.tensorflow():
        from app.batch_norm import report
        from app.program.progress import watch
    found = report.report(run, data, watch)
    if as_json:
        print_json(found)
        return
    table = Table("layer", "distance", "worst channel", "dead channels", "averages", "export")
    for row in found["layers"]:
        table.add_row(
            row["name"],
            f"{row['distance']:.3g}",
            f"{row['worst']:.3g}",
            f"{row['dead']} of {row['channels']}",
            "frozen" if row["frozen"] else "moving",
            "folds" if row["foldable"] else "scale and shift",
        )
    output.print(table)
    output.print(found["sentence"], soft_wrap=True)
    print_preprocessing(run)


def recalibrate(run: RunArgument, data: DataArgument, exact: ExactOption = False, as_json: JsonOption = False) -> None:
    """Replace the moving averages by the statistics of the training images (Algorithm 2 of the paper)."""
    paths.check_run(run)
    paths.check_data(data)
    with quiet.tensorflow():
        from app.batch_norm import repair
        from app.program.progress import watch
    found = repair.recalibrate(run, data, exact, watch)
    if as_json:
        print_json(found)
        return
    _print_population(found, run)
    if found.get("spread"):
        output.print(
            f"In batches of {found['spread']['batch_size']} they would differ by {found['spread']['median']:.1e} "
            f"deviations at the median, {found['spread']['worst']:.1e} at worst ({found['spread']['layer']})",
            soft_wrap=True,
        )


def adapt(
    run: RunArgument,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="As for `train`, or a folder of images without class folders.")
    ],
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    exact: ExactOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the statistics of images from a new domain, without looking at labels; RUN stays as it is."""
    paths.check_run(run)
    paths.check_data(data)
    with quiet.tensorflow():
        from app.batch_norm import repair
        from app.program.progress import watch
    found = repair.adapt(run, data, to, exact, watch)
    if as_json:
        print_json(found)
        return
    _print_population(found, run)
    if found["note"]:
        output.print(found["note"], soft_wrap=True)
    output.print(f"Adapted {to}", soft_wrap=True)


def _print_population(found: dict[str, Any], run: Path) -> None:
    batches = f"in {counted(found['batches'], 'batch', 'batches')} of {found['batch_size']}"
    how = "layer by layer" if found["form"] == "exact" else batches
    layers, images = counted(len(found["layers"]), "layer", "layers"), counted(found["images"], "image", "images")
    output.print(f"{layers} measured on {images}, {how}", soft_wrap=True)
    if found["before"] is not None:
        output.print(f"top-1 {found['before']:.4f} before, {found['after']:.4f} after", soft_wrap=True)
        print_preprocessing(run)


def study(
    to: Annotated[Path, typer.Option(help="The folder to write; the same command again goes on with it.")],
    as_json: JsonOption = False,
) -> None:
    """The batch-norm paper's section 4.2, with a tuned control: about ten minutes on two cores."""
    from app.studies import batch_norm

    batch_norm.claim(to)
    with quiet.tensorflow():
        from app.program.progress import watch
        from app.reports import batch_norm_study
    try:
        found = batch_norm.study(to, watch)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on with the runs that are missing.", err=True)
        raise typer.Exit(130) from None
    report = batch_norm_study.write(to, found)
    if as_json:
        print_json(found["regimes"])
        return
    for regime, arms in found["regimes"].items():
        targets = next(iter(arms.values()))["steps"]
        table = Table("arm", "rate", title=batch_norm_study.TITLES[regime])
        for title in (*(f"steps to {target}" for target in targets), "times fewer", "test"):
            table.add_column(title)
        for name, arm in arms.items():
            steps = ["never" if s["median"] is None else f"{s['median']:,}" for s in arm["steps"].values()]
            last = list(arm["steps"].values())[-1]
            fewer = "" if last["speedup"] is None else f"{'over ' * last['at_least']}{last['speedup']:.1f}"
            table.add_row(name, f"{arm['rate']:g}", *steps, fewer, f"{arm['test']:.1%}")
        output.print(table)
    output.print(
        f"Medians of {counted(len(found['protocol']['seeds']), 'seed', 'seeds')}. Report: {report}", soft_wrap=True
    )
