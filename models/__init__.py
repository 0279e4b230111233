"""The Inception family in Keras 3, with batch normalisation as its papers define it.

`NETWORKS` maps the name of every network to its builder, a function with the arguments of `keras.applications`.
Importing this package registers its layers, so that `keras.models.load_model` reads what it saved. Imported before
Keras and TensorFlow, it has the latter use oneDNN on all x86 processors, unless `TF_ENABLE_ONEDNN_OPTS` is set already.
"""

import os
import sys
from collections.abc import Callable

# TensorFlow turns oneDNN on by itself for processors with AVX-512 VNNI only, and reads this when it is imported.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras

from .batch_normalization import BatchNormalization
from .bn_inception import BNInception, InceptionV2
from .densenet import DenseNet121, DenseNetD2L
from .googlenet import GoogLeNet, InceptionV1
from .inception_resnet import InceptionResNetV1, InceptionResNetV2Paper
from .inception_resnet_v2 import InceptionResNetV2
from .inception_v3 import InceptionV3
from .inception_v4 import InceptionV4
from .lenet import LeNetBN
from .local_response_normalization import LocalResponseNormalization
from .resnet import ResNet18, ResNet18D2L
from .version import __version__

NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "lenet_bn": LeNetBN,
    "googlenet": GoogLeNet,
    "inception_v1": InceptionV1,
    "bn_inception": BNInception,
    "inception_v2": InceptionV2,
    "inception_v3": InceptionV3,
    "inception_v4": InceptionV4,
    "inception_resnet_v1": InceptionResNetV1,
    "inception_resnet_v2": InceptionResNetV2,
    "inception_resnet_v2_paper": InceptionResNetV2Paper,
    "resnet18": ResNet18,
    "densenet121": DenseNet121,
    "resnet18_d2l": ResNet18D2L,
    "densenet_d2l": DenseNetD2L,
}

__all__ = [
    "NETWORKS",
    "BNInception",
    "BatchNormalization",
    "DenseNet121",
    "DenseNetD2L",
    "GoogLeNet",
    "InceptionResNetV1",
    "InceptionResNetV2",
    "InceptionResNetV2Paper",
    "InceptionV1",
    "InceptionV2",
    "InceptionV3",
    "InceptionV4",
    "LeNetBN",
    "LocalResponseNormalization",
    "ResNet18",
    "ResNet18D2L",
    "__version__",
]
