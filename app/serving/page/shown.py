"""What the page shows of a version beside its answers."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.artefacts import certified
from app.serving.page import resizing
from export import picture_files


class Example(NamedTuple):
    """`label` is what is on it, as far as somebody knows."""

    file: Path
    label: str | None


class Inside(NamedTuple):
    """What a run can tell of its answer to a picture. `heat` is uint8 RGB (height, width, 3): what speaks for `label`,
    laid over the picture. `like` says whether the picture is like those of the training, a sentence that is empty where
    nothing can be said; `is_like` whether it is."""

    heat: NDArray[np.uint8]
    label: str
    like: str
    is_like: bool


@dataclass(frozen=True)
class Shown:
    """`preprocessing` is what is done to a picture, `described` the same in words; `names` are English ones of labels
    that are synsets. `inside` takes the bytes of a picture's file; an export, which is folded, has none."""

    examples: Sequence[Example]
    preprocessing: Mapping[str, Any]
    described: str
    names: Mapping[str, str] = field(default_factory=dict)
    inside: Callable[[bytes], Inside] | None = None

    def seen(self, encoded: bytes) -> bytes:
        """A PNG of the picture as the network sees it.

        Raises:
            picture_files.RefusedError: it cannot be decoded.
        """
        return png(resizing.seen(picture_files.decode(encoded), self.preprocessing))


def of_export(version: Path) -> Shown:
    """Of a version folder; of an ensemble, what its first network sees.

    Raises:
        UserError: its certificate cannot be read.
    """
    written, _ = certified.read(version)
    names = dict(zip(written.labels, written.labels_en, strict=False))
    first = written.networks[0]
    return Shown(examples(version / "golden"), first.preprocessing, first.described, names)


def examples(golden: Path) -> list[Example]:
    """The golden images of a run or an export; none where it has none."""
    listed = golden / "golden.json"
    if not listed.is_file():
        return []
    return [Example(golden / one["file"], one["label"]) for one in json.loads(listed.read_text())]


def png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "png")
    return written.getvalue()
