"""The packages that make and run the files of an export, and their versions. Those of the extra `runtimes` may lack."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from app.artefacts import installed
from app.run_folder.folder import versions

WRITTEN_WITH = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "openvino": ("openvino",)}
# What wrote and runs a file of this name, as the packages are called where they come from.
OF_FILES = {
    "*.tflite": ("ai-edge-litert",),
    "model.*.tflite": ("litert-quantizer",),
    "*.onnx": WRITTEN_WITH["onnx"],
    "*.xml": WRITTEN_WITH["openvino"],
    "*.int8.xml": WRITTEN_WITH["onnx"],
}


def check_formats(formats: Sequence[str]) -> None:
    """
    Raises:
        UserError: what writes one of these formats is not installed.
    """
    for format_ in formats:
        installed.check(f"The format {format_}", WRITTEN_WITH.get(format_, ()))


def check_int8() -> None:
    """
    Raises:
        UserError: what makes OpenVINO's int8 file, besides OpenVINO, is not installed.
    """
    installed.check("OpenVINO's file of --quantize int8", WRITTEN_WITH["onnx"])


def check_files(version: Path) -> None:
    """
    Raises:
        UserError: what runs one of the files of the version folder is not installed.
    """
    for suffix, package in installed.RUNTIMES.items():
        for file in sorted(version.glob(f"*{suffix}")):
            installed.check(str(file), [package])


def of_files(version: Path) -> dict[str, str]:
    """The versions of this program and of all that wrote and ran the files of the version folder, and decoded for
    them."""
    packages = ["pillow"]
    for pattern, needed in OF_FILES.items():
        packages += needed if any(version.glob(pattern)) else ()
    return versions() | {package: importlib.metadata.version(package) for package in packages}
