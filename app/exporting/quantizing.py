"""A quantised LiteRT file that is allowed to lose so much accuracy and no more, or the next larger one that does.

Both files answer the same images, so a loss is judged by those that one of them names right and the other wrong: of few
images the share alone says little, since one of 153 is 0.65 points.
"""

import functools
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Data
from app.exporting import failures
from app.images.preprocessing import Preprocessing
from app.program import progress, quiet
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.program.shown import counted
from app.run_folder.trained import Trained
from export import quantization, run_artefact
from export.quantization import Kind

SAMPLES = 100  # training pictures for the ranges of int8
COMPARED = 8  # of them, to find its noisiest operations: seconds and a hundred megabytes each with a large network
VALIDATION = 1_000  # validation pictures at most
CHANCE = 0.05  # the probability of a loss by chance, from which on it is none
IN_FLOAT = 0.1  # of the operations of int8, the noisiest, that its second try leaves in float32
# What is tried, in this order, for what was asked.
LADDER: dict[str, tuple[tuple[Kind, bool], ...]] = {
    "int8": (("int8", False), ("int8", True), ("float16", False), ("dynamic", False)),
    "dynamic": (("dynamic", False), ("float16", False)),
    "float16": (("float16", False),),
}


@dataclass(frozen=True)
class Pictures:
    """Examples (encoded image, label) in a fixed order, whose pictures are decoded anew each time they are asked for:
    a thousand of three megapixels take nine gigabytes together."""

    examples: tf.data.Dataset
    preprocessing: Preprocessing
    count: int
    name: Callable[[int], str]  # what the picture at a place is called

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One at a time, uint8 (height, width, 3)."""
        for place, (encoded, _) in enumerate(self.examples.as_numpy_iterator()):
            yield self._decoded(place, encoded)

    def _decoded(self, place: int, encoded: bytes) -> NDArray[np.uint8]:
        with failures.decoding_of(self.name(place)):
            return self.preprocessing.decode(encoded).numpy()

    def labels(self) -> NDArray[np.int64]:
        return np.array([label for _, label in self.examples.as_numpy_iterator()])

    def first(self, count: int) -> "Pictures":
        return replace(self, examples=self.examples.take(count), count=min(count, self.count))


def quantize(
    data: Data, trained: Trained, source: Path, asked: str, max_drop: float, watch: Watch = progress.unwatched
) -> dict[str, Any]:
    """Writes the quantised file beside the float32 one, `source`: model.<kind>.tflite. `data` is what the network was
    trained on.

    It is the `kind` that was `asked` for, unless that loses more than `max_drop` and more than chance would. `drop` are
    the percentage points of top-1 that it loses on `images` validation pictures; `tried` has of each the drop, the
    agreement with float32, right answers `lost` and `won`, and the probability `p` (see `by_chance`); `noisiest` are
    the operations of int8 with the lowest signal-to-noise ratio, where int8 was tried.

    Raises:
        UserError: a drop above `max_drop` whatever is tried; no validation pictures.
    """
    if not data.validation.count:
        raise UserError(f"{data.name} has no validation images to measure a quantised file on; leave --quantize out.")
    shuffled = data.train.shuffled(0, tf.constant(0, tf.int64))
    anyone = f"a training image of {data.name}"
    samples = Pictures(shuffled, trained.preprocessing, data.train.count, lambda _: anyone).first(SAMPLES)
    in_order, named = data.validation.in_order(), functools.partial(failures.picture, data, "validation")
    validation = Pictures(in_order, trained.preprocessing, data.validation.count, named).first(VALIDATION)
    network = trained.model.name
    ranges, noisiest = None, []
    if asked == "int8":
        ranges = quantization.ranges(source, network, samples)
        noisiest = quantization.errors(source, network, ranges, samples.first(COMPARED))
    truth = validation.labels()
    reference = _best(source, validation, watch)
    if coarse := resolution(validation.count, max_drop):
        console.print(coarse)
    found: dict[str, Any] = {
        "asked": asked,
        "images": validation.count,
        "max_drop": max_drop,
        "tried": [],
        "noisiest": [{"tensor": tensor, "signal_to_noise": round(ratio, 1)} for tensor, ratio in noisiest[:10]],
    }
    for kind, mixed in LADDER[asked]:
        in_float = [tensor for tensor, _ in noisiest[: max(1, int(IN_FLOAT * len(noisiest)))]] if mixed else []
        file = source.with_name(f"model.{kind}.tflite")
        with failures.writing(file):
            quantization.write(source, kind, file, network, ranges, in_float)
        best = _best(file, validation, watch)
        lost, won = (int(np.sum(one)) for one in _changed(reference == truth, best == truth))
        drop, p = 100 * (lost - won) / validation.count, by_chance(lost, won)
        agreement = float(np.mean(reference == best))
        what = f"{kind} with {counted(len(in_float), 'operation', 'operations')} in float32" if mixed else kind
        found["tried"].append({"what": what, "drop": drop, "agreement": agreement, "lost": lost, "won": won, "p": p})
        images = counted(validation.count, "validation image", "validation images")
        console.print(
            f"Quantised to {what}: {_points(drop)} on {images} ({lost} lost, {won} won), {agreement:.1%} the same "
            f"answers, {file.stat().st_size / 1e6:.1f} MB"
        )
        if drop <= max_drop or p > CHANCE:
            if drop > max_drop:
                console.print(f"That is within chance (p = {p:.2f}).")
            if kind != asked:
                console.print(f"Instead of {asked}, {what} is written.")
            return found | {"kind": kind, "drop": drop}
        console.print(
            f"Rejected {what}: {drop:.2f} points are more than --max-drop {max_drop:g}, and more than chance "
            f"(p = {_rounded(p)})."
        )
        file.unlink()
    losses = ", ".join(f"{one['what']} {one['drop']:.2f}" for one in found["tried"])
    raise UserError(
        f"Nothing was exported: quantised, the network loses more than --max-drop {max_drop:g} points ({losses}). "
        "Allow more, or leave --quantize out."
    )


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


def _best(file: Path, pictures: Pictures, watch: Watch) -> NDArray[Any]:
    """The best class for each picture."""
    with quiet.native():
        network = run_artefact.tflite(str(file), os.cpu_count())
    shown = watch(pictures, pictures.count, f"Measuring {file.name}")
    return np.array([network(pixels[np.newaxis]).argmax() for pixels in shown])
