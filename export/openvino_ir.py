"""OpenVINO's own form: `model.xml`, the graph, and `model.bin` beside it, the weights.

input   `image`, uint8 [N, height, width, 3], RGB, of any size and number
output  `probabilities`, float32 [N, classes], in label order

Its rt_info has `labels` and `preprocessing`, in JSON, and a `description`. Resizing and scaling are inside. The weights
are float32; on a processor that has bfloat16 OpenVINO computes in that, unless INFERENCE_PRECISION_HINT is f32.
"""

import errno
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import keras

from . import on_pixels
from .on_pixels import ConversionError
from .preprocessing import Preprocessing


def write(
    model: keras.Model,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    file: Path,
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
    *,
    source: Path | None = None,
) -> None:
    """Writes `file`, which ends in .xml, and the .bin of `model`, which takes preprocessed images and gives
    probabilities; with the English names of the labels, where they have such, and their thresholds, where a picture may
    have several. `source` is its `as_saved_model`, where there is one already.

    Raises:
        ConversionError: it has operations that OpenVINO has not.
    """
    import openvino

    with nullcontext(source) if source else on_pixels.as_saved_model(model, preprocessing, file) as folder:
        # Not by `openvino.convert_model`: that takes many times as long, and reports to its makers unasked.
        try:
            network = openvino.Core().read_model(folder)
        except Exception as error:  # its errors have no class in common
            found = re.search(r"No conversion rule found for operations: (.+)", str(error))
            missing = found[1].strip() if found else "what it computes"
            raise ConversionError(f"OpenVINO has no {missing}, which {model.name} needs") from error
        for name, text in on_pixels.facts(model, preprocessing, labels, english, thresholds).items():
            network.set_rt_info(text, name)
        try:
            openvino.save_model(network, file, compress_to_fp16=False)
        except RuntimeError as error:  # a full disk, of which it says no more
            raise OSError(errno.EIO, str(error), str(file)) from error
