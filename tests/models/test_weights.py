"""Published weights: every importer against the code base its files come from, and what it does with bad files."""

import functools
import hashlib
import http.server
import importlib.util
import io
import os
import pickle
import re
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
from keras.src.legacy.saving import legacy_h5_format

from models import NETWORKS
from models.weights import WeightsError, assign, published, read
from models.weights.checkpoint import Checkpoint
from models.weights.tables import TABLES as ALL_TABLES
from tests import ROOT
from tests.oracles import slim_networks, torch_names, weight_files
from tests.oracles.weight_files import Array, image, randomize, relative_error, write_tensorflow, write_torch

TOLERANCE = 1e-5
TABLES = [table for table in ALL_TABLES if table.source != "caffe"]  # those of Caffe: `test_caffe.py`


def table(network: str, source: str, layout: str | None = None) -> Any:
    return next(
        table
        for table in TABLES
        if (table.network, table.source) == (network, source) and layout in (None, table.format)
    )


def build(checkpoint: Checkpoint, rows: int, columns: int, **arguments: Any) -> keras.Model:
    """The network that the checkpoint's arguments ask for, up to its logits."""
    shape = (rows, columns, 3)
    arguments = {"classifier_activation": None, "input_shape": shape, **checkpoint.arguments, **arguments}
    return NETWORKS[checkpoint.network](**arguments)


def named_by(table: Any, model: keras.Model) -> dict[str, Array]:
    """The model's weights under the names of `table` and in that format's layout: what its file would hold."""
    tensors = {}
    for layer in model.layers:
        for variable in layer.weights:
            value = np.asarray(variable)
            if table.format == "pytorch" and variable.name == "kernel":
                value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            tensors[table.tensor(table.layers[layer.name], variable.name)] = np.ascontiguousarray(value)
    return tensors


def weights_by_name(model: keras.Model) -> dict[str, Array]:
    """The order of the layers depends on padding, which some ports have as layers."""
    return {f"{layer.name}/{v.name}": np.asarray(v) for layer in model.layers for v in layer.weights}


def same_weights(a: keras.Model, b: keras.Model) -> bool:
    x, y = weights_by_name(a), weights_by_name(b)
    return x.keys() == y.keys() and all(np.array_equal(x[name], y[name]) for name in x)


# The number of tensors in each file, without `global_step`: slim's and facenet's are those of their variable listings,
# Keras' the lengths of `model.weights`, torch's those of `state_dict()` of torchvision 0.28, timm 1.0 and Cadene.
COUNTS = {
    ("inception_v1", "slim", "tensorflow"): (230, 230),
    ("inception_v1", "torchvision", "pytorch"): (344, 344),
    ("inception_v2", "slim", "tensorflow"): (277, 277),
    ("bn_inception", "cadene", "pytorch"): (485, 485),
    ("inception_v3", "slim", "tensorflow"): (378, 388),
    ("inception_v3", "keras", "keras"): (378, 378),
    ("inception_v3", "torchvision", "pytorch"): (566, 580),
    ("inception_v3", "timm", "pytorch"): (566, 580),
    ("inception_v4", "slim", "tensorflow"): (598, 608),
    ("inception_v4", "timm", "pytorch"): (896, 896),
    ("inception_v4", "cadene", "pytorch"): (896, 896),
    ("inception_resnet_v1", "facenet", "tensorflow"): (492, 492),
    ("inception_resnet_v1", "facenet", "pytorch"): (716, 716),
    ("inception_resnet_v2", "slim", "tensorflow"): (898, 908),
    ("inception_resnet_v2", "keras", "keras"): (898, 898),
    ("inception_resnet_v2", "timm", "pytorch"): (1306, 1306),
    ("inception_resnet_v2", "cadene", "pytorch"): (1306, 1306),
    ("resnet18", "torchvision", "pytorch"): (122, 122),
    ("densenet121", "keras", "keras"): (606, 606),
    ("densenet121", "torchvision", "pytorch"): (727, 727),
}


def test_every_table_has_as_many_tensors_as_its_file() -> None:
    assert {(table.network, table.source, table.format) for table in TABLES} == set(COUNTS)
    for table in TABLES:
        counts = []
        for layers in (table.layers, {**table.layers, **table.auxiliary}):
            names = set()
            for ours, theirs in layers.items():
                roles = ["kernel"]
                if ours.endswith("_bn"):
                    gamma = table.format == "pytorch" or table.network == "densenet121"
                    roles = ["beta", "moving_mean", "moving_variance", *["gamma"] * gamma]
                    names |= {f"{theirs}.num_batches_tracked"} if table.format == "pytorch" else set()
                elif (table.network, ours) == ("inception_v2", "stem_1_conv"):
                    roles = ["depthwise_kernel", "pointwise_kernel", "bias"]
                elif (
                    ours.endswith("_up_conv")
                    or ours in ("predictions", "auxiliary")
                    or (ours.endswith("_conv") and table.network == "bn_inception")
                ):
                    roles.append("bias")
                names |= {table.tensor(theirs, role) for role in roles}
            counts.append(len(names))
        assert tuple(counts) == COUNTS[table.network, table.source, table.format], table


def test_every_table_names_the_layers_of_its_file() -> None:
    ports = {"inception_v1": "googlenet", "bn_inception": "bninception"}
    for table in TABLES:
        if table.format == "keras" or (table.source, table.network[:10]) == ("cadene", "inception_"):
            continue  # numbers instead of names; and those of timm
        for auxiliary in {False, bool(table.auxiliary)}:
            if table.format == "tensorflow":
                bottleneck = 512 if table.source == "facenet" else None
                names = slim_networks.variables(table.network, auxiliary=auxiliary, bottleneck=bottleneck)
            else:
                library = {"facenet": "facenet-pytorch"}.get(table.source, table.source)
                port = f"{library}/{ports.get(table.network, table.network)}"
                names = torch_names.tensors(port, auxiliary=auxiliary)
            separator = "." if table.format == "pytorch" else "/"
            layers = {**table.layers, **(table.auxiliary if auxiliary else {})}
            assert set(layers.values()) == {name.rpartition(separator)[0] for name in names}, table


# Keras: its own applications -----------------------------------------------------------------------------------------

# network, application, the smallest side
APPLICATIONS = [
    pytest.param("inception_v3", keras.applications.InceptionV3, 75, id="inception_v3"),
    pytest.param("densenet121", keras.applications.DenseNet121, 64, id="densenet121", marks=pytest.mark.slow),
    pytest.param(
        "inception_resnet_v2",
        keras.applications.InceptionResNetV2,
        75,
        id="inception_resnet_v2",
        marks=pytest.mark.slow,
    ),
]


def keras_2_names(model: keras.Model) -> dict[str, str]:
    """Anonymous layers counted from 1, slashes in DenseNet's stem, its classifier by its old name."""
    names = {"conv1_conv": "conv1/conv", "conv1_bn": "conv1/bn"}
    for kind in ("conv2d", "batch_normalization"):
        anonymous = [layer.name for layer in model.layers if layer.name.rstrip("_0123456789") == kind]
        anonymous.sort(key=lambda name: int(name.removeprefix(kind).removeprefix("_") or 0))
        names |= {name: f"{kind}_{place}" for place, name in enumerate(anonymous, start=1)}
    if "conv1_conv" in {layer.name for layer in model.layers}:
        names["predictions"] = "fc1000"
    return names


@pytest.mark.parametrize(("network", "application", "side"), APPLICATIONS)
def test_keras_files_give_the_logits_of_keras_applications(
    network: str, application: Callable[..., keras.Model], side: int, tmp_path: Path
) -> None:
    theirs = application(weights=None, classes=7, input_shape=(side, side, 3), classifier_activation=None)
    randomize(theirs, seed=1)
    x = image(side, side)
    expected = np.asarray(theirs(x, training=False))

    with h5py.File(tmp_path / "keras_3.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
    weight_files.write_keras_2(theirs, tmp_path / "keras_2.h5", keras_2_names(theirs))
    model = build(read(tmp_path / "keras_3.h5", network, "keras"), side, side)
    for name in ("keras_3.h5", "keras_2.h5"):
        checkpoint = read(tmp_path / name, network, "keras")
        assert checkpoint.classes == checkpoint.arguments["classes"] == 7
        assert checkpoint.arguments.get("scale", True) is (network == "densenet121")
        randomize(model, seed=99)
        report = assign(model, checkpoint)
        assert (len(report.loaded), report.skipped, report.missing) == (len(theirs.weights), [], [])
        assert relative_error(model(x, training=False), expected) < TOLERANCE


@pytest.mark.parametrize(("network", "application", "side"), APPLICATIONS[:1])
def test_a_file_without_the_classifier(
    network: str, application: Callable[..., keras.Model], side: int, tmp_path: Path
) -> None:
    theirs = application(weights=None, include_top=False, input_shape=(side, side, 3), pooling="avg")
    randomize(theirs, seed=1)
    weight_files.write_keras_2(theirs, tmp_path / "notop.h5", keras_2_names(theirs))
    checkpoint = read(tmp_path / "notop.h5", network, "keras")
    assert (checkpoint.classes, checkpoint.arguments["include_top"]) == (None, False)
    headless = build(checkpoint, side, side, pooling="avg")
    assign(headless, checkpoint)
    x = image(side, side)
    expected = np.asarray(theirs(x, training=False))
    assert relative_error(headless(x, training=False), expected) < TOLERANCE

    model = build(checkpoint, side, side, include_top=True, classes=5)
    before = model.get_layer("predictions").get_weights()
    with pytest.raises(WeightsError, match=r"no predictions/kernel for predictions/kernel.*include_top=False"):
        assign(model, checkpoint)
    report = assign(model, checkpoint, partial=("predictions",))
    assert [row.target for row in report.missing] == ["predictions/kernel", "predictions/bias"]
    after = model.get_layer("predictions").get_weights()
    assert all(np.array_equal(x, y) for x, y in zip(before, after, strict=True))


# TF-slim and facenet: a second transcription of their networks in plain TensorFlow -----------------------------------

# network, source, image, auxiliary head, bottleneck
SLIM = [
    pytest.param("inception_v1", "slim", (65, 80), False, None, id="inception_v1"),
    pytest.param("inception_v2", "slim", (65, 80), False, None, id="inception_v2"),
    pytest.param("inception_v3", "slim", (75, 89), False, None, id="inception_v3"),
    pytest.param("inception_v3", "slim", (299, 299), True, None, id="inception_v3-auxiliary"),
    pytest.param("inception_v4", "slim", (75, 89), False, None, id="inception_v4"),
    pytest.param("inception_v4", "slim", (299, 299), True, None, id="inception_v4-auxiliary", marks=pytest.mark.slow),
    pytest.param("inception_resnet_v1", "facenet", (75, 89), False, 128, id="facenet"),
    pytest.param("inception_resnet_v1", "facenet", (75, 89), False, None, id="facenet-without-bottleneck"),
    pytest.param(
        "inception_resnet_v2", "slim", (75, 89), False, None, id="inception_resnet_v2", marks=pytest.mark.slow
    ),
    pytest.param(
        "inception_resnet_v2",
        "slim",
        (299, 299),
        True,
        None,
        id="inception_resnet_v2-auxiliary",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize(("network", "source", "size", "auxiliary", "bottleneck"), SLIM)
def test_slim_checkpoints_give_the_logits_of_slim(
    network: str, source: str, size: tuple[int, int], auxiliary: bool, bottleneck: int | None, tmp_path: Path
) -> None:
    shapes = slim_networks.variables(network, classes=11, auxiliary=auxiliary, bottleneck=bottleneck)
    tensors = slim_networks.made_up(shapes, seed=5)
    path = write_tensorflow(tmp_path / "model.ckpt", {**tensors, "global_step": np.array(3)}, 1 if auxiliary else 2)
    checkpoint = read(path, network, source)
    expected_arguments = {"classes": 11, "scale": False, **({"bottleneck": bottleneck} if bottleneck else {})}
    assert checkpoint.arguments == expected_arguments
    model = build(checkpoint, *size, auxiliary=auxiliary)
    report = assign(model, checkpoint, auxiliary=auxiliary)
    assert (len(report.loaded), len(report.skipped), report.missing) == (len(tensors), 1, [])
    x = image(*size)[: 1 if auxiliary else 2]  # the side head needs large images
    outputs = model(x, training=False)
    logits = outputs["predictions"] if auxiliary else outputs
    assert relative_error(logits, slim_networks.logits(network, tensors, x)) < TOLERANCE
    if auxiliary:
        side_head = slim_networks.auxiliary_logits(network, tensors, x)
        assert relative_error(outputs["auxiliary"], side_head) < TOLERANCE


# PyTorch: the libraries themselves where they are installed, else the same weights under slim's names -----------------


# Runs without TensorFlow: the two do not always bear each other in one process.
LIBRARY = """
import sys
import numpy, safetensors.numpy, torch
module, name, options, folder, auxiliary = sys.argv[1:]
theirs = getattr(__import__(module, fromlist=[name]), name)(**eval(options)).eval()
state = safetensors.numpy.load_file(f"{folder}/state.safetensors")
theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()}, strict=True)
image = torch.from_numpy(numpy.load(f"{folder}/image.npy").transpose(0, 3, 1, 2).copy())
torch.save(theirs.state_dict(), f"{folder}/zip.pth")
torch.save(theirs.state_dict(), f"{folder}/legacy.pth", _use_new_zipfile_serialization=False)
torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, f"{folder}/wrapped.pth")
torch.save(theirs, f"{folder}/whole.pth")
with torch.no_grad():
    numpy.save(f"{folder}/logits.npy", theirs(image).numpy())
    if auxiliary == "True":  # the head runs in training only; nothing else must train
        theirs.train()
        for module in theirs.modules():
            if module is not theirs:
                module.eval()
        numpy.save(f"{folder}/auxiliary.npy", theirs(image)[1].numpy())
"""

# port, source and network of ours, module and name of theirs, its arguments, image
PORTS = [
    pytest.param(
        "torchvision/googlenet",
        ("torchvision", "inception_v1"),
        ("torchvision.models", "googlenet", {"aux_logits": True, "init_weights": False, "num_classes": 11}),
        (64, 96),
        id="torchvision-googlenet",
    ),
    pytest.param(
        "torchvision/inception_v3",
        ("torchvision", "inception_v3"),
        ("torchvision.models", "inception_v3", {"aux_logits": True, "init_weights": False, "num_classes": 11}),
        (299, 299),
        id="torchvision-inception_v3",
    ),
    pytest.param(
        "torchvision/resnet18",
        ("torchvision", "resnet18"),
        ("torchvision.models", "resnet18", {"num_classes": 11}),
        (64, 97),
        id="torchvision-resnet18",
    ),
    pytest.param(
        "torchvision/densenet121",
        ("torchvision", "densenet121"),
        ("torchvision.models", "densenet121", {"num_classes": 11}),
        (64, 96),
        id="torchvision-densenet121",
    ),
    *(
        pytest.param(
            f"timm/{name}",
            ("timm", name),
            ("timm", "create_model", {"model_name": name, "pretrained": False, "num_classes": 11}),
            (75, 89),
            id=f"timm-{name}",
        )
        for name in ("inception_v3", "inception_v4", "inception_resnet_v2")
    ),
    pytest.param(
        "facenet-pytorch/inception_resnet_v1",
        ("facenet", "inception_resnet_v1"),
        ("facenet_pytorch", "InceptionResnetV1", {"classify": True, "num_classes": 11}),
        (75, 89),
        id="facenet-pytorch",
    ),
    pytest.param(
        "cadene/bninception",
        ("cadene", "bn_inception"),
        ("pretrainedmodels.models", "bninception", {"num_classes": 11, "pretrained": None}),
        (223, 223),
        id="cadene-bninception",
    ),
]


@pytest.mark.parametrize(("port", "ours", "theirs", "size"), PORTS)
def test_state_dicts_give_the_logits_of_their_library(
    port: str,
    ours: tuple[str, str],
    theirs: tuple[str, str, dict[str, Any]],
    size: tuple[int, int],
    fresh_process: Callable[..., str],
    tmp_path: Path,
) -> None:
    (source, network), (module, name, options) = ours, theirs
    for library in ("torch", module.partition(".")[0]):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    heads = options.get("aux_logits", False)
    loads_head = heads and network == "inception_v3"
    rng = np.random.default_rng(7)
    shapes = torch_names.tensors(port, classes=11, auxiliary=heads)
    state = {key: weight_files.torch_values(rng, key, shape) for key, shape in shapes.items()}
    safetensors.numpy.save_file(state, tmp_path / "state.safetensors")
    x = image(*size)
    np.save(tmp_path / "image.npy", x)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    fresh_process(LIBRARY, module, name, options, tmp_path, loads_head, PYTHONPATH=path)

    with pytest.raises(WeightsError, match=r"asks for .*, which is not a tensor and was not run"):
        read(tmp_path / "whole.pth", network, source)
    model = build(read(tmp_path / "state.safetensors", network, source), *size)
    found = []
    for file in ("state.safetensors", "zip.pth", "legacy.pth", "wrapped.pth"):
        checkpoint = read(tmp_path / file, network, source)
        assert checkpoint.arguments["classes"] == 11
        randomize(model, seed=99)
        report = assign(model, checkpoint)
        assert (len(report.loaded), report.missing) == (len(model.weights), [])
        assert len(report.loaded) + len(report.skipped) == len(state)
        found.append(model.get_weights())
    assert all(np.array_equal(a, b) for others in found[1:] for a, b in zip(found[0], others, strict=True))
    expected = np.load(tmp_path / "logits.npy")
    assert relative_error(model(x, training=False), expected) < TOLERANCE
    if loads_head:
        model = build(checkpoint, *size, auxiliary=True)
        assign(model, checkpoint, auxiliary=True)
        outputs = model(x, training=False)
        expected = np.load(tmp_path / "auxiliary.npy")
        assert relative_error(outputs["auxiliary"], expected) < TOLERANCE


# port, network, its source, the source of the original
SAME_WEIGHTS = [
    pytest.param(port, network, source, original, id=f"{source}-{network}", marks=[pytest.mark.slow] * slow)
    for port, network, source, original, slow in (
        ("torchvision/googlenet", "inception_v1", "torchvision", "slim", False),
        ("torchvision/inception_v3", "inception_v3", "torchvision", "slim", False),
        ("timm/inception_v3", "inception_v3", "timm", "slim", True),
        ("timm/inception_v4", "inception_v4", "timm", "slim", True),
        ("timm/inception_v4", "inception_v4", "cadene", "slim", True),
        ("timm/inception_resnet_v2", "inception_resnet_v2", "timm", "slim", True),
        ("timm/inception_resnet_v2", "inception_resnet_v2", "cadene", "slim", True),
        ("facenet-pytorch/inception_resnet_v1", "inception_resnet_v1", "facenet", "facenet", False),
    )
]


@pytest.mark.parametrize(("port", "network", "source", "original"), SAME_WEIGHTS)
def test_a_port_s_state_dict_is_slim_s_checkpoint(
    port: str, network: str, source: str, original: str, tmp_path: Path
) -> None:
    """The ports list their convolutions in the order in which slim creates its variables."""
    bottleneck = 512 if original == "facenet" else None
    shapes = slim_networks.variables(network, classes=11, bottleneck=bottleneck)
    tensors = slim_networks.made_up(shapes, seed=5)
    state = weight_files.in_order_of_slim(tensors, torch_names.tensors(port, classes=11))
    if (source, network) == ("cadene", "inception_resnet_v2"):
        state = {name.replace("classif.", "last_linear."): state[name] for name in state}
    write_torch(tmp_path / "a.pth", state)
    imported: list[keras.Model] = []
    for path, from_whom in (
        (write_tensorflow(tmp_path / "model.ckpt", tensors, 2), original),
        (tmp_path / "a.pth", source),
    ):
        checkpoint = read(path, network, from_whom)
        model = build(checkpoint, 75, 75, scale=True)
        assign(model, checkpoint)
        imported.append(model)
    assert same_weights(*imported)


@pytest.mark.parametrize("port", ["torchvision/resnet18", "torchvision/densenet121", "cadene/bninception"])
def test_state_dicts_without_a_slim_original(port: str, tmp_path: Path) -> None:
    """Every entry arrives, converted; that it is the right one the libraries say."""
    source, network = {"cadene/bninception": ("cadene", "bn_inception")}.get(port, tuple(port.split("/")))
    rng = np.random.default_rng(1)
    shapes = torch_names.tensors(port, classes=11)
    state = {name: weight_files.torch_values(rng, name, shape) for name, shape in shapes.items()}
    if network == "bn_inception":  # old files store these vectors as one row
        state = {name: value[None] if "_bn." in name and value.ndim else value for name, value in state.items()}
    if network == "densenet121":  # and these names with a dot
        state = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", name): value for name, value in state.items()}
    write_torch(tmp_path / "a.pth", state, legacy=True)
    checkpoint = read(tmp_path / "a.pth", network, source)
    model = build(checkpoint, 95, 95)
    report = assign(model, checkpoint)
    assert (len(report.loaded), report.missing) == (len(model.weights), [])
    assert {row.source for row in report.loaded} | {row.source for row in report.skipped} == set(state)
    kernels = [row for row in report.loaded if row.target.endswith("_conv/kernel")]
    for row in kernels[:: len(kernels) // 5]:
        layer, _, weight = row.target.partition("/")
        kernel = np.asarray(getattr(model.get_layer(layer), weight))
        assert np.array_equal(kernel[..., 0], state[row.source][0].transpose(1, 2, 0))


# What is loaded, skipped and missing ---------------------------------------------------------------------------------

SIDE = 75


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """A narrow Inception-v3 without gamma, as slim and Keras have it. Read only."""
    model = NETWORKS["inception_v3"](classes=7, width=0.05, scale=False, input_shape=(SIDE, SIDE, 3))
    randomize(model, seed=1)
    return model


@functools.cache
def narrow_v3(**arguments: Any) -> keras.Model:
    arguments = {"classes": 7, "width": 0.05, "scale": False, "input_shape": (SIDE, SIDE, 3), **arguments}
    return NETWORKS["inception_v3"](**arguments)


def fresh(**arguments: Any) -> keras.Model:
    """The narrow network with other random weights; the same object for the same arguments."""
    model = narrow_v3(**arguments)
    randomize(model, seed=99)
    return model


@pytest.fixture
def slim_tensors(small: keras.Model) -> dict[str, Array]:
    tensors = named_by(table("inception_v3", "slim"), small)
    logits = "InceptionV3/Logits/Conv2d_1c_1x1/weights"
    tensors[logits] = tensors[logits][None, None]  # a 1x1 convolution there
    return tensors


@pytest.mark.parametrize("version", [1, 2])
def test_slim_checkpoints_of_both_versions(
    version: int, small: keras.Model, slim_tensors: dict[str, Array], tmp_path: Path
) -> None:
    conv = "InceptionV3/Conv2d_1a_3x3"
    left_over = {
        "global_step": np.array(7),
        f"{conv}/weights/RMSProp": slim_tensors[f"{conv}/weights"],
        f"{conv}/weights/RMSProp_1": slim_tensors[f"{conv}/weights"],
        f"{conv}/weights/Adam_1": slim_tensors[f"{conv}/weights"],
        f"{conv}/weights/Momentum": slim_tensors[f"{conv}/weights"],
        f"{conv}/BatchNorm/moving_mean/ExponentialMovingAverage": slim_tensors[f"{conv}/BatchNorm/moving_mean"],
        "beta1_power": np.array(0.9, np.float32),
        "InceptionV3/AuxLogits/Conv2d_2b_1x1/weights": np.zeros((1, 1, 768, 7), np.float32),
    }
    path = write_tensorflow(tmp_path / "model.ckpt-3", {**slim_tensors, **left_over}, version)
    places = [path] if version == 1 else [path, Path(f"{path}.index"), Path(f"{path}.data-00000-of-00001")]
    for place in places:
        checkpoint = read(place, "inception_v3", "slim")
        assert (checkpoint.classes, checkpoint.arguments) == (7, {"classes": 7, "scale": False})
        model = fresh()
        report = assign(model, checkpoint)
        assert same_weights(model, small)
    reasons = {row.source: row.how for row in report.skipped}
    assert set(reasons) == set(left_over)
    assert reasons["InceptionV3/AuxLogits/Conv2d_2b_1x1/weights"] == "auxiliary head"
    assert len(report.loaded) == len(small.weights) == 378
    rows = {row.target: row for row in report.loaded}
    assert rows["predictions/kernel"].how == "1x1 convolution to dense"
    assert rows["inception_c_1_b1_b1_conv/kernel"].source == "InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1/weights"


def test_background_is_dropped_where_it_is_asked_for(
    small: keras.Model, slim_tensors: dict[str, Array], tmp_path: Path
) -> None:
    checkpoint = read(write_tensorflow(tmp_path / "model.ckpt", slim_tensors, 2), "inception_v3", "slim")
    model = fresh(classes=6)
    with pytest.raises(WeightsError, match="has 7 classes, the model has 6: build it with classes=7"):
        assign(model, checkpoint)
    report = assign(model, checkpoint, drop_background=True)
    kernel, bias = small.get_layer("predictions").get_weights()
    assert np.array_equal(model.get_layer("predictions").get_weights()[0], kernel[:, 1:])
    assert np.array_equal(model.get_layer("predictions").get_weights()[1], bias[1:])
    assert sum("background dropped" in row.how for row in report.loaded) == 2
    with pytest.raises(WeightsError, match="6 classes without the background, the model has 7"):
        assign(fresh(), checkpoint, drop_background=True)


def test_gamma_that_the_file_does_not_have_is_one(slim_tensors: dict[str, Array], tmp_path: Path) -> None:
    checkpoint = read(write_tensorflow(tmp_path / "model.ckpt", slim_tensors, 2), "inception_v3", "slim")
    model = fresh(scale=True)
    randomize(model, seed=2)
    report = assign(model, checkpoint)
    assert {row.how for row in report.missing} == {"set to 1: the file has no gamma"}
    assert len(report.missing) == 94
    gammas = [np.asarray(layer.gamma) for layer in model.layers if layer.name.endswith("_bn")]
    assert all((gamma == 1).all() for gamma in gammas)


def test_gamma_that_the_model_does_not_have_is_refused(slim_tensors: dict[str, Array], tmp_path: Path) -> None:
    gamma = "InceptionV3/Conv2d_1a_3x3/BatchNorm/gamma"
    tensors = {**slim_tensors, gamma: slim_tensors[gamma.replace("gamma", "beta")]}
    checkpoint = read(write_tensorflow(tmp_path / "model.ckpt", tensors, 2), "inception_v3", "slim")
    assert "scale" not in checkpoint.arguments
    with pytest.raises(WeightsError, match=r"Conv2d_1a_3x3/BatchNorm/gamma is a gamma, and the model has none"):
        assign(fresh(), checkpoint)


def test_one_gamma_that_is_missing_among_others_is_not_one(small: keras.Model, tmp_path: Path) -> None:
    model = fresh(scale=True)
    tensors = named_by(table("inception_v3", "slim"), model)
    lost = "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/BatchNorm/gamma"
    path = write_tensorflow(tmp_path / "model.ckpt", without(tensors, lost), 2)
    with pytest.raises(WeightsError, match=f"has no {lost} for inception_a_1_b0_bn/gamma"):
        assign(fresh(scale=True), read(path, "inception_v3", "slim"))


def test_a_model_that_pads_as_another_port_is_refused(
    slim_tensors: dict[str, Array], torch_tensors: dict[str, Array], tmp_path: Path
) -> None:
    slim = read(write_tensorflow(tmp_path / "model.ckpt", slim_tensors, 2), "inception_v3", "slim")
    write_torch(tmp_path / "a.pth", torch_tensors)
    timm = read(tmp_path / "a.pth", "inception_v3", "timm")
    with pytest.raises(WeightsError, match="timm pads inception_v3 differently: build it with ported_from='timm'"):
        assign(fresh(), timm)
    with pytest.raises(WeightsError, match="slim pads inception_v3 differently: build it with ported_from=None"):
        assign(fresh(ported_from="timm"), slim)


def without(tensors: dict[str, Array], *names: str) -> dict[str, Array]:
    return {name: tensors[name] for name in tensors if name not in names}


FIRST, LAST = "InceptionV3/Conv2d_1a_3x3/weights", "InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/BatchNorm/beta"
MISFITS = {
    "missing": (
        lambda tensors: without(tensors, LAST),
        r"has no InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/BatchNorm/beta for inception_c_2_b3_bn/beta of shape",
    ),
    "superfluous": (
        lambda tensors: {**tensors, "InceptionV3/Extra/weights": np.zeros((2, 3), np.float32)},
        r"no place for InceptionV3/Extra/weights of shape \(2, 3\)",
    ),
    "misshapen": (
        lambda tensors: {**tensors, FIRST: tensors[FIRST][..., :-1]},
        r"Conv2d_1a_3x3/weights of shape \(3, 3, 3, 1\) does not fit stem_1_conv/kernel of shape \(3, 3, 3, 2\)",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_tensor_that_does_not_fit_leaves_the_model_as_it_was(
    misfit: str, slim_tensors: dict[str, Array], tmp_path: Path
) -> None:
    change, words = MISFITS[misfit]
    checkpoint = read(write_tensorflow(tmp_path / "model.ckpt", change(slim_tensors), 2), "inception_v3", "slim")
    model = fresh()
    before = model.get_weights()
    with pytest.raises(WeightsError, match=words):
        assign(model, checkpoint)
    with pytest.raises(WeightsError, match=words):
        assign(model, checkpoint, partial=("InceptionV3/Mixed_5b", "inception_a_1"))
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights(), strict=True))
    scopes = ("InceptionV3/Extra", "stem_1_conv", "InceptionV3/Mixed_7c/Branch_3")
    report = assign(model, checkpoint, partial=scopes)
    assert len(report.missing) == (misfit != "superfluous")
    assert len(report.skipped) == (misfit != "missing")


def test_another_network_is_recognised(slim_tensors: dict[str, Array], tmp_path: Path) -> None:
    path = write_tensorflow(tmp_path / "model.ckpt", slim_tensors, 2)
    with pytest.raises(WeightsError, match="looks like inception_v3 from slim"):
        read(path, "inception_v4", "slim")
    with pytest.raises(WeightsError, match="looks like inception_v3 from slim"):
        read(path, "inception_resnet_v1", "facenet")
    with pytest.raises(WeightsError, match="timm has no weights of 'resnet18'"):
        read(path, "resnet18", "timm")
    with pytest.raises(WeightsError, match="'kaggle' is none of slim, keras"):
        read(path, "resnet18", "kaggle")
    stranger = write_tensorflow(tmp_path / "other.ckpt", {"dense/kernel": np.zeros((2, 2), np.float32)}, 2)
    with pytest.raises(WeightsError, match="none of the names of inception_v3"):
        read(stranger, "inception_v3", "slim")


# PyTorch's files, written by hand ------------------------------------------------------------------------------------


@pytest.fixture
def torch_tensors(small: keras.Model) -> dict[str, Array]:
    """As timm names them, without gamma; the counters and a first layer of integers are bookkeeping."""
    timm = table("inception_v3", "timm")
    tensors = named_by(timm, small)
    for ours, theirs in timm.layers.items():
        if ours.endswith("_bn"):
            tensors[f"{theirs}.num_batches_tracked"] = np.array([3], np.int64)
    return tensors


WRITERS: dict[str, tuple[str, Callable[[Path, dict[str, Array]], None]]] = {
    "zip": ("a.pth", write_torch),
    "legacy": ("a.pth", lambda path, tensors: write_torch(path, tensors, legacy=True)),
    "wrapped": ("a.pt", lambda path, tensors: write_torch(path, tensors, wrapped=True)),
    "parameters": ("a.pt", lambda path, tensors: write_torch(path, tensors, parameters=True)),
    "data_parallel": ("a.pth", lambda path, tensors: write_torch(path, {f"module.{n}": tensors[n] for n in tensors})),
    "safetensors": ("a.safetensors", lambda path, tensors: safetensors.numpy.save_file(tensors, path)),
    "float64": (
        "a.pth",
        lambda path, tensors: write_torch(
            path, {name: tensors[name].astype(np.float64, copy=False) for name in tensors}
        ),
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_state_dicts_in_every_format(
    writer: str, small: keras.Model, torch_tensors: dict[str, Array], tmp_path: Path
) -> None:
    name, write = WRITERS[writer]
    write(tmp_path / name, torch_tensors)
    checkpoint = read(tmp_path / name, "inception_v3", "timm")
    assert checkpoint.arguments == {"classes": 7, "scale": False, "ported_from": "timm"}
    model = fresh(ported_from="timm")
    report = assign(model, checkpoint)
    assert same_weights(model, small)
    assert {row.how for row in report.skipped} == {"counts the training steps"}
    assert {row.how for row in report.loaded} == {"OIHW to HWIO", "transposed", "as it is"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str, small: keras.Model, torch_tensors: dict[str, Array], tmp_path: Path) -> None:
    halves = {
        name: torch_tensors[name].astype("float16" if dtype == "float16" else "float32") for name in torch_tensors
    }
    write_torch(tmp_path / "a.pth", halves, bfloat16=dtype == "bfloat16")
    model = fresh(ported_from="timm")
    assign(model, read(tmp_path / "a.pth", "inception_v3", "timm"))
    expected = weights_by_name(small)
    for name, value in weights_by_name(model).items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[name], rtol=1e-2, atol=1e-4)
    assert not same_weights(model, small)


def test_half_precision_in_safetensors(small: keras.Model, torch_tensors: dict[str, Array], tmp_path: Path) -> None:
    import ml_dtypes

    halves = {name: torch_tensors[name].astype(ml_dtypes.bfloat16) for name in torch_tensors}
    safetensors.numpy.save_file(halves, tmp_path / "a.safetensors")
    model = fresh(ported_from="timm")
    assign(model, read(tmp_path / "a.safetensors", "inception_v3", "timm"))
    expected = weights_by_name(small)
    for name, value in weights_by_name(model).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-2, atol=1e-4)


def test_a_state_dict_holds_tensors_alone(torch_tensors: dict[str, Array], tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", torch_tensors, extra=3)
    with pytest.raises(WeightsError, match="holds extra among its tensors, which is none"):
        read(tmp_path / "a.pth", "inception_v3", "timm")
    write_torch(tmp_path / "b.pth", {})
    with pytest.raises(WeightsError, match=r"b\.pth holds no state dict"):
        read(tmp_path / "b.pth", "inception_v3", "timm")


class Evil:
    """What a hostile file would do when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("function", "named"), [(os.mkdir, "mkdir"), (eval, "eval"), (getattr, "getattr"), (pickle.loads, "loads")]
)
def test_a_pickle_that_asks_for_anything_else_is_refused_by_name_and_not_run(
    function: Any, named: str, legacy: bool, torch_tensors: dict[str, Array], tmp_path: Path
) -> None:
    mark = tmp_path / "it_ran"
    arguments: tuple[Any, ...] = {
        "mkdir": (str(mark),),
        "eval": (f"__import__('os').mkdir({str(mark)!r})",),
        "getattr": (1, "real"),
        "loads": (pickle.dumps(Evil(os.mkdir, str(mark))),),
    }[named]
    write_torch(tmp_path / "evil.pth", torch_tensors, legacy=legacy, extra=Evil(function, *arguments))
    with pytest.raises(WeightsError, match=rf"asks for \w+\.{named}, which is not a tensor and was not run"):
        read(tmp_path / "evil.pth", "inception_v3", "timm")
    assert not mark.exists()
    # Nothing wrong with the attack: the plain unpickler falls for it.
    if named == "mkdir":
        pickle.loads(pickle.dumps(Evil(function, *arguments)))
        assert mark.exists()


# Files that are not what they say ------------------------------------------------------------------------------------


def cut(path: Path, share: float = 0.5) -> Path:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    return path


def keras_file(model: keras.Model, path: Path) -> Path:
    keras_table = table("inception_v3", "keras")
    theirs = {ours: name.replace("[", "_").replace("]", "") for ours, name in keras_table.layers.items()}
    weight_files.write_keras_2(model, path, theirs)
    return path


def test_keras_files_that_are_refused(small: keras.Model, tmp_path: Path) -> None:
    path = keras_file(small, tmp_path / "a.h5")
    assert read(path, "inception_v3", "keras").classes == 7
    with h5py.File(path, "r+") as file:
        weights = file["conv2d_3/conv2d_3"]
        del weights["kernel:0"]
        weights["kernel:0"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(WeightsError, match="conv2d_3/kernel:0 is a link to another place"):
        read(path, "inception_v3", "keras")
    with h5py.File(path, "r+") as file:
        del file["conv2d_3/conv2d_3/kernel:0"]
    with pytest.raises(WeightsError, match="it lists conv2d_3/kernel:0 and does not hold it"):
        read(path, "inception_v3", "keras")
    with h5py.File(path, "r+") as file:
        weights = file["conv2d_3/conv2d_3"]
        weights.create_dataset("kernel:0", (2**20, 2**20), "float32", chunks=(64, 64))
    with pytest.raises(WeightsError, match=r"claims the shape \(1048576, 1048576\)"):
        read(path, "inception_v3", "keras")
    with h5py.File(path, "r+") as file:
        weights = file["conv2d_3/conv2d_3"]
        del weights["kernel:0"]
        weights.create_dataset(
            "kernel:0", (2,), "float32", external=[(str(tmp_path / "elsewhere"), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(WeightsError, match="has its values in another file"):
        read(path, "inception_v3", "keras")
    with h5py.File(path, "r+") as file:
        del file.attrs["layer_names0"]
    with pytest.raises(WeightsError, match="not in Keras' legacy format"):
        read(path, "inception_v3", "keras")


def test_a_checkpoint_without_its_data(slim_tensors: dict[str, Array], tmp_path: Path) -> None:
    path = write_tensorflow(tmp_path / "model.ckpt", slim_tensors, 2)
    data = Path(f"{path}.data-00000-of-00001")
    raw = data.read_bytes()
    data.unlink()
    with pytest.raises(WeightsError, match=r"lost its data: put model\.ckpt\.data-00000-of-00001 beside it"):
        read(path, "inception_v3", "slim")
    data.write_bytes(raw[: len(raw) // 2])
    model = fresh()
    before = model.get_weights()
    with pytest.raises(WeightsError, match="is damaged, fetch it again"):
        assign(model, read(path, "inception_v3", "slim"))
    assert all(np.array_equal(x, y) for x, y in zip(before, model.get_weights(), strict=True))


def test_without_tensorflow_its_checkpoints_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("models.weights.slim", raising=False)
    monkeypatch.delitem(sys.modules, "models.weights.slim", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(WeightsError, match=r"model.ckpt is a checkpoint of TensorFlow, .* not installed: install"):
        read(tmp_path / "model.ckpt", "inception_v3", "slim")


def test_truncated_and_foreign_files_are_named(
    small: keras.Model, slim_tensors: dict[str, Array], torch_tensors: dict[str, Array], tmp_path: Path
) -> None:
    write_torch(tmp_path / "zip.pth", torch_tensors)
    write_torch(tmp_path / "legacy.pth", torch_tensors, legacy=True)
    safetensors.numpy.save_file(torch_tensors, tmp_path / "a.safetensors")
    keras_file(small, tmp_path / "a.h5")
    write_tensorflow(tmp_path / "one.ckpt", slim_tensors, 1)
    sources = {"zip.pth": "timm", "legacy.pth": "timm", "a.safetensors": "timm", "a.h5": "keras", "one.ckpt": "slim"}
    for name, source in sources.items():
        whole = (tmp_path / name).read_bytes()
        for share in (0.9, 0.5, 0.01):
            (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(WeightsError, match=name):
                read(tmp_path / name, "inception_v3", source)
        (tmp_path / name).write_bytes(b"<html>404 Not Found</html>\n" * 9)
        with pytest.raises(WeightsError, match=name):
            read(tmp_path / name, "inception_v3", source)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(WeightsError, match=name):
            read(tmp_path / name, "inception_v3", source)
        (tmp_path / name).unlink()
        with pytest.raises(WeightsError, match=name):
            read(tmp_path / name, "inception_v3", source)
    with pytest.raises(WeightsError, match="is a folder: name the checkpoint in it"):
        read(tmp_path, "inception_v3", "slim")
    # A checkpoint and a state dict given as each other's.
    write_torch(tmp_path / "zip.pth", torch_tensors)
    with pytest.raises(WeightsError, match=r"zip\.pth is no TensorFlow checkpoint"):
        read(tmp_path / "zip.pth", "inception_v3", "slim")
    write_tensorflow(tmp_path / "one.ckpt", slim_tensors, 1)
    with pytest.raises(WeightsError, match=r"one\.ckpt is no file of PyTorch"):
        read(tmp_path / "one.ckpt", "inception_v3", "timm")


def test_tensors_that_reach_outside_their_storage(torch_tensors: dict[str, Array], tmp_path: Path) -> None:
    write_torch(tmp_path / "a.pth", torch_tensors)
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "short.pth", "w") as archive:
        for name, raw in parts.items():
            archive.writestr(name, raw[:-8] if name == "archive/data/0" else raw)
    with pytest.raises(WeightsError, match="storage 0 is not as long as it says"):
        read(tmp_path / "short.pth", "inception_v3", "timm")
    with weight_files.torch_by_name() as torch:
        storage = weight_files.StorageReference(torch.FloatStorage, "0", 4)
        tensor = weight_files.Reduced(torch._utils._rebuild_tensor_v2, storage, 0, (5,), (1,), False, {})
        buffer = io.BytesIO()
        weight_files.Pickler(buffer, protocol=2).dump({"fc.weight": tensor})
    with zipfile.ZipFile(tmp_path / "outside.pth", "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(WeightsError, match=r"fc\.weight reaches outside its storage"):
        read(tmp_path / "outside.pth", "inception_v3", "timm")


# weights="imagenet" --------------------------------------------------------------------------------------------------


class Server:
    """Files over HTTP from 127.0.0.1, with ranges; `cut_after` ends the next answers early."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.requests.append((self.path, wanted))
                content = outer.files.get(self.path)
                if content is None:
                    return self.send_error(404)
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
                if wanted and start >= len(content):
                    return self.send_error(416)
                self.send_response(206 if wanted else 200)
                if wanted:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : outer.cut_after])
                return None

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has nothing yet, in place of those of Keras and TF-slim, and an empty cache."""
    made = Server()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(published, "KERAS", made.address)
    monkeypatch.setattr(published, "SLIM", made.address)
    yield made
    made.stop()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch, server: Server, small: keras.Model, tmp_path: Path) -> published.KerasFiles:
    """Made-up files of the narrow Inception-v3, published as Keras' own."""
    raw = keras_file(small, tmp_path / "a.h5").read_bytes()
    files = published.KerasFiles("v3/weights", hashlib.md5(raw).hexdigest(), "", 2, (7,))
    monkeypatch.setitem(published.FILES, "inception_v3", files)
    server.files["/v3/weights.h5"] = raw
    return files


def test_published_files_are_fetched_once(
    server: Server, narrow: object, small: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        model = fresh()
        published.imagenet(model, "inception_v3")
        assert same_weights(model, small)
    assert server.requests == [("/v3/weights.h5", None)]
    printed = capsys.readouterr()
    size = len(server.files["/v3/weights.h5"])
    assert (printed.out, printed.err.count(f"{size}/{size}")) == ("", 1)  # the bar, and only where results are not
    server.files.clear()
    published.imagenet(fresh(), "inception_v3")  # without the network
    assert len(server.requests) == 1
    assert [path.name for path in published.folder().iterdir()] == ["weights.h5"]


def test_a_transfer_that_was_cut_off_goes_on(server: Server, narrow: object, small: keras.Model) -> None:
    server.cut_after = 5000
    with pytest.raises(WeightsError, match=r"cut off after 5000 of [0-9]+ bytes"):
        published.imagenet(fresh(), "inception_v3")
    part = published.folder() / "weights.h5.part"
    assert list(published.folder().iterdir()) == [part]
    assert part.stat().st_size == 5000
    server.cut_after = None
    model = fresh()
    published.imagenet(model, "inception_v3")
    assert same_weights(model, small)
    assert server.requests[1:] == [("/v3/weights.h5", "bytes=5000-")]
    # A part of something else, longer than the file: from the beginning.
    (published.folder() / "weights.h5").unlink()
    part.write_bytes(bytes(len(server.files["/v3/weights.h5"]) + 1))
    published.imagenet(model, "inception_v3")
    assert not part.exists()


def test_a_wrong_checksum_is_deleted(server: Server, narrow: object) -> None:
    good = server.files["/v3/weights.h5"]
    server.files["/v3/weights.h5"] = good[:-1] + bytes([good[-1] ^ 1])
    with pytest.raises(WeightsError, match=r"gave a file with the MD5 sum [0-9a-f]+, the published one has .* deleted"):
        published.imagenet(fresh(), "inception_v3")
    assert list(published.folder().iterdir()) == []


def test_a_file_that_somebody_put_into_the_cache_is_not_deleted(server: Server, narrow: object) -> None:
    published.folder().mkdir(parents=True)
    mine = published.folder() / "weights.h5"
    mine.write_bytes(b"a week's work")
    with pytest.raises(WeightsError, match=r"weights\.h5 has the MD5 sum [0-9a-f]+, the published .* move it away"):
        published.imagenet(fresh(), "inception_v3")
    assert mine.read_bytes() == b"a week's work"
    assert server.requests == []


def test_keras_own_cache_serves_where_its_file_is_the_published(
    server: Server, narrow: object, small: keras.Model
) -> None:
    of_keras = published.folder().parent / "weights.h5"
    of_keras.parent.mkdir(parents=True)
    of_keras.write_bytes(server.files["/v3/weights.h5"])
    model = fresh()
    published.imagenet(model, "inception_v3")
    assert same_weights(model, small)
    assert server.requests == []
    of_keras.write_bytes(b"another version's")
    published.imagenet(fresh(), "inception_v3")
    assert len(server.requests) == 1
    assert of_keras.read_bytes() == b"another version's"


def test_offline_says_which_file_to_put_where(server: Server, narrow: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(published, "KERAS", with_nobody)
    with pytest.raises(
        WeightsError, match=r"9/v3/weights\.h5 could not .* put weights\.h5 at .*keras/models/inceptions"
    ):
        published.imagenet(fresh(), "inception_v3")
    monkeypatch.setattr(published, "SLIM", with_nobody)
    model = keras.Sequential(name="x")
    monkeypatch.setattr(published, "_check", lambda *_: None)
    with pytest.raises(WeightsError, match=r"put inception_v4\.ckpt of that archive at .*inception_v4\.ckpt"):
        published.imagenet(model, "inception_v4")


def archive(path: Path, member: str, raw: bytes) -> bytes:
    with tarfile.open(path, "w:gz", compresslevel=1) as files:
        info = tarfile.TarInfo(member)
        info.size = len(raw)
        files.addfile(info, io.BytesIO(raw))
    return path.read_bytes()


def test_slim_archives(
    server: Server,
    small: keras.Model,
    slim_tensors: dict[str, Array],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    logits = "InceptionV3/Logits/Conv2d_1c_1x1"
    features = slim_tensors[f"{logits}/weights"].shape[2]
    tensors = {
        **slim_tensors,
        f"{logits}/weights": rng.normal(size=(1, 1, features, 1001)).astype(np.float32),
        f"{logits}/biases": rng.normal(size=1001).astype(np.float32),
        "global_step": np.array(1),
    }
    raw = write_tensorflow(tmp_path / "inception_v3.ckpt", tensors, 1).read_bytes()
    server.files["/v3.tar.gz"] = archive(tmp_path / "v3.tar.gz", "./inception_v3.ckpt", raw)
    monkeypatch.setitem(published.FILES, "inception_v3", published.SlimArchive("v3.tar.gz", "inception_v3.ckpt", 2))
    for classes, kept in ((1000, slice(1, None)), (1001, slice(None))):
        model = fresh(classes=classes)
        published.imagenet(model, "inception_v3")
        kernel, bias = model.get_layer("predictions").get_weights()
        assert np.array_equal(kernel, tensors[f"{logits}/weights"][0, 0, :, kept])
        assert np.array_equal(bias, tensors[f"{logits}/biases"][kept])
    report = published.imagenet(fresh(include_top=False), "inception_v3")
    assert {row.source for row in report.skipped} == {f"{logits}/weights", f"{logits}/biases", "global_step"}
    assert len(server.requests) == 1
    cache = published.folder()
    assert sorted(path.name for path in cache.iterdir()) == ["inception_v3.ckpt", "inception_v3.ckpt.sha256"]

    (cache / "inception_v3.ckpt").write_bytes(raw + b"\0")
    with pytest.raises(WeightsError, match="not the file of its first use any more"):
        published.imagenet(fresh(classes=1000), "inception_v3")

    (cache / "inception_v3.ckpt").unlink()
    whole = server.files["/v3.tar.gz"]
    for broken in (b"<html>", whole[: len(whole) // 2], archive(tmp_path / "b.tar.gz", "other.ckpt", raw)):
        server.files["/v3.tar.gz"] = broken
        with pytest.raises(WeightsError, match=r"v3\.tar\.gz was not the published archive"):
            published.imagenet(fresh(classes=1000), "inception_v3")
        assert list(cache.iterdir()) == []

    # Archives that somebody fetched by hand stay.
    by_hand = cache / "v3.tar.gz"
    by_hand.write_bytes(b"<html>")
    with pytest.raises(WeightsError, match=r"v3\.tar\.gz is not the published archive .* move it away"):
        published.imagenet(fresh(classes=1000), "inception_v3")
    assert [*cache.iterdir()] == [by_hand]
    by_hand.write_bytes(whole)
    published.imagenet(fresh(classes=1000), "inception_v3")
    assert by_hand.read_bytes() == whole
    for path in cache.iterdir():
        path.unlink()

    del tensors[f"{logits}/biases"]
    raw = write_tensorflow(tmp_path / "inception_v3.ckpt", tensors, 1).read_bytes()
    server.files["/v3.tar.gz"] = archive(tmp_path / "v3.tar.gz", "inception_v3.ckpt", raw)
    with pytest.raises(WeightsError, match="has no InceptionV3/Logits/Conv2d_1c_1x1/biases"):
        published.imagenet(fresh(classes=1000), "inception_v3")
    assert not (cache / "inception_v3.ckpt.sha256").exists()


@pytest.mark.slow
def test_a_builder_fetches_its_published_weights(server: Server, tmp_path: Path) -> None:
    tensors = slim_networks.made_up(slim_networks.variables("inception_v1"), seed=5)
    raw = write_tensorflow(tmp_path / "inception_v1.ckpt", tensors, 1).read_bytes()
    packed = archive(tmp_path / "v1.tar.gz", "inception_v1.ckpt", raw)
    server.files["/inception_v1_2016_08_28.tar.gz"] = packed
    model = NETWORKS["inception_v1"](weights="imagenet", input_shape=(65, 80, 3), classifier_activation=None)
    x = image(65, 80)
    expected = slim_networks.logits("inception_v1", tensors, x)[:, 1:]
    assert relative_error(model(x, training=False), expected) < TOLERANCE
    with pytest.raises(ValueError, match="1000 or 1001 classes, the model has 10"):
        NETWORKS["inception_v1"](weights="imagenet", classes=10)
    with pytest.raises(ValueError, match="slim pads inception_v1 differently: build it with ported_from=None"):
        NETWORKS["inception_v1"](weights="imagenet", ported_from="torchvision")
    assert len(server.requests) == 1


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"classes": 10}, "have 1000 classes, the model has 10"),
    "channels": ({"input_shape": (SIDE, SIDE, 1)}, "images of 3 channels, the model takes 1"),
    "width": ({"width": 0.5}, "full width"),
    "normalization": ({"normalization": None}, "normalization=None has none"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_models_that_no_published_file_fills(reason: str, server: Server) -> None:
    arguments, words = REFUSALS[reason]
    model = fresh(**{"classes": 1000, **arguments})
    with pytest.raises(WeightsError, match=words):
        published.imagenet(model, "inception_v3")
    assert server.requests == []


def test_networks_without_published_files() -> None:
    with pytest.raises(WeightsError, match=r'No weights="imagenet" of resnet18 .* inception_v1, inception_v2'):
        published.imagenet(fresh(), "resnet18")
