"""Which artefact of an export is the fastest on this machine."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artefacts import certified, choosing, installed, timing
from app.artefacts.certified import CERTIFICATE
from app.artefacts.processor import processor
from app.artefacts.version_folders import newest
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from export import certificate, picture_files


def tune(export: Path, watch: Watch = unwatched, rounds: int = timing.ROUNDS) -> dict[str, Any]:
    """Measures every artefact of an export that runs here at batch 1 and 8, and writes into the certificate as `tuned`,
    and returns: `processor`, `threads`, `rows`, by the name of an artefact its `milliseconds` per picture, by batch,
    and its `drop`, the points of accuracy that it lost by being no float32 (None where it is, or nobody knows); and
    `take`, by batch, the fastest. All of them have passed the gate of the export.

    Raises:
        UserError: not an export; an artefact that does not run.
    """
    version = newest(export)
    written = json.loads((version / CERTIFICATE).read_text())
    artefacts = {name: path for name, path in choosing.names(version).items() if installed.runs_here(path)}
    prepared = written["networks"][0]["preprocessing"]
    pictures = _pictures(certificate.golden(version), prepared["height"], prepared["width"])
    try:
        found = timing.measure(artefacts, pictures, watch, rounds)
    except BrokenProcessPool as error:
        raise UserError(f"{version} was exported, but not measured: a process that ran an artefact died.") from error
    drops = _drops(written["rows"])
    rows = {
        name: {"milliseconds": {str(batch): each for batch, each in times.items()}, "drop": drops.get(name)}
        for name, times in found.items()
    }
    take = {str(batch): min(found, key=lambda name: found[name][batch]) for batch in timing.BATCHES}
    tuned = {"processor": processor(), "threads": os.cpu_count(), "rows": rows, "take": take}
    # Anew, since somebody may have written it meanwhile.
    certified.write(version, json.loads((version / CERTIFICATE).read_text()) | {"tuned": tuned})
    return tuned


def _pictures(golden: Sequence[Mapping[str, Any]], height: int, width: int) -> NDArray[np.uint8]:
    """The golden images that can be decoded, as often as it takes to be the largest batch, at the network's size."""
    found = []
    for image in golden:
        try:
            pixels = Image.fromarray(picture_files.decode(Path(image["file"]).read_bytes()))
        except picture_files.RefusedError:
            continue
        found.append(np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR)))
        if len(found) == max(timing.BATCHES):
            break
    return np.resize(np.stack(found), (max(timing.BATCHES), height, width, 3))


def _drops(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Points of accuracy, by the name of an artefact: on the held-out images, or the golden ones where there are none.
    The first row is the network's."""
    found = {}
    for row in rows[1:]:
        pair = (rows[0], row)
        held_out = all(one["held_out"] for one in pair)
        both = [(one["held_out"] if held_out else one)["accuracy"] for one in pair]
        if row["precision"] != "float32" and None not in both:
            kind, _, name = row["artefact"].partition(" ")
            of = choosing.SAVED_MODEL if kind == "SavedModel" else choosing.name_of(Path(name))
            found[of] = 100 * (both[0] - both[1])
    return found
