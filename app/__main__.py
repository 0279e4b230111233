"""The command line: `python -m app COMMAND`. Parses, calls one function, prints; imports TensorFlow only to work."""

import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from app import quiet
from app.errors import UserError, WorkerLostError

app = typer.Typer(
    help="Inception networks in Keras: trained on your images, measured, exported for TensorFlow Serving and LiteRT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# Not 80 columns into a file or a pipe: a table that wraps is hard to read and harder to search.
output = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder class/image or split/class/image, a manifest .csv with the columns file, label and perhaps "
        "split, 'records:FOLDER', 'tfds:NAME', or 'digits'.",
    ),
]
QuarantineOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Leave out the images that this list names, as `check --to` writes it."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `train --to` makes it.")]
SHOWN = 10  # findings of a kind
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


@app.command()
def networks(
    diagram: Annotated[
        str | None, typer.Option(metavar="NETWORK", help="Draw this one, block by block, as an SVG file.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="The file of the diagram; NETWORK.svg if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The family: paper, input, parameters, multiply-adds, published accuracy, who publishes weights."""
    with quiet.tensorflow():
        from app.networks import describe
    if diagram is not None:
        from app import diagrams

        output.print(f"Wrote {diagrams.of_the_family(diagram, to or Path(f'{diagram}.svg'))}", soft_wrap=True)
        return
    rows = describe()
    if as_json:
        _print_json(rows)
        return
    table = Table()
    table.add_column("network", no_wrap=True)
    for title in ("paper", "input", "parameters", "multiply-adds", "top-1", "top-5", "of", "published weights"):
        table.add_column(title)
    for row in rows:
        accuracy = ["" if row[key] is None else f"{row[key]:.1%}" for key in ("top_1", "top_5")]
        size = " x ".join(str(side) for side in row["input"])
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e9:.3g} G")
        origin = (row["accuracy_source"] or "", row["source"] or "")
        table.add_row(row["name"], row["paper"], size, *counts, *accuracy, *origin)
    output.print(table)


@app.command()
def train(
    data: DataArgument,
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    network: Annotated[str | None, typer.Option(help="A name from `networks`; may be left out with --from.")] = None,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Fine-tune the network of this run, with a new classifier."),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A name from app/recipes, or the path of such a file.")] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe; repeatable."),
    ] = None,
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
    members: Annotated[
        int | None,
        typer.Option(
            min=2, help="Train so many networks, which differ in seed, initial weights and dropout: an ensemble."
        ),
    ] = None,
) -> None:
    """Train a network, measure it on the test images and write the run folder. The same command again goes on.

    SIGTERM and Ctrl-C save a checkpoint after the step and end with the exit codes 75 and 130; a second Ctrl-C does not
    wait for that.

    With TF_CONFIG in the environment it is one worker of several: give each host the same command and a folder that all
    share. Exit code 75 then also says that another worker is gone, and that the same command on all hosts goes on.
    """
    with quiet.tensorflow():
        from app import devices as hardware
        from app import recipe as recipes
        from app import training
        from app.progress import watch
        from app.stopping import Stopped
    wanted = recipes.load(recipe, settings or ())
    runs = [(wanted, to)]
    if members:
        from app.members import recipes as recipes_of_members

        if (to / "classifier.json").exists():
            raise UserError(f"{to} is a run; choose another --to for {members} of them.")
        runs = [(each, to / str(number)) for number, each in enumerate(recipes_of_members(wanted, members), start=1)]
    try:
        taken = hardware.take(devices)
        for each, folder in runs:
            training.train(data, network, folder, each, watch, start, quarantine, deterministic, taken)
    except Stopped as stopped:
        typer.echo(f"\nStopped and saved after step {stopped.step}. The same command goes on.", err=True)
        raise typer.Exit(stopped.code) from None
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on after the last checkpoint.", err=True)
        raise typer.Exit(130) from None
    if not taken.is_chief:
        output.print(f"This worker is done; the chief evaluates and writes {to}.", soft_wrap=True)
        return
    for _, folder in runs:
        figures = json.loads((folder / "metrics.json").read_text())
        output.print(
            f"top-1 {figures['top_1']:.4f}  top-5 {figures['top_5']:.4f}  loss {figures['loss']:.4f}  "
            f"on {figures['count']} test images. Report: {folder / 'report.html'}",
            soft_wrap=True,
        )
    _print_preprocessing(folder)
    names = " ".join(shlex.quote(str(folder)) for _, folder in runs)
    output.print(f"Now: python -m app evaluate {names}, or python -m app export {names} --to exports", soft_wrap=True)


@app.command()
def compare(
    data: DataArgument,
    networks: Annotated[str, typer.Option(help="Names from `networks`, separated by commas, or 'all'.")],
    to: Annotated[Path, typer.Option(help="The folder to write: a run folder for each network, and the report.")],
    recipe: Annotated[str, typer.Option(help="As for `train`; all networks have the same.")] = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe; repeatable."),
    ] = None,
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
    with quiet.tensorflow():
        from app import comparing
        from app import recipe as recipes
        from app.comparing import Budget
        from app.networks import CARDS
    budget = Budget()
    if seconds is not None:
        budget = Budget("seconds", seconds)
    elif multiply_adds is not None:
        budget = Budget("multiply_adds", multiply_adds)
    names = list(CARDS) if networks == "all" else networks.split(",")
    try:
        found = comparing.compare(data, names, to, recipes.load(recipe, settings or ()), budget)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        _print_json(found)
    else:
        table = Table("network", "image", "parameters", "multiply-adds", "training", "top-1", "ms / image", "MB")
        for row in sorted((row for row in found["rows"] if "error" not in row), key=lambda row: -row["top_1"]):
            counts = (f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:.3g} M")
            costs = (f"{row['milliseconds']:.2f}", f"{row['bytes'] / 1e6:.1f}")
            side, seconds_ = str(row["image_size"]), f"{row['training_seconds']:.0f} s"
            table.add_row(row["network"], side, *counts, seconds_, f"{row['top_1']:.2%}", *costs)
        output.print(table)
        output.print(f"Report: {to / 'report.html'}", soft_wrap=True)
    if failed := [row["network"] for row in found["rows"] if "error" in row]:
        raise UserError(f"Not compared: {', '.join(failed)}; {to / 'comparison.json'} says why.")


@app.command()
def check(
    data: DataArgument,
    to: Annotated[
        Path | None, typer.Option(help="A folder for check.json and for quarantine.txt, the list that `train` takes.")
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="RUN", help="Compare the classes with those of this run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with images, labels and splits before training does.

    Ends with exit code 1 when there are faults: what cannot be used, leaks between splits, contradicting labels. Notes,
    such as a rotation that training knows how to undo, do not count.
    """
    with quiet.tensorflow():
        from app import checking
        from app.progress import watch
    report = checking.check(data, watch, run)
    if to:
        checking.write(report, to)
    if as_json:
        _print_json(report.as_json())
    else:
        _print_check(report.as_json(), checking.FAULTS, checking.NOTES)
    if report.faults:
        raise typer.Exit(1)


def _print_check(found: dict[str, Any], faults: dict[str, str], notes: dict[str, str]) -> None:
    kinds = Counter(finding["kind"] for finding in found["findings"])
    table = Table("", "found", "times", "training")
    for title, actions in (("fault", faults), ("note", notes)):
        for kind in actions:
            if kinds[kind]:
                table.add_row(title, kind, str(kinds[kind]), actions[kind])
    if kinds:
        output.print(table)
    # Lines, not cells: a path that is broken in two is no path.
    shown: Counter[str] = Counter()
    for finding in sorted(found["findings"], key=lambda finding: not finding["fault"]):
        shown[finding["kind"]] += 1
        if shown[finding["kind"]] <= SHOWN:
            output.print(f"{finding['kind']}: {finding['file']}: {finding['reason']}", soft_wrap=True)
        elif shown[finding["kind"]] == SHOWN + 1:
            output.print(
                f"{finding['kind']}: {kinds[finding['kind']] - SHOWN} more, see --json or --to", soft_wrap=True
            )
    count = sum(finding["fault"] for finding in found["findings"])
    output.print(
        f"{found['images']} images, {len(found['classes'])} classes: {count} faults, {kinds.total() - count} notes"
    )


@app.command()
def records(
    data: DataArgument,
    to: Annotated[Path, typer.Option(help="The folder of the shards; DATA is 'records:FOLDER' from then on.")],
    quarantine: QuarantineOption = None,
) -> None:
    """Write DATA as TFRecord shards with checksums. The same command again goes on, and mends what is damaged."""
    with quiet.tensorflow():
        from app import datasets, records, training
        from app.progress import watch
    source = datasets.load(data, watch, quarantine)
    training.report_data(source)
    try:
        written = records.write(source, to, watch)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on after the last whole shard.", err=True)
        raise typer.Exit(130) from None
    shards = [shard for split in (written.train, written.validation, written.test) for shard in split]
    output.print(f"{sum(shard.count for shard in shards)} images in {len(shards)} shards: records:{to}", soft_wrap=True)


@app.command(name="import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint of TF-slim or facenet, .h5, .safetensors, .pth or .pt.")
    ],
    network: Annotated[str, typer.Option(help="A name from `networks`.")],
    source: Annotated[str, typer.Option(help="Whose file it is: slim, keras, torchvision, timm, facenet or cadene.")],
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    labels: Annotated[
        Path | None, typer.Option(help="A text file, a class per line; ImageNet's synsets if left out.")
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
    with quiet.tensorflow():
        from app import importing
    report = importing.import_weights(file, network, source, to, labels, partial or (), auxiliary, drop_background)
    if as_json:
        _print_json(importing.as_json(report))
        return
    # Lines, not a table: nobody reads a thousand rows, but many will search them for a name.
    for what in ("loaded", "skipped", "missing"):
        for row in getattr(report, what):
            shape = " x ".join(str(side) for side in row.shape) or "scalar"
            output.print(f"{what}: {row.source or '-'} -> {row.target or '-'}  {shape}  ({row.how})", soft_wrap=True)
    output.print(f"Imported {to}: {len(report.loaded)} tensors loaded, {len(report.skipped)} skipped", soft_wrap=True)


@app.command()
def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run folder, or several with the same labels: an ensemble.")
    ],
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

    Several runs answer together, by the mean of their probabilities.
    The calibration error is how far these are from the share that is right.
    """
    with quiet.tensorflow():
        from app import evaluation
        from app.progress import watch
    figures = evaluation.evaluate(runs[0], data, watch, others=runs[1:], crops=crops, leave_out=leave_out)
    if as_json:
        _print_json(figures)
        return
    for row in figures["members"] if len(runs) > 1 else ():
        alone = f"top-1 {row['top_1']:.4f}  top-5 {row['top_5']:.4f}  loss {row['loss']:.4f}"
        output.print(f"{row['run']} alone: {alone}", soft_wrap=True)
    output.print(
        f"top-1 {figures['top_1']:.4f}  top-5 {figures['top_5']:.4f}  loss {figures['loss']:.4f}  "
        f"calibration error {figures['ece']:.4f}  on {figures['count']} images"
        + (f", {crops} crops of each" if crops > 1 else "")
    )
    if found := figures["calibrated"]:
        output.print(
            f"at temperature {found['temperature']:.3f}: loss {found['loss']:.4f}  calibration error {found['ece']:.4f}"
        )
    for run in runs:
        _print_preprocessing(run)
    table = Table("class", "precision", "recall", "f1", "images")
    for label, row in figures["per_class"].items():
        table.add_row(label, f"{row['precision']:.3f}", f"{row['recall']:.3f}", f"{row['f1']:.3f}", str(row["count"]))
    output.print(table)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder or an export.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Name what is on pictures. Ends with exit code 1 when one of them could not be read."""
    with quiet.tensorflow():
        from app import prediction
        from app.progress import watch
    rows = prediction.predict(model, images, top, watch)
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            named = (f"{name} {score:.3f}" for name, score in zip(row["classes"], row["scores"], strict=True))
            output.print(f"{row['file']}: {row.get('error') or '  '.join(named)}", soft_wrap=True)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@app.command()
def dream(
    model: Annotated[Path, typer.Option(metavar="RUN", help="The run folder of the network to dream with.")],
    image: Annotated[
        Path | None, typer.Argument(metavar="[IMAGE]", help="A picture to begin with; noise if left out.")
    ] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="The PNG to write.")] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Print every convolution, or the one of --layer, instead of dreaming.")
    ] = False,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="NAME[:CHANNEL][=WEIGHT]",
            help="What to make more of, as in inception_4c or inception_4c:12=0.5; repeatable. A preset if left out.",
        ),
    ] = None,
    guide: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="A second picture: dream of what the layers see in it.")
    ] = None,
    size: Annotated[int, typer.Option(min=16, max=8192, help="The longer side, in pixels.")] = 512,
    octaves: Annotated[int, typer.Option(min=1, max=16, help="How many sizes, from small to large.")] = 4,
    octave_scale: Annotated[float, typer.Option(min=1.01, max=4, help="How much larger each is.")] = 1.4,
    steps: Annotated[int, typer.Option(min=1, help="Steps in each octave.")] = 20,
    rate: Annotated[float, typer.Option(min=0, help="Grey levels by which a step changes the picture.")] = 1.0,
    laplacian: Annotated[
        int, typer.Option(min=0, max=12, help="Bands of frequencies given the same strength; 4 is usual, 0 is none.")
    ] = 0,
    parametrization: Annotated[
        str, typer.Option(help="What a step changes: pixels, or fourier for frequencies and decorrelated colours.")
    ] = "pixels",
    roll: Annotated[bool, typer.Option(help="Move the picture at random each step: tiles leave no seams.")] = True,
    rotation: Annotated[
        float, typer.Option(min=0, max=180, help="Turn what the network sees by up to so many degrees.")
    ] = 0.0,
    scale: Annotated[float, typer.Option(min=0, max=1, help="And scale it by up to this share.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same picture.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """DeepDream: a picture that makes more of what a layer sees, by gradient ascent; its recipe is stored in it."""
    with quiet.tensorflow():
        from app import dreaming, run_folder
        from app.progress import watch
    if listing:
        rows = dreaming.convolutions(run_folder.load(model).model, *(layers or ())[:1])
        if as_json:
            _print_json(rows)
            return
        table = Table("convolution", "kernel", "strides", "height x width x channels")
        for row in rows:
            table.add_row(row["name"], *(" x ".join(map(str, row[key])) for key in ("kernel", "strides", "shape")))
        output.print(table)
        return
    if to is None:
        raise UserError("Name the picture to write with --to FILE.png, or ask for the convolutions with --list.")
    recipe = dreaming.recipe(
        model=str(model),
        layers=tuple(layers or ()),
        image=image and str(image),
        guide=guide and str(guide),
        size=size,
        octaves=octaves,
        octave_scale=octave_scale,
        steps=steps,
        rate=rate,
        laplacian=laplacian,
        parametrization=parametrization,
        roll=roll,
        rotation=rotation,
        scale=scale,
        seed=seed,
    )
    values = dreaming.dream(recipe, to, watch)
    if as_json:
        _print_json({"file": str(to), "objective": values})
        return
    output.print(
        f"Dreamt {to}: objective {values[0]:.3g} at the first step, {values[-1]:.3g} at the last", soft_wrap=True
    )


@app.command()
def export(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="A run folder, or several with the same labels: an ensemble.")
    ],
    to: Annotated[Path, typer.Option(help="The folder of all exports; this one becomes NAME/VERSION in it.")],
    name: Annotated[
        str | None,
        typer.Option(help="What to serve it as; the run folder's name if left out, and 'ensemble' for several."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(
            help="Which artefacts, separated by commas: saved_model,tflite if left out, of several runs saved_model."
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version number; the next free one if left out.")
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Also a smaller LiteRT file: float16, dynamic or int8, or what loses less, measured. The integer ones "
            "are the fast ones on Arm and on x86 with VNNI; on other x86 processors float32 is as fast.",
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, help="Points of accuracy that the smaller file may lose.")
    ] = 0.5,
    precision: Annotated[
        str, typer.Option(help="What the SavedModel computes in: float32, or bfloat16 for processors that have it.")
    ] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a SavedModel for TensorFlow Serving and a LiteRT file, with the proof that they answer as the network.

    Several runs become one SavedModel, which answers by the mean of their probabilities.
    """
    with quiet.tensorflow():
        from app import exporting
        from app.progress import watch
    wanted = formats.split(",") if formats is not None else None
    folder, found = exporting.export(
        runs[0], to, wanted, version, quantize, max_drop, watch, precision, others=runs[1:], name=name
    )
    _print_certificate(f"Exported {folder}", folder, found, as_json)


@app.command()
def verify(
    export_: Annotated[
        Path, typer.Argument(metavar="EXPORT", help="An export: its root, its name or a version folder.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Ask an export's artefacts again, each in a fresh process, about the golden images and, where the run and its data
    are there, about those held out; exit code 1 when one disagrees or is another file."""
    with quiet.tensorflow():
        from app import exporting
        from app.progress import console, watch
    folder, found = exporting.verify(export_, watch)
    if found["not_repeated"]:
        console.print(f"Only the golden images were compared: {found['not_repeated']}.")
    headline = f"Verified {folder}" if found["ok"] else f"{folder} DISAGREES with its network"
    if found["changed"]:
        headline += f"; not the files that were certified: {', '.join(found['changed'])}"
    _print_certificate(headline, folder, found, as_json)
    if not found["ok"]:
        raise typer.Exit(1)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    to: Annotated[Path, typer.Option(help="The folder to write to, a PNG per image.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="grad-cam (the default), grad-cam++, score-cam, layer-cam, saliency, smoothgrad or "
            "activation-maximization; repeatable, side by side.",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="A name or a number, the best class if left out; repeatable."),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Where the CAMs are taken; the last module with a grid of 7 x 7 if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what of a picture speaks for a class. Ends with exit code 1 when a picture could not be read."""
    with quiet.tensorflow():
        from app import explaining
        from app.progress import watch
    rows = explaining.explain(model, images, to, methods or ("grad-cam",), classes or (), layer, watch)
    if as_json:
        _print_json(rows)
    else:
        for row in rows:
            named = (f"{name} {score:.3f}" for name, score in zip(row["classes"], row["scores"], strict=True))
            output.print(row.get("error") or f"{row['file']}: {'  '.join(named)}: {row['picture']}", soft_wrap=True)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


@app.command()
def activations(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run folder.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    layer: Annotated[str, typer.Option(help="A layer with a map, such as inception_3a or one of its columns.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="The PNG to write.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Show the training images' patches that channels answer most to."),
    ] = None,
    channels: Annotated[
        list[int] | None,
        typer.Option("--channel", metavar="N", help="Whose patches, the strongest on IMAGE if left out; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a layer answers to a picture, what its units see, and which channels are dead."""
    with quiet.tensorflow():
        from app import activations
        from app.progress import watch
    found = activations.activations(model, image, layer, to, data, channels or (), watch)
    if as_json:
        _print_json(found)
        return
    field = {key: " x ".join(f"{side:g}" for side in sides) for key, sides in found["receptive_field"].items()}
    output.print(
        f"{layer}: {' x '.join(map(str, found['grid']))} units, {found['channels']} channels. Each unit sees "
        f"{field['size']} pixels, every {field['stride']}; the first looks at {field['offset']}",
        soft_wrap=True,
    )
    for branch in found["branches"]:
        last = branch["first"] + branch["channels"] - 1
        output.print(f"{branch['name']}: channels {branch['first']} to {last}")
    numbers = f": {', '.join(map(str, found['dead']))}" if found["dead"] else ""
    output.print(
        f"dead on {found['images']} images: {len(found['dead'])} of {found['channels']} channels{numbers}",
        soft_wrap=True,
    )
    output.print(f"Drawn: {to}", soft_wrap=True)


batch_norm_app = typer.Typer(
    help="Look at, repair, or move to another domain the statistics of batch normalisation.", no_args_is_help=True
)
app.add_typer(batch_norm_app, name="batch-norm")
ExactOption = Annotated[
    bool,
    typer.Option("--exact", help="Layer after layer, each with the ones before it in use: any split, same result."),
]


@batch_norm_app.command(name="report")
def batch_norm_report(run: RunArgument, data: DataArgument, as_json: JsonOption = False) -> None:
    """Moving averages against the real statistics, per layer, and what they cost in accuracy."""
    with quiet.tensorflow():
        from app import batch_norm_runs
        from app.progress import watch
    found = batch_norm_runs.report(run, data, watch)
    if as_json:
        _print_json(found)
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
    _print_preprocessing(run)


@batch_norm_app.command(name="recalibrate")
def batch_norm_recalibrate(
    run: RunArgument, data: DataArgument, exact: ExactOption = False, as_json: JsonOption = False
) -> None:
    """Replace the moving averages by the statistics of the training images (Algorithm 2 of the paper)."""
    with quiet.tensorflow():
        from app import batch_norm_runs
        from app.progress import watch
    found = batch_norm_runs.recalibrate(run, data, exact, watch)
    if as_json:
        _print_json(found)
        return
    _print_population(found, run)
    if found.get("spread"):
        output.print(
            f"In batches of {found['spread']['batch_size']} they would differ by {found['spread']['median']:.1e} "
            f"deviations at the median, {found['spread']['worst']:.1e} at worst ({found['spread']['layer']})",
            soft_wrap=True,
        )


@batch_norm_app.command(name="adapt")
def batch_norm_adapt(
    run: RunArgument,
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="As for `train`, or a folder of images without class folders.")
    ],
    to: Annotated[Path, typer.Option(help="The run folder to write.")],
    exact: ExactOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take the statistics of images from a new domain, without looking at labels; RUN stays as it is."""
    with quiet.tensorflow():
        from app import batch_norm_runs
        from app.progress import watch
    found = batch_norm_runs.adapt(run, data, to, exact, watch)
    if as_json:
        _print_json(found)
        return
    _print_population(found, run)
    if found["note"]:
        output.print(found["note"], soft_wrap=True)
    output.print(f"Adapted {to}", soft_wrap=True)


study_app = typer.Typer(help="The papers' experiments, scaled to one machine.", no_args_is_help=True)
app.add_typer(study_app, name="study")


@study_app.command(name="batch-norm")
def study_batch_norm(
    to: Annotated[Path, typer.Option(help="The folder to write; the same command again goes on with it.")],
    as_json: JsonOption = False,
) -> None:
    """The batch-norm paper's section 4.2, with a tuned control: about ten minutes on two cores."""
    with quiet.tensorflow():
        from app.progress import watch
        from app.reports import batch_norm_study
        from app.studies import batch_norm
    try:
        found = batch_norm.study(to, watch)
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. The same command goes on with the runs that are missing.", err=True)
        raise typer.Exit(130) from None
    report = batch_norm_study.write(to, found)
    if as_json:
        _print_json(found["regimes"])
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
    output.print(f"Medians of {len(found['protocol']['seeds'])} seeds. Report: {report}", soft_wrap=True)


def _print_preprocessing(folder: Path) -> None:
    """Of a run or an export, beside every score: figures of pictures that were prepared otherwise do not compare."""
    from app.images import Preprocessing

    file = folder / "classifier.json"
    if file.is_file():
        found = [json.loads(file.read_text())]
    else:
        found = json.loads((folder / "certificate.json").read_text())["networks"]
    for line in dict.fromkeys(Preprocessing(**each["preprocessing"]).described() for each in found):
        output.print(f"preprocessing: {line}", soft_wrap=True)


def _print_population(found: dict[str, Any], run: Path) -> None:
    how = "layer by layer" if found["form"] == "exact" else f"in {found['batches']} batches of {found['batch_size']}"
    output.print(f"{len(found['layers'])} layers measured on {found['images']} images, {how}", soft_wrap=True)
    if found["before"] is not None:
        output.print(f"top-1 {found['before']:.4f} before, {found['after']:.4f} after", soft_wrap=True)
        _print_preprocessing(run)


def _print_certificate(headline: str, folder: Path, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    table = Table("artefact", "images", "agreement", "max difference", "tolerance", "accuracy", "MB", "ms / image")
    for row in found["rows"]:
        measured = [("golden", row)] + ([("held out", row["held_out"])] if row["held_out"] else [])
        for what, part in measured:
            table.add_row(
                row["artefact"],
                f"{part['images']} {what}",
                f"{part['top_1_agreement']:.1%}",
                f"{part['max_difference']:.1e}",
                "" if row["tolerance"] is None else f"{row['tolerance']:.0e}",
                "" if part["accuracy"] is None else f"{part['accuracy']:.1%}",
                f"{row['bytes'] / 1e6:.1f}",
                f"{row['milliseconds']:.1f}",
            )
    output.print(table)
    _print_preprocessing(folder)
    output.print(headline, soft_wrap=True)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def main(arguments: Sequence[str] | None = None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be UTF-8
    try:
        app(arguments, prog_name="python -m app")
    except WorkerLostError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(75)
    except UserError as error:
        sys.exit(f"Error: {error}")
    except OSError as error:
        # A full disk, a folder without write permission: the system's sentence names the file.
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
