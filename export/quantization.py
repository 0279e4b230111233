"""Smaller LiteRT files from the float32 one, by LiteRT's own quantizer.

float16     kernels in half precision: half the size, everything else as before
dynamic     kernels in int8 per channel, activations quantised while it runs: a quarter of the size
int8        activations in int8 too, with ranges taken from sample pictures

What is around the network, the resizing before it and the softmax behind it, stays in float32: pixels go in as uint8
and probabilities come out as float32 in every form. The signature `unknown` is left out: its threshold is that of
float32.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from litert_quantizer import quantizer
from litert_quantizer.calibrator import Calibrator
from litert_quantizer.qtyping import TFLOperationName
from litert_quantizer.recipe import AlgorithmName
from litert_quantizer.recipe_manager import RecipeManager
from litert_quantizer.utils import qsv_utils
from litert_quantizer.utils.validation_utils import ValidationErrorMetric

from . import metadata, tflite

Kind = Literal["float16", "dynamic", "int8"]
Ranges = dict[str, Any]  # of each tensor, as the quantizer has them
KINDS: tuple[Kind, ...] = ("float16", "dynamic", "int8")
THREADS = os.cpu_count() or 1
WITH_KERNELS = (TFLOperationName.CONV_2D, TFLOperationName.DEPTHWISE_CONV_2D, TFLOperationName.FULLY_CONNECTED)


def ranges(source: Path, network: str, samples: Iterable[Any]) -> Ranges:
    """The smallest and the largest value of every activation that int8 has to represent.

    `source` is the float32 file that `tflite.write` made of the model `network`; samples are pictures, uint8 (height,
    width, 3), each looked at once. The quantizer's own way averages over the pictures, which cuts off the strongest
    answers: five of 360 digits were lost by it, none without.
    """
    with tflite.without_unknown(source) as alone:
        return _ranges(alone, network, samples)


def _ranges(source: Path, network: str, samples: Iterable[Any]) -> Ranges:
    recipes = RecipeManager()
    recipes.load_quantization_recipe(_quantizer(source, "int8", network, ()).get_quantization_recipe())
    signature, image = _signature(source)
    with _quietly():
        calibrator = Calibrator(str(source), num_threads=THREADS, qsv_update_func=qsv_utils.min_max_update)
        # One by one: of what it is given together it makes a list, to count it.
        for sample in samples:
            calibrator.calibrate({signature: [{image: sample[None]}]}, recipes)
    return calibrator.get_model_qsvs()


def write(
    source: Path, kind: Kind, file: Path, network: str, measured: Ranges | None = None, in_float: Sequence[str] = ()
) -> None:
    """Writes the LiteRT file `file`, from the float32 one `source`, which `tflite.write` made of the model `network`.

    `measured` are the `ranges`, which int8 needs; `in_float` names tensors, as `errors` does, whose operations stay in
    float32.
    """
    with tflite.without_unknown(source) as alone, _quietly():
        made = _quantizer(alone, kind, network, in_float)
        known = measured if made.need_calibration else None
        result = made.quantize(known, enable_progress_bar=False, enable_progress_report=False)
        result.export_model(str(file), overwrite=True)
    metadata.carry(source, file)


def errors(source: Path, network: str, measured: Ranges, samples: Iterable[Any]) -> list[tuple[str, float]]:
    """The tensors of the int8 network and the signal-to-noise ratio of each against float32, the noisiest first.

    Compared on samples, pictures of uint8 (height, width, 3), by kernels that keep every tensor: seconds for each.
    """
    with tflite.without_unknown(source) as alone:
        return _errors(alone, network, measured, samples)


def _errors(source: Path, network: str, measured: Ranges, samples: Iterable[Any]) -> list[tuple[str, float]]:
    made = _quantizer(source, "int8", network, ())
    signature, image = _signature(source)
    data = {signature: ({image: sample[None]} for sample in samples)}
    with _quietly():
        made.quantize(measured, enable_progress_bar=False, enable_progress_report=False)
        compared = made.validate(data, [ValidationErrorMetric.SNR], use_xnnpack=False, num_threads=THREADS)
    tensors = compared.get_signature_comparison_result(signature).intermediate_tensors
    found = [(name, float(values["snr"])) for name, values in tensors.items() if name.startswith(network)]
    return sorted(found, key=lambda one: one[1])


def _quantizer(source: Path, kind: Kind, network: str, in_float: Sequence[str]) -> Any:
    made = quantizer.Quantizer(str(source))
    everything = TFLOperationName.ALL_SUPPORTED
    if kind == "int8":
        # Operations are found by the tensors they give, whose names begin with that of the model.
        made.add_static_config(f"^{network}", everything, activation_num_bits=8, weight_num_bits=8)
        for outside in (TFLOperationName.INPUT, TFLOperationName.OUTPUT, TFLOperationName.SOFTMAX):
            made.update_quantization_recipe(".*", outside, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for operation in WITH_KERNELS:
        if kind == "dynamic":
            made.add_dynamic_config(".*", operation, num_bits=8)
        elif kind == "float16":
            casting = AlgorithmName.FLOAT_CASTING
            made.add_weight_only_config(".*", operation, num_bits=16, algorithm_key=casting)
    for tensor in in_float:
        exactly = f"^{re.escape(tensor)};?$"
        made.update_quantization_recipe(exactly, everything, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return made


def _signature(source: Path) -> tuple[str, str]:
    """The names of the signature and of its input."""
    ((name, signature),) = tflite.interpreter(source).get_signature_list().items()
    (image,) = signature["inputs"]
    return name, image


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the quantizer's own progress bars, and its warning that looking at all tensors takes memory."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        yield
