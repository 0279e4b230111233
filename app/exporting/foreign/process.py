"""A file that somebody else converted, run in a process of its own that imports its runtime alone."""

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from app.program.errors import UserError
from export import certificate

RUNNER = certificate.RUNNER.with_name("run_foreign.py")
WHOLE_NUMBERS = ("uint8", "int16", "uint16", "int32", "int64")
PATIENCE = 600.0  # seconds that a file may take to be loaded, or to answer all pictures once
# By the suffix: what runs it, the package that it is in, and the extra that brings that.
RUNTIMES = {
    ".tflite": ("LiteRT", "ai_edge_litert", "app"),
    ".onnx": ("ONNX Runtime", "onnxruntime", "runtimes"),
    ".xml": ("OpenVINO", "openvino", "runtimes"),
}


class Answers(NamedTuple):
    """`scores` (N, classes) and, where the file names its classes itself, their `names` of the same shape."""

    scores: NDArray[np.float64]
    names: NDArray[np.str_] | None


class RefusedError(Exception):
    """The file does not take such an input; the text is its runtime's."""


class Foreign:
    """`inputs` and `outputs` are what the file says of them: `name`, `dtype`, `shape`; `computes` is "float32",
    "float16" or "int8".

    Raises:
        UserError: it is of no known kind, not whole, its runtime is not installed, or it does not load.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runtime = _runtime(file)
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        # -I: neither the current folder nor PYTHONPATH is searched, so nothing of this project can be imported.
        command = [sys.executable, "-I", str(RUNNER), str(file)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        try:
            described = self._reply()
            if "error" in described:
                raise UserError(f"{file} cannot be loaded by {self.runtime}: {described['error'].rstrip('.')}.")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.inputs: list[dict[str, Any]] = described["inputs"]
        self.outputs: list[dict[str, Any]] = described["outputs"]
        self.computes: str = described["computes"]

    @property
    def takes_whole_numbers(self) -> bool:
        return len(self.inputs) == 1 and self.inputs[0]["dtype"] in WHOLE_NUMBERS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def answers(self, pictures: Sequence[NDArray[Any]], output: str) -> Answers:
        """What it says to inputs of one picture each, encoded ones as uint8 of one dimension.

        Raises:
            RefusedError: it does not take them.
            UserError: it crashed, or took too long.
        """
        assert self._process.stdin
        with tempfile.TemporaryDirectory() as folder:
            given, to = Path(folder) / "pictures.npz", Path(folder) / "answers.npz"
            np.savez(given, *pictures)
            request = json.dumps({"pictures": str(given), "output": output, "to": str(to)})
            with contextlib.suppress(BrokenPipeError):  # it has crashed, as the reply that does not come tells
                print(request, file=self._process.stdin, flush=True)
            reply = self._reply()
            if "error" in reply:
                raise RefusedError(reply["error"])
            with np.load(to) as found:
                return Answers(found["answers"], found.get("names"))

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(PATIENCE, stop)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        if late.is_set():
            raise UserError(f"{self.file} gave no answer in {PATIENCE:.0f} seconds, so that it was stopped.")
        self._said.seek(0)
        said = self._said.read().strip().splitlines()
        why = f"by the signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        raise UserError(
            f"{self.runtime} crashed over {self.file}: its process ended {why}"
            f"{f', after it said {said[-1]!r}' if code > 0 and said else ''}."
        )


def _runtime(file: Path) -> str:
    if file.is_dir():
        if not (file / "saved_model.pb").is_file():
            raise UserError(f"{file} is no SavedModel: it holds no saved_model.pb.")
        return "TensorFlow"
    if file.suffix not in RUNTIMES:
        raise UserError(
            f"{file} is of no kind that can be asked: a SavedModel is a folder, other files end in "
            f"{', '.join(RUNTIMES)}."
        )
    runtime, package, extra = RUNTIMES[file.suffix]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"{file} needs {package}, which the extra `{extra}` brings: "
            "pip install -c constraints.txt -e '.[app,runtimes]'."
        )
    if file.suffix == ".xml" and not file.with_suffix(".bin").is_file():
        raise UserError(f"{file} has its weights in {file.with_suffix('.bin').name} beside it, which is not there.")
    return runtime
