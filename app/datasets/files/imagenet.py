"""ImageNet's validation images (ILSVRC 2012) as they are unpacked: 50,000 files in one folder, labelled by number."""

import re
from collections import Counter
from pathlib import Path

from app.datasets.dataset import Finding, ImageFile, Listing
from app.images.finding import count_left, is_left_by_a_system
from app.networks.synsets import listing
from app.program.errors import UserError

FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.(?:jpe?g|png)", re.IGNORECASE)


def file_name(number: int) -> str:
    """Of the validation image with this number, from 1."""
    return f"ILSVRC2012_val_{number:08}.JPEG"


def is_flat(folder: Path) -> bool:
    """Whether validation images lie in the folder itself, and not in folders of classes."""
    return folder.is_dir() and any(FILE.fullmatch(path.name) for path in folder.iterdir())


def flat(folder: Path) -> Listing:
    """Its validation images, each with the synset that TensorFlow Datasets lists for its number.

    Raises:
        UserError: a number that no validation image has.
    """
    labels = listing("validation_labels.txt")
    files: list[ImageFile] = []
    found: list[Finding] = []
    left: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        name = FILE.fullmatch(path.name)
        if is_left_by_a_system(path.name):
            left += count_left(path)
        elif name is None:
            found.append(Finding(str(path), "not an image", "its name is not that of a validation image"))
        elif not 1 <= int(name[1]) <= len(labels):
            raise UserError(f"{path} is no validation image of ImageNet: their numbers are 1 to {len(labels)}.")
        else:
            files.append(ImageFile(path, labels[int(name[1]) - 1], "test"))
    return Listing(folder, tuple(files), tuple(found), tuple(left.most_common()))
