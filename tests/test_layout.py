"""Who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

ROOMS = ("models", "export", "app", "benchmarks", "tests")
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The first part of every imported name, and how many dots stand before it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], node.level


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_only(path: Path) -> None:
    room, *places = path.relative_to(ROOT).parts
    absolute = {name for name, level in imports(path) if level == 0}
    deepest = max((level for _, level in imports(path)), default=0)
    assert deepest <= len(places), "a relative import leaves its room"
    above = {"models": {*ROOMS}, "export": {*ROOMS} - {"export"}, "app": {"benchmarks", "tests"}}
    assert not absolute & above.get(room, set())
    assert "inceptions" not in absolute, "the name of the installed wheel; a checkout says `models`"
    if room == "models" and path.name not in ("batch_normalization.py", "slim.py"):
        assert "tensorflow" not in absolute


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "scratch"}
    assert [path for path in SOURCES if vague & {path.stem, *path.relative_to(ROOT).parts}] == []
    assert len(SOURCES) > 5
