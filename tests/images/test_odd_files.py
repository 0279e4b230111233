"""Files that programs read in different ways: what the decoder makes of them, and what a certificate does about it."""

import re
from pathlib import Path

import numpy as np
import pytest

from app.datasets.files.looking import look
from app.images.decoding import decode, orientation
from app.images.preprocessing import Preprocessing
from export import run_artefact
from tests.makers.image_files import FILES, PHOTO, SMALL, by_pillow, encoded, exif
from tests.makers.odd_files import COMPARED, LONG, NOT_COMPARED, exif_of_type, incomplete

TURNED = {
    "JPEG, orientation as LONG": 6,
    "JPEG, orientation as LONG, the other order": 8,
    "JPEG, orientation behind the tables": 6,
    "JPEG, orientation behind the frame": 7,
}
NOT_TURNED = ("JPEG, orientation in XMP", "PNG, orientation behind its pixels")  # by decision; Pillow turns them


@pytest.mark.parametrize("kind", TURNED)
def test_an_orientation_in_an_odd_place_or_type_counts(kind: str) -> None:
    np.testing.assert_array_equal(decode(COMPARED[kind]), by_pillow(COMPARED[kind]))
    assert orientation(COMPARED[kind]) == TURNED[kind]
    assert ("rotated", f"EXIF orientation {TURNED[kind]}") in look("a.jpg", COMPARED[kind]).notes


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("stored", [0, 9, 6 + 65536, 2**32 - 1])
def test_a_long_that_is_no_orientation_is_none(stored: int, order: str) -> None:
    assert orientation(encoded(SMALL, "JPEG", exif=exif_of_type(LONG, stored, order))) == 1


@pytest.mark.parametrize("kind", NOT_TURNED)
def test_what_xmp_says_or_stands_behind_the_pixels_turns_nothing(kind: str) -> None:
    format_ = kind.partition(",")[0]
    np.testing.assert_array_equal(decode(COMPARED[kind]), by_pillow(encoded(SMALL, format_)))
    assert by_pillow(COMPARED[kind]).shape[:2] == (61, 43)
    assert not look("a", COMPARED[kind]).notes


def test_every_kind_says_how_it_is_turned() -> None:
    for kind, content in FILES.items():
        said = re.search("orientation ([1-8])", kind)
        assert orientation(content) == (int(said[1]) if said else 1)
    animation = encoded(SMALL, "WEBP", save_all=True, append_images=[SMALL.rotate(90)], exif=exif(6))
    assert orientation(animation) == 1
    assert orientation(b"no picture") == 1


# ---- the certificate's second decoder


@pytest.mark.parametrize("kind", COMPARED)
def test_the_second_decoder_follows_what_was_decided(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(COMPARED[kind])
    found = run_artefact.pixels(tmp_path / "picture")[0]
    np.testing.assert_array_equal(found, Preprocessing(height=8, width=8).decode(COMPARED[kind]))


@pytest.mark.parametrize("kind", NOT_COMPARED)
def test_what_the_second_decoder_cannot_say_is_named_and_decoded_by_the_first(kind: str, tmp_path: Path) -> None:
    content, reason = NOT_COMPARED[kind]
    (tmp_path / "picture").write_bytes(content)
    with pytest.raises(run_artefact.NotComparedError, match=reason):
        run_artefact.pixels(tmp_path / "picture")
    assert decode(content).shape[2] == 3


def test_a_progressive_jpeg_is_complete_with_its_last_scan_alone() -> None:
    for scans in range(1, 11):
        assert run_artefact.incomplete(incomplete(PHOTO, scans)) is (scans < 10)
    assert not run_artefact.incomplete(encoded(PHOTO, "JPEG"))
    assert not run_artefact.incomplete(encoded(PHOTO.convert("L"), "JPEG", progressive=True))
