"""The certificate of an export: what the trained network and its artefacts say to the same images. `export.certificate`
runs and compares them, this chooses the images and writes it down."""

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app import datasets
from app.datasets import Watch
from app.errors import UserError
from app.files import write_json
from app.golden import specimens
from app.progress import console
from app.reports import model_card
from app.run_folder import Run, Trained, digest, read_golden
from export import certificate

# Test images that every artefact is asked about beside the golden ones: what the network answers in so many seconds.
SECONDS, HELD_OUT = 10.0, 500


def certify(
    run: Run, trained: Trained, folder: Path, quantized: dict[str, Any] | None, precision: str, watch: Watch
) -> dict[str, Any]:
    """Writes golden images, certificate and model card beside the artefacts in the folder; returns `ok` and `rows`.

    Raises:
        ArtefactError: an artefact does not load or does not answer.
    """
    (folder / "golden").mkdir()
    pictures = [(image, (run.golden / image["file"]).read_bytes()) for image in read_golden(run)]
    first = trained.preprocessing.decode(pictures[0][1]).numpy()
    pictures += [({"file": name, "label": None}, made) for name, made in specimens(first).items()]
    for image, encoded in pictures:
        (folder / "golden" / image["file"]).write_bytes(encoded)
    reply = ask(trained, [encoded for _, encoded in pictures])
    kept = [image | {"probabilities": answer} for (image, _), answer in zip(pictures, reply["answers"], strict=True)]
    write_json(folder / "golden" / "golden.json", kept)
    count = min(HELD_OUT, max(1, int(1000 * SECONDS / reply["milliseconds"])))
    with tempfile.TemporaryDirectory() as elsewhere:
        others, why = held_out(run, trained, Path(elsewhere), count, watch)
        if why:
            console.print(f"Only golden images are compared: {why}.")
        rows = [reference_row(trained, run, kept, others, reply)]
        rows += certificate.rows(folder, trained.labels, precision, others, watch)
    found = {"ok": all(certificate.passes(row) for row in rows), "rows": rows}
    classifier = run.read_classifier()
    preprocessing = trained.preprocessing.model_dump()
    details = {
        "network": classifier.network,
        "labels": trained.labels,
        "preprocessing": preprocessing,
        "precision": precision,
        "versions": classifier.versions,
        "run": str(run.folder.resolve()),
        "held_out": len(others),
        "sha256": {
            "model": digest(run.model),
            "labels": _hash(trained.labels),
            "preprocessing": _hash(preprocessing),
            "files": hashes(folder),
        },
        "quantization": quantized,
    }
    write_json(folder / "certificate.json", {**found, **details})
    figures = json.loads(run.metrics.read_text()) if run.metrics.is_file() else None
    model_card.write(folder, run.folder.resolve().name, classifier, trained.preprocessing, figures, rows)
    return found


def held_out(
    run: Run, trained: Trained, folder: Path, count: int, watch: Watch
) -> tuple[list[dict[str, Any]], str | None]:
    """At most `count` test images spread over the split, written into the folder, as `certificate.golden` gives them;
    and why there are none, or None."""
    try:
        data = datasets.of_run(run, watch)
    except UserError as error:
        return [], str(error).rstrip(".")
    chosen = set(np.linspace(0, data.test.count - 1, min(count, data.test.count)).astype(int).tolist())
    found = []
    for i, (encoded, label) in enumerate(data.test.in_order().as_numpy_iterator()):
        if i in chosen:
            file = folder / f"{i}"
            file.write_bytes(encoded)
            found.append({"file": str(file), "label": data.labels[int(label)]})
    for image in watch(found, len(found), "Asking the network"):
        image["probabilities"] = _probabilities(trained, Path(image["file"]).read_bytes())
    return found, None


def ask(trained: Trained, pictures: Sequence[bytes]) -> dict[str, Any]:
    """What the network says to image files: `answers`, in label order, and `milliseconds`, the median for one."""
    answers, seconds = [], []
    for encoded in pictures:
        started = time.perf_counter()
        answers.append(_probabilities(trained, encoded))
        seconds.append(time.perf_counter() - started)
    return {"answers": answers, "milliseconds": float(np.median(seconds)) * 1000}


def reference_row(
    trained: Trained,
    run: Run,
    golden: Sequence[dict[str, Any]],
    others: Sequence[dict[str, Any]],
    reply: dict[str, Any],
) -> dict[str, Any]:
    """The trained network, whose `reply` is to the golden images, against its own answers of the day of the export;
    `others` it has just been asked about."""
    all_answers = reply | {"answers": [*reply["answers"], *(image["probabilities"] for image in others)]}
    size = run.model.stat().st_size
    return certificate.compare("trained network", golden, trained.labels, all_answers, size, held_out=others)


def _probabilities(trained: Trained, encoded: bytes) -> list[float]:
    image = trained.preprocessing(trained.preprocessing.decode(encoded))
    return trained.model.predict_on_batch(image[np.newaxis])[0].tolist()


def hashes(version: Path) -> dict[str, str]:
    """SHA-256 of the files of the artefacts, by their place in the version folder."""
    kinds = ("saved_model.pb", "variables/*", "assets*/*", "*.tflite")
    files = sorted(file for kind in kinds for file in version.glob(kind))
    return {file.relative_to(version).as_posix(): digest(file) for file in files}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
