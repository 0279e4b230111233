"""Which artefact of an export is the fastest on this machine."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.artefacts import certified, choosing, installed, timing
from app.artefacts.certified import CERTIFICATE
from app.artefacts.processor import processor
from app.exporting import served
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from export import certificate, picture_files, runtime_errors


def tune(version: Path, max_drop: float, watch: Watch = unwatched, rounds: int = timing.ROUNDS) -> dict[str, Any]:
    """Measures every artefact of an export that runs here at batch 1 and 8, and writes into the certificate as `tuned`,
    and returns: `processor`, `threads`, `max_drop`, `rows`, by the name of an artefact its `milliseconds` per picture,
    by batch, and its `drop`, the points of accuracy that it lost by being no float32 (None where it is, or nobody
    knows); and `take`, by batch, the fastest of those that lost no more than `max_drop`, or of all where each did: a
    SavedModel in bfloat16 may be the only one.

    Raises:
        UserError: an artefact that does not run, or whatever else came between.
    """
    try:
        written = json.loads((version / CERTIFICATE).read_text())
        artefacts = {name: path for name, path in choosing.names(version).items() if installed.runs_here(path)}
        prepared = written["networks"][0]["preprocessing"]
        pictures = _pictures(certificate.golden(version), prepared["height"], prepared["width"])
        found = timing.measure(artefacts, pictures, watch, rounds)
    except Exception as error:
        why = runtime_errors.sentence(error)
        raise UserError(f"{version} was exported, but not measured: {why}.") from error
    drops = _drops(written["rows"])
    rows = {
        name: {"milliseconds": {str(batch): each for batch, each in times.items()}, "drop": drops.get(name)}
        for name, times in found.items()
    }
    within = [name for name in found if drops.get(name, 0) <= max_drop] or [*found]
    take = {str(batch): min(within, key=lambda name: found[name][batch]) for batch in timing.BATCHES}
    tuned = {
        "processor": processor(),
        "threads": os.cpu_count(),
        "max_drop": max_drop,
        "rows": rows,
        "take": take,
    }
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
    if not found:
        raise UserError("none of its golden images can be decoded by Pillow.")
    return np.resize(np.stack(found), (max(timing.BATCHES), height, width, 3))


def _drops(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Points of accuracy, by the name of an artefact: on the held-out images, or the golden ones where there are none.
    The first row is the network's."""
    found = {}
    for row in rows[1:]:
        pair = (rows[0], row)
        held_out = all(one["held_out"] for one in pair)
        both = [(one["held_out"] if held_out else one)["accuracy"] for one in pair]
        if row["precision"] != "float32" and None not in both and not served.is_served(row["artefact"]):
            kind, _, name = row["artefact"].partition(" ")
            of = choosing.SAVED_MODEL if kind == "SavedModel" else choosing.name_of(Path(name))
            found[of] = 100 * (both[0] - both[1])
    return found
