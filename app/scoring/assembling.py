"""One file of all parts, in their order, with one of them in memory at a time."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from app.program.files import whole

Write = Callable[[pyarrow.Table], None]
SEPARATOR = "|"  # between several labels, and alone where there is none: as in manifests, see `datasets.label_sets`
COLUMNS = {"classes": "class", "scores": "score", "names": "name"}  # how the columns of each place begin
KEYS = ("file", *COLUMNS, "unknown", "strangeness", "features")  # as `predict --json` has them, and in that order


@contextmanager
def to_parquet(file: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """A row group for each part."""
    with parquet.ParquetWriter(file, schema) as writer:
        yield writer.write_table


@contextmanager
def to_csv(file: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """The columns as they are, of UTF-8; what is nothing is empty, and several labels are one text, as a manifest has
    them."""
    with file.open("w", encoding="utf-8", newline="") as content:
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(schema.names)

        def write(part: pyarrow.Table) -> None:
            writer.writerows(zip(*(map(_cell, _column(part, name)) for name in schema.names), strict=True))

        yield write


@contextmanager
def to_jsonl(file: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """An object a line, as `predict --json` prints them."""
    with file.open("w", encoding="utf-8") as content:

        def write(part: pyarrow.Table) -> None:
            columns = {name: _column(part, name) for name in schema.names}
            for row in range(part.num_rows):
                content.write(json.dumps(_object({name: column[row] for name, column in columns.items()})) + "\n")

        yield write


WRITERS: dict[str, Callable[[Path, pyarrow.Schema], AbstractContextManager[Write]]] = {
    ".parquet": to_parquet,
    ".csv": to_csv,
    ".jsonl": to_jsonl,
}


@contextmanager
def joined(file: Path | None, schema: pyarrow.Schema) -> Iterator[Write]:
    """Of the format that its name says, written whole; nothing where no file is wanted.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    if file is None:
        yield lambda part: None
        return
    with whole(file) as beside, WRITERS[file.suffix](beside, schema) as write:
        yield write


def _column(part: pyarrow.Table, name: str) -> list[Any]:
    """Numbers in as few digits as tell a float32 from all others."""
    column = part[name]
    if pyarrow.types.is_float32(column.type):
        return [None if score is None else _short(score) for score in column.to_pylist()]
    is_list = pyarrow.types.is_fixed_size_list(column.type) or pyarrow.types.is_list(column.type)
    if is_list and pyarrow.types.is_float32(column.type.value_type):
        return [None if row is None else [_short(number) for number in row] for row in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _cell(value: Any) -> Any:
    return (SEPARATOR.join(map(str, value)) or SEPARATOR) if isinstance(value, list) else value


def _short(number: float) -> float:
    return float(str(np.float32(number)))


def _object(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["error"] is not None:
        return {"file": row["file"], "classes": [], "scores": [], "error": row["error"]}
    made = dict(row)
    for key, column in COLUMNS.items():
        if f"{column}_1" in row:
            made[key] = [row[name] for name in row if name.startswith(f"{column}_")]
    return {key: made[key] for key in KEYS if made.get(key) is not None}
