"""Block diagrams: every block of the papers' tables, once, with its columns and its size."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import keras
import pytest
from typer.testing import CliRunner

from app.__main__ import app
from app.networks import diagrams
from app.program.errors import UserError
from models import NETWORKS


def blocks(name: str) -> list[diagrams.Block]:
    with keras.StatelessScope(initialize_variables=False):  # shapes are all that is drawn
        return diagrams.blocks(NETWORKS[name]())


def drawn(name: str) -> dict[str, diagrams.Block]:
    return {block.name: block for block in blocks(name)}


def words(block: diagrams.Block) -> list[list[str]]:
    return [[step.text for step in column] for column in block.columns]


def test_inception_v3_has_the_rows_of_its_table() -> None:
    found = blocks("inception_v3")
    assert [(block.name, block.repeated, block.shape) for block in found] == [
        ("image", 1, (299, 299, 3)),
        ("stem_1", 1, (149, 149, 32)),
        ("stem_2", 1, (147, 147, 32)),
        ("stem_3", 1, (147, 147, 64)),
        ("stem_4", 1, (73, 73, 64)),
        ("stem_5", 1, (73, 73, 80)),
        ("stem_6", 1, (71, 71, 192)),
        ("stem_7", 1, (35, 35, 192)),
        ("inception_a", 3, (35, 35, 288)),
        ("reduction_a", 1, (17, 17, 768)),
        ("inception_b", 4, (17, 17, 768)),
        ("reduction_b", 1, (8, 8, 1280)),
        ("inception_c", 2, (8, 8, 2048)),
        ("average_pool", 1, (2048,)),
        ("dropout", 1, (2048,)),
        ("predictions", 1, (1000,)),
    ]


def test_a_module_has_its_columns_from_left_to_right_and_bottom_to_top() -> None:
    found = drawn("inception_v3")
    assert words(found["inception_a"]) == [
        ["1 x 1 conv, 64"],
        ["1 x 1 conv, 48", "5 x 5 conv, 64"],
        ["1 x 1 conv, 64", "3 x 3 conv, 96", "3 x 3 conv, 96"],
        ["3 x 3 average pool", "1 x 1 conv, 32"],
    ]
    assert words(found["reduction_a"])[0] == ["3 x 3 conv / 2, 384"]
    assert words(found["inception_c"])[1] == ["1 x 1 conv, 384", "1 x 3 | 3 x 1 conv, 384"]


def test_residual_modules_end_in_their_shortcut() -> None:
    found = drawn("inception_resnet_v2")
    modules = [block for block in found.values() if block.repeated > 1]
    assert [block.repeated for block in modules] == [10, 20, 10]
    assert all([step.text for step in block.above][-1] == "+ shortcut" for block in modules)


def test_only_what_is_the_same_is_drawn_once() -> None:
    found = blocks("inception_v4")
    repeated = {block.name: block.repeated for block in found if block.repeated > 1}
    assert repeated == {"inception_a": 4, "inception_b": 7, "inception_c": 3}
    assert {"stem_4", "stem_5", "stem_6"} <= {block.name for block in found}
    dense = [block.repeated for block in blocks("densenet121") if block.repeated > 1]
    assert dense == [6, 12, 24, 16]


SMALL = {"lenet_bn", "resnet18", "inception_v3"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in NETWORKS]
)
def test_every_convolution_and_every_block_of_a_network_is_drawn(name: str, tmp_path: Path) -> None:
    with keras.StatelessScope(initialize_variables=False):
        model = NETWORKS[name]()
    found = diagrams.blocks(model)
    assert found[0].name == "image"
    assert found[-1].name == "predictions"
    assert all(block.columns for block in found)
    diagrams.draw(model, tmp_path / "one.svg")
    diagrams.draw(model, tmp_path / "two.svg")
    content = (tmp_path / "one.svg").read_bytes()
    assert content == (tmp_path / "two.svg").read_bytes()
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(content).findall(".//{*}text")]
    for block in found:
        for step in (*(step for column in block.columns for step in column), *block.above):
            assert step.text in texts
        if block.repeated > 1:
            assert f"{block.repeated} x {block.name.replace('_', ' ')}" in texts
    for block in found[:-1]:
        assert " x ".join(map(str, block.shape)) in texts


def test_the_command_writes_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "lenet.svg"
    done = CliRunner().invoke(app, ["networks", "--diagram", "lenet_bn", "--to", str(file)])
    assert done.exit_code == 0, done.output
    assert file.read_text().startswith("<?xml")
    with pytest.raises(UserError, match="exists"):
        diagrams.of_the_family("lenet_bn", file)
    with pytest.raises(UserError, match=r"no network 'inception_v33'; the nearest names are inception_v3, "):
        diagrams.of_the_family("inception_v33", tmp_path / "x.svg")
    with pytest.raises(UserError, match="nosuch does not exist"):
        diagrams.of_the_family("lenet_bn", tmp_path / "nosuch" / "x.svg")
    assert list(tmp_path.iterdir()) == [file]
