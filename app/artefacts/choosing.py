"""Which artefact is meant: by name, by what `export --tune` has measured on this machine, or by a fixed order."""

import json
import os
from pathlib import Path

from app.artefacts import installed, version_folders
from app.artefacts.processor import processor
from app.program import paths
from app.program.errors import UserError
from app.program.progress import console
from export import certificate

AUTO, SAVED_MODEL = "auto", "saved_model"
FORMATS = {suffix: kind.format for suffix, kind in certificate.KINDS.items()}  # by the suffix of a file
# What is fast on most machines, the best first; what may lose accuracy comes behind it. A SavedModel is as fast, but
# TensorFlow takes seconds to be there.
ORDER = ("openvino", "onnx", "tflite", SAVED_MODEL)


def meant(model: Path, artefact: str | None = None) -> Path:
    """What answers for `model`, which is a run folder, an export or a file of one: the run folder itself, the version
    folder for its SavedModel, or a file. `artefact` is one of `names`, or "auto": the fastest for one picture at a
    time. Without it a SavedModel is taken, where there is one.

    Raises:
        UserError: none of these; no such artefact, or one whose runtime is not installed.
    """
    if model.is_file():
        if model.suffix not in FORMATS:
            raise UserError(f"{model} is no run, no export and no file of one; those end in {', '.join(FORMATS)}.")
        found = {model.name: model}
        installed.check(str(model), [installed.RUNTIMES[model.suffix]])
    elif paths.is_run(model):
        found = {}
    else:
        return of_version(version_folders.newest(model), artefact)
    if artefact not in (None, AUTO, *found):
        raise UserError(f"{model} is no export, of which '{artefact}' could be taken; leave out --artefact.")
    return model


def name_of(artefact: Path) -> str:
    """ "saved_model" for a version folder; for a file what --formats calls it, and its own name if it is no float32."""
    if artefact.is_dir():
        return SAVED_MODEL
    return FORMATS[artefact.suffix] if artefact.stem == "model" else artefact.name


def names(version: Path) -> dict[str, Path]:
    """The artefacts of a version folder by name.

    Raises:
        UserError: there is none.
    """
    try:
        return {name_of(path): path for path in certificate.artefacts(version)}
    except certificate.ArtefactError as error:
        raise UserError(f"{error}.") from error


def of_version(version: Path, artefact: str | None = None) -> Path:
    """As `meant`, of a version folder, which need not be certified yet."""
    found = names(version)
    if artefact is None and SAVED_MODEL in found:
        return version
    if artefact in (None, AUTO):
        return _fastest(version, found, said=artefact is not None)
    files = {path.name: path for path in found.values() if path != version}
    path = found.get(str(artefact)) or files.get(str(artefact))
    if path is None:
        raise UserError(f"{version} has no artefact '{artefact}'; it has {', '.join(found)}.")
    if path != version:
        installed.check(str(path), [installed.RUNTIMES[path.suffix]])
    return path


def _fastest(version: Path, found: dict[str, Path], said: bool) -> Path:
    runnable = {name: path for name, path in found.items() if installed.runs_here(path)}
    if (taken := _tuned(version)) in runnable:
        return runnable[taken]
    ranked = sorted(runnable, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    if not ranked:
        installed.check(str(version), sorted({installed.RUNTIMES[path.suffix] for path in found.values()}))
    if said:
        console.print(f"This export was not tuned on this machine (`export --tune`): {ranked[0]} is taken.")
    return runnable[ranked[0]]


def _tuned(version: Path) -> str:
    """The artefact that `export --tune` has found to be the fastest on a machine like this one, with as many threads;
    empty without it."""
    try:
        tuned = json.loads((version / "certificate.json").read_text())["tuned"]
        here = (tuned["processor"], tuned["threads"]) == (processor(), os.cpu_count())
        return str(tuned["take"]["1"]) if here else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
