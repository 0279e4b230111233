"""Checkpoints of TensorFlow, as TF-slim and facenet wrote them: one file (version 1), or an index and its data (2).

`tf.train.load_checkpoint` reads both. Nothing of TensorFlow 1 is needed: no graph, no session, no slim.
"""

import re
from pathlib import Path

import tensorflow as tf

from .tensors import Array, Tensor, WeightsError, possible

# The reader's errors, of which Python's own stand for the status of the same name: OutOfRange is an IndexError.
DAMAGED = (tf.errors.OpError, ValueError, RuntimeError, IndexError, KeyError, TypeError)
PARTS = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")


def tensors(path: Path) -> dict[str, Tensor]:
    """The variables of the checkpoint `path`: a version 1 file, the prefix of a version 2 one, or any of its parts.

    Raises:
        WeightsError: there is no such checkpoint, it is of another format, or a part of it is missing.
    """
    prefix = path.with_name(PARTS.sub("", path.name))
    index = prefix.with_name(f"{prefix.name}.index")
    if path.is_dir():
        raise WeightsError(f"{path} is a folder: name the checkpoint in it, {_examples(path)}.")
    if index.is_file():
        _complete(prefix)
    elif not prefix.is_file():
        raise WeightsError(f"{path} is no checkpoint: there is neither a file {prefix.name} nor {index.name}.")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
    except DAMAGED as error:
        raise WeightsError(f"{path} is no TensorFlow checkpoint, or is cut off: {_first_line(error)}.") from error

    def reading(name: str) -> Tensor:
        def read() -> Array:
            try:
                return reader.get_tensor(name)
            except DAMAGED as error:
                raise WeightsError(
                    f"{path} is damaged, fetch it again: {name} cannot be read ({_first_line(error)})."
                ) from error

        return Tensor(name, possible(path, name, tuple(shapes[name])), read)

    return {name: reading(name) for name in sorted(shapes)}


def _complete(prefix: Path) -> None:
    found = sorted(prefix.parent.glob(f"{_escaped(prefix.name)}.data-?????-of-?????"))
    count = int(found[0].name[-5:]) if found else 1
    for shard in range(count):
        data = prefix.with_name(f"{prefix.name}.data-{shard:05}-of-{count:05}")
        if not data.is_file():
            raise WeightsError(f"{prefix}.index has lost its data: put {data.name} beside it.")


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _examples(folder: Path) -> str:
    found = sorted(path.stem for path in folder.glob("*.index")) or sorted(path.name for path in folder.glob("*.ckpt*"))
    return " or ".join(found[:3]) or "which holds none"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
