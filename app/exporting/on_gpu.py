"""Whether the LiteRT files of an export run on a phone's graphics processor: what can be said of it here."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from app.program import quiet
from app.program.progress import console
from export import gpu_delegate


def report(folder: Path) -> dict[str, Any]:
    """The Analyzer's report of every LiteRT file in the folder, by its name; says in a line what it comes to."""
    with quiet.native():
        found = {file.name: gpu_delegate.report(file) for file in sorted(folder.glob("*.tflite"))}
    if found:
        console.print(f"GPU delegate: {_comes_to(found)}.")
    return found


def _comes_to(found: dict[str, Any]) -> str:
    if any(one["compatible"] is None for one in found.values()):
        return f"not known here, since the Analyzer of TensorFlow {tf.__version__} finds no fault with any file"
    by_answer = {True: "compatible as far as the Analyzer sees", False: "with operations that stay on the CPU"}
    listed = {
        words: ", ".join(name for name, one in found.items() if one["compatible"] is answer)
        for answer, words in by_answer.items()
    }
    return "; ".join(f"{names} {words}" for words, names in listed.items() if names)
