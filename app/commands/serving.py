"""Answering over HTTP and gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from app.commands.printing import output
from app.program import paths, quiet
from app.program.errors import UserError
from app.program.progress import console


def serve(
    export_: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPORT]",
            help="An export: its name, or the root with those of several networks, or one version folder. Or a run "
            "folder, whose own network answers then.",
        ),
    ] = None,
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
    versions: Annotated[
        str | None,
        typer.Option(
            "--versions",
            metavar="VERSIONS",
            help="Which are served: latest, which it is if left out, all, or numbers, as in 3,4. What is exported "
            "later is loaded while those before answer.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=VERSION", help="A name for a version that is served, as in stable=3; repeatable."
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--model-config-file",
            metavar="FILE",
            help="Instead of EXPORT: TensorFlow Serving's models.config, with networks, their versions and labels.",
        ),
    ] = None,
    config_seconds: Annotated[
        float,
        typer.Option(
            "--model-config-file-poll-wait-seconds", min=0, help="Read that file again every so many seconds; 0 never."
        ),
    ] = 0,
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

    And a page to try the network on: at http://localhost:8501/.

    Ctrl-C and SIGTERM end it when all requests that are there have been answered.
    """
    if (export_ is None) == (config_file is None):
        raise UserError("Say what to serve: EXPORT, or --model-config-file FILE.")
    if export_ is not None:
        paths.check_exists(export_)
    elif versions is not None or label:
        raise UserError("With --model-config-file, versions and labels are said in that file.")
    labels = dict(_label(each) for each in label or ())
    from app.serving import needed

    needed.check()
    from app.serving import server, starting

    quiet.apart()
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
        versions,
        config_file,
        config_seconds,
    )
    also = f" and by gRPC at {prepared.grpc.address}" if prepared.grpc else ""

    def ready() -> None:
        for name, url in prepared.urls.items():
            numbers = ", ".join(map(str, prepared.models.models[name].available))
            output.print(f"Serving {name}, version {numbers}, at {url}{also}", soft_wrap=True)
        output.print(f"Try it on the page {url.partition('/v1/')[0]}/", soft_wrap=True)

    with prepared.watching:
        server.run(prepared.application, prepared.listening, ready, prepared.grpc)


def _label(said: str) -> tuple[str, int]:
    name, _, version = said.partition("=")
    if not name or not version.isdecimal():
        raise UserError(f"'{said}' is no label: --label NAME=VERSION, as in --label stable=3.")
    return name, int(version)
