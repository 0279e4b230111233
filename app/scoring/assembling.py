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


@contextmanager
def to_parquet(file: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """A row group for each part."""
    with parquet.ParquetWriter(file, schema) as writer:
        yield writer.write_table


@contextmanager
def to_csv(file: Path, schema: pyarrow.Schema) -> Iterator[Write]:
    """The columns as they are, of UTF-8; what is nothing is empty."""
    with file.open("w", encoding="utf-8", newline="") as content:
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(schema.names)

        def write(part: pyarrow.Table) -> None:
            writer.writerows(zip(*(_column(part, name) for name in schema.names), strict=True))

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
    if pyarrow.types.is_fixed_size_list(column.type):
        return [None if row is None else [_short(number) for number in row] for row in column.to_pylist()]
    values: list[Any] = column.to_pylist()
    return values


def _short(number: float) -> float:
    return float(str(np.float32(number)))


def _object(row: Mapping[str, Any]) -> dict[str, Any]:
    def all_of(what: str) -> list[Any]:
        found = (row[name] for name in row if name.startswith(f"{what}_"))
        return [value for value in found if value is not None]

    made = {"file": row["file"], "classes": all_of("class"), "scores": all_of("score")}
    made |= {"names": all_of("name")} if "name_1" in row else {}
    made |= {"features": row["features"]} if row.get("features") is not None else {}
    return made | ({"error": row["error"]} if row["error"] is not None else {})
