"""ImageNet's thousand classes, and what TensorFlow Datasets lists about its images."""

import csv
import importlib.resources
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path

IN_PLACE_OF_A_FILE = Path("imagenet")  # what stands for these labels where a file of labels is wanted
BACKGROUND = "background"  # class 0 of the 1001 that TF-slim trains: no image has it


def synsets() -> tuple[str, ...]:
    """The thousand classes, as `n01440764`, in the order of published networks."""
    return tuple(names())


@cache
def names() -> Mapping[str, str]:
    """Synset -> English name, as `models.imagenet` has them. That brings Keras, which who lists files or asks a server
    need not wait for."""
    package = importlib.util.find_spec("models")
    assert package is not None
    with Path(str(package.origin)).with_name("imagenet.csv").open(encoding="utf-8") as file:
        return {row["synset"]: row["name"] for row in csv.DictReader(file)}


def listing(name: str) -> list[str]:
    return (importlib.resources.files("tensorflow_datasets") / "datasets" / "imagenet2012" / name).read_text().split()
