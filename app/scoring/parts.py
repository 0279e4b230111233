"""Parts of the answers: Parquet files of `ROWS` rows each but the last, written whole. Whoever reads the folder while
more are made sees none that is not.

    file         text, the path, or the address on s3:// or gs://
    class_1      text, the best class; score_1 float32; name_1 its English name, where classes are synsets; class_2 ...
    classes      list of text, instead of these where a picture has several labels or none; scores, names likewise
    unknown      whether the picture is called so, where the model says how strange pictures are; strangeness float32
    features     float32, as many as the network has, where they are asked for
    error        text, why there is no answer; empty for all others, which have one
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow
from pyarrow import parquet

from app.program import remote
from app.program.errors import UserError
from app.program.files import whole
from app.scoring.asking import Answer, Network
from app.scoring.listing import File

ROWS = 1024
NAME = "part-{:06}.parquet"


def schema(network: Network) -> pyarrow.Schema:
    word, number = pyarrow.string(), pyarrow.float32()
    columns = [("file", word)]
    for place in range(1, network.best + 1):
        columns += [(f"class_{place}", word), (f"score_{place}", number)]
        columns += [(f"name_{place}", word)] if network.names else []
    if not network.best:
        columns += [("classes", pyarrow.list_(word)), ("scores", pyarrow.list_(number))]
        columns += [("names", pyarrow.list_(word))] if network.names else []
    columns += [("unknown", pyarrow.bool_()), ("strangeness", number)] if network.judges else []
    columns += [("features", pyarrow.list_(number, network.width))] if network.width else []
    return pyarrow.schema([*columns, ("error", word)])


def table(network: Network, files: Sequence[File], answers: Sequence[Answer]) -> pyarrow.Table:
    wanted = schema(network)
    english = [[network.names.get(label, label) for label in answer.classes] for answer in answers]
    columns: dict[str, list[Any]] = {
        "file": [name(file) for file in files],
        "classes": [None if answer.error else answer.classes for answer in answers],
        "scores": [None if answer.error else answer.scores for answer in answers],
        "names": [None if answer.error else some for answer, some in zip(answers, english, strict=True)],
        "unknown": [answer.unknown for answer in answers],
        "strangeness": [answer.strangeness for answer in answers],
        "error": [answer.error for answer in answers],
    }
    for place in range(network.best):
        for one, of_all in (("class", "classes"), ("score", "scores"), ("name", "names")):
            columns[f"{one}_{place + 1}"] = [None if some is None else some[place] for some in columns[of_all]]
    made = {key: pyarrow.array(columns[key], wanted.field(key).type) for key in wanted.names if key in columns}
    if network.width:
        nothing = np.zeros(network.width, np.float32)
        flat = np.concatenate([nothing if answer.features is None else answer.features for answer in answers])
        without = pyarrow.array([answer.features is None for answer in answers])
        made["features"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), network.width, mask=without)
    return pyarrow.table(made, schema=wanted)


def name(file: File) -> str:
    """Under which its row is found."""
    return text(remote.shown(file.path))


def text(path: str) -> str:
    r"""A path as UTF-8 has it: each byte of a name that is none becomes a backslash, `udc` and its two digits, as in
    `caf\udce9.jpg`."""
    return path.encode("utf-8", "backslashreplace").decode()


def write(folder: Path, number: int, rows: pyarrow.Table) -> None:
    """
    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    with whole(folder / NAME.format(number)) as beside:
        parquet.write_table(rows, beside)


def count(total: int) -> int:
    """How many parts so many rows make."""
    return -(-total // ROWS)


def rows_of(number: int, total: int) -> int:
    return min(ROWS, total - number * ROWS)


def done(folder: Path, total: int) -> set[int]:
    """The numbers of the parts that are there; one that is not whole is none."""
    return {number for number in range(count(total)) if _has(folder / NAME.format(number), rows_of(number, total))}


def _has(file: Path, rows: int) -> bool:
    try:
        return bool(parquet.read_metadata(file).num_rows == rows)
    except (OSError, pyarrow.ArrowInvalid):
        return False


def read(folder: Path, number: int) -> pyarrow.Table:
    """
    Raises:
        UserError: it is damaged.
    """
    file = folder / NAME.format(number)
    try:
        return parquet.read_table(file, partitioning=None)
    except (OSError, pyarrow.ArrowInvalid) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{file} is damaged ({why}): remove it, and the same command makes it again.") from error


def clear(folder: Path) -> None:
    """Away with what was half written when a process was killed."""
    for left in folder.glob(".*"):
        number = re.match(r"\.(\d+)-(part-|_)", left.name)
        if number and not psutil.pid_exists(int(number[1])):
            left.unlink(missing_ok=True)
