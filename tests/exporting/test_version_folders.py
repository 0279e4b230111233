"""Which export a folder means, and that a folder of several means none of them."""

from pathlib import Path

import pytest

from app import exporting
from app.artefacts import choosing, version_folders
from app.program.errors import UserError


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Of two networks, one of them in two versions, beside what is no export."""
    for place in ("cats/1", "cats/2", "dogs/1", "notes/old", ".incomplete-3-5"):
        (tmp_path / "exports" / place).mkdir(parents=True)
    return tmp_path / "exports"


def test_a_folder_of_several_networks_means_none_of_them(exports: Path) -> None:
    words = f"{exports} holds the exports of 2 networks; name one of them: {exports / 'cats'}, {exports / 'dogs'}."
    for ask in (
        lambda: version_folders.newest(exports),
        lambda: exporting.verify(exports),
        lambda: choosing.meant(exports),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == words


def test_one_network_or_its_name_or_its_version_is_enough(exports: Path) -> None:
    assert version_folders.newest(exports / "cats") == exports / "cats" / "2"
    assert version_folders.newest(exports / "dogs") == exports / "dogs" / "1"
    for place in ("dogs/1", "dogs"):
        (exports / place).rmdir()
    assert version_folders.newest(exports) == exports / "cats" / "2"


def test_what_does_not_exist_is_not_called_an_empty_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nosuch does not exist\.$"):
        version_folders.newest(tmp_path / "nosuch")


def test_a_file_is_no_export_without_versions(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").touch()
    with pytest.raises(
        UserError, match=r"model\.tflite is a file; name the folder of the export, its root or one of its"
    ):
        version_folders.newest(tmp_path / "model.tflite")


def test_a_version_whose_number_begins_with_zeros_is_found(exports: Path) -> None:
    (exports / "dogs" / "00000123").mkdir()
    assert version_folders.newest(exports / "dogs") == exports / "dogs" / "00000123"
