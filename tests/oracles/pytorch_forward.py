"""A network of PyTorch with random weights, its weights in Keras' layouts, and what it answers to given images.

    python tests/oracles/pytorch_forward.py LIBRARY BUILDER SETTINGS IMAGES TO

In a process of its own, since PyTorch and TensorFlow do not load into the same one on every machine. SETTINGS are JSON,
IMAGES a .npy of (batch, height, width, channels), TO an .npz with `predictions` (logits), where there is one the
`auxiliary` head's, and the arrays `KIND/LAYER/WEIGHT` of `convolutions`, `normalizations` and `dense`, layers in the
order of their definition and those of the auxiliary head last.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np

torch: Any = importlib.import_module("torch")
f: Any = torch.nn.functional


class Unit(torch.nn.Module):
    """Convolution with a bias, padded by half its kernel, batch normalisation, ReLU."""

    def __init__(self, channels: int, filters: int, side: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, filters, side, stride, side // 2)
        self.bn = torch.nn.BatchNorm2d(filters)

    def forward(self, x: Any) -> Any:
        return f.relu(self.bn(self.conv(x)))


class CadeneBNInception(torch.nn.Module):
    """The Caffe release of BN-Inception as Cadene's pretrained-models.pytorch runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.ModuleList([Unit(3, 64, 7, 2), Unit(64, 64, 1), Unit(64, 192, 3)])
        rows = (  # 1x1 (0: the strided module), 3x3 reduce, 3x3, double reduce, double 3x3, projection
            (64, 64, 64, 64, 96, 32),
            (64, 64, 96, 64, 96, 64),
            (0, 128, 160, 64, 96, 0),
            (224, 64, 96, 96, 128, 128),
            (192, 96, 128, 96, 128, 128),
            (160, 128, 160, 128, 160, 128),
            (96, 128, 192, 160, 192, 128),
            (0, 128, 192, 192, 256, 0),
            (352, 192, 320, 160, 224, 128),
            (352, 192, 320, 192, 224, 128),
        )
        self.modules_ = torch.nn.ModuleList()
        channels = 192
        for single, reduce, filters, double_reduce, double, projection in rows:
            stride = 1 if single else 2
            parts = {"single": Unit(channels, single, 1)} if single else {}
            parts |= {"reduce": Unit(channels, reduce, 1), "three": Unit(reduce, filters, 3, stride)}
            parts |= {"double_reduce": Unit(channels, double_reduce, 1), "double_1": Unit(double_reduce, double, 3)}
            parts["double_2"] = Unit(double, double, 3, stride)
            if single:
                parts["projection"] = Unit(channels, projection, 1)
            self.modules_.append(torch.nn.ModuleDict(parts))
            channels = filters + double + (single + projection if single else channels)
        self.last_linear = torch.nn.Linear(channels, 1000)

    def forward(self, x: Any) -> Any:
        first, second, third = self.stem
        x = f.max_pool2d(first(x), 3, 2, ceil_mode=True)
        x = f.max_pool2d(third(second(x)), 3, 2, ceil_mode=True)
        for module in self.modules_:
            columns = [module["single"](x)] if "single" in module else []
            columns.append(module["three"](module["reduce"](x)))
            columns.append(module["double_2"](module["double_1"](module["double_reduce"](x))))
            if "single" not in module:
                columns.append(f.max_pool2d(x, 3, 2, ceil_mode=True))
            elif module is self.modules_[-1]:
                columns.append(module["projection"](f.max_pool2d(x, 3, 1, 1)))
            else:
                columns.append(module["projection"](f.avg_pool2d(x, 3, 1, 1, count_include_pad=True)))
            x = torch.cat(columns, 1)
        return self.last_linear(x.mean((2, 3)))


def network(library: str, builder: str, settings: dict[str, Any]) -> Any:
    if library == "cadene":
        return CadeneBNInception()
    published = importlib.import_module(library)
    if library == "timm":
        return published.create_model(builder, **settings)
    return getattr(published, builder)(**settings)


def disturb(part: Any, generator: Any) -> None:
    if isinstance(part, torch.nn.BatchNorm2d):
        for vector in (part.bias.data, part.running_mean):
            vector.normal_(0, 0.5, generator=generator)
        for vector in (part.weight.data, part.running_var):
            vector.uniform_(0.5, 1.5, generator=generator)
    elif isinstance(part, torch.nn.Conv2d):
        # With statistics that are not its own a network forgets its image on the way up, unless kernels are this large.
        part.weight.data.normal_(0, (2 / part.weight[0].numel()) ** 0.5, generator=generator)


def weights(theirs: Any) -> dict[str, Any]:
    """Every array of a convolution, batch normalisation or dense layer, in the layout and order that Keras has."""
    parts = sorted(theirs.named_modules(), key=lambda part: part[0].startswith("AuxLogits"))
    found: dict[str, list[list[Any]]] = {"convolutions": [], "normalizations": [], "dense": []}
    for _, part in parts:
        if isinstance(part, torch.nn.BatchNorm2d):
            found["normalizations"].append([part.weight, part.bias, part.running_mean, part.running_var])
        elif isinstance(part, torch.nn.Conv2d):
            found["convolutions"].append([part.weight.permute(2, 3, 1, 0), part.bias])
        elif isinstance(part, torch.nn.Linear):
            found["dense"].append([part.weight.T, part.bias])
    return {
        f"{kind}/{number}/{position}": vector.detach().numpy()
        for kind, layers in found.items()
        for number, layer in enumerate(layers)
        for position, vector in enumerate(layer)
        if vector is not None
    }


def main(library: str, builder: str, settings: str, images: str, to: str) -> None:
    torch.manual_seed(8)
    theirs = network(library, builder, json.loads(settings)).eval()
    generator = torch.Generator().manual_seed(7)
    for part in theirs.modules():
        disturb(part, generator)
    answers: dict[str, Any] = {}
    head = getattr(theirs, "AuxLogits", None)
    if head is not None:  # in inference it is left out
        theirs.Mixed_6e.register_forward_hook(lambda part, inputs, x: answers.update(auxiliary=head(x).numpy()))
    with torch.no_grad():
        answers["predictions"] = theirs(torch.from_numpy(np.load(images).transpose(0, 3, 1, 2).copy())).numpy()
    np.savez(to, **answers, **weights(theirs))


if __name__ == "__main__":
    main(*sys.argv[1:])
