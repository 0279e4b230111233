"""Answering over HTTP and gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.printing import output
from app.program import paths
from app.program.errors import UserError
from app.program.progress import console


def serve(
    export_: Annotated[
        Path,
        typer.Argument(
            metavar="EXPORT", help="An export: its root or its name, with all versions, or one version folder."
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 is any that is free.")] = 8501,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            "--grpc-port", min=0, max=65535, help="Answer by gRPC, too, at this port; TensorFlow Serving's is 8500."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to answer at; 0.0.0.0 lets other machines ask, too.")
    ] = "127.0.0.1",
    artefact: Annotated[
        str | None,
        typer.Option(
            metavar="ARTEFACT",
            help="What answers: saved_model, tflite, onnx, openvino, or auto, the fastest. If left out the SavedModel, "
            "where there is one. A file needs no TensorFlow: it is ready in seconds and small, but has no `features`.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VERSION", help="A name for a version, as in stable=3; repeatable."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="Answer only who sends this file's content as bearer token; or that of the variable SERVE_TOKEN.",
        ),
    ] = None,
    cors: Annotated[bool, typer.Option("--cors", help="Let pages of other addresses ask.")] = False,
) -> None:
    """Answer over HTTP, or gRPC too, as TensorFlow Serving does: predict, classify, status, metadata, metrics.

    Ctrl-C and SIGTERM end it when all requests that are there have been answered.
    """
    paths.check_exists(export_)
    labels = dict(_label(each) for each in label or ())
    from app.serving import needed

    needed.check()
    from app.serving import server, starting

    prepared = starting.prepare(
        export_,
        artefact,
        host,
        port,
        labels,
        server.token(token_file),
        cors,
        grpc_port,
        lambda sentence: console.print(sentence),
    )
    name = prepared.url.rpartition("/")[2]
    versions = ", ".join(map(str, prepared.versions))
    also = f" and by gRPC at {prepared.grpc.address}" if prepared.grpc else ""

    def ready() -> None:
        output.print(f"Serving {name}, version {versions}, at {prepared.url}{also}", soft_wrap=True)

    server.run(prepared.application, prepared.listening, ready, prepared.grpc)


def _label(said: str) -> tuple[str, int]:
    name, _, version = said.partition("=")
    if not name or not version.isdecimal():
        raise UserError(f"'{said}' is no label: --label NAME=VERSION, as in --label stable=3.")
    return name, int(version)
