"""Keras' legacy `.h5` weights: one group per layer, found through the attributes `layer_names` and `weight_names`.

The convolutions of `keras.applications` are anonymous and the file lists them by their depth in the graph, not in the
order of creation. What survives is the number in their names: `conv2d_1` to `conv2d_94` as Keras 2 counts, `conv2d`,
`conv2d_1` to `conv2d_93` as Keras 3 does, higher where other models were made before. Sorted by it they are in the
order of creation, and are called `conv2d[0]`, `conv2d[1]`, ... and `batch_normalization[0]`, ... from here on.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .tensors import Array, Tensor, WeightsError, possible

ANONYMOUS = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")
# What Keras 2 called DenseNet's classifier.
RENAMED = {"fc1000": "predictions"}


def tensors(path: Path) -> dict[str, Tensor]:
    """The weights of `path` as `layer/weight`: `conv2d[0]/kernel`, `block35_1_conv/bias`, `predictions/kernel`.

    Raises:
        WeightsError: no such file, one of another format, a layer or weight that is listed but not there, a link to
            another place, or a shape that is out of the question.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if not path.is_file():
            raise WeightsError(f"{path} is no file.") from error
        raise WeightsError(f"{path} is no HDF5 file, or is cut off: fetch it again ({error}).") from error
    top = file
    if not _has(file, "layer_names") and isinstance(file.get("model_weights", getlink=True), h5py.HardLink):
        top = file["model_weights"]  # a whole model, by `Model.save`
    if not _has(top, "layer_names"):
        raise WeightsError(
            f"{path} is not in Keras' legacy format, it has no list of layers: "
            "give a file of `Model.save_weights` of this network to the builder, as `weights=`."
        )
    layers = _strings(path, top, "layer_names")
    names = dict(zip(layers, _in_order_of_creation(layers), strict=True))
    found: dict[str, Tensor] = {}
    for layer in layers:
        group = _inside(path, top, layer, h5py.Group)
        for weight in _strings(path, group, "weight_names"):
            dataset = _inside(path, group, weight, h5py.Dataset)
            if dataset.external or dataset.is_virtual:
                raise WeightsError(f"{path}: {layer}/{weight} has its values in another file, which is not opened.")
            if dataset.dtype.kind not in "fiu":
                raise WeightsError(f"{path}: {layer}/{weight} holds {dataset.dtype}, no numbers.")
            role = weight.rsplit("/", 1)[-1].split(":")[0]
            name = weight if weight.startswith(f"{layer}/") else f"{layer}/{weight}"
            found[f"{names[layer]}/{role}"] = Tensor(
                name, possible(path, name, tuple(dataset.shape)), _reader(path, name, dataset)
            )
    return found


def _reader(path: Path, name: str, dataset: Any) -> Any:
    def read() -> Array:
        try:
            return np.asarray(dataset[()])
        except (OSError, RuntimeError) as error:
            raise WeightsError(f"{path} is damaged, fetch it again: {name} cannot be read ({error}).") from error

    return read


def _in_order_of_creation(layers: Iterable[str]) -> list[str]:
    numbers: dict[str, list[int]] = {"conv2d": [], "batch_normalization": []}
    for layer in layers:
        if anonymous := ANONYMOUS.fullmatch(layer):
            numbers[anonymous[1]].append(int(anonymous[2] or 0))
    places = {(kind, number): place for kind in numbers for place, number in enumerate(sorted(numbers[kind]))}

    def name(layer: str) -> str:
        if anonymous := ANONYMOUS.fullmatch(layer):
            return f"{anonymous[1]}[{places[anonymous[1], int(anonymous[2] or 0)]}]"
        layer = layer.replace("/", "_")  # DenseNet's stem is conv1/conv in files of Keras 2
        return RENAMED.get(layer, layer)

    return [name(layer) for layer in layers]


def _has(group: Any, attribute: str) -> bool:
    return attribute in group.attrs or f"{attribute}0" in group.attrs


def _strings(path: Path, group: Any, attribute: str) -> list[str]:
    """A list of names; Keras cuts one that is too long for an attribute into `...0`, `...1` and so on."""
    if not _has(group, attribute):
        raise WeightsError(f"{path}: {group.name} has no attribute {attribute}; the file is not Keras'.")
    parts = [attribute]
    if attribute not in group.attrs:
        parts = [f"{attribute}{i}" for i in range(len(group.attrs)) if f"{attribute}{i}" in group.attrs]
    values = [value for part in parts for value in np.ravel(group.attrs[part])]
    names = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values]
    if len(set(names)) < len(names):
        raise WeightsError(f"{path}: {attribute} of {group.name} lists a name twice; the file is not Keras'.")
    return names


def _inside(path: Path, group: Any, name: str, kind: type) -> Any:
    """What `name` stands for inside `group`, where every step on the way lies in this file."""
    place = group
    for part in name.split("/"):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if link is None:
            raise WeightsError(f"{path} is incomplete, fetch it again: it lists {name} and does not hold it.")
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{path}: {name} is a link to another place, which is not followed.")
        place = place[part]
    if not isinstance(place, kind):
        raise WeightsError(f"{path}: {name} is a {type(place).__name__.lower()}; the file is not Keras'.")
    return place
