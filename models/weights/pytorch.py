"""`.pth` and `.pt` files of PyTorch, read without PyTorch and without running anything that is in them.

`torch.save` writes a pickle of the state dict in which every tensor is a call of `torch._utils._rebuild_tensor_v2` on a
reference to a storage, and beside it the bytes of the storages: since PyTorch 1.6 in a zip archive (`data.pkl`,
`data/0`, `data/1`, ...), before it one after the other in the same file. The unpickler here knows the few names that
such a pickle needs and answers each with an object of its own; any other name is refused before it is looked up.
"""

import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from .tensors import Array, Shape, Tensor, WeightsError, possible

# bfloat16 is the upper half of a float32, and is read as that.
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<u1",
}
MAGIC = 0x1950A86A20F9469CFC6C
LONGEST_PICKLE = 2**26
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    pickle.UnpicklingError,
)


class Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class Reference(NamedTuple):
    """A tensor in a storage; `offset` and `strides` count values, not bytes."""

    storage: Storage
    offset: int
    shape: Shape
    strides: Shape


class StorageType:
    """Stands for a class such as `torch.FloatStorage`; a pickle can neither call it nor change it."""

    __slots__ = ("_dtype",)
    _dtype: str

    def __init__(self, dtype: str) -> None:
        object.__setattr__(self, "_dtype", dtype)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)

    def of(self, key: object, count: Any) -> Storage:
        if int(count) < 0:
            raise ValueError("a storage of negative size")
        return Storage(str(key), self._dtype, int(count))


class Rebuild:
    """Stands for `torch._utils._rebuild_tensor_v2`, and for `_rebuild_tensor` of before version 0.4."""

    __slots__ = ()

    def __call__(
        self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
    ) -> Reference:
        if not isinstance(storage, Storage):
            raise TypeError("a tensor is built on something that is no storage")
        return Reference(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class RebuildParameter:
    """Stands for `torch._utils._rebuild_parameter`."""

    __slots__ = ()

    def __call__(self, data: Any, *_: object) -> Any:
        return data


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): Rebuild(),
    ("torch._utils", "_rebuild_parameter"): RebuildParameter(),
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGES.items()},
    **{("torch.storage", name): StorageType(dtype) for name, dtype in STORAGES.items()},
}


class Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], path: Path) -> None:
        # Names of Python 2 in old files: `encoding` affects strings only, as torch.load has it.
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise WeightsError(
                f"{self.path} asks for {module}.{name}, which is not a tensor and was not run: "
                "save the state dict alone, or as .safetensors."
            )
        return KNOWN[module, name]

    def persistent_load(self, reference: Any) -> Storage:
        kind, storage_type, key, _, count, *view = reference
        if kind != "storage" or not isinstance(storage_type, StorageType) or any(view):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        storage = storage_type.of(key, count)
        return self.storages.setdefault(storage.key, storage)


def tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the state dict in `path`, with `module.` of data parallelism taken from their names.

    A state dict under the key `state_dict`, beside whatever else of plain values, is accepted too.

    Raises:
        WeightsError: no such file, one of another format or cut off, a pickle that asks for anything but tensors and
            containers, a tensor that reaches outside its storage.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is no file.")
    try:
        loaded, storage = _from_zip(path) if zipfile.is_zipfile(path) else _from_stream(path)
        state = _state_dict(path, loaded)
        return {name.removeprefix("module."): _tensor(path, name, state[name], storage) for name in state}
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(f"{path} is no file of PyTorch, or is cut off: fetch it again ({error}).") from error


def _state_dict(path: Path, loaded: Any) -> dict[str, Reference]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Reference) for value in loaded.values()):
        raise WeightsError(f"{path} holds no state dict: save `network.state_dict()`.")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Reference):
            raise WeightsError(f"{path} holds {name} among its tensors, which is none: save `network.state_dict()`.")
    return dict(loaded)


def _from_zip(path: Path) -> tuple[Any, Callable[[Storage], Array]]:
    archive = zipfile.ZipFile(path)
    (pickled,) = (info for info in archive.infolist() if info.filename.split("/")[1:] == ["data.pkl"])
    folder = pickled.filename.split("/")[0]
    order = f"{folder}/byteorder"
    if order in archive.namelist() and archive.open(order).read(16).strip() != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine: save it again on another.")
    if pickled.file_size > LONGEST_PICKLE:
        raise ValueError("its pickle is too long for a state dict")
    with archive.open(pickled) as file:
        unpickler = Unpickler(file, path)
        loaded = unpickler.load()
    for of in unpickler.storages.values():
        info = archive.getinfo(f"{folder}/data/{of.key}")
        if info.file_size < of.length * _size(of.dtype) or info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"storage {of.key} is not as long as it says")

    def storage(of: Storage) -> Array:
        raw = archive.read(f"{folder}/data/{of.key}")
        return _numbers(raw[: of.length * _size(of.dtype)], of.dtype)

    return loaded, storage


def _from_stream(path: Path) -> tuple[Any, Callable[[Storage], Array]]:
    with path.open("rb") as file:
        if Unpickler(file, path).load() != MAGIC:
            raise ValueError("it does not begin as one")
        Unpickler(file, path).load()  # the protocol's version
        system = Unpickler(file, path).load()
        if not system["little_endian"]:
            raise WeightsError(f"{path} was written on a big-endian machine: save it again on another.")
        unpickler = Unpickler(file, path)
        loaded = unpickler.load()
        places = {}
        end = path.stat().st_size
        for key in Unpickler(file, path).load():
            of = unpickler.storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            place = file.tell()
            if count != of.length or place + count * _size(of.dtype) > end:
                raise ValueError(f"storage {key} is not as long as it says")
            places[key] = place
            file.seek(count * _size(of.dtype), 1)

    def storage(of: Storage) -> Array:
        with path.open("rb") as file:
            file.seek(places[of.key])
            return _numbers(file.read(of.length * _size(of.dtype)), of.dtype)

    return loaded, storage


def _size(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(raw: bytes, dtype: str) -> Array:
    if dtype == "bfloat16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, dtype)


def _tensor(path: Path, name: str, reference: Reference, storage: Callable[[Storage], Array]) -> Tensor:
    of, offset, shape, strides = reference
    possible(path, name, shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if offset < 0 or min(strides, default=0) < 0 or (0 not in shape and last >= of.length):
        raise WeightsError(f"{path}: {name} reaches outside its storage; the file is damaged.")

    def read() -> Array:
        try:
            numbers = storage(of)[offset:]
            steps = [stride * numbers.itemsize for stride in strides]
            return np.lib.stride_tricks.as_strided(numbers, shape, steps, writeable=False)
        except DAMAGED as error:
            raise WeightsError(f"{path} is damaged, fetch it again: {name} cannot be read ({error}).") from error

    return Tensor(name, shape, read)
