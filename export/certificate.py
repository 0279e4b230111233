"""The proof that travels with an artefact: golden images, the trained network's answers, and what the artefact says.

golden/         the images as they came, and golden.json: file, label, probabilities of the trained network
certificate.json    `ok` and a row per artefact; written last, with the SHA-256 of every other file of the folder
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from .run_artefact import UNKNOWN

RUNNER = Path(__file__).with_name("run_artefact.py")
# By what an artefact computes in: the largest difference of a probability. Kernels of float32 sum in another order, and
# oneDNN's differ in the last bits. Integers move single probabilities far: of them only the best class is asked for,
# where the network is not itself undecided between two.
TOLERANCES: dict[str, float | None] = {
    "float32": 1e-5,
    "bfloat16": 1e-2,
    "float16": 1e-2,
    "dynamic": None,
    "int8": None,
}
# Of the strangeness of a picture: distances are divided by deviations, up to 3,000 times smaller than the largest, and
# with them the last bits of float32.
STRANGENESS = 1e-2
NAMED = 10  # classes, the best, of an answer by name, which may also have all; see saved_model.TOP
UNDECIDED = 0.1
# Of integers, the share of images that may be named otherwise, unless more was allowed to be lost; and the probability
# of so many by chance, from which on they are not more.
DIFFERING, CHANCE = 0.01, 0.05
# How long an artefact may take: to be loaded, with all that it imports, and for an image that it is asked about, as a
# multiple of the network's own time. That may be of a GPU, the artefact's of one core, whose answers are asked for in
# three ways.
LOADING, SLOWER = 600.0, 200.0  # seconds, times


class Kind(NamedTuple):
    """What --formats calls it, and the package that runs it."""

    format: str
    package: str


# Of the artefacts that are files, by their suffix.
KINDS = {
    ".tflite": Kind("tflite", "ai_edge_litert"),
    ".onnx": Kind("onnx", "onnxruntime"),
    ".xml": Kind("openvino", "openvino"),
}


class ArtefactError(Exception):
    """An artefact that does not load or does not answer."""


def golden(version: Path) -> list[dict[str, Any]]:
    """The golden images of a version folder: `file`, absolute; `label`, or None; `probabilities`, in label order."""
    images = json.loads((version / "golden" / "golden.json").read_text())
    return [image | {"file": str((version / "golden" / image["file"]).resolve())} for image in images]


def artefacts(version: Path) -> dict[Path, int]:
    """The artefacts of a version folder and their bytes; the folder itself is the SavedModel.

    Raises:
        ArtefactError: there is none.
    """
    files = [file for kind in KINDS for file in sorted(version.glob(f"*{kind}"))]
    # The weights of an OpenVINO file lie beside it; that they are there is for its run to find out.
    found = {file: sum(part.stat().st_size for part in _parts(file) if part.exists()) for file in files}
    if (version / "saved_model.pb").exists():
        parts = [version / "saved_model.pb", *version.glob("variables/*")]
        found = {version: sum(part.stat().st_size for part in parts), **found}
    if not found:
        raise ArtefactError(f"{version} holds no saved_model.pb and no {_listed([*KINDS])} file")
    return found


def _parts(file: Path) -> tuple[Path, ...]:
    return (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def rows(
    version: Path,
    images: Sequence[dict[str, Any]],
    labels: Sequence[str],
    milliseconds: float,
    precision: str = "float32",
    held_out: Sequence[dict[str, Any]] = (),
    allowed: Mapping[str, float] | None = None,
    watch: Callable[[Iterable[Any], int, str], Iterable[Any]] = lambda items, count, what: items,
) -> list[dict[str, Any]]:
    """Runs every artefact of the version folder on its golden images, each in a fresh process; a row for each.

    `images` are the `golden` ones, `held_out` further ones in the same form, with a `name` if the file has no good one;
    `milliseconds` is what the network takes for one. `precision` is what the SavedModel computes in; `allowed` has for
    the names of quantised files the `differing` of `compare`.

    Raises:
        ArtefactError: one does not load or does not answer, or not in time.
    """
    found = artefacts(version)
    files = [image["file"] for image in (*images, *held_out)]
    limit = LOADING + SLOWER * len(files) * milliseconds / 1000
    compared, shares = [], allowed or {}
    for path, size in watch(found.items(), len(found), "Asking the artefacts"):
        kind = precision if path == version else kind_of(path)
        served_in = f", {precision}" if path == version and precision != "float32" else ""
        replies = _run(path, files, limit)
        judged = next((replies.pop(name) for name in [*replies] if name.endswith(UNKNOWN)), None)
        for name, reply in replies.items():
            may = shares.get(path.name)
            row = compare(name + served_in, images, labels, reply, size, kind, held_out, may)
            if judged:  # by a signature that gives the same classes: it is of the first row
                row |= {"strangeness": strangeness_apart(images, judged["answers"])}
                judged = None
            compared.append(row)
    return compared


def kind_of(file: Path) -> str:
    """Of model.int8.tflite, int8. What says nothing that is known has to answer as float32."""
    said = file.suffixes[0][1:] if len(file.suffixes) > 1 else "float32"
    return said if said in TOLERANCES else "float32"


def compare(
    name: str,
    golden: Sequence[dict[str, Any]],
    labels: Sequence[str],
    reply: dict[str, Any],
    size: int,
    precision: str = "float32",
    held_out: Sequence[dict[str, Any]] = (),
    differing: float | None = None,
) -> dict[str, Any]:
    """The row of one artefact. `reply` is what `run_artefact` prints of it, of the golden images and then of those held
    out; an answer may leave out the lower scores, or be a text: why there is none to compare.

    Two answers agree when the artefact's best class is the network's, or as probable within the tolerance. Of integers
    a share of `differing` images need not agree, `DIFFERING` without it. An accuracy is None where no image has a
    label; the tolerance where no difference of a probability is too large; `held_out` where none was compared.
    `not_compared` are the images without an answer, by `name`, or by that of the file, with the reason.
    """
    tolerance = TOLERANCES[precision]
    answers = reply["answers"]
    if len(answers) != len(golden) + len(held_out):
        raise ValueError(f"{name} gave {len(answers)} answers to {len(golden) + len(held_out)} images")
    told = list(zip((*golden, *held_out), answers, strict=True))
    also = _agreement(held_out, labels, answers[len(golden) :], tolerance)
    return {
        "artefact": name,
        "precision": precision,
        "tolerance": tolerance,
        "differing": (DIFFERING if differing is None else differing) if tolerance is None else 0.0,
        **_agreement(golden, labels, answers[: len(golden)], tolerance),
        "held_out": also if also["images"] else None,
        "not_compared": {
            image.get("name", Path(image["file"]).name): answer for image, answer in told if isinstance(answer, str)
        },
        "bytes": size,
        "milliseconds": reply["milliseconds"],
    }


def strangeness_apart(images: Sequence[dict[str, Any]], answers: Sequence[Any]) -> float:
    """The largest difference of the strangeness from the network's own, of which the golden `images` have that, as a
    share of it where it is more than 1."""
    pairs = zip((image.get("strangeness") for image in images), answers, strict=False)
    apart = [abs(a - b) / max(1.0, abs(a)) for a, b in pairs if a is not None and not isinstance(b, str)]
    return max((each if each == each else math.inf for each in apart), default=0.0)


def _agreement(
    images: Sequence[dict[str, Any]], labels: Sequence[str], answers: Sequence[Any], tolerance: float | None
) -> dict[str, Any]:
    margin = UNDECIDED if tolerance is None else tolerance
    agreed = correct = labelled = 0
    largest = 0.0
    compared = [pair for pair in zip(images, answers, strict=True) if not isinstance(pair[1], str)]
    for image, answer in compared:
        labelled += image["label"] is not None
        if (given := _named(answer, labels)) is None:
            largest = float("inf")
            continue
        expected = dict(zip(labels, image["probabilities"], strict=True))
        best = max(given, key=given.__getitem__)
        agreed += expected[best] >= max(expected.values()) - margin
        correct += best == image["label"]
        differences = [abs(score - expected[label]) for label, score in given.items()]
        # A score that is not a number differs from everything.
        largest = max(
            largest, *(difference if difference == difference else float("inf") for difference in differences)
        )
    return {
        "images": len(compared),
        "top_1_agreement": agreed / max(len(compared), 1),
        "max_difference": largest,
        "accuracy": correct / labelled if labelled else None,
    }


def _named(answer: Any, labels: Sequence[str]) -> dict[str, float] | None:
    """The scores by label, or None where they are not of these labels or too few, or not the best first."""
    if isinstance(answer, dict):
        first = list(answer.values())
        in_order = all(before >= after for before, after in pairwise(first) if after == after)
        whole = len(answer) in (min(NAMED, len(labels)), len(labels)) and answer.keys() <= {*labels}
        return answer if whole and in_order else None
    return dict(zip(labels, answer, strict=True)) if len(answer) == len(labels) else None


def passes(row: dict[str, Any]) -> bool:
    if row.get("strangeness", 0.0) > STRANGENESS:
        return False
    return row["images"] > 0 and all(_agrees(found, row) for found in (row, row["held_out"]) if found)


def _agrees(found: dict[str, Any], row: dict[str, Any]) -> bool:
    largest = 1.0 if row["tolerance"] is None else row["tolerance"]
    others = round((1 - found["top_1_agreement"]) * found["images"])
    # One of few images proves nothing.
    few = others <= (row["tolerance"] is None) or at_least(others, found["images"], row["differing"]) > CHANCE
    return bool(few and found["max_difference"] <= largest)


def allowed_of(drop: float) -> float:
    """The share of images whose best class may be another where so many percentage points of accuracy may be lost."""
    return min(1.0, max(DIFFERING, drop / 100))


def at_least(count: int, images: int, share: float) -> float:
    """The probability that so many of the images, or more, are of those of which there is such a share."""
    if not 0 < share < 1:
        return float(count == 0 or share >= 1)

    def exactly(number: int) -> float:
        ways = math.lgamma(images + 1) - math.lgamma(number + 1) - math.lgamma(images - number + 1)
        return math.exp(ways + number * math.log(share) + (images - number) * math.log1p(-share))

    return sum(exactly(number) for number in range(count, images + 1))


def _run(artefact: Path, files: Sequence[str], limit: float) -> dict[str, Any]:
    # -I: neither the current folder nor PYTHONPATH is searched, so nothing of this project can be imported.
    command = [sys.executable, "-I", str(RUNNER), str(artefact)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(files),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            timeout=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtefactError(f"{artefact} did not answer {len(files)} images in {limit:.0f} seconds") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        raise ArtefactError(f"{artefact} does not run: {reason}")
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise ArtefactError(f"{artefact} ended without an answer") from error
