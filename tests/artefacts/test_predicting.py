"""What is on these pictures, without TensorFlow: the answers of the SavedModel, and its words where there are none."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app.artefacts import loading, predicting
from app.evaluation import prediction
from app.images import decoding
from app.images.formats import bmp, gif, jpeg, png, webp
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.progress import unwatched
from export import picture_files
from tests.makers.image_files import FILES, PHOTO, SMALL, encoded, exif
from tests.makers.odd_files import COMPARED, NOT_COMPARED, segment
from tests.makers.odd_files import bmp as made_bmp

LARGE = encoded(PHOTO.resize((2600, 1800)), "JPEG", quality=30)  # reduced while it is decoded
SIDE = picture_files.LIMITS.side


def resized_png(width: int, height: int) -> bytes:
    """A PNG that claims a size."""

    content = encoded(SMALL, "PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


NO_PIXELS = np.zeros((4, 4), int)
REFUSED = {
    "no picture": b"no picture",
    "nothing": b"",
    "cut JPEG": encoded(SMALL, "JPEG")[:300],
    "cut PNG": encoded(SMALL, "PNG")[:300],
    "JPEG of 12 bits": encoded(SMALL, "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
    "BMP masks with holes": made_bmp(NO_PIXELS, 32, 40, 3, (5, 6, 7)),
    "BMP without masks": made_bmp(NO_PIXELS, 32, 56, 3, (0, 0, 0, 0xFF000000)),
    "BMP with a high mask": made_bmp(NO_PIXELS, 32, 56, 3, (0xFF, 0xFF00, 5, 0xFF000000)),
    "cut BMP with masks": made_bmp(NO_PIXELS, 16, 40, 3, (0x7C00, 0x3E0, 0x1F))[:-9],
    "BMP with masks, too wide": made_bmp(np.zeros((1, SIDE + 1), int), 16, 40, 3, (0x7C00, 0x3E0, 0x1F)),
    "too wide": resized_png(SIDE + 1, 1),
    "too many pixels": resized_png(SIDE, SIDE),
    "far too many pixels": resized_png(60_000, 60_000),
    "too many bytes": encoded(SMALL, "JPEG") + bytes(picture_files.LIMITS.bytes),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_is_refused_in_the_words_of_the_other_decoder(kind: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError) as right:
        Preprocessing(height=8, width=8).decode(REFUSED[kind])
    with pytest.raises(picture_files.RefusedError) as found:
        picture_files.decode(REFUSED[kind])
    assert str(found.value) == right.value.message


def test_both_decoders_go_by_the_same_marks_and_limits() -> None:
    marks = {kind.__name__.rpartition(".")[2]: kind.MAGIC for kind in (jpeg, png, gif, webp, bmp)}
    assert {kind: mark for kind, (_, mark) in picture_files.MAGIC.items()} == marks
    assert picture_files.MAGIC["webp"][0] == webp.PLACE
    assert decoding.LIMITS == picture_files.LIMITS


def test_a_picture_that_cannot_be_read_does_not_end_the_others(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {"a.png": FILES["PNG"], "b.png": REFUSED["cut PNG"], "c.jpg": FILES["JPEG baseline"]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "d.png").symlink_to(tmp_path / "nowhere")
    rows = [*predicting.predict(exported / "model.tflite", [tmp_path], 2, unwatched)]
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.png", "c.jpg", "d.png"]
    assert [row.get("error") for row in rows] == [None, picture_files.DAMAGED, None, "No such file or directory"]
    assert [len(row["classes"]) for row in rows] == [2, 0, 2, 0]
    assert capfd.readouterr().err == "", "not of LiteRT's delegates either"
    with pytest.raises(UserError, match=r"nowhere does not exist\."):
        predicting.predict(exported / "model.tflite", [tmp_path / "a.png", tmp_path / "nowhere"], 2, unwatched)


def test_a_broken_note_beside_whole_pixels_is_not_warned_of(exported: Path, tmp_path: Path) -> None:
    note = exif(6)[:-18]  # an entry is cut, in a JPEG without JFIF, whose resolution Pillow looks for there
    jpeg = encoded(SMALL, "JPEG")
    content = jpeg[:2] + segment(0xE1, note) + jpeg[20:]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        pixels = picture_files.decode(content)
    assert said, "Pillow warns of it"
    np.testing.assert_array_equal(pixels, Preprocessing(height=8, width=8).decode(content))
    (tmp_path / "a.jpg").write_bytes(content)
    (row,) = predicting.predict(exported / "model.tflite", [tmp_path / "a.jpg"], 2, unwatched)
    assert "error" not in row


def test_english_names_stand_beside_synsets(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(FILES["PNG"])
    answers = np.array([[0.1, 0.7, 0.2]])
    made = loading.Artefact(exported, lambda images: answers, ["n1", "n2", "other"], {"n1": "tench", "n2": "goldfish"})
    monkeypatch.setattr(loading, "load", lambda file: made)
    (row,) = predicting.predict(exported, [tmp_path / "a.png"], 2, unwatched)
    assert (row["classes"], row["scores"], row["names"]) == (["n2", "other"], [0.7, 0.2], ["goldfish", "other"])


@pytest.mark.slow
def test_every_sort_of_picture_is_answered_as_by_the_saved_model(exported: Path, tmp_path: Path) -> None:
    contents = [*FILES.values(), *COMPARED.values(), LARGE, made_bmp(np.full((9, 9), 2**15), 16)]
    for i, content in enumerate(contents):
        (tmp_path / f"{i:03}.png").write_bytes(content)  # whatever it is
    rows = [*predicting.predict(exported / "model.tflite", [tmp_path], 3, unwatched)]
    right = prediction.predict(exported, [tmp_path], 3, unwatched)
    assert len(rows) == len(contents)
    for row, other in zip(rows, right, strict=True):
        assert (row["file"], row["classes"], row.keys()) == (other["file"], other["classes"], other.keys())
        np.testing.assert_allclose(row["scores"], other["scores"], rtol=0, atol=1e-5, err_msg=row["file"])


def test_what_a_certificate_does_not_compare_is_answered_where_it_can_be() -> None:
    answered = {kind for kind, (content, _) in NOT_COMPARED.items() if not isinstance(_tried(content), str)}
    assert answered == {"JPEG of which half the scans came"}


def _tried(content: bytes) -> object:
    try:
        return picture_files.decode(content)
    except picture_files.RefusedError as error:
        return str(error)
