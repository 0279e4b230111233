"""The command line, `python -m app COMMAND`: registers what `app/commands` holds, and turns errors into sentences."""

import io
import sys
from collections.abc import Callable, Sequence

import typer

from app.commands import batch_norm, data, exporting, inside, measuring, networks, serving, training
from app.program import unexpected
from app.program.errors import UserError, WorkerLostError

app = typer.Typer(
    help="Inception networks in Keras: trained on your images, measured, exported for TensorFlow Serving and LiteRT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# In the order of the help.
COMMANDS: tuple[Callable[..., None], ...] = (
    networks.networks,
    training.train,
    training.compare,
    data.check,
    data.records,
    networks.import_,
    measuring.evaluate,
    measuring.predict,
    inside.dream,
    exporting.export,
    exporting.verify,
    serving.serve,
    inside.explain,
    inside.activations,
)
for command in COMMANDS:
    app.command(name=command.__name__.rstrip("_"))(command)

batch_norm_app = typer.Typer(
    help="Look at, repair, or move to another domain the statistics of batch normalisation.", no_args_is_help=True
)
app.add_typer(batch_norm_app, name="batch-norm")
batch_norm_app.command()(batch_norm.report)
batch_norm_app.command()(batch_norm.recalibrate)
batch_norm_app.command()(batch_norm.adapt)

study_app = typer.Typer(help="The papers' experiments, scaled to one machine.", no_args_is_help=True)
app.add_typer(study_app, name="study")
study_app.command(name="batch-norm")(batch_norm.study)


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
    except Exception as error:
        sys.exit(f"Error: {unexpected.sentence(error)}")


if __name__ == "__main__":
    main()
