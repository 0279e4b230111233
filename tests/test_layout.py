"""Who may import whom."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import ROOT

HOUSES = ("models", "export", "app", "benchmarks", "tests")
SOURCES = [path for house in HOUSES for path in sorted((ROOT / house).rglob("*.py"))]
# The rooms of `app`, from the top to the bottom, and which others each imports, early or late. Every folder of modules
# is a room, also inside another. A new arrow is a decision: it is written here, or it is not made.
ROOMS = {
    "commands": "studies training training.devices batch_norm scoring evaluation reports exporting serving artefacts "
    "inside exporting.foreign datasets.checks datasets.loading datasets.prepared run_folder images networks recipes "
    "program",
    "studies": "training training.devices reports datasets.loading datasets run_folder images networks recipes program",
    "training": "training.checkpoints training.callbacks training.devices batch_norm evaluation pipeline "
    "reports datasets.loading datasets.files datasets run_folder images networks recipes program",
    "training.checkpoints": "training.callbacks run_folder program",
    "training.callbacks": "batch_norm reports run_folder recipes program",
    "training.devices": "batch_norm pipeline datasets run_folder recipes program",
    "batch_norm": "evaluation pipeline reports datasets.loading datasets.files datasets run_folder images "
    "recipes program",
    "exporting": "evaluation serving artefacts datasets.loading datasets run_folder images program",
    "scoring": "evaluation artefacts run_folder images program",
    "evaluation": "pipeline artefacts datasets.loading datasets.files datasets run_folder images networks program",
    "pipeline": "datasets images images.formats recipes program",
    "reports": "datasets run_folder networks recipes program",
    "exporting.foreign": "datasets.loading datasets run_folder images program",
    "serving": "serving.page artefacts inside run_folder images networks program",
    "serving.page": "artefacts",
    "artefacts": "images program",
    "inside": "inside.dreams datasets.loading datasets run_folder images networks program",
    "inside.dreams": "images networks program",
    "datasets.checks": "datasets.loading datasets.files datasets run_folder program",
    "datasets.loading": "datasets.files datasets.prepared datasets run_folder networks program",
    "datasets.files": "datasets images networks program",
    "datasets.prepared": "datasets program",
    "datasets": "program",
    "run_folder": "images networks recipes program",
    "images": "images.formats program",
    "images.formats": "",
    "networks": "program",
    "recipes": "program",
    "program": "",
}
FILES = 350  # lines that a file of `app` has at most
COMMAND_LINE = 100  # lines of __main__.py


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The first part of every imported name, and how many dots stand before it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], node.level


@cache
def modules() -> dict[str, Path]:
    """The modules of `app` by their names; a package is its __init__."""
    paths = (path for path in SOURCES if path.is_relative_to(ROOT / "app"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def room_of(module: str) -> str:
    """Its folder; the command line is of the commands, and the modules that read recipes of the recipes."""
    alone = {"app": "", "app.__main__": "commands", "app.recipe": "recipes", "app.recipe_keys": "recipes"}
    return alone.get(module, ".".join(modules()[module].parent.relative_to(ROOT / "app").parts))


@cache
def arrows() -> dict[tuple[str, str], list[str]]:
    """From room to room, and by which modules."""
    found: dict[tuple[str, str], list[str]] = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "app":
                continue
            for alias in node.names:
                there = f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in modules() else node.module
                here, other = room_of(module), room_of(str(there))
                if other not in ("", here):
                    found.setdefault((here, other), []).append(module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards_only(path: Path) -> None:
    house, *places = path.relative_to(ROOT).parts
    absolute = {name for name, level in imports(path) if level == 0}
    deepest = max((level for _, level in imports(path)), default=0)
    assert deepest <= len(places), "a relative import leaves its house"
    above = {"models": {*HOUSES}, "export": {*HOUSES} - {"export"}, "app": {"benchmarks", "tests"}}
    assert not absolute & above.get(house, set())
    assert "inceptions" not in absolute, "the name of the installed wheel; a checkout says `models`"
    if house == "models" and path.name not in ("batch_normalization.py", "slim.py"):
        assert "tensorflow" not in absolute


def test_every_arrow_between_rooms_is_in_the_table() -> None:
    allowed = {(room, other) for room, others in ROOMS.items() for other in others.split()}
    new = {
        f"{' -> '.join(arrow)} in {', '.join(sorted(set(by)))}"
        for arrow, by in arrows().items()
        if arrow not in allowed
    }
    assert not new, "imports that the table of rooms does not have"
    assert allowed == {*arrows()}, "arrows of the table that nothing makes any more"
    print(f"{len(ROOMS)} rooms, {len(arrows())} arrows")


def test_no_arrow_points_upwards_so_there_is_no_circle() -> None:
    """The rooms stand in the table from the top to the bottom."""
    places = list(ROOMS)
    assert [f"{a} -> {b}" for a, b in arrows() if places.index(a) >= places.index(b)] == []


def test_every_module_is_in_a_room() -> None:
    assert {room_of(module) for module in modules()} == {"", *ROOMS}
    assert [module for module in modules() if room_of(module) == ""] == ["app"]
    assert len(ROOMS) <= 31


def test_every_room_says_what_it_is_for_in_three_lines() -> None:
    for room in ROOMS:
        file = ROOT / "app" / room.replace(".", "/") / "__init__.py"
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        first = said.split("\n\n")[0]
        assert 0 < len(first.splitlines()) <= 3, room


def test_no_file_of_the_program_is_too_long_to_be_read_at_once() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    assert {str(path): count for path, count in lines.items() if count > FILES} == {}
    assert lines[ROOT / "app" / "__main__.py"] <= COMMAND_LINE


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "scratch"}
    assert [path for path in SOURCES if vague & {path.stem, *path.relative_to(ROOT).parts}] == []
    assert len(SOURCES) > 5


def test_only_the_room_of_images_decodes() -> None:
    """Nothing that shows or scores a picture reads files by itself: it would lie sideways, be black where it is
    transparent, or white where it has 16 bits. Elsewhere headers alone are read, or the recipe inside a dream."""
    headers = {"held_pictures.py", "looking.py", "dreaming.py"}
    decodes = re.compile(
        r"\bImage\.open\(|\bio\.decode_|\bimage\.decode_|\bdecode_(jpeg|png|image|gif|bmp)\b|\bimread\("
    )
    found = {path for path in SOURCES if path.is_relative_to(ROOT / "app") and decodes.search(path.read_text("utf-8"))}
    outside = {path for path in found if not path.is_relative_to(ROOT / "app" / "images")}
    assert found > outside, "the expression finds what decodes"
    assert {path.name for path in outside} <= headers
    for path in outside:
        assert not re.search(r"\.convert\(|\.load\(\)|exif_transpose|asarray\(Image", path.read_text("utf-8")), path
