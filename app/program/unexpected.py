"""Errors that nobody foresaw, of TensorFlow above all: one sentence for the user, and a file that holds the rest."""

import os
import re
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

import platformdirs

OF_MEMORY = re.compile(r"\bOOM\b|out of memory|allocat", re.IGNORECASE)
# Lines that say where in the graph, and not what.
WHERE = re.compile(r"Graph execution error|Detected at node|<stack traces|\d+ root error|File \"|$")


def sentence(error: Exception) -> str:
    """What went wrong, in one line, and the file of its full trace, which this writes."""
    if is_of_memory(error):
        what = f"Memory ran out: take smaller batches or images, or end other programs. ({line(error, OF_MEMORY)})"
    else:
        what = f"{type(error).__name__}: {line(error)}."
    return f"{what} {trace(error)}"


def trace(error: BaseException) -> str:
    """The sentence that names the file of the full trace, which this writes."""
    content = "".join(traceback.format_exception(error))
    name = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (platformdirs.user_cache_path("inceptions") / "errors", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{shlex.join(sys.argv)}\n\n{content}", "utf-8", errors="backslashreplace")
        except OSError:  # a full disk must not hide the error
            continue
        return f"The full trace is in {folder / name}."
    return "The full trace could not be written anywhere."


def is_of_memory(error: BaseException) -> bool:
    """Disks that are full have the same kind of error in TensorFlow."""
    text = str(error)
    exhausted = type(error).__name__ == "ResourceExhaustedError" and "No space left" not in text
    return exhausted or isinstance(error, MemoryError) or "out of memory" in text.lower().replace("_", " ")


def line(error: BaseException, wanted: re.Pattern[str] | None = None) -> str:
    """The first line of a message that says what happened; one that is `wanted`, where there is one."""
    message = getattr(error, "message", None) or str(error)
    plain = (re.sub(r"^(\(\d+\) )?({{.*?}} )?", "", line.strip()) for line in message.splitlines())
    lines = [line for line in plain if not WHERE.match(line)] or [type(error).__name__]
    return next((line for line in lines if wanted and wanted.search(line)), lines[0]).rstrip(".")
