"""Quantised files that are allowed to lose so much accuracy and no more: each as it was asked for, or the next larger
one that loses no more.

Such a file and the float32 one answer the same images, so a loss is judged by those that one of them names right and
the other wrong: of few images the share alone says little, since one of 153 is 0.65 points.
"""

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.datasets.dataset import Data
from app.exporting import calibrating, quantised_files, runtimes
from app.exporting.calibrating import VALIDATION, Pictures
from app.exporting.quantised_files import INT8_ALONE, LADDER, NAMES, SOURCES, Maker
from app.program import progress, quiet
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.program.shown import counted
from app.run_folder.trained import Trained
from export import certificate, run_artefact, runtime_errors
from export.on_pixels import ConversionError
from export.quantization import Kind

CHANCE = certificate.CHANCE  # the probability of a loss by chance, from which on it is none


def check(asked: str, formats: Sequence[str]) -> None:
    """
    Raises:
        UserError: a kind that there is not; no format has a file of it; what makes it is not installed.
    """
    if asked not in LADDER:
        raise UserError(f"There is no quantisation '{asked}'. The kinds are {', '.join(LADDER)}.")
    if not quantised_files.formats_with(asked).intersection(formats):
        if asked == "int8":
            makes, add = "a LiteRT, ONNX or OpenVINO file from the float32 one", "tflite, onnx or openvino to --formats"
        else:
            makes = "a LiteRT file from the float32 one"
            add = "tflite to --formats, or choose int8, which ONNX and OpenVINO have, too"
        raise UserError(f"--quantize {asked} makes {makes}; add {add}.")
    if quantised_files.needs_onnx(asked, formats):
        runtimes.check_int8()


def quantize(
    data: Data,
    trained: Trained,
    folder: Path,
    formats: Sequence[str],
    asked: str,
    max_drop: float,
    watch: Watch = progress.unwatched,
) -> list[dict[str, Any]]:
    """Writes the quantised files of those `formats` that have such, model.<kind>.tflite, .onnx and .xml, beside the
    float32 ones in the folder; returns a record of each. OpenVINO's is made of model.onnx, which has to be there, too.
    `data` is what the network was trained on.

    A file is of the `kind` that was `asked` for, unless that loses more than `max_drop` and more than chance would, or
    the certificate would refuse it; where all that is tried is so, it is left out, and `file`, `kind` and `drop` are
    None. `drop` are the percentage points of top-1 that it loses on `images` validation pictures; `tried` has of each
    the drop, the agreement with float32, right answers `lost` and `won`, and the probability `p` (see `by_chance`);
    `noisiest` are the operations of int8 with the lowest signal-to-noise ratio, where it was tried to leave some in
    float32.

    Raises:
        ConversionError: a quantizer, or a runtime its file, cannot take the network.
        UserError: nothing that is tried may be kept, of any format; no validation pictures.
    """
    if not data.validation.count:
        raise UserError(f"{data.name} has no validation images to measure a quantised file on; leave --quantize out.")
    validation = calibrating.validation(data, trained.preprocessing)
    truth = validation.labels()
    if coarse := resolution(validation.count, max_drop):
        console.print(coarse)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as work:
        trials = _trials(data, trained, folder, Path(work), formats, asked)
        undecided, reference = trials, None
        while undecided:
            files = [trial.write_next() for trial in undecided]
            if reference is None:  # once: the float32 files agree
                reference, *answers = _answers([folder / SOURCES[trials[0].format], *files], validation, watch)
            else:
                answers = _answers(files, validation, watch)
            judged = zip(undecided, answers, strict=True)
            rejected = [trial for trial, given in judged if not trial.stays(reference, given, truth, max_drop)]
            undecided = [trial for trial in rejected if trial.rest]
    if not any(trial.files for trial in trials):
        losses = ", ".join(trial.losses() for trial in trials)
        otherwise = " or answers too differently" if any(trial.differed for trial in trials) else ""
        raise UserError(
            f"Nothing was exported: quantised, the network loses more than --max-drop {max_drop:g} points{otherwise} "
            f"({losses}). Allow more, or leave --quantize out."
        )
    for trial in trials:
        if not trial.files:
            otherwise = " or answers too differently" if trial.differed else ""
            console.print(f"No quantised file is written for {NAMES[trial.format]}: each loses too much{otherwise}.")
    return [trial.record() | {"images": validation.count, "max_drop": max_drop} for trial in trials]


@dataclass
class Trial:
    """What becomes of the quantised file of a format: `rest` is what may still be tried. In sentences `suffix` says
    which format is meant."""

    format: str
    maker: Maker
    asked: str
    rest: list[tuple[Kind, bool]]
    suffix: str
    kind: Kind = "int8"  # the one that is tried now, and in words
    what: str = ""
    files: tuple[Path, ...] = ()  # the first is the one that is run

    def __post_init__(self) -> None:
        self.tried: list[dict[str, Any]] = []
        self.noisiest: quantised_files.Noisiest = []
        self.differed = False  # whether the certificate would have refused one

    def write_next(self) -> Path:
        self.kind, mixed = self.rest.pop(0)
        self.what = self.kind
        self.files = self.maker.write(self.kind, mixed)
        if mixed:
            self.noisiest = self.maker.noisiest
            count = len(quantised_files.in_float(self.noisiest))
            self.what += f" with {counted(count, 'operation', 'operations')} in float32"
        return self.files[0]

    def stays(self, reference: NDArray[Any], given: NDArray[Any], truth: NDArray[Any], max_drop: float) -> bool:
        """Whether it is kept, which gave these probabilities (images, classes) where float32 gave `reference`; it is
        away otherwise."""
        before, best = reference.argmax(axis=1), given.argmax(axis=1)
        lost, won = (int(np.sum(one)) for one in _changed(before == truth, best == truth))
        drop, p, agreement = 100 * (lost - won) / len(truth), by_chance(lost, won), float(np.mean(before == best))
        tried = {"what": self.what, "drop": drop, "agreement": agreement, "lost": lost, "won": won, "p": p}
        self.tried.append(tried)
        what = self.what + self.suffix
        console.print(
            f"Quantised to {what}: {_points(drop)} on {counted(len(truth), 'validation image', 'validation images')} "
            f"({lost} lost, {won} won), {agreement:.1%} the same answers, "
            f"{sum(file.stat().st_size for file in self.files) / 1e6:.1f} MB"
        )
        little = drop <= max_drop or p > CHANCE
        differs = little and not self._certified(reference, given, max(max_drop, drop))
        if little and not differs:
            if drop > max_drop:
                console.print(f"That is within chance (p = {p:.2f}).")
            if self.kind != self.asked:
                console.print(f"Instead of {self.asked}, {what} is written.")
            return True
        self.differed |= differs
        if differs:
            console.print(f"Rejected {what}: its answers are not near enough to those of float32 to be certified.")
        else:
            console.print(
                f"Rejected {what}: {drop:.2f} points are more than --max-drop {max_drop:g}, and more than chance "
                f"(p = {_rounded(p)})."
            )
        for file in self.files:
            file.unlink()
        self.files = ()
        return False

    def _certified(self, reference: NDArray[Any], given: NDArray[Any], drop: float) -> bool:
        """Whether the certificate would take these answers."""
        classes = [str(place) for place in range(reference.shape[1])]
        images = [
            {"file": str(place), "label": None, "probabilities": one} for place, one in enumerate(reference.tolist())
        ]
        reply, allowed = {"answers": given.tolist(), "milliseconds": 0.0}, certificate.allowed_of(drop)
        return certificate.passes(
            certificate.compare(self.what, images, classes, reply, 0, self.kind, differing=allowed)
        )

    def losses(self) -> str:
        return ", ".join(f"{one['what']}{self.suffix} {one['drop']:.2f}" for one in self.tried)

    def record(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "file": self.files[0].name if self.files else None,
            "asked": self.asked,
            "kind": self.kind if self.files else None,
            "drop": self.tried[-1]["drop"] if self.files else None,
            "tried": self.tried,
            "noisiest": [
                {"tensor": tensor, "signal_to_noise": round(ratio, 1)} for tensor, ratio in self.noisiest[:10]
            ],
        }


def _trials(data: Data, trained: Trained, folder: Path, work: Path, formats: Sequence[str], asked: str) -> list[Trial]:
    samples = calibrating.samples(data, trained.preprocessing)
    of_onnx = quantised_files.ONNX(folder, work, samples)
    makers: dict[str, Maker] = {
        "tflite": quantised_files.LiteRT(folder, trained.model.name, samples),
        "onnx": of_onnx,
        "openvino": quantised_files.OpenVINO(of_onnx),
    }
    taken = [name for name in makers if name in quantised_files.formats_with(asked).intersection(formats)]
    return [
        Trial(
            name,
            makers[name],
            asked,
            list(LADDER[asked] if name == "tflite" else INT8_ALONE),
            "" if taken == ["tflite"] else f" for {NAMES[name]}",
        )
        for name in taken
    ]


def by_chance(lost: int, won: int) -> float:
    """McNemar's test, exact and one-sided: the probability that of so many images which one of two classifiers names
    right and the other wrong at least `lost` fall to the second, if neither is better."""
    differing = lost + won
    return sum(math.comb(differing, count) for count in range(lost, differing + 1)) / 2**differing


def resolution(images: int, max_drop: float) -> str | None:
    """What so few images cannot tell, in a sentence; None where a loss of `max_drop` points is told from chance."""
    fewest = next(lost for lost in range(1, 64) if by_chance(lost, 0) <= CHANCE)
    if 100 * fewest / images <= max_drop:
        return None
    told = (
        f"One image of {images} is {100 / images:.2f} points, and it takes {fewest} that are lost to tell a loss from "
        "chance"
    )
    if not max_drop:
        return f"{told}."
    needed = math.ceil(100 * fewest / max_drop)
    more = f", which is more than the {VALIDATION:,} it takes at most" if needed > VALIDATION else ""
    return f"{told}: for --max-drop {max_drop:g} the gate needs {needed} validation images{more}."


def _changed(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which were right and are wrong, and which the other way round."""
    return before & ~after, ~before & after


def _points(drop: float) -> str:
    return f"{abs(drop):.2f} points of accuracy {'won' if drop < 0 else 'lost'}"


def _rounded(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "below 0.001"


def _answers(files: Sequence[Path], pictures: Pictures, watch: Watch) -> list[NDArray[Any]]:
    """The probabilities (images, classes) of each file. A picture is decoded once for all."""
    networks = []
    for file in files:
        try:
            with quiet.native():
                networks.append(run_artefact.RUNTIMES[file.suffix][1](str(file), os.cpu_count()))
        except Exception as error:  # a runtime raises what it likes about an operation that it lacks
            raise ConversionError(f"{file.name} does not run: {runtime_errors.sentence(error)}") from error
    shown = watch(pictures, pictures.count, f"Measuring {', '.join(file.name for file in files)}")
    answers = [[np.array(network(pixels[np.newaxis])[0]) for network in networks] for pixels in shown]
    return [np.stack(of_one) for of_one in zip(*answers, strict=True)]
