"""The certificate of an export: what the trained network and its artefacts say to the same images. `export.certificate`
runs and compares them, this chooses the images and writes it down."""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.artefacts import certified
from app.artefacts.processor import processor
from app.datasets import loading
from app.datasets.dataset import Data, spread
from app.evaluation import strangeness
from app.exporting import carrying, failures, in_browser, litert_js, model_card, on_gpu, page_file, runtimes, served
from app.program.errors import UserError
from app.program.files import digest, write_json
from app.program.progress import Watch, console
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden, specimens
from app.run_folder.trained import Trained
from export import certificate

# Test images that every artefact is asked about beside the golden ones: what the network answers in so many seconds.
SECONDS, MOST = 10.0, 500


def certify(
    runs: Sequence[Run],
    networks: Sequence[Trained],
    folder: Path,
    name: str,
    data: Data | None,
    quantized: list[dict[str, Any]] | None,
    precision: str,
    watch: Watch,
    page: bool = False,
) -> dict[str, Any]:
    """Writes golden images, the `page` if one is wanted, model card and, last, the certificate beside the artefacts in
    the folder; returns `ok` and `rows`. The golden images are those of the first run; without `data` they are all that
    is compared. Where the extra `serve` is installed, what `serve` would take is asked about them by REST and gRPC.

    Raises:
        ArtefactError: an artefact does not load, does not answer, or says that it has other labels or another
            preprocessing.
        ConversionError, UserError: see `page_file.write`.
    """
    (folder / "golden").mkdir()
    golden, labels = runs[0].golden, networks[0].labels
    several = bool(networks[0].thresholds)
    # Of several labels the best may be right where others are missing: no accuracy is told.
    listed = [image | ({"label": None} if several else {}) for image in read_golden(runs[0])]
    pictures = [(image, (golden / image["file"]).read_bytes()) for image in listed]
    first = networks[0].preprocessing.decode(pictures[0][1]).numpy()
    pictures += [({"file": name, "label": None}, made) for name, made in specimens(first).items()]
    for image, encoded in pictures:
        with failures.writing(folder / "golden" / image["file"]):
            (folder / "golden" / image["file"]).write_bytes(encoded)
    reply = ask(networks, [encoded for _, encoded in pictures])
    kept = [image | {"probabilities": answer} for (image, _), answer in zip(pictures, reply["answers"], strict=True)]
    if len(runs) == 1 and (known := strangeness.read(runs[0])):
        reading = strangeness.Reading(networks[0].model, known)
        for image, (_, encoded) in zip(kept, pictures, strict=True):
            prepared = networks[0].preprocessing(networks[0].preprocessing.decode(encoded))
            image["strangeness"] = float(reading.measured(prepared[np.newaxis])[1].strangeness[0])
    write_json(folder / "golden" / "golden.json", kept)
    golden_images = certificate.golden(folder)
    smaller = [certified.Quantised.model_validate(one) for one in quantized or ()]
    if page:
        page_file.write(folder, name, networks[0], runs[0].read_classifier().network, smaller)
    count = min(MOST, max(1, int(1000 * SECONDS / reply["milliseconds"])))
    with tempfile.TemporaryDirectory() as elsewhere:
        held_out = test_images(data, networks, Path(elsewhere), count, watch) if data else []
        rows = [reference_row(runs, labels, golden_images, held_out, reply)]
        if page and (of_page := in_browser.row(folder, golden_images, labels, smaller)):
            rows.append(of_page)
        allowed, each = certified.allowed(smaller), reply["milliseconds"]
        rows += certificate.rows(folder, golden_images, labels, each, precision, held_out, allowed, watch)
    if (not_served := served.missing()) is None:
        rows += served.rows(folder, served.usual(folder), golden_images, labels, precision, watch)
    else:
        console.print(f"Not asked by REST and gRPC: {not_served}.")
    found = {"ok": all(certificate.passes(row) for row in rows), "rows": rows}
    classifiers = [run.read_classifier() for run in runs]
    measured = json.loads(runs[0].metrics.read_text()) if len(runs) == 1 and runs[0].metrics.is_file() else None
    model_card.write(folder, name, classifiers, measured, rows)
    english = networks[0].english
    members = [member(run) for run in runs]
    if found["ok"] and (said := carrying.disagreements(folder, name, labels, english, members, networks[0].thresholds)):
        raise certificate.ArtefactError(said[0])
    details = {
        "name": name,
        "networks": [
            one.model_dump() | {"versions": classifier.versions}
            for one, classifier in zip(members, classifiers, strict=True)
        ],
        "versions": runtimes.of_files(folder) | ({litert_js.CORE: litert_js.VERSION} if page else {}),
        "processor": processor(),
        "labels": labels,
        "labels_en": english,
        "thresholds": list(networks[0].thresholds),
        "precision": precision,
        "held_out": len(held_out),
        "not_served": not_served,
        "sha256": {"labels": certified.hash_of(labels), "files": certified.hashes(folder)},
        "quantization": quantized,
        "gpu_delegate": on_gpu.report(folder),
    }
    certified.write(folder, {**found, **details})
    return found


def member(run: Run) -> certified.Network:
    """What the certificate says of one of its networks, as its run folder is now."""
    classifier = run.read_classifier()
    preprocessing = classifier.preprocessing.model_dump(mode="json")
    return certified.Network(
        network=classifier.network,
        run=str(run.folder.resolve()),
        preprocessing=preprocessing,
        described=classifier.preprocessing.described(),
        sha256=certified.NetworkHashes(model=digest(run.model), preprocessing=certified.hash_of(preprocessing)),
    )


def data_of(runs: Sequence[Run], watch: Watch) -> tuple[Data | None, str | None]:
    """What the networks were trained on, or None and why there are no images that all of them may be asked about."""
    records = (run.read_classifier().data for run in runs)
    if len({record and record.fingerprint for record in records}) > 1:  # whatever the data was called
        return None, "the networks were not trained on the same data, so one may have seen what was held out of another"
    try:
        return loading.of_run(runs[0], watch), None
    except UserError as error:
        return None, str(error).rstrip(".")


def test_images(
    data: Data, networks: Sequence[Trained], folder: Path, count: int, watch: Watch
) -> list[dict[str, Any]]:
    """At most `count` test images spread over the split, written into the folder, as `certificate.golden` gives them.
    Others are not read."""
    places = spread(data.test.count, count)
    found = []
    for place, (encoded, label) in zip(places, data.test.at(places).as_numpy_iterator(), strict=True):
        file = folder / f"{place}"
        with failures.writing(file):
            file.write_bytes(encoded)
        name = failures.picture(data, "test", place)
        label = None if data.label_sets else data.labels[int(label)]
        found.append({"file": str(file), "label": label, "name": name})
    for image in watch(found, len(found), "Asking the network"):
        with failures.decoding_of(image["name"]):
            image["probabilities"] = _probabilities(networks, Path(image["file"]).read_bytes())
    return found


def ask(networks: Sequence[Trained], pictures: Sequence[bytes]) -> dict[str, Any]:
    """What the network, or several together, say to image files: `answers`, in label order, and `milliseconds`, the
    median for one."""
    answers, seconds = [], []
    for encoded in pictures:
        started = time.perf_counter()
        answers.append(_probabilities(networks, encoded))
        seconds.append(time.perf_counter() - started)
    return {"answers": answers, "milliseconds": float(np.median(seconds)) * 1000}


def reference_row(
    runs: Sequence[Run],
    labels: Sequence[str],
    golden: Sequence[dict[str, Any]],
    held_out: Sequence[dict[str, Any]],
    reply: dict[str, Any],
) -> dict[str, Any]:
    """What was trained, whose `reply` is to the golden images, against its own answers of the day of the export;
    `held_out` it has just been asked about."""
    all_answers = reply | {"answers": [*reply["answers"], *(image["probabilities"] for image in held_out)]}
    size = sum(run.model.stat().st_size for run in runs)
    return certificate.compare(reference_name(len(runs)), golden, labels, all_answers, size, held_out=held_out)


def reference_name(networks: int) -> str:
    return "trained network" if networks == 1 else f"{networks} trained networks"


def _probabilities(networks: Sequence[Trained], encoded: bytes) -> list[float]:
    answers = []
    for trained in networks:
        image = trained.preprocessing(trained.preprocessing.decode(encoded))
        answers.append(trained.model.predict_on_batch(image[np.newaxis])[0])
    return np.mean(answers, axis=0).tolist()
