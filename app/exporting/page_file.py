"""The page of an export: one HTML file that runs the network in a browser, with LiteRT.js, and checks itself there."""

import base64
import gzip
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from app.artefacts import certified
from app.artefacts.certified import Quantised
from app.exporting import litert_js
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import console
from app.program.shown import counted
from app.run_folder.trained import Trained
from export import certificate, fixed_size, picture_files, tflite

PAGE = "page.html"
LARGE = 60_000_000  # bytes of a page, from which on it is said
GOLDEN = 8_000_000  # bytes of golden pictures in a page: photographs may be of any size
# Of a score, between the float32 network and what a browser says to the same pixels. Of integers only the best class
# is asked for, as everywhere.
TOLERANCE = 1e-3
LICENCE = Path(__file__).parents[2] / "LICENSE"  # of this program, and of LiteRT.js
SCRIPTS = ("resizing.js", "decoding.js", "page.js")


def check(formats: Sequence[str], runs: int) -> None:
    """Whether there can be a page; fetches what it runs with.

    Raises:
        UserError: there is no LiteRT file, which it runs, or no LiteRT.js.
    """
    if runs > 1:
        raise UserError(f"{runs} runs are an ensemble, which no page runs; leave --page out, or export one of them.")
    if "tflite" not in formats:
        raise UserError("--page runs the LiteRT file; add tflite to --formats.")
    litert_js.fetch()


def write(version: Path, name: str, trained: Trained, network: str, quantized: Sequence[Quantised]) -> None:
    """Writes page.html into the version folder, which has its golden images and its LiteRT files already. It runs the
    quantised one, where one was kept, or the float32 one.

    Raises:
        ConversionError: the LiteRT file does not begin with a resizing that can be left out.
        UserError: LiteRT.js is not there and cannot be fetched.
    """
    source = source_of(version, quantized)
    precision = precision_of(source)
    pictures = embedded(version)
    facts = {
        "names": trained.english or trained.labels,
        "preprocessing": trained.preprocessing.model_dump(mode="json"),
        "limits": picture_files.LIMITS._asdict(),
        "golden": pictures,
        "precision": precision,
        "tolerance": tolerance_of(precision),
        "margin": certificate.UNDECIDED if tolerance_of(precision) is None else TOLERANCE,
        "may_differ": may_differ(len(pictures), precision, source.name, quantized),
        "runtime": litert_js.VERSION,
    }
    runtime = litert_js.files()
    with tempfile.TemporaryDirectory(dir=version, prefix=".") as folder:
        cut = Path(folder) / "network.tflite"
        with tflite.without_unknown(source) as alone:
            fixed_size.write(alone, cut)
        packed = {key: runtime[key] for key in litert_js.FILES if "-" in key} | {"network": cut.read_bytes()}
    environment = Environment(
        loader=PackageLoader("app.exporting", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = _base64
    scripts = Path(__file__).parent / "page"
    text = environment.get_template("page.html.jinja").render(
        name=name,
        network=network if precision == "float32" else f"{network} in {precision}",
        classes=counted(len(trained.labels), "class", "classes"),
        described=trained.preprocessing.described(),
        runtime=runtime,
        version=litert_js.VERSION,
        licence=LICENCE.read_text(encoding="utf-8"),
        facts=json.dumps(facts).replace("<", "\\u003c"),
        packed={key: gzip.compress(content, 9, mtime=0) for key, content in packed.items()},
        script="\n".join((scripts / each).read_text(encoding="utf-8") for each in SCRIPTS),
    )
    file = version / PAGE
    with whole(file) as beside:
        beside.write_text(text, encoding="utf-8")
    megabytes = file.stat().st_size / 1e6
    console.print(f"The page has {megabytes:.1f} MB.{_how_large(file.stat().st_size, precision)}")


def _how_large(size: int, precision: str) -> str:
    if size <= LARGE:
        return ""
    smaller = "; --quantize int8 makes it smaller" if precision == "float32" else ""
    return f" That is more than {LARGE / 1e6:.0f} MB: browsers of telephones may not open it{smaller}."


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def source_of(version: Path, quantized: Sequence[Quantised]) -> Path:
    """The LiteRT file that a page runs."""
    kept = (one.file for one in quantized if one.file and one.file.endswith(".tflite"))
    return version / next(kept, "model.tflite")


def precision_of(source: Path) -> str:
    return source.suffixes[0][1:] if len(source.suffixes) > 1 else "float32"


def tolerance_of(precision: str) -> float | None:
    """Of a score, in a browser."""
    allowed = certificate.TOLERANCES[precision]
    return None if allowed is None else max(allowed, TOLERANCE)


def may_differ(images: int, precision: str, file: str, quantized: Sequence[Quantised]) -> int:
    """Of how many golden pictures a quantised network may name another class, as the certificate judges it."""
    share = allowed_of(file, quantized)
    if tolerance_of(precision) is not None or share is None:
        return 0
    few = (count for count in range(images + 1) if certificate.at_least(count, images, share) > certificate.CHANCE)
    return max(1, *few)


def allowed_of(file: str, quantized: Sequence[Quantised]) -> float | None:
    """The share of images of which this quantised file may name another class; None for one that is not."""
    return certified.allowed(quantized).get(file)


def embedded(version: Path) -> list[dict[str, Any]]:
    """The golden images as a page carries them: `file`, `probabilities`, `original`, the file as it came, and `pixels`,
    a PNG of the pixels that the certificate's artefacts get, both in base64. Without those that Pillow has no pixels
    of, and of those of the run the smallest ones, as many as fit into `GOLDEN` bytes with the others."""
    found: list[dict[str, Any]] = []
    room = GOLDEN
    images = certificate.golden(version)
    for image in sorted(images, key=lambda one: (Path(one["file"]).stem.isdecimal(), Path(one["file"]).stat().st_size)):
        encoded = Path(image["file"]).read_bytes()
        if picture_files.doubt(encoded):
            continue
        try:
            pixels = picture_files.decode(encoded)
        except picture_files.RefusedError:
            continue
        png = io.BytesIO()
        Image.fromarray(pixels).save(png, "png")
        room -= len(encoded) + len(png.getvalue())
        if room < 0 and Path(image["file"]).stem.isdecimal():
            break
        found.append(
            {
                "file": Path(image["file"]).name,
                "probabilities": image["probabilities"],
                "pixels": _base64(png.getvalue()),
                "original": _base64(encoded),
            }
        )
    return found
