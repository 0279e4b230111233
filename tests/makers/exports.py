"""Copies of exports, with parts left out or other parts, whose certificate is of what they are now."""

import json
import shutil
from pathlib import Path

from app.exporting import certifying

SAVED_MODEL = ("saved_model.pb", "variables")


def without(version: Path, to: Path, *left_out: str) -> Path:
    """A copy `to` of a version folder without these files and folders, as if it had been exported without them."""
    shutil.copytree(version, to, ignore=shutil.ignore_patterns(*left_out))
    certify_again(to)
    return to


def certify_again(version: Path) -> None:
    """Writes the hashes of the files that are there into the certificate, and leaves out artefacts that are not."""
    path = version / "certificate.json"
    certified = json.loads(path.read_text())
    certified["sha256"]["files"] = certifying.hashes(version)
    certified["rows"] = [row for row in certified["rows"] if _is_there(row["artefact"], version)]
    path.write_text(json.dumps(certified))


def _is_there(artefact: str, version: Path) -> bool:
    kind, _, name = artefact.partition(" ")
    if kind == "SavedModel":
        return (version / "saved_model.pb").is_file()
    return kind not in ("LiteRT", "ONNX", "OpenVINO") or (version / name).is_file()
