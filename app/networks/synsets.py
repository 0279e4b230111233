"""ImageNet's thousand classes, and what TensorFlow Datasets lists about its images."""

import importlib.resources
from pathlib import Path

IN_PLACE_OF_A_FILE = Path("imagenet")  # what stands for these labels where a file of labels is wanted
BACKGROUND = "background"  # class 0 of the 1001 that TF-slim trains: no image has it


def synsets() -> tuple[str, ...]:
    """The thousand classes, as `n01440764`, in the order of published networks."""
    from models import imagenet  # it brings Keras, which listing files need not wait for

    return tuple(imagenet.names())


def listing(name: str) -> list[str]:
    return (importlib.resources.files("tensorflow_datasets") / "datasets" / "imagenet2012" / name).read_text().split()
