"""Networks as Caffe has them, and its files: for the importer, and for what it is held against.

A network is a list of `Part`s from bottom to top, with random weights. The networks were written from the public
descriptions (prototxt): `models/bvlc_googlenet` of BVLC/caffe, `tsn_bn_inception_rgb_deploy` of
yjxiong/temporal-segment-networks, `deploy` of HolmesShuan/ResNet-18-Caffemodel-on-ImageNet, `DenseNet_121` of
shicai/DenseNet-Caffe. The files are written by google.protobuf, whose messages are described here by the numbers of
`caffe.proto`; the importer has a reader of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

Array = np.ndarray[Any, Any]

# message: field number type, with * for a list
MESSAGES = {
    "BlobShape": "dim 1 int64*",
    "BlobProto": "num 1 int32, channels 2 int32, height 3 int32, width 4 int32, data 5 float*, shape 7 BlobShape, "
    "double_data 8 double*",
    "ConvolutionParameter": "num_output 1 uint32, bias_term 2 bool, pad 3 uint32*, kernel_size 4 uint32*, "
    "group 5 uint32, stride 6 uint32*",
    "InnerProductParameter": "num_output 1 uint32",
    "LRNParameter": "local_size 1 uint32, alpha 2 float, beta 3 float, norm_region 4 int32, k 5 float",
    # The number of ceil_mode is that of OpenCV's description; BVLC's has an enumeration there.
    "PoolingParameter": "pool 1 int32, kernel_size 2 uint32, stride 3 uint32, pad 4 uint32, global_pooling 12 bool, "
    "ceil_mode 13 bool",
    "BatchNormParameter": "use_global_stats 1 bool, eps 3 float",
    "BNParameter": "eps 4 float, frozen 5 bool",
    "ScaleParameter": "bias_term 5 bool",
    "LayerParameter": "name 1 string, type 2 string, bottom 3 string*, top 4 string*, blobs 7 BlobProto*, "
    "convolution_param 106 ConvolutionParameter, inner_product_param 117 InnerProductParameter, "
    "lrn_param 118 LRNParameter, pooling_param 121 PoolingParameter, bn_param 137 BNParameter, "
    "batch_norm_param 139 BatchNormParameter, scale_param 142 ScaleParameter",
    "V1LayerParameter": "bottom 2 string*, top 3 string*, name 4 string, type 5 int32, blobs 6 BlobProto*, "
    "convolution_param 10 ConvolutionParameter, inner_product_param 17 InnerProductParameter, "
    "lrn_param 18 LRNParameter, pooling_param 19 PoolingParameter",
    "NetParameter": "name 1 string, layers 2 V1LayerParameter*, input 3 string*, input_shape 8 BlobShape*, "
    "layer 100 LayerParameter*",
}
PARAMETERS = {
    "Convolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "LRN": "lrn_param",
    "Pooling": "pooling_param",
    "BN": "bn_param",
    "BatchNorm": "batch_norm_param",
    "Scale": "scale_param",
}
OLD_TYPES = {"Concat": 3, "Convolution": 4, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18}
MAX, AVE = 0, 1


@dataclass
class Part:
    """A layer of Caffe. `blobs` are its weights in Caffe's layout, `settings` its own parameters."""

    name: str
    kind: str
    bottoms: list[str]
    top: str
    settings: dict[str, Any] = field(default_factory=dict)
    blobs: list[Array] = field(default_factory=list)


class Drawing:
    """Parts as they are drawn, and the channels of every map. `width` scales as the builders' argument does."""

    def __init__(self, width: float, seed: int) -> None:
        self.width = width
        self.rng = np.random.default_rng(seed)
        self.parts: list[Part] = []
        self.channels = {"data": 3}

    def scaled(self, filters: int) -> int:
        return max(1, round(self.width * filters))

    def vector(self, role: str, channels: int) -> Array:
        drawn = (
            self.rng.uniform(0.5, 1.5, channels) if role in ("variance", "gamma") else self.rng.normal(0, 0.3, channels)
        )
        return drawn.astype(np.float32)

    def add(self, name: str, kind: str, bottoms: list[str], top: str, channels: int, **rest: Any) -> str:
        self.parts.append(Part(name, kind, bottoms, top, rest.get("settings", {}), rest.get("blobs", [])))
        self.channels[top] = channels
        return top

    def convolution(self, name: str, x: str, filters: int, kernel: int, stride: int = 1, bias: bool = True) -> str:
        inputs = self.channels[x]
        shape = (filters, inputs, kernel, kernel)
        blobs = [self.rng.normal(0, (2 / (inputs * kernel**2)) ** 0.5, shape).astype(np.float32)]
        settings: dict[str, Any] = {"num_output": filters, "bias_term": bias, "kernel_size": [kernel]}
        settings |= {"pad": [kernel // 2]} if kernel > 1 else {}
        settings |= {"stride": [stride]} if stride > 1 else {}
        blobs += [self.vector("bias", filters)] if bias else []
        return self.add(name, "Convolution", [x], name, filters, settings=settings, blobs=blobs)

    def dense(self, name: str, x: str, outputs: int, inputs: int | None = None) -> str:
        inputs = self.channels[x] if inputs is None else inputs
        kernel = self.rng.normal(0, (1 / inputs) ** 0.5, (outputs, inputs)).astype(np.float32)
        blobs = [kernel, self.vector("bias", outputs)]
        return self.add(name, "InnerProduct", [x], name, outputs, settings={"num_output": outputs}, blobs=blobs)

    def batch_norm(self, name: str, scale: str, x: str, top: str, factor: float) -> str:
        """BatchNorm with its sums, and Scale in its place."""
        channels = self.channels[x]
        mean, variance = self.vector("mean", channels), self.vector("variance", channels)
        sums = [np.float32(factor) * mean, np.float32(factor) * variance, np.array([factor], np.float32)]
        self.add(name, "BatchNorm", [x], top, channels, settings={"eps": 1e-5}, blobs=sums)
        blobs = [self.vector("gamma", channels), self.vector("beta", channels)]
        return self.add(scale, "Scale", [top], top, channels, settings={"bias_term": True}, blobs=blobs)

    def fork_s_bn(self, name: str, x: str) -> str:
        channels = self.channels[x]
        roles = ("gamma", "beta", "mean", "variance")
        blobs = [self.vector(role, channels)[None] for role in roles]
        return self.add(name, "BN", [x], name, channels, settings={"frozen": True}, blobs=blobs)

    def relu(self, name: str, x: str) -> str:
        return self.add(name, "ReLU", [x], x, self.channels[x])

    def pool(
        self, name: str, x: str, kind: int, side: int = 0, stride: int = 1, pad: int = 0, ceil: bool = True
    ) -> str:
        settings: dict[str, Any] = {"pool": kind}
        settings |= {"kernel_size": side, "stride": stride} if side else {"global_pooling": True}
        settings |= {"pad": pad} if pad else {}
        settings |= {} if ceil else {"ceil_mode": False}
        return self.add(name, "Pooling", [x], name, self.channels[x], settings=settings)

    def concat(self, name: str, maps: list[str]) -> str:
        return self.add(name, "Concat", maps, name, sum(self.channels[x] for x in maps))


def googlenet(width: float = 1.0, classes: int = 1000, head_map: int = 16, seed: int = 1) -> list[Part]:
    """BVLC's, with its two auxiliary heads. `head_map` are the pixels of the map that they flatten."""
    d = Drawing(width, seed)

    def conv(name: str, relu: str, x: str, filters: int, kernel: int, stride: int = 1) -> str:
        return d.relu(relu, d.convolution(name, x, d.scaled(filters), kernel, stride))

    def lrn(name: str, x: str) -> str:
        settings = {"local_size": 5, "alpha": 0.0001, "beta": 0.75}
        return d.add(name, "LRN", [x], name, d.channels[x], settings=settings)

    x = conv("conv1/7x7_s2", "conv1/relu_7x7", "data", 64, 7, 2)
    x = lrn("pool1/norm1", d.pool("pool1/3x3_s2", x, MAX, 3, 2))
    x = conv("conv2/3x3_reduce", "conv2/relu_3x3_reduce", x, 64, 1)
    x = lrn("conv2/norm2", conv("conv2/3x3", "conv2/relu_3x3", x, 192, 3))
    x = d.pool("pool2/3x3_s2", x, MAX, 3, 2)
    rows = {
        "3a": (64, 96, 128, 16, 32, 32),
        "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
        "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }
    for row, (n1, r3, n3, r5, n5, projection) in rows.items():
        m = f"inception_{row}"
        columns = [conv(f"{m}/1x1", f"{m}/relu_1x1", x, n1, 1)]
        reduced = conv(f"{m}/3x3_reduce", f"{m}/relu_3x3_reduce", x, r3, 1)
        columns.append(conv(f"{m}/3x3", f"{m}/relu_3x3", reduced, n3, 3))
        reduced = conv(f"{m}/5x5_reduce", f"{m}/relu_5x5_reduce", x, r5, 1)
        columns.append(conv(f"{m}/5x5", f"{m}/relu_5x5", reduced, n5, 5))
        pooled = d.pool(f"{m}/pool", x, MAX, 3, 1, 1)
        columns.append(conv(f"{m}/pool_proj", f"{m}/relu_pool_proj", pooled, projection, 1))
        x = d.concat(f"{m}/output", columns)
        if row in ("4a", "4d"):
            head = "loss1" if row == "4a" else "loss2"
            y = conv(f"{head}/conv", f"{head}/relu_conv", d.pool(f"{head}/ave_pool", x, AVE, 5, 3), 128, 1)
            y = d.relu(f"{head}/relu_fc", d.dense(f"{head}/fc", y, d.scaled(1024), d.channels[y] * head_map))
            d.dense(f"{head}/classifier", y, classes)
        if row in ("3b", "4e"):
            x = d.pool(f"pool{row[0]}/3x3_s2", x, MAX, 3, 2)
    d.dense("loss3/classifier", d.pool("pool5/7x7_s1", x, AVE), classes)
    return d.parts


def bn_inception(width: float = 1.0, classes: int = 1000, seed: int = 2) -> list[Part]:
    d = Drawing(width, seed)

    def conv(name: str, x: str, filters: int, kernel: int, stride: int = 1) -> str:
        x = d.convolution(name, x, d.scaled(filters), kernel, stride)
        place, _, step = name.partition("/")
        return d.relu(f"{place}/relu_{step}", d.fork_s_bn(f"{name}_bn", x))

    x = d.pool("pool1/3x3_s2", conv("conv1/7x7_s2", "data", 64, 7, 2), MAX, 3, 2)
    x = conv("conv2/3x3", conv("conv2/3x3_reduce", x, 64, 1), 192, 3)
    x = d.pool("pool2/3x3_s2", x, MAX, 3, 2)
    rows = {
        "3a": (64, 64, 64, 64, 96, 32),
        "3b": (64, 64, 96, 64, 96, 64),
        "3c": (0, 128, 160, 64, 96, 0),
        "4a": (224, 64, 96, 96, 128, 128),
        "4b": (192, 96, 128, 96, 128, 128),
        "4c": (160, 128, 160, 128, 160, 128),
        "4d": (96, 128, 192, 160, 192, 128),
        "4e": (0, 128, 192, 192, 256, 0),
        "5a": (352, 192, 320, 160, 224, 128),
        "5b": (352, 192, 320, 192, 224, 128),
    }
    for row, (n1, r3, n3, r33, n33, projection) in rows.items():
        m, stride = f"inception_{row}", 1 if n1 else 2
        columns = [conv(f"{m}/1x1", x, n1, 1)] if n1 else []
        columns.append(conv(f"{m}/3x3", conv(f"{m}/3x3_reduce", x, r3, 1), n3, 3, stride))
        y = conv(f"{m}/double_3x3_1", conv(f"{m}/double_3x3_reduce", x, r33, 1), n33, 3)
        columns.append(conv(f"{m}/double_3x3_2", y, n33, 3, stride))
        if n1:
            pooled = d.pool(f"{m}/pool", x, MAX if row == "5b" else AVE, 3, 1, 1)
            columns.append(conv(f"{m}/pool_proj", pooled, projection, 1))
        else:
            columns.append(d.pool(f"{m}/pool", x, MAX, 3, 2))
        x = d.concat(f"{m}/output", columns)
    d.dense("fc", d.pool("global_pool", x, AVE), classes)
    return d.parts


def resnet18(width: float = 1.0, classes: int = 1000, seed: int = 3) -> list[Part]:
    d = Drawing(width, seed)

    def conv(name: str, x: str, filters: int, kernel: int, stride: int = 1) -> str:
        suffix = f"_{name}" if name == "conv1" else name.removeprefix("res")
        x = d.convolution(name, x, d.scaled(filters), kernel, stride, bias=False)
        return d.batch_norm(f"bn{suffix}", f"scale{suffix}", x, x, factor=999.98236)

    x = d.pool("pool1", d.relu("conv1_relu", conv("conv1", "data", 64, 7, 2)), MAX, 3, 2)
    for stage, filters in zip((2, 3, 4, 5), (64, 128, 256, 512), strict=True):
        for letter in "ab":
            block, stride = f"res{stage}{letter}", 2 if letter == "a" and stage > 2 else 1
            shortcut = conv(f"{block}_branch1", x, filters, 1, stride) if letter == "a" else x
            y = d.relu(f"{block}_branch2a_relu", conv(f"{block}_branch2a", x, filters, 3, stride))
            y = conv(f"{block}_branch2b", y, filters, 3)
            x = d.add(block, "Eltwise", [shortcut, y], block, d.channels[y])
            d.relu(f"{block}_relu", x)
    d.dense("fc1000", d.pool("pool5", x, AVE), classes)
    return d.parts


def densenet121(width: float = 1.0, classes: int = 1000, seed: int = 4) -> list[Part]:
    d = Drawing(width, seed)

    def bn(name: str, x: str) -> str:
        x = d.batch_norm(f"{name}/bn", f"{name}/scale", x, f"{name}/bn", factor=1.0)
        return d.relu(f"relu{name.removeprefix('conv')}", x)

    x = d.convolution("conv1", "data", d.scaled(64), 7, 2, bias=False)
    x = d.pool("pool1", bn("conv1", x), MAX, 3, 2, 1, ceil=False)
    for block, (layers, filters) in enumerate(((6, 128), (12, 256), (24, 512), (16, 0)), start=2):
        for layer in range(1, layers + 1):
            place = f"conv{block}_{layer}"
            y = d.convolution(f"{place}/x1", bn(f"{place}/x1", x), d.scaled(128), 1, bias=False)
            y = d.convolution(f"{place}/x2", bn(f"{place}/x2", y), d.scaled(32), 3, bias=False)
            x = d.concat(f"concat_{block}_{layer}", [x, y])
        x = bn(f"conv{block}_blk", x)
        if filters:
            x = d.convolution(f"conv{block}_blk", x, d.scaled(filters), 1, bias=False)
            x = d.pool(f"pool{block}", x, AVE, 2, 2)
    d.convolution("fc6", d.pool("pool5", x, AVE), classes, 1)
    return d.parts


def for_opencv(parts: Sequence[Part]) -> list[Part]:
    """The fork's BN as BatchNorm and Scale, which is all that OpenCV knows."""
    written = []
    for part in parts:
        if part.kind != "BN":
            written.append(part)
            continue
        gamma, beta, mean, variance = (blob.ravel() for blob in part.blobs)
        statistics = [mean, variance, np.ones(1, np.float32)]
        written.append(Part(part.name, "BatchNorm", part.bottoms, part.top, {"eps": 1e-5}, statistics))
        scale = Part(f"{part.name}/scale", "Scale", [part.top], part.top, {"bias_term": True}, [gamma, beta])
        written.append(scale)
    return written


# Files ---------------------------------------------------------------------------------------------------------------


@cache
def messages(packed: bool = True) -> dict[str, Any]:
    """The classes of `MESSAGES`; numbers in lists of their own are packed, as proto2 leaves it to the description."""
    file = descriptor_pb2.FileDescriptorProto(name=f"caffe_{packed}.proto", package="caffe", syntax="proto2")
    types = {name: number for number, name in _types()}
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for entry in fields.split(", "):
            name, number, kind = entry.split()
            label = 3 if kind.endswith("*") else 1
            kind = kind.removesuffix("*")
            one = described.field.add(name=name, number=int(number), label=label)
            if kind in types:
                one.type = types[kind]
                if label == 3 and name in ("data", "double_data", "dim"):
                    one.options.packed = packed
            else:
                one.type, one.type_name = 11, f".caffe.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in MESSAGES}


def _types() -> Iterator[tuple[int, str]]:
    kinds = descriptor_pb2.FieldDescriptorProto
    for name in ("double", "float", "int64", "int32", "uint32", "bool", "string"):
        yield getattr(kinds, f"TYPE_{name.upper()}"), name


def net(
    parts: Sequence[Part], *, old: bool = False, packed: bool = True, doubles: bool = False, weights: bool = True
) -> Any:
    """The network as a message. `old` has `layers` and blobs of four sides, as until 2015."""
    made = messages(packed)["NetParameter"](name="network")
    for part in parts:
        layer = (made.layers if old else made.layer).add(name=part.name, bottom=part.bottoms, top=[part.top])
        layer.type = OLD_TYPES[part.kind] if old else part.kind
        if part.kind in PARAMETERS:
            settings = getattr(layer, PARAMETERS[part.kind])
            settings.SetInParent()
            for name, value in part.settings.items():
                if isinstance(value, list):
                    getattr(settings, name).extend(value)
                else:
                    setattr(settings, name, value)
        for values in part.blobs if weights else ():
            blob = layer.blobs.add()
            if old:
                sides = (1,) * (4 - values.ndim) + values.shape
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(values.shape)
            (blob.double_data if doubles else blob.data).extend(values.ravel())
    return made


def write(path: Path, parts: Sequence[Part], **options: bool) -> Path:
    path.write_bytes(net(parts, **options).SerializeToString())
    return path


def write_description(path: Path, parts: Sequence[Part], shape: tuple[int, ...]) -> Path:
    """The prototxt for images of `shape`, (batch, channels, height, width)."""
    made = net(parts, weights=False)
    made.input.append("data")
    made.input_shape.add(dim=shape)
    path.write_text(text_format.MessageToString(made))
    return path
