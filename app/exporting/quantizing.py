"""A quantised LiteRT file that is allowed to lose so much accuracy and no more, or the next larger one that does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.datasets.dataset import Data
from app.images.preprocessing import Preprocessing
from app.program import progress, quiet
from app.program.errors import UserError
from app.program.progress import Watch, console
from app.run_folder.trained import Trained
from export import quantization, tflite
from export.quantization import Kind

SAMPLES = 100  # training pictures for the ranges of int8
COMPARED = 8  # of them, to find its noisiest operations: seconds and a hundred megabytes each with a large network
VALIDATION = 1_000  # validation pictures at most
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

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One at a time, uint8 (height, width, 3)."""
        for encoded, _ in self.examples.as_numpy_iterator():
            yield self.preprocessing.decode(encoded).numpy()

    def labels(self) -> NDArray[np.int64]:
        return np.array([label for _, label in self.examples.as_numpy_iterator()])

    def first(self, count: int) -> "Pictures":
        return Pictures(self.examples.take(count), self.preprocessing, min(count, self.count))


def quantize(
    data: Data, trained: Trained, source: Path, asked: str, max_drop: float, watch: Watch = progress.unwatched
) -> dict[str, Any]:
    """Writes the quantised file beside the float32 one, `source`: model.<kind>.tflite. `data` is what the network was
    trained on.

    `asked`, the `kind` it became, `drop` (percentage points of top-1 that it loses on `images` validation pictures),
    `max_drop`, `tried` (each with its drop and its agreement with float32), and `noisiest`: the operations of int8 with
    the lowest signal-to-noise ratio, where int8 was tried.

    Raises:
        UserError: a drop above `max_drop` whatever is tried.
    """
    shuffled = data.train.shuffled(0, tf.constant(0, tf.int64))
    samples = Pictures(shuffled, trained.preprocessing, data.train.count).first(SAMPLES)
    in_order = data.validation.in_order()
    validation = Pictures(in_order, trained.preprocessing, data.validation.count).first(VALIDATION)
    network = trained.model.name
    ranges, noisiest = None, []
    if asked == "int8":
        ranges = quantization.ranges(source, network, samples)
        noisiest = quantization.errors(source, network, ranges, samples.first(COMPARED))
    truth = validation.labels()
    reference = _best(source, validation, watch)
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
        quantization.write(source, kind, file, network, ranges, in_float)
        best = _best(file, validation, watch)
        drop = 100 * float(np.mean(reference == truth) - np.mean(best == truth))
        agreement = float(np.mean(reference == best))
        what = f"{kind} with {len(in_float)} operations in float32" if mixed else kind
        found["tried"].append({"what": what, "drop": drop, "agreement": agreement})
        console.print(
            f"Quantised to {what}: {drop:.2f} points of accuracy lost on {validation.count} validation images, "
            f"{agreement:.1%} the same answers, {file.stat().st_size / 1e6:.1f} MB"
        )
        if drop <= max_drop:
            return found | {"kind": kind, "drop": drop}
        file.unlink()
    losses = ", ".join(f"{one['what']} {one['drop']:.2f}" for one in found["tried"])
    raise UserError(
        f"Nothing was exported: quantised, the network loses more than --max-drop {max_drop:g} points ({losses}). "
        "Allow more, or leave --quantize out."
    )


def _best(file: Path, pictures: Pictures, watch: Watch) -> NDArray[Any]:
    """The best class for each picture."""
    with quiet.native():
        network = tflite.Network(file)
    shown = watch(pictures, pictures.count, f"Measuring {file.name}")
    return np.array([network(pixels).argmax() for pixels in shown])
