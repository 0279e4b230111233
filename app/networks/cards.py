"""The family at a glance: what the papers publish about each network, and what was counted on the network itself.

Data alone, so that a command can name networks before anything large is imported.
"""

from dataclasses import dataclass
from typing import Any

from app.program.errors import UserError, nearest


@dataclass(frozen=True)
class Card:
    """`side` is the input of the publication, `minimum` the smallest that works, in pixels. `top_1` and `top_5` are the
    single-crop accuracy on ImageNet's validation images, in 0..1, that `accuracy_source` publishes; `source` is who
    publishes weights. `parameters`, those of them that train and `multiply_adds` of an answer are counted at the input
    of the publication (see `counting`), without auxiliary heads."""

    paper: str
    side: int
    minimum: int
    parameters: int
    trainable: int
    multiply_adds: int
    channels: int = 3
    classes: int = 1000
    top_1: float | None = None
    top_5: float | None = None
    accuracy_source: str | None = None
    source: str | None = None


# Whose files of weights can be read, as `models.weights.SOURCES`.
SOURCES = ("slim", "keras", "torchvision", "timm", "facenet", "cadene", "caffe")
# A network that keeps one pixel however small the image is has the minimum 1.
CARDS = {
    "lenet_bn": Card("d2l.ai, chapter 8.5", 28, 16, 45_330, 44_878, 281_640, channels=1, classes=10),
    "googlenet": Card(
        "arXiv:1409.4842",
        224,
        1,
        6_998_552,
        6_998_552,
        1_582_671_872,
        top_1=0.687,
        top_5=0.889,
        accuracy_source="BVLC Caffe",
        source="Caffe",
    ),
    "inception_v1": Card(
        "arXiv:1409.4842",
        224,
        1,
        6_639_464,
        6_624_904,
        1_498_376_192,
        top_1=0.698,
        top_5=0.896,
        accuracy_source="TF-slim",
        source="TF-slim, torchvision",
    ),
    "bn_inception": Card(
        "arXiv:1502.03167",
        224,
        1,
        11_305_256,
        11_285_224,
        2_032_600_064,
        top_1=0.748,
        top_5=0.9218,
        accuracy_source="paper",
        source="Caffe, Cadene",
    ),
    "inception_v2": Card(
        "arXiv:1502.03167",
        224,
        1,
        11_208_000,
        11_188_224,
        1_934_857_216,
        top_1=0.739,
        top_5=0.918,
        accuracy_source="TF-slim",
        source="TF-slim",
    ),
    "inception_v3": Card(
        "arXiv:1512.00567",
        299,
        75,
        23_869_000,
        23_834_568,
        5_713_216_096,
        top_1=0.788,
        top_5=0.944,
        accuracy_source="paper",
        source="TF-slim, Keras, torchvision, timm",
    ),
    "inception_v4": Card(
        "arXiv:1602.07261",
        299,
        75,
        42_742_984,
        42_679_816,
        12_253_974_624,
        top_1=0.8,
        top_5=0.95,
        accuracy_source="paper",
        source="TF-slim, timm, Cadene",
    ),
    "inception_resnet_v1": Card(
        "arXiv:1602.07261",
        299,
        75,
        24_385_672,
        24_357_096,
        6_308_597_856,
        top_1=0.787,
        top_5=0.945,
        accuracy_source="paper",
        source="facenet (faces)",
    ),
    "inception_resnet_v2": Card(
        "arXiv:1602.07261",
        299,
        75,
        55_904_008,
        55_843_464,
        13_155_794_016,
        top_1=0.804,
        top_5=0.953,
        accuracy_source="TF-slim",
        source="TF-slim, Keras, timm, Cadene",
    ),
    "inception_resnet_v2_paper": Card(
        "arXiv:1602.07261",
        299,
        75,
        32_466_792,
        32_433_928,
        9_257_953_632,
        top_1=0.801,
        top_5=0.951,
        accuracy_source="paper",
    ),
    "resnet18": Card(
        "arXiv:1512.03385",
        224,
        1,
        11_699_112,
        11_689_512,
        1_814_073_344,
        top_1=0.69758,
        top_5=0.89078,
        accuracy_source="torchvision",
        source="torchvision, Caffe",
    ),
    "densenet121": Card(
        "arXiv:1608.06993",
        224,
        29,
        8_062_504,
        7_978_856,
        2_834_161_664,
        top_1=0.7498,
        top_5=0.9229,
        accuracy_source="paper",
        source="Keras, torchvision, Caffe",
    ),
    "resnet18_d2l": Card("d2l.ai, chapter 8.6", 96, 1, 11_186_186, 11_178_378, 318_657_536, channels=1, classes=10),
    "densenet_d2l": Card("d2l.ai, chapter 8.7", 96, 29, 764_834, 758_226, 129_077_168, channels=1, classes=10),
}


def check_name(name: str) -> None:
    """Refuses what is not the name of a network.

    Raises:
        UserError: there is none; offers the nearest names.
    """
    if name not in CARDS:
        raise UserError(
            f"There is no network '{name}'; the nearest names are {nearest(name, CARDS)}, and `networks` lists all."
        )


def check_source(name: str) -> None:
    """Refuses what nobody publishes weights as.

    Raises:
        UserError: there is no such source.
    """
    if name not in SOURCES:
        raise UserError(f"There is no source '{name}'. The sources are {', '.join(SOURCES)}.")


def describe() -> list[dict[str, Any]]:
    """A row per network, with the keys that `networks --json` prints."""
    return [
        {
            "name": name,
            "paper": card.paper,
            "input": [card.side, card.side, card.channels],
            "parameters": card.parameters,
            "trainable": card.trainable,
            "multiply_adds": card.multiply_adds,
            "top_1": card.top_1,
            "top_5": card.top_5,
            "accuracy_source": card.accuracy_source,
            "source": card.source,
        }
        for name, card in CARDS.items()
    ]
