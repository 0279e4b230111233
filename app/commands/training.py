"""Training networks, alone, as members of an ensemble, or compared."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.commands.options import DataArgument, JsonOption, QuarantineOption, SettingsOption
from app.commands.printing import output, print_json, print_preprocessing, scores
from app.program import paths, quiet
from app.program.errors import UserError
from app.program.shown import brief, command, counted


def train(
    data: DataArgument,
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    network: Annotated[str | None, typer.Option(help="A name from `networks`; may be left out with --from.")] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Fine-tune the network of this run, with a new classifier."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A name from app/recipes, or the path of such a file.")] = "default",
    settings: SettingsOption = None,
    quarantine: QuarantineOption = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Compute the same bits every time, on GPUs too; a little slower.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="N|all|0,1|cpu",
            help="Train on so many devices, all GPUs, these GPUs, or the CPU; one if left out. With TF_CONFIG: of each "
            "host.",
        ),
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Give a finished run more epochs, as in --set epochs=20 --extend.")
    ] = False,
    members: Annotated[
        int | None,
        typer.Option(
            min=2, help="Train so many networks, which differ in seed, initial weights and dropout: an ensemble."
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2, help="Cross-validate: train so many networks, each with another part of the images held out."
        ),
    ] = None,
) -> None:
    """Train a network, measure it on the test images and write the run folder. The same command again goes on.

    SIGTERM and Ctrl-C save a checkpoint after the step and end with the exit codes 75 and 130; a second Ctrl-C does not
    wait for that.

    With TF_CONFIG in the environment it is one worker of several: give each host the same command and a folder that all
    share. Exit code 75 then also says that another worker is gone, and that the same command on all hosts goes on.
    """
    if members and folds:
        raise UserError("--members and --folds are two ways to train several networks; give one of them.")
    if folds and paths.is_prepared(data):
        raise UserError(f"{data} has no files that could be divided: --folds is for a folder or a manifest.")
    from app import recipe as recipes
    from app.networks.cards import check_name

    wanted = recipes.load(recipe, settings or (), from_weights=start is not None)
    if network is not None:
        check_name(network)
    paths.check_data(data)
    paths.check_exists(quarantine)
    if start is not None:
        paths.check_run(start)
    with quiet.tensorflow():
        from app import training
        from app.program.progress import watch
        from app.program.stopping import Stopped
        from app.training import folds as cross_validation
        from app.training import members as ensemble
        from app.training.devices.devices import take
    try:
        taken = take(devices)
        what = (data, network, to, wanted, watch, start, quarantine, deterministic, taken, extend)
        if folds:
            runs = cross_validation.train(folds, *what)
        else:
            runs = ensemble.train(members, *what) if members else [training.train(*what)]
    except Stopped as stopped:
        typer.echo(f"\nStopped and saved after step {stopped.step}. The same command goes on.", err=True)
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on after the last checkpoint.", err=True)
        raise typer.Exit(130) from None
    if not taken.is_chief:
        output.print(f"This worker is done; the chief evaluates and writes {to}.", soft_wrap=True)
        return
    for run in runs:
        figures = json.loads(run.metrics.read_text())
        output.print(
            f"{scores(figures, len(figures['per_class']))}  "
            f"on {counted(figures['count'], 'test image', 'test images')}. Report: {run.report}",
            soft_wrap=True,
        )
    print_preprocessing(run.folder)
    if folds:
        _print_folds(to)
        return
    folders = [run.folder for run in runs]
    now, then = command("evaluate", *folders), command("export", *folders, "--to", "exports")
    output.print(f"Now: {now}, or {then}", soft_wrap=True)


def _print_folds(to: Path) -> None:
    found = json.loads((to / "folds.json").read_text())
    mean, deviation, count = found["mean"], found["deviation"], len(found["folds"])
    shown = [(key.replace("top_", "top-"), key) for key in ("top_1", "top_5", "loss") if key in mean]
    figures = "  ".join(f"{name} {mean[key]:.4f} ± {deviation[key]:.4f}" for name, key in shown)
    output.print(f"{figures}  mean and deviation of {count} folds. Report: {to / 'report.html'}", soft_wrap=True)
    images = counted(found["test"], "test image", "test images")
    now = command("evaluate", to, "--data", found["data"])
    output.print(f"No fold has seen the {images} of {found['data']}: {now}", soft_wrap=True)


def compare(
    data: DataArgument,
    networks: Annotated[str, typer.Option(help="Names from `networks`, separated by commas, or 'all'.")],
    to: Annotated[Path, typer.Option(help="The folder to write: a run folder for each network, and the report.")],
    recipe: Annotated[str, typer.Option(help="As for `train`; all networks have the same.")] = "default",
    settings: SettingsOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Give each network so many seconds of training, whatever the epochs.")
    ] = None,
    multiply_adds: Annotated[
        float | None, typer.Option(min=1, help="Give each network so many multiply-adds of training, as in 1e14.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train several networks on the same data with the same budget, and show which one to take. The same command again
    goes on, and takes further networks."""
    if seconds is not None and multiply_adds is not None:
        raise UserError("--seconds and --multiply-adds are two budgets; give one of them.")
    from app import recipe as recipes
    from app.networks.cards import check_name
    from app.recipes._auto import AUTO

    names = "all" if networks == "all" else networks.split(",")
    for name in names if names != "all" else ():
        check_name(name)
    wanted = recipes.load(recipe, settings or ())
    if AUTO in (wanted.batch_size, wanted.optimizer.rate):
        raise UserError("All networks of a comparison have one recipe: give numbers; auto is for `train`.")
    paths.check_data(data)
    with quiet.tensorflow():
        from app.studies import comparing
    budget = comparing.Budget.of(seconds, multiply_adds)
    try:
        found = comparing.compare(data, names, to, wanted, budget)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        print_json(found)
    else:
        table = Table("network", "image", "parameters", "multiply-adds", "training", "top-1", "ms / image", "MB")
        for row in sorted((row for row in found["rows"] if "error" not in row), key=lambda row: -row["top_1"]):
            counts = (f"{row['parameters']:,}", f"{brief(row['multiply_adds'] / 1e6)} M")
            costs = (f"{row['milliseconds']:.2f}", f"{row['bytes'] / 1e6:.1f}")
            side, seconds_ = str(row["image_size"]), f"{row['training_seconds']:.0f} s"
            table.add_row(row["network"], side, *counts, seconds_, f"{row['top_1']:.2%}", *costs)
        output.print(table)
        output.print(f"Report: {to / 'report.html'}", soft_wrap=True)
    if failed := [row["network"] for row in found["rows"] if "error" in row]:
        raise UserError(f"Not compared: {', '.join(failed)}; {to / 'comparison.json'} says why.")
