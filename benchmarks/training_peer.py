"""Training steps of one network of timm, for a process of its own: see `benchmarks.training_step`.

    python -m benchmarks.training_peer KIND NETWORK SIDE BATCH STEPS [DEVICE]

KIND is "eager" or "compiled", with "first" or "last" for where the memory has the channels: eager-last. As timm's own
training does it: `torch.compile` takes the network, the optimizer is PyTorch's fused one. With a DEVICE, cuda or cpu,
convolutions are in bfloat16. Prints the JSON object of `stepping`, with `build`. Needs torch and timm, and nothing of
ours.
"""

import sys
import time

import torch

from benchmarks import stepping
from benchmarks.stepping import MOMENTUM, RATE

if torch.version.cuda is None:
    # PyPI's torchvision is built for CUDA: beside PyTorch's CPU file its operators are missing, which timm
    # does not use, and its import fails because two of them have no signature.
    missing = torch.library.Library("torchvision", "DEF")
    missing.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    missing.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm

THREADS = 2


def main(kind: str, *arguments: str) -> None:
    asked, device = stepping.asked(arguments[:4]), (arguments[4] if arguments[4:] else None)
    how, channels = kind.split("-")
    torch.set_num_threads(THREADS)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    started = time.perf_counter()
    layout = torch.channels_last if channels == "last" else torch.contiguous_format
    model = timm.create_model(asked.network, num_classes=asked.classes).train().to(device, memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, fused=True)
    network = torch.compile(model) if how == "compiled" else model
    build = time.perf_counter() - started
    images = 2 * torch.rand(asked.batch, 3, asked.side, asked.side) - 1
    images = images.to(device).contiguous(memory_format=layout)
    labels = torch.randint(0, asked.classes, (asked.batch,)).to(device)
    told = stepping.Steps(asked.steps, apart=device is None)
    told.begin()
    for _ in range(asked.all_steps):
        optimizer.zero_grad()
        with torch.autocast(device or "cpu", torch.bfloat16, enabled=device is not None):
            loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        told.end(loss.item)
    print(told.told(build=build))


if __name__ == "__main__":
    main(*sys.argv[1:])
