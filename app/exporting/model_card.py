"""README.md of an export: what the network is, what it was measured to do, and how to use it without this project."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from app.exporting.page_file import PAGE
from app.program.files import whole
from app.program.shown import counted
from app.run_folder.classifier import Classifier

# Under what the projects publish that imported files come from; the photographs of ImageNet have terms of their own.
LICENCES = {
    "slim": "TensorFlow Models (TF-slim), Apache-2.0",
    "facenet": "facenet and facenet-pytorch, MIT",
    "keras": "keras-applications, MIT",
    "torchvision": "torchvision, BSD-3-Clause",
    "timm": "timm (PyTorch Image Models), Apache-2.0",
    "cadene": "pretrained-models.pytorch, BSD-3-Clause",
}


def write(
    version: Path,
    name: str,
    classifiers: Sequence[Classifier],
    figures: dict[str, Any] | None,
    rows: list[Any],
) -> None:
    """Writes README.md into the version folder. `classifiers` are those of the networks that answer together; `figures`
    are the run's `metrics.json`, None where it has none; `rows` those of the certificate."""
    environment = Environment(
        loader=PackageLoader("app.exporting", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["counted"] = counted
    not_compared = {name for row in rows for name in row["not_compared"]}
    card = environment.get_template("model_card.md.jinja").render(
        name=name,
        # Read with Pillow in an example, so one that Pillow reads.
        golden=min({path.name for path in (version / "golden").iterdir()} - not_compared),
        not_compared=len(not_compared),
        classifiers=classifiers,
        figures=figures,
        rows=rows,
        licences=LICENCES,
        device_file=_first(version, "*.tflite"),
        onnx_file=_first(version, "*.onnx"),
        openvino_file=_first(version, "*.xml"),
        smaller=[file.name for file in sorted(version.glob("model.*.*")) if file.suffix != ".bin"],
        page=(version / PAGE).is_file(),
        served=(version / "saved_model.pb").is_file(),
    )
    with whole(version / "README.md") as beside:
        beside.write_text(f"{card.rstrip()}\n")


def _first(version: Path, pattern: str) -> str | None:
    """The float32 file of these, where there is one."""
    return min((file.name for file in version.glob(pattern)), key=lambda name: (len(name), name), default=None)
