"""Files of Caffe: their networks' answers against NumPy and OpenCV, their formats, and files that are none."""

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models import NETWORKS
from models.weights import WeightsError, assign, read
from models.weights.caffe import tensors
from models.weights.tables import TABLES, Table
from tests.makers.environments import interpreter_with
from tests.oracles import caffe_files
from tests.oracles.caffe_files import AVE, MAX, Array, Drawing, Part, for_opencv, write, write_description
from tests.oracles.caffe_forward import answers
from tests.oracles.weight_files import relative_error

TOLERANCE = 1e-5
OPENCV = "opencv-python-headless==4.13.0.92"
DRAWINGS: dict[str, Callable[..., list[Part]]] = {
    "googlenet": caffe_files.googlenet,
    "bn_inception": caffe_files.bn_inception,
    "resnet18": caffe_files.resnet18,
    "densenet121": caffe_files.densenet121,
}


def table(network: str) -> Table:
    return next(table for table in TABLES if (table.network, table.source) == (network, "caffe"))


def pixels(rows: int, columns: int, images: int = 2) -> Array:
    """B, G and R less their means, channels last."""
    drawn = np.random.default_rng(6).uniform(0, 255, (images, rows, columns, 3))
    return (drawn - (104, 117, 123)).astype(np.float32)


def channels_first(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def loaded(file: Path, network: str, shape: tuple[int, ...], width: float, **options: Any) -> keras.Model:
    """The network up to its logits with the weights of `file`, every tensor of which has to be accounted for."""
    checkpoint = read(file, network, "caffe")
    assert checkpoint.arguments["ported_from"] == "caffe"
    arguments = {"classifier_activation": None, "width": width, "input_shape": shape, **checkpoint.arguments}
    model = NETWORKS[network](**arguments, **options)
    report = assign(model, checkpoint, **options)
    assert len(report.loaded) == len(model.weights)
    assert len(report.loaded) + len(report.skipped) == len(checkpoint.tensors)
    assert report.missing == []
    return model


# The blobs of the networks, without and with the auxiliary heads; the BN of BN-Inception's fork has no factor.
COUNTS = {"googlenet": (116, 128), "bn_inception": (416, 416), "resnet18": (128, 128), "densenet121": (727, 727)}


@pytest.mark.parametrize("network", DRAWINGS)
def test_every_table_names_the_layers_of_its_file(network: str, tmp_path: Path) -> None:
    found = tensors(write(tmp_path / "a.caffemodel", DRAWINGS[network](width=0.05)), table(network))
    named = {*table(network).layers.values(), *table(network).auxiliary.values()}
    assert {name.rpartition("/")[0] for name in found} == named
    without = [name for name in found if not name.startswith(("loss1/", "loss2/"))]
    assert (len(without), len(found)) == COUNTS[network]


# Answers -------------------------------------------------------------------------------------------------------------

# network, image: one of sides whose maps are odd in places, but where a port refuses them
NARROW = [
    pytest.param("bn_inception", (66, 96), id="bn_inception"),
    pytest.param("resnet18", (75, 93), id="resnet18"),
    pytest.param("densenet121", (64, 96), id="densenet121", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "sides"), NARROW)
def test_a_network_answers_as_caffe_does(network: str, sides: tuple[int, int], tmp_path: Path) -> None:
    parts = DRAWINGS[network](width=0.1, classes=7)
    x = pixels(*sides)
    expected = answers(parts, channels_first(x))[parts[-1].top].reshape(2, 7)
    model = loaded(write(tmp_path / "a.caffemodel", parts), network, (*sides, 3), 0.1)
    assert relative_error(model(x, training=False), expected) < TOLERANCE


def test_googlenet_and_its_heads_answer_as_caffe_does(tmp_path: Path) -> None:
    parts = caffe_files.googlenet(width=0.1, classes=7, head_map=2 * 3)  # a map of 2 x 3
    x = pixels(131, 176)  # the second pool stands on 33 rows
    expected = answers(parts, channels_first(x))
    file = write(tmp_path / "a.caffemodel", parts, old=True)
    model = loaded(file, "googlenet", (131, 176, 3), 0.1, auxiliary=True)
    found = model(x, training=False)
    heads = {"predictions": "loss3", "auxiliary_1": "loss1", "auxiliary_2": "loss2"}
    for ours, theirs in heads.items():
        assert relative_error(found[ours], expected[f"{theirs}/classifier"]) < TOLERANCE

    plain = NETWORKS["googlenet"](classes=7, width=0.1, input_shape=(64, 64, 3), ported_from="caffe")
    report = assign(plain, read(file, "googlenet", "caffe"))
    assert {row.how for row in report.skipped} == {"auxiliary head"}
    assert len(report.skipped) == 12


# Runs in an environment of its own. Winograd's convolutions are off: they are faster and less exact.
ANSWER = """
import sys
import cv2
import numpy as np
description, weights, images, to, *names = sys.argv[1:]
net = cv2.dnn.readNetFromCaffe(description, weights)
net.enableWinograd(False)
net.setInput(np.load(images))
found = net.forward(names)
np.savez(to, **{str(place): answer.reshape(len(answer), -1) for place, answer in enumerate(found)})
"""
# network, image, whether in the format of before 2015
PUBLISHED = [
    pytest.param("googlenet", (224, 224), True, id="googlenet"),
    pytest.param("bn_inception", (224, 256), False, id="bn_inception"),
    pytest.param("resnet18", (223, 250), False, id="resnet18"),
    pytest.param("densenet121", (224, 256), False, id="densenet121"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("network", "sides", "old"), PUBLISHED)
def test_a_network_of_full_width_answers_as_opencv_does(
    network: str, sides: tuple[int, int], old: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = interpreter_with(OPENCV, request, "cv2")
    parts = DRAWINGS[network](classes=11)
    x = pixels(*sides)
    np.save(tmp_path / "images.npy", channels_first(x))
    description = write_description(tmp_path / "a.prototxt", for_opencv(parts), (2, 3, *sides))
    theirs = write(tmp_path / "theirs.caffemodel", for_opencv(parts), old=old)
    tops = {"predictions": parts[-1].top}
    if network == "googlenet":
        tops |= {"auxiliary_1": "loss1/classifier", "auxiliary_2": "loss2/classifier"}
    command = [python, "-c", ANSWER, description, theirs, tmp_path / "images.npy", tmp_path / "to.npz", *tops.values()]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "to.npz") as answered:
        expected = {ours: answered[str(place)] for place, ours in enumerate(tops)}

    file = write(tmp_path / "a.caffemodel", parts, old=old)
    auxiliary = {"auxiliary": True} if network == "googlenet" else {}
    found = loaded(file, network, (*sides, 3), 1.0, **auxiliary)(x, training=False)
    for ours, right in expected.items():
        assert relative_error(found[ours] if auxiliary else found, right) < TOLERANCE, ours


# Layers --------------------------------------------------------------------------------------------------------------


def test_a_convolution_in_groups_is_one_with_zeros(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blobs = [rng.normal(size=(6, 4, 3, 3)).astype(np.float32), rng.normal(size=6).astype(np.float32)]
    part = Part("conv1", "Convolution", ["data"], "conv1", {"num_output": 6, "pad": [1], "group": 2}, blobs)
    kernel = tensors(write(tmp_path / "a.caffemodel", [part]), table("densenet121"))["conv1/kernel"]
    assert (kernel.shape, kernel.done) == ((6, 8, 3, 3), ("2 groups as one, with zeros",))
    x = rng.normal(size=(2, 8, 5, 7))
    as_one = Part("conv1", "Convolution", ["data"], "conv1", {"pad": [1]}, [kernel.read(), blobs[1]])
    np.testing.assert_allclose(answers([as_one], x)["conv1"], answers([part], x)["conv1"], rtol=1e-12)


def statistics(tmp_path: Path, part: Part, *others: Part) -> dict[str, Array]:
    found = tensors(write(tmp_path / "a.caffemodel", [part, *others]), table("resnet18"))
    return {name.rpartition("/")[2]: tensor.read() for name, tensor in found.items() if name.startswith("bn_conv1/")}


@pytest.mark.parametrize(("factor", "epsilon"), [(1.0, 1e-5), (999.98236, 1e-5), (0.5, 1e-3), (0.0, 1e-5)])
def test_a_batch_norm_is_divided_by_its_factor_and_has_its_epsilon(
    factor: float, epsilon: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    blobs = [rng.normal(size=5).astype(np.float32), rng.uniform(0.5, 1.5, 5).astype(np.float32), np.array([factor])]
    part = Part("bn_conv1", "BatchNorm", ["data"], "data", {"eps": epsilon}, blobs)
    scale = Part("scale_conv1", "Scale", ["data"], "data", {"bias_term": True}, [blobs[0] + 1, blobs[1] - 3])
    found = statistics(tmp_path, part, scale)
    x = rng.normal(size=(2, 5, 3, 3))
    deviation = np.sqrt(found["moving_variance"].astype(np.float64) + 1e-5)
    normalized = (x.transpose(0, 2, 3, 1) - found["moving_mean"]) / deviation * found["gamma"] + found["beta"]
    expected = answers([part, scale], x)["data"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(normalized, expected, rtol=2e-6, atol=2e-6)


def test_a_scale_belongs_to_the_batch_norm_that_it_stands_on_whatever_its_name(tmp_path: Path) -> None:
    ones = np.ones(2, np.float32)
    norm = Part("bn_conv1", "BatchNorm", ["data"], "x", {}, [ones, ones, ones[:1]])
    other = Part("other", "ReLU", ["data"], "y")
    scale = Part("anything", "Scale", ["x"], "z", {}, [2 * ones, 3 * ones])
    found = statistics(tmp_path, norm, other, scale)
    assert (found["gamma"][0], found["beta"][0]) == (2, 3)
    elsewhere = Part("scale_conv1", "Scale", ["y"], "z", {}, [2 * ones, 3 * ones])
    file = write(tmp_path / "b.caffemodel", [norm, other, elsewhere])
    assert [*tensors(file, table("resnet18"))][3:] == ["scale_conv1/blob_0", "scale_conv1/blob_1"]


def test_inverse_deviations_are_known_by_the_kernels_below_them(tmp_path: Path) -> None:
    """As a trained network has them: the variance of a channel grows with its kernel."""
    parts = caffe_files.bn_inception(width=0.1, classes=7)
    rng = np.random.default_rng(1)
    for convolution, norm in itertools.pairwise(parts):
        if norm.kind == "BN":
            convolution.blobs[0] *= rng.uniform(0.3, 3, (len(convolution.blobs[0]), 1, 1, 1)).astype(np.float32)
            energy = np.square(convolution.blobs[0]).sum((1, 2, 3)) * rng.uniform(0.1, 4, len(convolution.blobs[0]))
            norm.blobs[3] = energy.astype(np.float32)[None]
    right = tensors(write(tmp_path / "now.caffemodel", parts), table("bn_inception"))
    for part in parts:
        if part.kind == "BN":
            part.blobs[3] = (part.blobs[3] + np.float32(1e-5)) ** np.float32(-0.5)
    found = tensors(write(tmp_path / "then.caffemodel", parts), table("bn_inception"))
    for name, tensor in found.items():
        np.testing.assert_allclose(tensor.read(), right[name].read(), rtol=1e-5, atol=1e-8)
        assert ("inverse deviation to variance" in tensor.done) is name.endswith("moving_variance")
        assert right[name].done == ()


def test_a_renamed_classifier_is_the_one_dense_layer_without_a_place(tmp_path: Path) -> None:
    parts = caffe_files.googlenet(width=0.1, classes=7, head_map=1)
    for part in parts:
        if part.name.endswith("/classifier"):
            part.name = part.top = f"{part.name}_flowers"
    checkpoint = read(write(tmp_path / "a.caffemodel", parts), "googlenet", "caffe")
    assert checkpoint.classes == 7
    heads = [f"loss{number}/classifier" for number in (1, 2, 3)]
    assert [checkpoint.tensors[f"{head}/kernel"].name for head in heads] == [f"{head}_flowers[0]" for head in heads]
    parts.append(Part("second", "InnerProduct", ["data"], "second", {}, [np.zeros((2, 3), np.float32)]))
    assert read(write(tmp_path / "a.caffemodel", parts), "googlenet", "caffe").classes is None


# Formats -------------------------------------------------------------------------------------------------------------

FORMATS: dict[str, dict[str, bool]] = {
    "before 2015": {"old": True},
    "not packed": {"packed": False},
    "before 2015 and not packed": {"old": True, "packed": False},
    "doubles": {"doubles": True},
    "doubles not packed": {"doubles": True, "packed": False},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=[*FORMATS])
def test_all_formats_hold_the_same(options: dict[str, bool], tmp_path: Path) -> None:
    parts = [part for part in caffe_files.googlenet(width=0.05, classes=3, head_map=1)[:30] if part.blobs]
    right = tensors(write(tmp_path / "a.caffemodel", parts), table("googlenet"))
    found = tensors(write(tmp_path / "b.caffemodel", parts, **options), table("googlenet"))
    assert found.keys() == right.keys()
    for name, tensor in found.items():
        assert tensor.shape == right[name].shape
        assert np.array_equal(tensor.read(), right[name].read())


# Files that are none, or another's -----------------------------------------------------------------------------------


def small() -> list[Part]:
    return caffe_files.resnet18(width=0.05, classes=3)


def changed(place: int, **settings: Any) -> list[Part]:
    parts = small()
    parts[place].settings |= settings
    return parts


def with_layer(part: Part) -> list[Part]:
    return [*small(), part]


def of_nvidia() -> list[Part]:
    parts = small()
    parts[1].blobs += [np.ones(3, np.float32)] * 2
    return parts


WRONG_FILES: dict[str, tuple[bytes, str]] = {
    "a description": (b'# mine\nname: "ResNet-18"\nlayer {\n  name: "data"\n}\n', r"in words, as a \.prototxt does"),
    "a page": (b"<html>404 Not Found</html>\n", "is no caffemodel, or is cut off: fetch it again"),
    "nothing": (b"", "has no layer with weights"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "in HDF5, which is not read"),
    "the state of a solver": (b"\x08\x90\x4e\x12\x01a", "the state of a solver and a mean image begin like this"),
    "the first format": (b"\x12\x04\x0a\x02\x0a\x00", "upgrade_net_proto_binary"),
    "a blob longer than its layer": (
        b"\xa2\x06\x06\x0a\x01c\x3a\x08\x12" + bytes(16),
        "longer than what it is in",
    ),
    "a number without an end": (b"\xa2\x06" + b"\xff" * 12, "no number begins at byte 2"),
    "a name with a line's end": (b"\xa2\x06\x04\x0a\x02a\n", "cannot be printed"),
}


@pytest.mark.parametrize("what", WRONG_FILES)
def test_what_is_no_caffemodel_is_named(what: str, tmp_path: Path) -> None:
    raw, words = WRONG_FILES[what]
    (tmp_path / "a.caffemodel").write_bytes(raw)
    with pytest.raises(WeightsError, match=words) as error:
        read(tmp_path / "a.caffemodel", "resnet18", "caffe")
    assert "\n" not in str(error.value)


def test_a_blob_that_is_not_of_its_shape_is_refused(tmp_path: Path) -> None:
    made = caffe_files.net(small())
    made.layer[0].blobs[0].shape.dim[0] += 1
    (tmp_path / "a.caffemodel").write_bytes(made.SerializeToString())
    with pytest.raises(WeightsError, match=r"conv1\[0\] claims the shape \(4, 3, 7, 7\) and holds 441 values"):
        read(tmp_path / "a.caffemodel", "resnet18", "caffe")
    made.layer[0].blobs[0].shape.dim[0] = 2**40
    (tmp_path / "a.caffemodel").write_bytes(made.SerializeToString())
    with pytest.raises(WeightsError, match="which no weight of these networks has"):
        read(tmp_path / "a.caffemodel", "resnet18", "caffe")


OTHER_NETWORKS: dict[str, tuple[Callable[[], list[Part]], str]] = {
    "a stride": (lambda: changed(0, stride=[1]), r"conv1 has stride, padding and dilation 1, 3, 1, where .* 2, 3, 1"),
    "a padding": (lambda: changed(0, pad=[2]), r"conv1 has stride, padding and dilation 2, 2, 1, where .* 2, 3, 1"),
    "a pool": (lambda: changed(4, pad=1), r"pool1 is MAX 3/2/1, where .* MAX 3/2/0"),
    "a pool's kind": (lambda: changed(4, pool=AVE), r"pool1 is AVE 3/2/0, where"),
    "response normalisation": (
        lambda: with_layer(Part("norm", "LRN", ["data"], "norm", {"local_size": 5, "alpha": 0.1})),
        "norm is LRN 5 0.1 0.75 1, where",
    ),
    "a BatchNorm of five blobs": (of_nvidia, "bn_conv1 is a BatchNorm of 5 blobs"),
    "a layer twice": (lambda: with_layer(small()[0]), "two layers of the name conv1"),
    "a factor below 0": (
        lambda: with_layer(Part("bn", "BatchNorm", ["x"], "x", {}, [np.ones(2), np.ones(2), np.array([-1.0])])),
        r"bn\[2\] is -1, by which no sum is divided",
    ),
}


@pytest.mark.parametrize("what", OTHER_NETWORKS)
def test_what_computes_something_else_is_refused_by_name(what: str, tmp_path: Path) -> None:
    draw, words = OTHER_NETWORKS[what]
    with pytest.raises(WeightsError, match=words) as error:
        read(write(tmp_path / "a.caffemodel", draw()), "resnet18", "caffe")
    assert "\n" not in str(error.value)


def test_another_network_is_recognised(tmp_path: Path) -> None:
    file = write(tmp_path / "a.caffemodel", small())
    for network in ("googlenet", "densenet121"):
        with pytest.raises(WeightsError, match="looks like resnet18 from caffe"):
            read(file, network, "caffe")
    with pytest.raises(WeightsError, match=r"caffe has no weights of 'inception_v4': it has bn_inception, densenet121"):
        read(file, "inception_v4", "caffe")
    unported = NETWORKS["resnet18"](classes=3, width=0.05, input_shape=(32, 32, 3))
    with pytest.raises(WeightsError, match=r"no place for res2a_branch1\[0\] .* with classes=3, ported_from='caffe'"):
        assign(unported, read(file, "resnet18", "caffe"))


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.caffemodel", small()).read_bytes()
    for share in (0.99, 0.5, 0.01):
        (tmp_path / "a.caffemodel").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError, match=r"a\.caffemodel is no caffemodel, or is cut off: fetch it again"):
            read(tmp_path / "a.caffemodel", "resnet18", "caffe")
    with pytest.raises(WeightsError, match="is no file"):
        read(tmp_path / "b.caffemodel", "resnet18", "caffe")


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, put in, left out, or cut off behind some place; half of them in the first kilobytes."""
    raw = bytearray(whole)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(raw) if rng.random() < 0.5 else min(len(raw), 4096)))
        how = rng.integers(8)
        if how < 2:
            raw[place] = int(rng.integers(256))
        elif how < 5:
            raw[place] ^= 1 << int(rng.integers(8))
        elif how == 5:
            raw[place:place] = rng.bytes(int(rng.integers(1, 12)))
        elif how == 6:
            del raw[place : place + int(rng.integers(1, 64))]
        else:
            raw[place : place + 10] = b"\xff" * int(rng.integers(1, 10))
    return bytes(raw[: int(rng.integers(len(raw)))] if rng.random() < 0.1 else raw)


def read_mutations(file: Path, count: int, seed: int) -> tuple[int, int]:
    """How many of `count` mutations of `file` were read, and how many refused; anything else is raised."""
    rng = np.random.default_rng(seed)
    whole = file.read_bytes()
    place = file.with_name("mutated.caffemodel")
    read_, refused = 0, 0
    for _ in range(count):
        place.write_bytes(mutated(whole, rng))
        try:
            for tensor in read(place, "resnet18", "caffe").tensors.values():
                assert tensor.read().shape == tensor.shape
            read_ += 1
        except WeightsError as error:
            refused += len(str(error).splitlines()) == 1
    return read_, refused


def few_layers() -> list[Part]:
    """The beginning of a network, with a blob of every kind."""
    drawing = Drawing(0.05, seed=0)
    x = drawing.convolution("conv1", "data", 4, 3)
    x = drawing.pool("pool1", drawing.batch_norm("bn_conv1", "scale_conv1", x, x, factor=7.5), MAX, 3, 2)
    for name in ("res2a_branch1", "res2a_branch2a", "res2a_branch2b", "res2b_branch2a", "res3a_branch1"):
        x = drawing.batch_norm(name.replace("res", "bn"), name.replace("res", "scale"), x, x, factor=2.0)
        drawing.convolution(name, x, 3, 1)
    drawing.fork_s_bn("fork", x)
    drawing.dense("fc1000", x, 3)
    return drawing.parts


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    for number, options in enumerate(({}, {"packed": False}, {"doubles": True})):
        file = write(tmp_path / "a.caffemodel", few_layers(), **options)
        read_, refused = read_mutations(file, 80, seed=number)
        assert read_ + refused == 80
        assert min(read_, refused) > 2


MUTATIONS = """
import sys
from pathlib import Path
from tests.models import test_caffe
file = Path(sys.argv[1])
for number, options in enumerate(({}, {"packed": False}, {"doubles": True}, {})):
    parts = test_caffe.small() if number == 3 else test_caffe.few_layers()
    test_caffe.read_mutations(test_caffe.write(file, parts, **options), 1250, seed=10 + number)
line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(line.split()[1]) // 1024)
"""


@pytest.mark.slow
def test_five_thousand_mutated_files_take_less_than_two_gigabytes(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    megabytes = int(fresh_process(MUTATIONS, tmp_path / "a.caffemodel"))
    assert megabytes < 2000
