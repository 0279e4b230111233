"""Golden images: those of a run, which its exports are compared on, and one of them in the forms that programs prepare
differently.
"""

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.images.decoding import kind_of
from app.program.files import whole, write_json
from app.run_folder.folder import Run

SIDES = (161, 97)  # odd, so that halving them rounds
UPRIGHT_BY = 6  # the EXIF orientation of a camera held upright
ORIENTATION = 0x0112
FINE = (523, 701)  # more than most networks see, so that how it is made smaller shows
PERIODS = (3, 4, 7)  # of the stripes of each colour, in pixels


def specimens(pixels: NDArray[np.uint8]) -> dict[str, bytes]:
    """Image files of the picture (height, width, 3), by name."""
    picture = Image.fromarray(pixels).resize(SIDES, Image.Resampling.BICUBIC)
    faded = picture.copy()
    faded.putalpha(Image.linear_gradient("L").resize(SIDES))
    turned = Image.Exif()
    turned[ORIENTATION] = UPRIGHT_BY
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "progressive.jpeg": (picture, {"progressive": True}),
        "cmyk.jpeg": (picture.convert("CMYK"), {}),
        "grey.jpeg": (picture.convert("L"), {}),
        "turned.jpeg": (picture, {"exif": turned}),
        "faded.png": (faded, {}),
        # The pictures of a run may be small, smooth and grey: then neither another filter nor colours in another order
        # would show.
        "fine.png": (_striped(picture), {}),
    }
    found = {}
    for name, (image, options) in files.items():
        content = io.BytesIO()
        image.save(content, name.rpartition(".")[2], **options)
        found[name] = content.getvalue()
    return found


def _striped(picture: Image.Image) -> Image.Image:
    """The picture, large, its green mirrored and its blue upside down, behind fine stripes: red ones across, green ones
    down, blue ones slanted."""
    large = np.asarray(picture.resize(FINE, Image.Resampling.BICUBIC), np.float32)
    large = np.stack([large[..., 0], large[:, ::-1, 1], large[::-1, :, 2]], axis=-1)
    rows, columns = np.indices(large.shape[:2])
    stripes = [place % period for place, period in zip((rows, columns, rows + columns), PERIODS, strict=True)]
    light = np.stack([stripe / stripe.max() for stripe in stripes], axis=-1) * 255
    return Image.fromarray(np.rint((large + light) / 2).astype(np.uint8))


def keep(run: Run, pictures: Iterable[tuple[bytes, str | None]]) -> None:
    """Writes the golden images of a run, files and their labels, as they are."""
    run.golden.mkdir(exist_ok=True)
    kept: list[dict[str, str | None]] = []
    for encoded, label in pictures:
        name = f"{len(kept):02}.{kind_of(encoded)}"
        with whole(run.golden / name) as beside:
            beside.write_bytes(encoded)
        kept.append({"file": name, "label": label})
    write_json(run.golden / "golden.json", kept)


def read_golden(run: Run) -> list[dict[str, Any]]:
    """The golden images of a run: `file` below `golden/`, and `label`, None where nobody knows it."""
    return json.loads((run.golden / "golden.json").read_text())
