"""Looking into a network: explanations, activations, dreams."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.commands.options import JsonOption
from app.commands.printing import answer, going_on, output, print_json
from app.inside import methods as names
from app.program import paths, quiet
from app.program.errors import UserError
from app.program.shown import counted


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
        typer.Option(
            "--class", metavar="CLASS", help="A label, a name or a number, the best class if left out; repeatable."
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Where the CAMs are taken; the last module with a grid of 7 x 7 if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what of a picture speaks for a class. Ends with exit code 1 when a picture could not be read."""
    paths.check_run(model)
    paths.check_exists(*images)
    names.check(methods or ())
    with quiet.tensorflow():
        from app.inside import explaining
        from app.program.progress import watch
    rows = explaining.explain(model, images, to, methods or ("grad-cam",), classes or (), layer, watch)
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            output.print(row.get("error") or f"{row['file']}: {answer(row)}: {row['picture']}", soft_wrap=True)
    if any("error" in row for row in rows):
        raise typer.Exit(1)


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
    paths.check_run(model)
    paths.check_exists(image)
    paths.check_png(to)
    if data is not None:
        paths.check_data(data)
    with quiet.tensorflow():
        from app.inside import activations
        from app.program.progress import watch
    found = activations.activations(model, image, layer, to, data, channels or (), watch)
    if as_json:
        print_json(found)
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
        f"dead on {counted(found['images'], 'image', 'images')}: {len(found['dead'])} of {found['channels']} channels"
        f"{numbers}",
        soft_wrap=True,
    )
    output.print(f"Drawn: {to}", soft_wrap=True)


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
    """DeepDream: a picture that makes more of what a layer sees, by gradient ascent; its recipe is stored in it.

    Ctrl-C and SIGTERM keep what there is after the step; the same command again goes on with it.
    """
    paths.check_run(model)
    paths.check_exists(image, guide)
    if not listing:
        if to is None:
            raise UserError("Name the picture to write with --to FILE.png, or ask for the convolutions with --list.")
        paths.check_png(to)
    with quiet.tensorflow():
        from app import run_folder
        from app.inside import dreaming
        from app.program.progress import watch
    if to is None or listing:
        rows = dreaming.convolutions(run_folder.load(model).model, *(layers or ())[:1])
        if as_json:
            print_json(rows)
            return
        table = Table("convolution", "kernel", "strides", "height x width x channels")
        for row in rows:
            table.add_row(row["name"], *(" x ".join(map(str, row[key])) for key in ("kernel", "strides", "shape")))
        output.print(table)
        return
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
    with going_on():
        values = dreaming.dream(recipe, to, watch)
    if as_json:
        print_json({"file": str(to), "objective": values})
        return
    output.print(
        f"Dreamt {to}: objective {values[0]:.3g} at the first step, {values[-1]:.3g} at the last", soft_wrap=True
    )
