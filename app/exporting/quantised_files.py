"""How the quantised file of a format is made, one for each kind that may be tried.

LiteRT's quantizer works on the LiteRT file, ONNX Runtime's on the ONNX file; OpenVINO reads what the second made.
"""

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from app.exporting import failures
from app.exporting.calibrating import Pictures
from export import quantization, quantized_onnx, quantized_openvino
from export.quantization import Kind

COMPARED = 8  # samples, to find the noisiest operations of int8: seconds and a hundred megabytes each, if large
IN_FLOAT = 0.1  # of the operations of int8, the noisiest, that its second try leaves in float32
# What is tried, in this order, for what was asked.
LADDER: dict[str, tuple[tuple[Kind, bool], ...]] = {
    "int8": (("int8", False), ("int8", True), ("float16", False), ("dynamic", False)),
    "dynamic": (("dynamic", False), ("float16", False)),
    "float16": (("float16", False),),
}
INT8_ALONE = LADDER["int8"][:2]  # of ONNX Runtime and OpenVINO
# The float32 file of each format, and what it is called.
SOURCES = {"tflite": "model.tflite", "onnx": "model.onnx", "openvino": "model.xml"}
NAMES = {"tflite": "LiteRT", "onnx": "ONNX", "openvino": "OpenVINO"}

Noisiest = list[tuple[str, float]]  # tensors and their signal-to-noise ratios


def formats_with(kind: str) -> set[str]:
    """Which formats have files of the kind."""
    return {*NAMES} if kind == "int8" else {"tflite"}


def needs_onnx(kind: str, formats: Sequence[str]) -> bool:
    """Whether the float32 ONNX file is needed, to make OpenVINO's of the kind, though nobody asked for it."""
    return kind == "int8" and "openvino" in formats and "onnx" not in formats


class Maker(Protocol):
    """Makes the files of a format. The ranges of int8, and its noisiest operations, are measured when first needed."""

    @property
    def noisiest(self) -> Noisiest: ...

    def write(self, kind: Kind, mixed: bool) -> tuple[Path, ...]:
        """Writes model.<kind>.<suffix>, with the noisiest operations in float32 if `mixed`; returns it and, after it,
        what lies beside it.

        Raises:
            ConversionError: the quantizer, or the runtime, cannot take the network.
        """


def in_float(noisiest: Noisiest) -> list[str]:
    return [tensor for tensor, _ in noisiest[: max(1, int(IN_FLOAT * len(noisiest)))]]


class LiteRT:
    def __init__(self, folder: Path, network: str, samples: Pictures) -> None:
        self.source, self.network, self.samples = folder / SOURCES["tflite"], network, samples

    @functools.cached_property
    def ranges(self) -> quantization.Ranges:
        return quantization.ranges(self.source, self.network, self.samples)

    @functools.cached_property
    def noisiest(self) -> Noisiest:
        return quantization.errors(self.source, self.network, self.ranges, self.samples.first(COMPARED))

    def write(self, kind: Kind, mixed: bool) -> tuple[Path, ...]:
        file = self.source.with_name(f"model.{kind}.tflite")
        measured = self.ranges if kind == "int8" else None
        kept = in_float(self.noisiest) if mixed else []
        with failures.writing(file):
            quantization.write(self.source, kind, file, self.network, measured, kept)
        return (file,)


class ONNX:
    """Each file is made once, in the folder `work`, for both formats."""

    def __init__(self, folder: Path, work: Path, samples: Pictures) -> None:
        self.source, self.work, self.samples = folder / SOURCES["onnx"], work, samples

    @functools.cached_property
    def ranges(self) -> quantized_onnx.Ranges:
        return quantized_onnx.ranges(self.source, self.samples)

    @functools.cached_property
    def noisiest(self) -> Noisiest:
        return quantized_onnx.errors(self.source, self.ranges, self.samples.first(COMPARED))

    def made(self, mixed: bool) -> Path:
        file = self.work / f"{'mixed' if mixed else 'int8'}.onnx"
        if not file.exists():
            quantized_onnx.write(self.source, file, self.ranges, in_float(self.noisiest) if mixed else [])
        return file

    def write(self, kind: Kind, mixed: bool) -> tuple[Path, ...]:
        file = self.source.with_name(f"model.{kind}.onnx")
        with failures.writing(file):
            shutil.copyfile(self.made(mixed), file)
        return (file,)


class OpenVINO:
    def __init__(self, of_onnx: ONNX) -> None:
        self.of_onnx = of_onnx

    @property
    def noisiest(self) -> Noisiest:
        return self.of_onnx.noisiest

    def write(self, kind: Kind, mixed: bool) -> tuple[Path, ...]:
        file = self.of_onnx.source.with_name(f"model.{kind}.xml")
        with failures.writing(file):
            quantized_openvino.write(self.of_onnx.made(mixed), file)
        return file, file.with_suffix(".bin")
