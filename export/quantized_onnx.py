"""An int8 ONNX file from the float32 one, in QDQ form, which ONNX Runtime and OpenVINO compute in integers.

Kernels become int8 per channel, activations uint8 with ranges taken from sample pictures. The network alone: what is
around it, the resizing before it and the softmax behind it, stays in float32, since a quantised resize of pictures of
odd sizes cost points of accuracy. Kernels use seven bits of their eight: on x86 processors without VNNI, pairs of
products are added in 16 bits, which eight would overflow, and a trained network fell from 98.6 to 76 %.
"""

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import runtime_errors
from .on_pixels import ConversionError

Ranges = Any  # of each tensor, as the quantizer has them
WITH_KERNELS = ("Conv", "MatMul", "Gemm")
DEQUANTISED = "_DequantizeLinear_Output"  # what the quantizer appends to the name of a tensor


def ranges(source: Path, samples: Iterable[Any]) -> Ranges:
    """The smallest and the largest value of every activation.

    `source` is the float32 file that `onnx_file.write` made; samples are pictures, uint8 (height, width, 3), each
    looked at once.

    Raises:
        ConversionError: the quantizer cannot take the network.
    """
    from onnxruntime.quantization import MinMaxCalibrater

    class Reader:
        """One by one, of each only the ranges are kept."""

        pictures = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            return next(({"image": picture[np.newaxis]} for picture in self.pictures), None)

    with _taken(source), _beside(source) as folder:
        shutil.copyfile(source, folder / "model.onnx")  # beside which it writes another
        calibrator = MinMaxCalibrater(folder / "model.onnx", augmented_model_path=str(folder / "augmented.onnx"))
        calibrator.augment_graph()
        calibrator.create_inference_session()
        del calibrator.model  # the weights, which the session has again
    with _quietly():  # an error of the pictures is not the quantizer's
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def write(source: Path, file: Path, measured: Ranges, in_float: Sequence[str] = ()) -> None:
    """Writes the int8 ONNX file `file` from the float32 one `source`, with all that this says of itself.

    `measured` are the `ranges`; `in_float` names tensors, as `errors` does, whose operations stay in float32.

    Raises:
        ConversionError: the quantizer cannot take the network, or it has nothing to quantise.
    """
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType

    with _taken(source), _beside(source) as folder:
        network = _shaped(source, folder / "shaped.onnx")  # it wants to know the type of every tensor
        about = [(entry.key, entry.value) for entry in network.metadata_props]
        # Without this mark it would infer the shapes a second time.
        network.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
        inside = _inside(network.graph)
        made = QDQQuantizer(
            network,
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=_of_one_scale(network.graph, measured),
            nodes_to_quantize=[node.name for node in inside],
            nodes_to_exclude=[node.name for node in _giving(inside, in_float)],
            op_types_to_quantize=sorted({node.op_type for node in inside}),
            extra_options={},
        )
        made.quantize_model()
        made.model.topological_sort()
        quantised = made.model.model
        del quantised.metadata_props[:]
        onnx.helper.set_model_props(quantised, dict(about))
        onnx.checker.check_model(quantised)
    file.write_bytes(quantised.SerializeToString())


def _shaped(source: Path, file: Path) -> Any:
    """The model of `source` with the type of every tensor, by way of `file`: what is inferred in memory takes a copy.

    Raises:
        OSError: the disk is full, of which what writes the file says nothing.
    """
    import onnx
    from google.protobuf.message import DecodeError

    onnx.shape_inference.infer_shapes_path(str(source), str(file))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if file.stat().st_size < source.stat().st_size:  # it has all that is in the source, and more
        raise full
    try:
        return onnx.load(file)
    except DecodeError as error:
        raise full from error


def errors(source: Path, measured: Ranges, samples: Iterable[Any]) -> list[tuple[str, float]]:
    """The tensors that the quantised kernels give and the signal-to-noise ratio of each against float32, the noisiest
    first, over samples, pictures of uint8 (height, width, 3), each looked at once.

    ONNX Runtime's `qdq_loss_debug` compares the same, but keeps every tensor for every picture until the end.

    Raises:
        ConversionError: as `write`.
    """
    import onnx

    with _beside(source) as folder:
        int8 = folder / "int8.onnx"
        write(source, int8, measured)
        with _taken(source):
            quantised, network = onnx.load(int8), onnx.load(source)
            after = {name for node in quantised.graph.node for name in node.output}
            inside = _inside(network.graph)
            kernels = {name for node in inside if node.op_type in WITH_KERNELS for name in node.output}
            # An activation behind a kernel is computed with it.
            fused = {node.output[0] for node in inside if node.op_type == "Relu" and node.input[0] in kernels}
            names = sorted(name for name in kernels | fused if name + DEQUANTISED in after)
            with_outputs = (
                (_giving_also(quantised, [name + DEQUANTISED for name in names]), folder / "quantised.onnx"),
                (_giving_also(network, names), folder / "float.onnx"),
            )
            for model, path in with_outputs:
                path.write_bytes(model.SerializeToString())
            del quantised, network, with_outputs, model
            found = _session(folder / "quantised.onnx"), _session(folder / "float.onnx")
        signal, noise = np.zeros(len(names)), np.zeros(len(names))
        for sample in samples:
            image = {"image": sample[np.newaxis]}
            given = found[0].run([name + DEQUANTISED for name in names], image)
            for place, right in enumerate(found[1].run(names, image)):
                signal[place] += np.mean(np.square(right, dtype=np.float64))
                noise[place] += np.mean(np.square(right - given[place], dtype=np.float64))
    ratios = signal / np.maximum(noise, np.finfo(np.float64).tiny)
    return sorted(zip(names, ratios.tolist(), strict=True), key=lambda one: one[1])


def _inside(graph: Any) -> list[Any]:
    """The network's operations: those with kernels, and all that follows them up to the softmax."""
    constants = {tensor.name for tensor in graph.initializer}
    seen: set[str] = set()
    found = []
    for node in graph.node:
        if seen.intersection(node.input) or (node.op_type in WITH_KERNELS and constants.intersection(node.input[1:2])):
            seen.update(node.output)
            if node.op_type != "Softmax":
                found.append(node)
    if not found:
        raise ConversionError(f"{graph.name} has no {', '.join(WITH_KERNELS)} that could be quantised")
    return found


def _giving(nodes: Sequence[Any], tensors: Sequence[str]) -> list[Any]:
    """Those that give one of the tensors, with the kernel before an activation."""
    by_output = {name: node for node in nodes for name in node.output}
    last = [by_output[name] for name in tensors]
    return last + [by_output[node.input[0]] for node in last if node.op_type == "Relu" and node.input[0] in by_output]


def _of_one_scale(graph: Any, measured: Ranges) -> Ranges:
    """The same ranges, but a part that nothing reads except what joins it has that of the whole: it would be scaled
    twice otherwise."""
    from onnxruntime.quantization import TensorsData

    found, readers = dict(measured.items()), Counter(name for node in graph.node for name in node.input)
    for node in reversed(graph.node):
        if node.op_type == "Concat" and node.output[0] in found:
            found |= {name: found[node.output[0]] for name in node.input if name in found and readers[name] == 1}
    return TensorsData(measured.calibration_method, found)


def _giving_also(model: Any, names: Sequence[str]) -> Any:
    import onnx

    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return model


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # As they stand in the file: an operation that was fused gives no tensor of its own.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def _beside(source: Path) -> Iterator[Path]:
    """A hidden folder for the copies that the quantizer writes; it is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=source.parent, prefix=".") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _taken(source: Path) -> Iterator[None]:
    """What the quantizer raises, whatever it stumbles over, is one sentence; what it reports, nothing."""
    try:
        with _quietly():
            yield
    except (ConversionError, OSError):
        raise
    except Exception as error:
        said = runtime_errors.sentence(error)
        raise ConversionError(f"ONNX Runtime's quantizer cannot take {source.name}: {said}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
