"""Where answers go, and of what they are: a plan while they are made, an index when they are there.

    answers.parquet               the answers, and answers.parquet.index.json beside them
    answers.parquet.parts/        while they are made: parts and `_plan.json`
    answers/                      parts, and `_index.json`; while they are made, `_plan.json` instead

What reads folders of Parquet, as pyarrow and DuckDB do, passes over names that begin with `_`.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.program.errors import UserError
from app.program.files import write_json
from app.scoring import parts

SUFFIXES = (".parquet", ".csv", ".jsonl")
PLAN, INDEX = "_plan.json", "_index.json"
LAYOUT = 1  # of parts and index


@dataclass(frozen=True)
class Target:
    """`path` is the file, or the folder of parts; `given` is how it was named."""

    path: Path
    given: str
    is_folder: bool

    @property
    def suffix(self) -> str:
        """Of the format."""
        return ".parquet" if self.is_folder else self.path.suffix.lower()

    @property
    def parts(self) -> Path:
        return self.path if self.is_folder else self.path.with_name(f"{self.path.name}.parts")

    @property
    def index(self) -> Path:
        return self.path / INDEX if self.is_folder else self.path.with_name(f"{self.path.name}.index.json")


def named(given: str, embeddings: bool) -> Target:
    """
    Raises:
        UserError: a name of no format, or of one without room for embeddings.
    """
    path = Path(given)
    is_folder = given.endswith(("/", os.sep)) or path.is_dir()
    if not is_folder and path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{given}: let --to end in {', '.join(SUFFIXES)}, or in / for a folder of parts.")
    if not is_folder and embeddings and path.suffix.lower() == ".csv":
        raise UserError(f"{given}: a table of text has no room for embeddings; let --to end in .parquet or .jsonl.")
    return Target(path, given, is_folder)


def finished(target: Target, plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The index of answers that are there already; None where they are still to be made, or to be gone on with.

    Raises:
        UserError: they are other answers, or something else.
    """
    there = _content(target.index)
    if there is None:
        if not target.is_folder and target.path.exists():
            raise UserError(
                f"{target.given} exists, and no {target.index.name} beside it says of what it is: move it, or choose "
                "another --to. It was not touched."
            )
        if target.is_folder and target.path.exists() and _content(target.path / PLAN) is None and _others(target.path):
            raise UserError(f"{target.given} holds other files: choose another --to. They were not touched.")
        return None
    if not target.is_folder and not target.path.exists():  # killed between the two, or moved away since
        return None
    if other := _difference(there.get("plan", {}), plan):
        raise UserError(f"{target.given} holds answers {other}: move it, or choose another --to. It was not touched.")
    missing = target.is_folder and not all((target.path / part["file"]).exists() for part in there["parts"])
    return None if missing else there


def check(target: Target, plan: Mapping[str, Any]) -> None:
    """
    Raises:
        UserError: the folder of the parts has those of another command, or something else.
    """
    folder = target.parts
    before = _content(folder / PLAN)
    if before is not None:
        if other := _difference(before, plan):
            raise UserError(
                f"{folder} holds half of the answers {other}: give that command again to end it, remove the folder to "
                "begin anew, or choose another --to. It was not touched."
            )
        return
    if not target.is_folder and folder.exists() and _others(folder):
        raise UserError(f"{folder} holds other files: move it, or choose another --to. They were not touched.")


def begin(target: Target, plan: Mapping[str, Any]) -> None:
    """Makes the folder of the parts, or clears it of what a kill of the same command has left half written.

    Raises:
        UserError: the disk is full, or cannot be written to.
    """
    target.parts.mkdir(parents=True, exist_ok=True)
    parts.clear(target.parts)
    write_json(target.parts / PLAN, plan)


def end(target: Target, index: Mapping[str, Any], whole: Path | None) -> None:
    """Writes the index, puts the `whole` file in its place, and takes away what was needed to make it.

    Raises:
        UserError: something else was put there meanwhile; the disk is full.
    """
    if whole is not None and target.path.exists():
        raise UserError(f"{target.given} was put there meanwhile: move it, and give the same command again.")
    write_json(target.index, index)
    if whole is not None:
        whole.replace(target.path)
    clear(target)


def clear(target: Target) -> None:
    """Away with what was needed to make answers that are there."""
    plan = target.parts / PLAN
    if not target.is_folder and plan.exists():
        for file in target.parts.iterdir():
            if file != plan:  # which goes last: it says whose the others are
                file.unlink()
    plan.unlink(missing_ok=True)
    if not target.is_folder:
        with suppress(OSError):
            target.parts.rmdir()


def _others(folder: Path) -> bool:
    return any(not path.name.startswith(".") for path in folder.iterdir())


def _content(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): choose another --to. Nothing was touched.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is none of this program: choose another --to. Nothing was touched.")
    return content


def _difference(before: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """In what two plans differ, for a sentence; empty where they do not."""
    if before.get("layout") != plan["layout"]:
        return "of another version of this program"
    old, new = (each.get("model", {}) for each in (before, plan))
    if old.get("sha256") != new["sha256"]:
        return f"of another model, {old.get('path')}" + (" as it was then" if old.get("path") == new["path"] else "")
    if before.get("options") != plan["options"]:
        options = before.get("options", {})
        said = f"--top {options.get('top')}" + (" --embeddings" if options.get("embeddings") else "")
        said += f" --unknown {options['unknown']:g}" if options.get("unknown") is not None else ""
        return f"with other options, {said}"
    old, new = (each.get("pictures", {}) for each in (before, plan))
    if old.get("sha256") != new["sha256"]:
        same = old.get("count") == new["count"]
        return (
            "of other pictures" if same else f"of other pictures, {old.get('count'):,} where there are {new['count']:,}"
        )
    return ""
