"""Writing what the importers read, by hand: PyTorch files without PyTorch, Keras 2 files, TensorFlow checkpoints.

Also random weights with random statistics: with those of a fresh network (mean 0, variance 1) a statistic in the wrong
place goes unnoticed.
"""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

Array = np.ndarray[Any, Any]


def values(rng: np.random.Generator, role: str, shape: tuple[int, ...], fan_in: int = 1) -> Array:
    """Random values for a weight in Keras' terms, such that activations neither vanish nor explode."""
    if role == "moving_variance" or role == "gamma":
        drawn = rng.uniform(0.5, 1.5, shape)
    elif role in ("moving_mean", "beta", "bias"):
        drawn = rng.normal(0, 0.3, shape)
    else:
        drawn = rng.normal(0, (2 / fan_in) ** 0.5, shape)
    return drawn.astype(np.float32)


def randomize(model: keras.Model, seed: int) -> None:
    """Random weights and statistics in every layer of `model`."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            variable.assign(values(rng, variable.name, shape, int(np.prod(shape[:-1]))))


def image(rows: int, columns: int, seed: int = 3) -> Array:
    """Two images that no mirror and no exchange of rows and columns leaves as they were."""
    return np.random.default_rng(seed).uniform(-1, 1, (2, rows, columns, 3)).astype(np.float32)


def torch_values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Random values for the entry `name` of a state dict."""
    if name.endswith("num_batches_tracked"):
        return np.asarray(rng.integers(1, 9, shape), np.int64)
    parts = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "bias"}
    role = parts.get(name.rpartition(".")[2], "kernel" if len(shape) > 1 else "gamma")
    return values(rng, role, shape, int(np.prod(shape[1:])))


def in_order_of_slim(tensors: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """slim's `tensors` as the state dict of `shapes`: kernels, biases and statistics each in their order, gamma 1."""

    def theirs(suffix: str) -> list[Array]:
        return [value for name, value in tensors.items() if name.endswith(suffix)]

    def ours(suffix: str, norm: bool) -> list[str]:
        norms = {name.rpartition(".")[0] for name in shapes if name.endswith(".running_mean")}
        return [name for name in shapes if name.endswith(suffix) and (name.rpartition(".")[0] in norms) is norm]

    state: dict[str, Array] = {}
    for suffix, norm, values_of in (
        (".weight", False, "/weights"),
        (".bias", False, "/biases"),
        (".bias", True, "/beta"),
        (".running_mean", True, "/moving_mean"),
        (".running_var", True, "/moving_variance"),
    ):
        for name, value in zip(ours(suffix, norm), theirs(values_of), strict=True):
            if suffix == ".weight":
                value = value.reshape(value.shape[-2:]).T if len(shapes[name]) == 2 else value.transpose(3, 2, 0, 1)
            assert value.shape == shapes[name], name
            state[name] = np.ascontiguousarray(value)
    state |= {name: np.ones(shapes[name], np.float32) for name in ours(".weight", norm=True)}
    return {name: state.get(name, np.zeros(shape, np.int64)) for name, shape in shapes.items()}


def relative_error(logits: Any, expected: Array) -> float:
    """The largest difference over the largest logit, of images that do make a difference."""
    largest = np.abs(expected).max()
    assert len(expected) == 1 or np.abs(expected[0] - expected[1]).max() > 0.01 * largest, "no image reaches the logits"
    return float(np.abs(np.asarray(logits) - expected).max() / largest)


def write_keras_2(model: keras.Model, path: Path, rename: Mapping[str, str], seed: int = 0) -> None:
    """`model` as Keras 2 wrote it: `:0` behind every weight, long lists of names cut in two, layers in any order."""
    layers = [model.layers[i] for i in np.random.default_rng(seed).permutation(len(model.layers))]
    names = [rename.get(layer.name, layer.name) for layer in layers]
    with h5py.File(path, "w") as file:
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.8"
        half = len(names) // 2
        file.attrs["layer_names0"] = np.array([name.encode() for name in names[:half]])
        file.attrs["layer_names1"] = np.array([name.encode() for name in names[half:]])
        for layer, name in zip(layers, names, strict=True):
            group = file.create_group(name)
            weights = [f"{name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = np.array([weight.encode() for weight in weights] or np.zeros(0, "S1"))
            for weight, variable in zip(weights, layer.weights, strict=True):
                group[weight] = np.asarray(variable)


class Reduced:
    """Pickles as a call: `function`, a global that need not exist here, on `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


class StorageReference:
    def __init__(self, kind: Any, key: str, count: int) -> None:
        self.persistent = ("storage", kind, key, "cpu", count)


class Pickler(pickle.Pickler):
    legacy = False

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, StorageReference):
            return (*value.persistent, None) if self.legacy else value.persistent
        return None


class LegacyPickler(Pickler):
    legacy = True


@contextmanager
def torch_by_name() -> Iterator[Any]:
    """Modules `torch` and `torch._utils` with nothing in them but the names that a pickle of tensors mentions."""
    names = ("torch", "torch._utils")
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    torch, utils = (types.ModuleType(name) for name in names)

    def named(module: types.ModuleType, name: str) -> Any:
        made = type(name, (), {"__module__": module.__name__})
        setattr(module, name, made)
        return made

    for name in ("FloatStorage", "HalfStorage", "DoubleStorage", "BFloat16Storage", "LongStorage"):
        named(torch, name)
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        named(utils, name)
    setattr(torch, "_utils", utils)  # noqa: B010
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage"}


def write_torch(
    path: Path,
    tensors: Mapping[str, Array],
    *,
    legacy: bool = False,
    wrapped: bool = False,
    parameters: bool = False,
    bfloat16: bool = False,
    extra: Any = None,
) -> None:
    """A state dict as `torch.save` writes it: the zip archive, or the stream of before version 1.6 (`legacy`).

    All tensors lie in reverse (Fortran) order in their storage behind three other values, so that a reader that
    ignores strides or offset fails. `extra` is an object that is pickled beside them.
    """
    storages: dict[str, bytes] = {}
    counts: dict[str, int] = {}
    with torch_by_name() as torch:
        state: OrderedDict[str, Any] = OrderedDict()
        for i, (name, array) in enumerate(tensors.items()):
            array = np.asarray(array)
            flat = np.concatenate([np.zeros(3, array.dtype), array.ravel("F")])
            kind = getattr(torch, KINDS[str(array.dtype)])
            if bfloat16 and array.dtype == np.float32:
                kind, flat = torch.BFloat16Storage, (flat.view("<u4") >> 16).astype("<u2")
            key = str(i)
            storages[key], counts[key] = flat.tobytes(), len(flat)
            strides = tuple(int(np.prod(array.shape[:axis])) for axis in range(array.ndim))
            place = (StorageReference(kind, key, len(flat)), 3, array.shape, strides)
            if legacy and i % 2:  # of before version 0.4
                tensor = Reduced(torch._utils._rebuild_tensor, *place)
            else:
                tensor = Reduced(torch._utils._rebuild_tensor_v2, *place, False, OrderedDict())
            state[name] = (
                Reduced(torch._utils._rebuild_parameter, tensor, True, OrderedDict()) if parameters else tensor
            )
        content: Any = {"state_dict": state, "epoch": 3, "best": 0.5} if wrapped else state
        if extra is not None:
            content["extra"] = extra
        pickled = io.BytesIO()
        (LegacyPickler if legacy else Pickler)(pickled, protocol=2).dump(content)
    if not legacy:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("archive/data.pkl", pickled.getvalue())
            archive.writestr("archive/byteorder", "little")
            for key, raw in storages.items():
                archive.writestr(f"archive/data/{key}", raw)
            archive.writestr("archive/version", "3\n")
        return
    with path.open("wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(pickled.getvalue())
        pickle.dump(list(storages), file, protocol=2)
        for key, raw in storages.items():
            file.write(struct.pack("<q", counts[key]) + raw)


def write_tensorflow(prefix: Path, tensors: Mapping[str, Array], version: int) -> Path:
    """A checkpoint of version 1 (the file `prefix`) or 2 (`prefix.index` and its data)."""
    import tensorflow as tf

    names = list(tensors)
    blank = [""] * len(names)
    data = [tf.constant(tensors[name]) for name in names]
    if version == 1:
        tf.raw_ops.Save(filename=str(prefix), tensor_names=names, data=data)
    else:
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=blank, tensors=data)
    return prefix
