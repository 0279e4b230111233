"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder class/image or split/class/image, a manifest .csv with the columns file, label and perhaps "
        "split, 'records:FOLDER', 'tfds:NAME', or 'digits'. Folder and manifest may lie on s3:// or gs://.",
    ),
]
QuarantineOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Leave out the images that this list names, as `check --to` writes it."),
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `train --to` makes it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe; repeatable."),
]
RunsArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", help="A run folder, or several with the same labels, or a folder of them: an ensemble."
    ),
]
