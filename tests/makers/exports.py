"""Copies of exports, with parts left out or other parts, whose certificate is of what they are now."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.artefacts import certified

SAVED_MODEL = ("saved_model.pb", "variables")


def without(version: Path, to: Path, *left_out: str) -> Path:
    """A copy `to` of a version folder without these files and folders, as if it had been exported without them."""
    shutil.copytree(version, to, ignore=shutil.ignore_patterns(*left_out))
    certify_again(to)
    return to


def certify_again(version: Path) -> None:
    """Writes the hashes of the files that are there into the certificate, and leaves out artefacts that are not."""

    def again(content: Any) -> None:
        content["sha256"]["files"] = certified.hashes(version)
        content["rows"] = [row for row in content["rows"] if _is_there(row["artefact"], version)]

    change(version, again)


def change(version: Path, what: Callable[[Any], None]) -> None:
    """Makes the certificate say something else, as if that had been certified."""
    content = json.loads((version / certified.CERTIFICATE).read_text())
    what(content)
    certified.write(version, content)


def forget_the_run(version: Path) -> None:
    """What remains to verify are the artefacts, on the golden images: less than half the time."""

    def forget(content: Any) -> None:
        for member in content["networks"]:
            member["run"] = str(version / "gone")

    change(version, forget)


def _is_there(artefact: str, version: Path) -> bool:
    kind, _, name = artefact.partition(" ")
    if "SavedModel" in (kind, name):  # as it is, or served
        return (version / "saved_model.pb").is_file()
    return kind not in ("LiteRT", "ONNX", "OpenVINO", "REST", "gRPC") or (version / name).is_file()
