"""What TensorFlow's Analyzer says of a LiteRT file and the delegate that runs it on the graphics processor of a phone.

The Analyzer of TensorFlow 2.21 finds fault with no file at all, as it was built; so it is first asked about one whose
operation the delegate has not.
"""

import contextlib
import functools
import io
import re
from pathlib import Path
from typing import Any

import tensorflow as tf

COMPLAINT = "GPU COMPATIBILITY WARNING: "


def report(file: Path) -> dict[str, Any]:
    """`compatible`, None where the Analyzer tells nothing apart, and what it `said`, a list of sentences."""
    said = _said(str(file))
    compatible = not any(sentence.startswith(COMPLAINT) for sentence in said)
    return {"compatible": compatible if tells_apart() else None, "said": said}


@functools.cache
def tells_apart() -> bool:
    """Whether the Analyzer finds fault with a file that has an operation that the delegate has not."""

    @tf.function(input_signature=[tf.TensorSpec([2, 3], tf.float32)])
    def where(x: Any) -> Any:
        return tf.where(x > 0)

    content = tf.lite.TFLiteConverter.from_concrete_functions([where.get_concrete_function()], where).convert()
    return any(sentence.startswith(COMPLAINT) for sentence in _said(content))


def _said(file: str | bytes) -> list[str]:
    """Of all that the Analyzer prints about a file, its path or its content, the sentences about the delegate."""
    of = {"model_path": file} if isinstance(file, str) else {"model_content": file}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        tf.lite.experimental.Analyzer.analyze(**of, gpu_compatibility=True)
    lines = (line.strip() for line in printed.getvalue().splitlines())
    return [line for line in lines if re.match(f"{COMPLAINT}|Your model looks compatible", line)]
