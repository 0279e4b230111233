"""An int8 IR: the int8 ONNX file as OpenVINO reads it, `model.int8.xml` and the .bin beside it.

One quantisation serves both runtimes.
"""

import errno
from pathlib import Path
from typing import Any

from . import runtime_errors
from .on_pixels import ConversionError


def write(source: Path, file: Path) -> None:
    """Writes `file`, which ends in .xml, and the .bin from the ONNX file `source`, with what that says of itself.

    Raises:
        ConversionError: it has operations that OpenVINO has not.
    """
    import onnx
    import openvino

    def read() -> Any:
        try:
            return openvino.Core().read_model(source)
        except Exception as error:  # its errors have no class in common
            raise ConversionError(f"OpenVINO cannot read {source.name}: {runtime_errors.sentence(error)}") from error

    network = read()
    try:
        from openvino._offline_transformations import apply_moc_transformations

        # What compiling does first, done once: the file is loaded in half the time. Without folding of constants.
        apply_moc_transformations(network, False)
    except Exception:  # nothing that OpenVINO promises to have; the file is as good without
        network = read()
    for entry in onnx.load(source, load_external_data=False).metadata_props:
        network.set_rt_info(entry.value, entry.key)
    try:
        openvino.save_model(network, file, compress_to_fp16=False)
    except RuntimeError as error:  # a full disk, of which it says no more
        raise OSError(errno.EIO, str(error), str(file)) from error
