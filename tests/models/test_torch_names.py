"""The made-up state dicts have as many entries and numbers as the published ones."""

import math
from typing import Any

import pytest

from tests.oracles.references import REFERENCES
from tests.oracles.slim_networks import variables
from tests.oracles.torch_names import PORTS, tensors

Shape = tuple[int, ...]


def trainable(shapes: dict[str, Shape]) -> int:
    return sum(math.prod(shape) for name, shape in shapes.items() if name.endswith((".weight", ".bias")))


@pytest.mark.parametrize(
    ("name", "options", "entries", "numbers"),
    [
        ("torchvision/googlenet", {}, 344, 6_624_904),
        ("torchvision/googlenet", {"auxiliary": True}, 364, 13_004_888),
        ("torchvision/inception_v3", {}, 566, 23_834_568),
        ("torchvision/inception_v3", {"auxiliary": True}, 580, 27_161_264),
        ("timm/inception_v3", {}, 566, 23_834_568),
        ("timm/inception_v3", {"auxiliary": True}, 580, 27_161_264),
        ("timm/inception_v4", {}, 896, 42_679_816),
        ("timm/inception_resnet_v2", {}, 1306, 55_843_464),
        ("facenet-pytorch/inception_resnet_v1", {"classes": 8631}, 716, 27_910_327),
        ("cadene/bninception", {}, 485, 11_295_240),
        ("torchvision/resnet18", {}, 122, 11_689_512),
        ("torchvision/densenet121", {}, 727, 7_978_856),
    ],
)
def test_there_are_as_many_entries_and_trainable_numbers_as_published(
    name: str, options: dict[str, Any], entries: int, numbers: int
) -> None:
    shapes = tensors(name, **options)
    assert len(shapes) == entries
    assert trainable(shapes) == numbers


def test_every_port_s_classifier_comes_last() -> None:
    for name, port in PORTS.items():
        assert list(tensors(name))[-2:] == [f"{port.classifier}.weight", f"{port.classifier}.bias"]


@pytest.mark.parametrize(
    ("port", "network"),
    [
        ("torchvision/googlenet", "inception_v1"),
        ("torchvision/inception_v3", "inception_v3"),
        ("timm/inception_v3", "inception_v3"),
        ("timm/inception_v4", "inception_v4"),
        ("timm/inception_resnet_v2", "inception_resnet_v2"),
        ("facenet-pytorch/inception_resnet_v1", "inception_resnet_v1"),
    ],
)
def test_the_convolutions_come_in_the_order_of_slim_s_variables(port: str, network: str) -> None:
    theirs = [shape for shape in tensors(port).values() if len(shape) == 4]
    kernels = [shape for name, shape in variables(network).items() if name.endswith("weights") and "Logits" not in name]
    assert theirs == [(filters, below, rows, columns) for rows, columns, below, filters in kernels]


def test_the_heads_of_inception_v3_stand_between_mixed_6e_and_mixed_7a() -> None:
    modules = [name.split(".")[0] for name in tensors("torchvision/inception_v3", auxiliary=True)]
    order = list(dict.fromkeys(modules))
    assert order[order.index("AuxLogits") - 1] == "Mixed_6e"
    assert order[order.index("AuxLogits") + 1] == "Mixed_7a"


@pytest.mark.parametrize(
    ("port", "name", "shape"),
    [
        ("torchvision/googlenet", "inception5a.branch3.1.conv.weight", (128, 32, 3, 3)),
        ("torchvision/inception_v3", "Mixed_7b.branch3x3dbl_3b.bn.running_var", (384,)),
        ("timm/inception_v4", "features.19.branch2_1.conv.weight", (448, 384, 3, 1)),
        ("timm/inception_resnet_v2", "repeat_1.19.conv2d.bias", (1088,)),
        ("facenet-pytorch/inception_resnet_v1", "last_linear.weight", (512, 1792)),
        ("cadene/bninception", "inception_4e_double_3x3_2_bn.running_mean", (256,)),
        ("cadene/bninception", "conv1_7x7_s2.bias", (64,)),
        ("torchvision/resnet18", "layer2.0.downsample.0.weight", (128, 64, 1, 1)),
        ("torchvision/densenet121", "features.denseblock4.denselayer16.norm1.weight", (992,)),
    ],
)
def test_names_are_those_of_the_port(port: str, name: str, shape: Shape) -> None:
    assert tensors(port)[name] == shape


def test_resnet18_and_densenet121_hold_what_the_references_hold() -> None:
    for name in ("resnet18", "densenet121"):
        kernels = [shape for shape in tensors(f"torchvision/{name}").values() if len(shape) == 4]
        assert sum(math.prod(shape) for shape in kernels) == sum(REFERENCES[name].conv_weights.values())
