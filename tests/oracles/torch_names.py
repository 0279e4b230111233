"""The entries of the PyTorch state dicts that can be imported: their names and shapes in the order of the file.

Written from the ports' own naming, for made-up checkpoints to test the importers with. A line is a module, then " | "
before each of its branches, a branch its convolutions from bottom to top with " > " between them:

    branch5x5_2 5x5:64    the attribute, its kernel, its filters; "." where the module itself is the convolution
    [a || b]              both read the same map, their outputs are concatenated
    -                     no entries: a pool that passes its input on
    + conv2d 256          the residual up-projection, with bias and without batch normalisation
    features.{6..9}       so many modules one after the other
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

Shape = tuple[int, ...]

# torchvision's and timm's Inception-v3 share every name.
_INCEPTION_V3 = """
    Conv2d_1a_3x3 | . 3x3:32
    Conv2d_2a_3x3 | . 3x3:32
    Conv2d_2b_3x3 | . 3x3:64
    Conv2d_3b_1x1 | . 1x1:80
    Conv2d_4a_3x3 | . 3x3:192
    Mixed_5b | branch1x1 1x1:64 | branch5x5_1 1x1:48 > branch5x5_2 5x5:64 \
             | branch3x3dbl_1 1x1:64 > branch3x3dbl_2 3x3:96 > branch3x3dbl_3 3x3:96 | branch_pool 1x1:32
    Mixed_5c | branch1x1 1x1:64 | branch5x5_1 1x1:48 > branch5x5_2 5x5:64 \
             | branch3x3dbl_1 1x1:64 > branch3x3dbl_2 3x3:96 > branch3x3dbl_3 3x3:96 | branch_pool 1x1:64
    Mixed_5d | branch1x1 1x1:64 | branch5x5_1 1x1:48 > branch5x5_2 5x5:64 \
             | branch3x3dbl_1 1x1:64 > branch3x3dbl_2 3x3:96 > branch3x3dbl_3 3x3:96 | branch_pool 1x1:64
    Mixed_6a | branch3x3 3x3:384 | branch3x3dbl_1 1x1:64 > branch3x3dbl_2 3x3:96 > branch3x3dbl_3 3x3:96 | -
    Mixed_6b | branch1x1 1x1:192 | branch7x7_1 1x1:128 > branch7x7_2 1x7:128 > branch7x7_3 7x1:192 \
             | branch7x7dbl_1 1x1:128 > branch7x7dbl_2 7x1:128 > branch7x7dbl_3 1x7:128 > branch7x7dbl_4 7x1:128 \
             > branch7x7dbl_5 1x7:192 | branch_pool 1x1:192
    Mixed_6c | branch1x1 1x1:192 | branch7x7_1 1x1:160 > branch7x7_2 1x7:160 > branch7x7_3 7x1:192 \
             | branch7x7dbl_1 1x1:160 > branch7x7dbl_2 7x1:160 > branch7x7dbl_3 1x7:160 > branch7x7dbl_4 7x1:160 \
             > branch7x7dbl_5 1x7:192 | branch_pool 1x1:192
    Mixed_6d | branch1x1 1x1:192 | branch7x7_1 1x1:160 > branch7x7_2 1x7:160 > branch7x7_3 7x1:192 \
             | branch7x7dbl_1 1x1:160 > branch7x7dbl_2 7x1:160 > branch7x7dbl_3 1x7:160 > branch7x7dbl_4 7x1:160 \
             > branch7x7dbl_5 1x7:192 | branch_pool 1x1:192
    Mixed_6e | branch1x1 1x1:192 | branch7x7_1 1x1:192 > branch7x7_2 1x7:192 > branch7x7_3 7x1:192 \
             | branch7x7dbl_1 1x1:192 > branch7x7dbl_2 7x1:192 > branch7x7dbl_3 1x7:192 > branch7x7dbl_4 7x1:192 \
             > branch7x7dbl_5 1x7:192 | branch_pool 1x1:192
    Mixed_7a | branch3x3_1 1x1:192 > branch3x3_2 3x3:320 \
             | branch7x7x3_1 1x1:192 > branch7x7x3_2 1x7:192 > branch7x7x3_3 7x1:192 > branch7x7x3_4 3x3:192 | -
    Mixed_7b | branch1x1 1x1:320 | branch3x3_1 1x1:384 > [branch3x3_2a 1x3:384 || branch3x3_2b 3x1:384] \
             | branch3x3dbl_1 1x1:448 > branch3x3dbl_2 3x3:384 > [branch3x3dbl_3a 1x3:384 || branch3x3dbl_3b 3x1:384] \
             | branch_pool 1x1:192
    Mixed_7c | branch1x1 1x1:320 | branch3x3_1 1x1:384 > [branch3x3_2a 1x3:384 || branch3x3_2b 3x1:384] \
             | branch3x3dbl_1 1x1:448 > branch3x3dbl_2 3x3:384 > [branch3x3dbl_3a 1x3:384 || branch3x3dbl_3b 3x1:384] \
             | branch_pool 1x1:192
"""


@dataclass(frozen=True)
class Port:
    rows: str
    classifier: str
    auxiliary: tuple[tuple[str, str], ...] = ()  # the module below the head's entries in the file, and the head


PORTS = {
    "torchvision/googlenet": Port(
        rows="""
            conv1 | . 7x7:64
            conv2 | . 1x1:64
            conv3 | . 3x3:192
            inception3a | branch1 1x1:64 | branch2.0 1x1:96 > branch2.1 3x3:128 \
                        | branch3.0 1x1:16 > branch3.1 3x3:32 | branch4.1 1x1:32
            inception3b | branch1 1x1:128 | branch2.0 1x1:128 > branch2.1 3x3:192 \
                        | branch3.0 1x1:32 > branch3.1 3x3:96 | branch4.1 1x1:64
            inception4a | branch1 1x1:192 | branch2.0 1x1:96 > branch2.1 3x3:208 \
                        | branch3.0 1x1:16 > branch3.1 3x3:48 | branch4.1 1x1:64
            inception4b | branch1 1x1:160 | branch2.0 1x1:112 > branch2.1 3x3:224 \
                        | branch3.0 1x1:24 > branch3.1 3x3:64 | branch4.1 1x1:64
            inception4c | branch1 1x1:128 | branch2.0 1x1:128 > branch2.1 3x3:256 \
                        | branch3.0 1x1:24 > branch3.1 3x3:64 | branch4.1 1x1:64
            inception4d | branch1 1x1:112 | branch2.0 1x1:144 > branch2.1 3x3:288 \
                        | branch3.0 1x1:32 > branch3.1 3x3:64 | branch4.1 1x1:64
            inception4e | branch1 1x1:256 | branch2.0 1x1:160 > branch2.1 3x3:320 \
                        | branch3.0 1x1:32 > branch3.1 3x3:128 | branch4.1 1x1:128
            inception5a | branch1 1x1:256 | branch2.0 1x1:160 > branch2.1 3x3:320 \
                        | branch3.0 1x1:32 > branch3.1 3x3:128 | branch4.1 1x1:128
            inception5b | branch1 1x1:384 | branch2.0 1x1:192 > branch2.1 3x3:384 \
                        | branch3.0 1x1:48 > branch3.1 3x3:128 | branch4.1 1x1:128
        """,
        classifier="fc",
        auxiliary=(("inception5b", "aux1"), ("inception5b", "aux2")),
    ),
    "torchvision/inception_v3": Port(_INCEPTION_V3, classifier="fc", auxiliary=(("Mixed_6e", "AuxLogits"),)),
    "timm/inception_v3": Port(_INCEPTION_V3, classifier="fc", auxiliary=(("Mixed_6e", "AuxLogits"),)),
    "timm/inception_v4": Port(
        rows="""
            features.0 | . 3x3:32
            features.1 | . 3x3:32
            features.2 | . 3x3:64
            features.3 | - | conv 3x3:96
            features.4 | branch0.0 1x1:64 > branch0.1 3x3:96 \
                       | branch1.0 1x1:64 > branch1.1 1x7:64 > branch1.2 7x1:64 > branch1.3 3x3:96
            features.5 | conv 3x3:192 | -
            features.{6..9} | branch0 1x1:96 | branch1.0 1x1:64 > branch1.1 3x3:96 \
                       | branch2.0 1x1:64 > branch2.1 3x3:96 > branch2.2 3x3:96 | branch3.1 1x1:96
            features.10 | branch0 3x3:384 | branch1.0 1x1:192 > branch1.1 3x3:224 > branch1.2 3x3:256 | -
            features.{11..17} | branch0 1x1:384 | branch1.0 1x1:192 > branch1.1 1x7:224 > branch1.2 7x1:256 \
                       | branch2.0 1x1:192 > branch2.1 7x1:192 > branch2.2 1x7:224 > branch2.3 7x1:224 \
                       > branch2.4 1x7:256 | branch3.1 1x1:128
            features.18 | branch0.0 1x1:192 > branch0.1 3x3:192 \
                       | branch1.0 1x1:256 > branch1.1 1x7:256 > branch1.2 7x1:320 > branch1.3 3x3:320 | -
            features.{19..21} | branch0 1x1:256 | branch1_0 1x1:384 > [branch1_1a 1x3:256 || branch1_1b 3x1:256] \
                       | branch2_0 1x1:384 > branch2_1 3x1:448 > branch2_2 1x3:512 \
                       > [branch2_3a 1x3:256 || branch2_3b 3x1:256] | branch3.1 1x1:256
        """,
        classifier="last_linear",
    ),
    "timm/inception_resnet_v2": Port(
        rows="""
            conv2d_1a | . 3x3:32
            conv2d_2a | . 3x3:32
            conv2d_2b | . 3x3:64
            conv2d_3b | . 1x1:80
            conv2d_4a | . 3x3:192
            mixed_5b | branch0 1x1:96 | branch1.0 1x1:48 > branch1.1 5x5:64 \
                     | branch2.0 1x1:64 > branch2.1 3x3:96 > branch2.2 3x3:96 | branch3.1 1x1:64
            repeat.{0..9} | branch0 1x1:32 | branch1.0 1x1:32 > branch1.1 3x3:32 \
                     | branch2.0 1x1:32 > branch2.1 3x3:48 > branch2.2 3x3:64 | + conv2d 320
            mixed_6a | branch0 3x3:384 | branch1.0 1x1:256 > branch1.1 3x3:256 > branch1.2 3x3:384 | -
            repeat_1.{0..19} | branch0 1x1:192 | branch1.0 1x1:128 > branch1.1 1x7:160 > branch1.2 7x1:192 \
                     | + conv2d 1088
            mixed_7a | branch0.0 1x1:256 > branch0.1 3x3:384 | branch1.0 1x1:256 > branch1.1 3x3:288 \
                     | branch2.0 1x1:256 > branch2.1 3x3:288 > branch2.2 3x3:320 | -
            repeat_2.{0..8} | branch0 1x1:192 | branch1.0 1x1:192 > branch1.1 1x3:224 > branch1.2 3x1:256 \
                     | + conv2d 2080
            block8 | branch0 1x1:192 | branch1.0 1x1:192 > branch1.1 1x3:224 > branch1.2 3x1:256 | + conv2d 2080
            conv2d_7b | . 1x1:1536
        """,
        classifier="classif",
    ),
    "facenet-pytorch/inception_resnet_v1": Port(
        rows="""
            conv2d_1a | . 3x3:32
            conv2d_2a | . 3x3:32
            conv2d_2b | . 3x3:64
            conv2d_3b | . 1x1:80
            conv2d_4a | . 3x3:192
            conv2d_4b | . 3x3:256
            repeat_1.{0..4} | branch0 1x1:32 | branch1.0 1x1:32 > branch1.1 3x3:32 \
                     | branch2.0 1x1:32 > branch2.1 3x3:32 > branch2.2 3x3:32 | + conv2d 256
            mixed_6a | branch0 3x3:384 | branch1.0 1x1:192 > branch1.1 3x3:192 > branch1.2 3x3:256 | -
            repeat_2.{0..9} | branch0 1x1:128 | branch1.0 1x1:128 > branch1.1 1x7:128 > branch1.2 7x1:128 \
                     | + conv2d 896
            mixed_7a | branch0.0 1x1:256 > branch0.1 3x3:384 | branch1.0 1x1:256 > branch1.1 3x3:256 \
                     | branch2.0 1x1:256 > branch2.1 3x3:256 > branch2.2 3x3:256 | -
            repeat_3.{0..4} | branch0 1x1:192 | branch1.0 1x1:192 > branch1.1 1x3:192 > branch1.2 3x1:192 \
                     | + conv2d 1792
            block8 | branch0 1x1:192 | branch1.0 1x1:192 > branch1.1 1x3:192 > branch1.2 3x1:192 | + conv2d 1792
        """,
        classifier="logits",
    ),
    # Every convolution has a bias, its batch normalisation stands beside it as NAME_bn.
    "cadene/bninception": Port(
        rows="""
            conv1_7x7_s2 | . 7x7:64
            conv2_3x3_reduce | . 1x1:64
            conv2_3x3 | . 3x3:192
            inception_3a | 1x1 1x1:64 | 3x3_reduce 1x1:64 > 3x3 3x3:64 \
                | double_3x3_reduce 1x1:64 > double_3x3_1 3x3:96 > double_3x3_2 3x3:96 | pool_proj 1x1:32
            inception_3b | 1x1 1x1:64 | 3x3_reduce 1x1:64 > 3x3 3x3:96 \
                | double_3x3_reduce 1x1:64 > double_3x3_1 3x3:96 > double_3x3_2 3x3:96 | pool_proj 1x1:64
            inception_3c | 3x3_reduce 1x1:128 > 3x3 3x3:160 \
                | double_3x3_reduce 1x1:64 > double_3x3_1 3x3:96 > double_3x3_2 3x3:96 | -
            inception_4a | 1x1 1x1:224 | 3x3_reduce 1x1:64 > 3x3 3x3:96 \
                | double_3x3_reduce 1x1:96 > double_3x3_1 3x3:128 > double_3x3_2 3x3:128 | pool_proj 1x1:128
            inception_4b | 1x1 1x1:192 | 3x3_reduce 1x1:96 > 3x3 3x3:128 \
                | double_3x3_reduce 1x1:96 > double_3x3_1 3x3:128 > double_3x3_2 3x3:128 | pool_proj 1x1:128
            inception_4c | 1x1 1x1:160 | 3x3_reduce 1x1:128 > 3x3 3x3:160 \
                | double_3x3_reduce 1x1:128 > double_3x3_1 3x3:160 > double_3x3_2 3x3:160 | pool_proj 1x1:128
            inception_4d | 1x1 1x1:96 | 3x3_reduce 1x1:128 > 3x3 3x3:192 \
                | double_3x3_reduce 1x1:160 > double_3x3_1 3x3:192 > double_3x3_2 3x3:192 | pool_proj 1x1:128
            inception_4e | 3x3_reduce 1x1:128 > 3x3 3x3:192 \
                | double_3x3_reduce 1x1:192 > double_3x3_1 3x3:256 > double_3x3_2 3x3:256 | -
            inception_5a | 1x1 1x1:352 | 3x3_reduce 1x1:192 > 3x3 3x3:320 \
                | double_3x3_reduce 1x1:160 > double_3x3_1 3x3:224 > double_3x3_2 3x3:224 | pool_proj 1x1:128
            inception_5b | 1x1 1x1:352 | 3x3_reduce 1x1:192 > 3x3 3x3:320 \
                | double_3x3_reduce 1x1:192 > double_3x3_1 3x3:224 > double_3x3_2 3x3:224 | pool_proj 1x1:128
        """,
        classifier="last_linear",
    ),
    "torchvision/resnet18": Port("", classifier="fc"),
    "torchvision/densenet121": Port("", classifier="classifier"),
}


class _Entries(dict[str, Shape]):
    """A state dict being written; `biased` is Cadene's way of writing a convolution and its batch normalisation."""

    def __init__(self, biased: bool = False) -> None:
        super().__init__()
        self.biased = biased

    def conv(self, name: str, below: int, filters: int, rows: int, columns: int) -> None:
        self[f"{name}.weight"] = (filters, below, rows, columns)

    def norm(self, name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.{part}"] = (channels,)
        self[f"{name}.num_batches_tracked"] = ()

    def unit(self, name: str, below: int, filters: int, rows: int, columns: int) -> None:
        if self.biased:
            self.conv(name, below, filters, rows, columns)
            self[f"{name}.bias"] = (filters,)
            self.norm(f"{name}_bn", filters)
        else:
            self.conv(f"{name}.conv", below, filters, rows, columns)
            self.norm(f"{name}.bn", filters)

    def linear(self, name: str, below: int, units: int) -> None:
        self[f"{name}.weight"] = (units, below)
        self[f"{name}.bias"] = (units,)


def _rows(text: str) -> Iterator[list[str]]:
    """The lines' cells, a line with a repetition as often as it says."""
    for line in text.strip().splitlines():
        name, *branches = (re.sub(r" +", " ", cell.strip()) for cell in line.split(" | "))
        repetition = re.search(r"\{(\d+)\.\.(\d+)\}$", name)
        if repetition is None:
            yield [name, *branches]
            continue
        for number in range(int(repetition[1]), int(repetition[2]) + 1):
            yield [f"{name[: repetition.start()]}{number}", *branches]


def _branch(to: _Entries, module: str, below: int, text: str) -> int:
    """Writes a branch and returns its number of channels."""
    for step in [] if text == "-" else text.split(" > "):
        if step.startswith("["):
            below = sum(_branch(to, module, below, part) for part in step.strip("[]").split(" || "))
            continue
        attribute, operation = step.split(" ")
        kernel, filters = operation.split(":")
        rows, columns = map(int, kernel.split("x"))
        between = "_" if to.biased else "."
        to.unit(module if attribute == "." else f"{module}{between}{attribute}", below, int(filters), rows, columns)
        below = int(filters)
    return below


def _module(to: _Entries, module: str, below: int, branches: list[str]) -> int:
    if not branches[-1].startswith("+"):
        return sum(_branch(to, module, below, branch) for branch in branches)
    channels = sum(_branch(to, module, below, branch) for branch in branches[:-1])
    _, attribute, filters = branches[-1].split(" ")
    assert int(filters) == below, module
    to.conv(f"{module}.{attribute}", channels, below, 1, 1)
    to[f"{module}.{attribute}.bias"] = (below,)
    return below


def _head(to: _Entries, head: str, classes: int) -> None:
    if head == "AuxLogits":
        to.unit("AuxLogits.conv0", 768, 128, 1, 1)
        to.unit("AuxLogits.conv1", 128, 768, 5, 5)
        to.linear("AuxLogits.fc", 768, classes)
    else:
        to.unit(f"{head}.conv", {"aux1": 512, "aux2": 528}[head], 128, 1, 1)
        to.linear(f"{head}.fc1", 2048, 1024)
        to.linear(f"{head}.fc2", 1024, classes)


def _resnet18(to: _Entries) -> int:
    to.conv("conv1", 3, 64, 7, 7)
    to.norm("bn1", 64)
    below = 64
    for layer, filters in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (0, 1):
            name = f"layer{layer}.{block}"
            to.conv(f"{name}.conv1", below, filters, 3, 3)
            to.norm(f"{name}.bn1", filters)
            to.conv(f"{name}.conv2", filters, filters, 3, 3)
            to.norm(f"{name}.bn2", filters)
            if below != filters:
                to.conv(f"{name}.downsample.0", below, filters, 1, 1)
                to.norm(f"{name}.downsample.1", filters)
            below = filters
    return below


def _densenet121(to: _Entries) -> int:
    to.conv("features.conv0", 3, 64, 7, 7)
    to.norm("features.norm0", 64)
    channels = 64
    for block, layers in ((1, 6), (2, 12), (3, 24), (4, 16)):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            to.norm(f"{name}.norm1", channels)
            to.conv(f"{name}.conv1", channels, 128, 1, 1)
            to.norm(f"{name}.norm2", 128)
            to.conv(f"{name}.conv2", 128, 32, 3, 3)
            channels += 32
        if block < 4:
            to.norm(f"features.transition{block}.norm", channels)
            to.conv(f"features.transition{block}.conv", channels, channels // 2, 1, 1)
            channels //= 2
    to.norm("features.norm5", channels)
    return channels


def tensors(name: str, classes: int = 1000, auxiliary: bool = False) -> dict[str, Shape]:
    """Every entry of the port's state dict in its order; facenet-pytorch's embedding is 512 wide."""
    port = PORTS[name]
    to = _Entries(biased=name == "cadene/bninception")
    if name == "torchvision/resnet18":
        channels = _resnet18(to)
    elif name == "torchvision/densenet121":
        channels = _densenet121(to)
    else:
        channels = 3
        for module, *branches in _rows(port.rows):
            channels = _module(to, module, channels, branches)
            for below, head in port.auxiliary if auxiliary else ():
                if below == module:
                    _head(to, head, classes)
    if name == "facenet-pytorch/inception_resnet_v1":
        to["last_linear.weight"] = (512, channels)
        to.norm("last_bn", 512)
        channels = 512
    to.linear(port.classifier, channels, classes)
    return dict(to)
