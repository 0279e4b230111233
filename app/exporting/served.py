"""What a server says of an export: asked by REST and by gRPC as its clients do, over sockets of this machine."""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.artefacts import choosing
from app.artefacts.certified import Row
from app.program.errors import UserError
from app.program.progress import Watch
from app.serving import needed
from export import certificate, run_artefact

WAYS = ("REST", "gRPC")
NAME = "export"  # that of its folder may have characters that no path of HTTP has
SAVED_MODEL = "SavedModel"  # in the names of rows
SECONDS = certificate.LOADING  # that an answer may take: the first one builds what later ones reuse
Answer = dict[str, float]  # scores by label, the best first


def is_served(name: str) -> bool:
    """Whether a row of a certificate is one of these, by the name of its artefact."""
    return name.partition(" ")[0] in WAYS


def missing() -> str | None:
    """Why nothing can be served here, or None."""
    packages = needed.missing()
    return f"{' and '.join(packages)} of the extra `serve` cannot be imported here" if packages else None


def usual(version: Path) -> Path:
    """The artefact that `serve` takes if it is not told."""
    return choosing.of_version(version)


def of_rows(version: Path, rows: Sequence[Row]) -> Path | None:
    """The artefact that a certificate says was served; None where none was, or it is not there any more."""
    for row in rows:
        if is_served(row.artefact):
            named = row.artefact.partition(" ")[2].partition(",")[0]
            path = version if named == SAVED_MODEL else version / named
            return path if path in certificate.artefacts(version) else None
    return None


def rows(
    version: Path,
    artefact: Path,
    golden: Sequence[dict[str, Any]],
    labels: Sequence[str],
    precision: str,
    watch: Watch,
) -> list[dict[str, Any]]:
    """A row of REST and one of gRPC, as `certificate.rows` has them: of the golden images, each asked by itself.

    Raises:
        ArtefactError: the server does not answer one.
    """
    from app.serving import starting

    of, kind, also = artefact.name, certificate.kind_of(artefact), ""
    if artefact == version:
        of, kind, also = SAVED_MODEL, precision, "" if precision == "float32" else f", {precision}"
    found = []
    size = certificate.artefacts(version)[artefact]
    try:
        with starting.uncertified(NAME, artefact, SECONDS) as (url, address):
            for way, asking in zip(WAYS, (_by_rest(url), _by_grpc(address)), strict=True):
                with asking as ask:
                    reply = _reply(ask, watch(golden, len(golden), f"Asking by {way}"), decoded=artefact != version)
                found.append(certificate.compare(f"{way} {of}{also}", golden, labels, reply, size, kind))
    except UserError as error:
        raise certificate.ArtefactError(f"{artefact} cannot be served: {str(error).rstrip('.')}") from error
    finally:
        gc.collect()  # a SavedModel is circles of objects, as large as itself
    return found


def _reply(ask: Callable[[bytes], Answer], golden: Iterable[dict[str, Any]], decoded: bool) -> dict[str, Any]:
    """What `run_artefact` gives of an artefact. `decoded` is one of pixels, which Pillow decodes for the server."""
    answers: list[Answer | str] = []
    seconds: list[float] = []
    for image in golden:
        file = Path(image["file"])
        encoded = file.read_bytes()
        try:
            if decoded:
                run_artefact.pixels(file)
        except run_artefact.NotComparedError as error:
            answers.append(str(error))
            continue
        try:
            if not seconds:
                ask(encoded)  # the first call builds what later ones reuse
            started = time.perf_counter()
            answers.append(ask(encoded))
        except UserError as error:
            raise UserError(f"{file.name}: {error}") from error
        seconds.append(time.perf_counter() - started)
    return {"answers": answers, "milliseconds": 1000 * statistics.median(seconds or [0.0])}


@contextmanager
def _by_rest(url: str) -> Iterator[Callable[[bytes], Answer]]:
    from app.serving.client import Client

    client = Client(url, seconds=SECONDS)

    def ask(encoded: bytes) -> Answer:
        (row,) = client.predict([encoded])
        if row.error:
            raise UserError(row.error)
        return dict(zip(row.classes, row.scores, strict=True))

    yield ask


@contextmanager
def _by_grpc(address: str) -> Iterator[Callable[[bytes], Answer]]:
    """On the stubs that clients have; exporting has TensorFlow, which they import, already."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    # This machine is asked by no proxy, whatever the environment says.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask(encoded: bytes) -> Answer:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = NAME
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([encoded]))
            try:
                outputs = stub.Predict(request, timeout=SECONDS).outputs
            except grpc.RpcError as error:
                raise UserError(error.details()) from error
            classes, scores = (tf.make_ndarray(outputs[key])[0].tolist() for key in ("classes", "scores"))
            return dict(zip([each.decode() for each in classes], scores, strict=True))

        yield ask
