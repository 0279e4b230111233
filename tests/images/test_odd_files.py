"""Files that programs read in different ways: what the decoder makes of them, and what a certificate does about it."""

import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from app.datasets.checks import check
from app.datasets.files.looking import look
from app.images.decoding import decode, orientation
from app.images.preprocessing import Preprocessing
from export import picture_files, run_artefact
from tests import ROOT
from tests.makers.image_files import FILES, PHOTO, SMALL, Array, by_pillow, encoded, exif
from tests.makers.odd_files import COMPARED, LONG, NOT_COMPARED, behind, bmp, exif_of_type, gif, incomplete, runs

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
    assert not look("", COMPARED[kind]).notes


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
        assert picture_files.incomplete(incomplete(PHOTO, scans)) is (scans < 10)
    assert not picture_files.incomplete(encoded(PHOTO, "JPEG"))
    assert not picture_files.incomplete(encoded(PHOTO.convert("L"), "JPEG", progressive=True))


def test_a_graph_that_decodes_has_names_that_tensorflow_reads_without_a_warning() -> None:
    graph = tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)]).get_concrete_function().graph
    arguments = [one for function in graph.as_graph_def().library.function for one in function.arg_attr.values()]
    names = {argument.attr["_user_specified_name"].s.decode() for argument in arguments} - {""}
    assert {"encoded", "rows"} < names
    assert not [name for name in names if not re.match("[A-Za-z0-9.]", name)]


# ---- BMP

DRAWN = np.random.default_rng(5)
PALETTE = DRAWN.integers(0, 256, (256, 3))


def by_masks(pixels: Array, masks: tuple[int, ...]) -> Array:
    """In float64: each mask's number as a share of the most that it holds, of 255, rounded down; on white under the
    fourth."""
    channels = []
    for mask in masks:
        low = (mask & -mask).bit_length() - 1
        share = ((pixels.astype(np.int64) & mask) >> low).astype(np.float64) / (mask >> low)
        channels.append(np.floor(share * 255 + 1e-9))
    colours = np.stack(channels[:3], axis=-1)
    if len(masks) == 4:
        opacity = channels[3][..., np.newaxis] / 255
        colours = np.rint(colours * opacity + 255 * (1 - opacity))
    return colours


@pytest.mark.parametrize("header", [12, 16, 40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize("bits", [1, 4, 8, 24])
def test_every_header_of_os_2_and_windows_is_read(header: int, bits: int) -> None:
    pixels = DRAWN.integers(0, 2**bits, (5, 7))
    colours = PALETTE[: 2**bits] if bits <= 8 else None
    content = bmp(pixels, bits, header, colours=colours)
    if header != 16:  # which Pillow refuses
        np.testing.assert_array_equal(decode(content), by_pillow(content))
    right = by_masks(pixels, (0xFF0000, 0xFF00, 0xFF)) if colours is None else colours[pixels]
    np.testing.assert_array_equal(decode(content), right)


RGB565, RGB555 = (0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)


@pytest.mark.parametrize(("masks", "header"), [((), 40), (RGB555, 40), (RGB565, 40), (RGB565, 56), (RGB555, 124)])
def test_sixteen_bits_are_pillows(masks: tuple[int, ...], header: int) -> None:
    pixels = np.arange(2**16).reshape(256, 256)[:, :255]
    content = bmp(pixels, 16, header, 3 if masks else 0, masks)
    np.testing.assert_array_equal(decode(content), by_pillow(content))
    np.testing.assert_array_equal(decode(content), by_masks(pixels, masks or RGB555))


@pytest.mark.parametrize(
    ("bits", "header", "masks"),
    [
        pytest.param(16, 56, (0x7C00, 0x3E0, 0x1F, 0x8000), id="5551"),
        pytest.param(16, 108, (0xF00, 0xF0, 0xF, 0xF000), id="4444"),
        pytest.param(16, 40, (0xF00, 0xF0, 0xF), id="444"),
        pytest.param(16, 52, (0xE000, 0x10, 0xF), id="314"),
        pytest.param(32, 40, (0xFF, 0xFF00, 0xFF0000), id="the other order"),
        pytest.param(32, 56, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), id="the other order, alpha"),
        pytest.param(32, 56, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), id="alpha below"),
        pytest.param(32, 108, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000), id="10 10 10 2"),
        pytest.param(32, 124, (0xFF0000, 0xFF00, 0xFF, 0x7F000000), id="seven bits of alpha"),
        pytest.param(32, 40, (0xFFFF0000, 0xFF00, 0xFF), id="sixteen bits of red"),
    ],
)
def test_any_masks_are_read_with_alpha_too(bits: int, header: int, masks: tuple[int, ...]) -> None:
    pixels = DRAWN.integers(0, 2**bits, (9, 13))
    content = bmp(pixels, bits, header, 3, masks)
    np.testing.assert_array_equal(decode(content), picture_files.decode(content))
    # An opacity of few bits is one of 8 bits first, and is laid on white by whole numbers: at most a level apart.
    apart = 1 if len(masks) == 4 and masks[3].bit_count() < 8 else 0
    np.testing.assert_allclose(decode(content).numpy().astype(float), by_masks(pixels, masks), rtol=0, atol=apart)


def test_a_short_header_with_four_masks_behind_it_has_alpha() -> None:
    pixels, masks = DRAWN.integers(0, 2**32, (9, 13)), (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    for found in (decode, picture_files.decode):
        np.testing.assert_array_equal(found(bmp(pixels, 32, 40, 6, masks)), by_masks(pixels, masks))


@pytest.mark.parametrize("header", [12, 40])
@pytest.mark.parametrize("offset", [0, 20, "behind the header"])
def test_pixels_are_behind_the_colours_whatever_the_offset_says(offset: int | str, header: int) -> None:
    pixels = DRAWN.integers(0, 200, (5, 7))
    said = 14 + header if offset == "behind the header" else int(offset)
    colours = PALETTE[:200] if header == 40 else PALETTE
    content = bmp(pixels, 8, header, colours=colours, offset=said)
    np.testing.assert_array_equal(decode(content), colours[pixels])
    if offset == "behind the header":
        np.testing.assert_array_equal(decode(content), by_pillow(content))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [(1, 1), (43, 61), (2, 700), (60, 60)])
def test_packed_runs_copies_and_moves_are_unpacked(bits: int, size: tuple[int, int]) -> None:
    drawn = DRAWN.integers(0, 2**bits, size) * DRAWN.integers(0, 2, size)
    stretched = np.repeat(DRAWN.integers(0, 3, size), 9, axis=1)[:, : size[1]]
    for pixels in (drawn, stretched):
        content = bmp(pixels, bits, 40, 1 if bits == 8 else 2, colours=PALETTE[: 2**bits], packed=runs(pixels, bits))
        np.testing.assert_array_equal(decode(content), PALETTE[pixels])
        np.testing.assert_array_equal(decode(content), by_pillow(content))


def packed(*stored: int) -> bytes:
    return bmp(np.zeros((2, 4), int), 8, 40, 1, colours=PALETTE, packed=bytes(stored))


def test_what_a_packing_leaves_out_or_repeats_too_often() -> None:
    # The lower line first: two of colour 5, a line up, and nine of colour 7, of which two are seen.
    moved = decode(packed(2, 5, 0, 2, 0, 1, 9, 7, 0, 1))
    np.testing.assert_array_equal(moved, PALETTE[[[0, 0, 7, 7], [5, 5, 0, 0]]])
    # Without an end, which a full picture does not need.
    np.testing.assert_array_equal(decode(packed(4, 5, 0, 0, 4, 6)), PALETTE[[[6] * 4, [5] * 4]])
    np.testing.assert_array_equal(decode(packed(0, 1)), PALETTE[[[0] * 4, [0] * 4]])


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        pytest.param((4, 5, 0, 0, 3, 6), "cut short", id="no end"),
        pytest.param((), "cut short", id="nothing"),
        pytest.param((0, 6, 1, 2, 3, 4, 5, 6, 0, 1), "pixels are outside", id="copied beyond its line"),
        pytest.param((0, 2, 5, 0, 0, 1), "pixels are outside", id="moved beyond its line"),
        pytest.param((4, 5, 0, 0, 4, 5, 0, 0, 4, 5, 0, 1), "pixels are outside", id="a line too many"),
    ],
)
def test_a_packing_that_is_damaged_is_refused(stored: tuple[int, ...], words: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        decode(packed(*stored))


def test_a_packed_picture_that_would_take_much_memory_is_refused() -> None:
    content = packed(4, 5, 0, 0, 4, 6, 0, 1)
    content = content[:18] + struct.pack("<ii", 5000, 4001) + content[26:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="packed and claims 5000 x 4001 pixels; at most 20000000 "):
        decode(content)


def test_a_large_packed_picture_is_unpacked_fast() -> None:
    pixels = np.repeat(DRAWN.integers(0, 256, (2000, 500)), 4, axis=1)
    lines = [bytes(n for value in line[::4].tolist() for n in (4, value)) + b"\0\0" for line in pixels[::-1]]
    content = bmp(pixels, 8, 40, 1, colours=PALETTE, packed=b"".join(lines))
    began = time.perf_counter()
    found = decode(content)
    assert time.perf_counter() - began < 10
    np.testing.assert_array_equal(found, PALETTE[pixels])


# Not `resource.getrusage`, whose peak a process takes over from the one that started it.
MEASURED = """
import re, sys
from pathlib import Path
from app.images.decoding import decode
small, large = (Path(path).read_bytes() for path in sys.argv[1:])
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
decode(small)
before = peak()
decode(large)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one process alone")
def test_one_long_run_among_many_short_ones_takes_no_memory_for_all_of_them(tmp_path: Path) -> None:
    single = np.stack([np.ones((999, 1000), np.uint8), DRAWN.integers(0, 256, (999, 1000), np.uint8)], axis=2)
    lines = [line.tobytes() + b"\0\0" for line in single] + [bytes([255, 5] * 3 + [235, 5, 0, 0])]
    large = bmp(np.zeros((1000, 1000), int), 8, 40, 1, colours=PALETTE, packed=b"".join(lines))
    np.testing.assert_array_equal(decode(large)[0], np.broadcast_to(PALETTE[5], (1000, 3)))
    np.testing.assert_array_equal(decode(large)[:0:-1], PALETTE[single[..., 1]])
    for name, content in (("small", packed(4, 5, 0, 0, 4, 6)), ("large", large)):
        (tmp_path / name).write_bytes(content)
    names = [str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", MEASURED, *names], cwd=ROOT, check=True, capture_output=True)
    assert int(done.stdout) < 300_000, "kilobytes, of a million pixels"


@pytest.mark.slow
def test_a_line_may_claim_more_than_32_bits_count() -> None:
    lines = bytes([255, 5]) * 2**23 + bytes([255, 6]) * 10**6 + bytes([0, 1])
    content = bmp(np.zeros((1, 1), int), 8, 40, 1, colours=PALETTE, packed=lines)
    found = decode(content[:18] + struct.pack("<ii", 8000, 1200) + content[26:])
    np.testing.assert_array_equal(found[-1], np.broadcast_to(PALETTE[5], (8000, 3)))
    np.testing.assert_array_equal(found[:-1], np.broadcast_to(PALETTE[0], (1199, 8000, 3)))


def test_the_last_row_of_a_bmp_need_not_be_filled_up() -> None:
    pixels = DRAWN.integers(0, 256, (5, 7))
    content = bmp(pixels, 8, colours=PALETTE)
    np.testing.assert_array_equal(decode(content[:-1]), PALETTE[pixels])
    np.testing.assert_array_equal(decode(content[:-1]), by_pillow(content[:-1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="cut short"):
        decode(content[:-2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(
            bmp(np.zeros((4, 4), int), 8, 40, 4), "8 bits a pixel in packing 4 which is not decoded", id="JPEG"
        ),
        pytest.param(bmp(np.zeros((4, 4), int), 32, 40, 3, (5, 6, 7)), "masks 5 6 7 0 which", id="masks with holes"),
        pytest.param(bmp(np.zeros((4, 4), int), 32, 40, 3, (0, 0, 0)), "masks 0 0 0 0 which", id="no masks"),
        pytest.param(bmp(np.zeros((4, 4), int), 16, 40, 0)[:-9], "cut short", id="cut"),
        pytest.param(
            bmp(np.zeros((4, 4), int), 8, 12)[:14] + b"\xc8" + bytes(50), "header of 200 bytes", id="no known header"
        ),
    ],
)
def test_a_bmp_is_refused_in_words_that_are_true(content: bytes, words: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=words) as refused:
        decode(content)
    assert "claims" not in refused.value.message


# ---- GIF


def test_the_numbers_of_a_gif_without_colours_are_shades() -> None:
    pixels = DRAWN.integers(0, 256, (43, 61))
    np.testing.assert_array_equal(decode(gif(pixels, None)), np.stack([pixels] * 3, axis=-1))
    np.testing.assert_array_equal(decode(gif(pixels, None)), by_pillow(gif(pixels, None)))
    few = DRAWN.integers(0, 4, (5, 7))
    np.testing.assert_array_equal(decode(gif(few, None, bits=2)), np.stack([few] * 3, axis=-1))


def test_a_number_beyond_the_colours_of_a_gif_is_black() -> None:
    pixels = DRAWN.integers(0, 256, (43, 61))
    colours = np.zeros((256, 3), int)
    colours[:16] = PALETTE[:16]
    np.testing.assert_array_equal(decode(gif(pixels, colours[:16])), colours[pixels])
    np.testing.assert_array_equal(decode(gif(pixels, colours[:16])), by_pillow(gif(pixels, colours[:16])))


def test_a_gif_may_begin_without_clearing_and_use_codes_before_their_time() -> None:
    """As giflib and browsers have it; Pillow refuses the latter."""
    pixels = DRAWN.integers(0, 256, (10, 20))
    codes = [*pixels.ravel().tolist(), 257]
    np.testing.assert_array_equal(decode(gif(pixels, PALETTE, codes=codes)), PALETTE[pixels])
    early = decode(gif(pixels[:2, :2], PALETTE, codes=[256, 5, 300, 6, 7, 8, 257]))
    np.testing.assert_array_equal(early[0, 0], PALETTE[5])


def test_a_gif_with_long_codes_is_refused_by_its_kind() -> None:
    pixels = DRAWN.integers(0, 256, (5, 7))
    with pytest.raises(tf.errors.InvalidArgumentError, match="This GIF packs its pixels in codes of 11 bits"):
        decode(gif(pixels, PALETTE, bits=11))


# ---- sorts of JPEG


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\xff\xc3\0\x11\x08", "a lossless JPEG"),
        (b"\xff\xc5\0\x11\x08", "a hierarchical JPEG"),
        (b"\xff\xf7\0\x11\x08", "a near-lossless"),
        (b"\xff\xc1\0\x11\x0c", "a JPEG of 12 bits a sample"),
    ],
    ids=["lossless", "hierarchical", "JPEG-LS", "12 bits"],
)
def test_a_sort_of_jpeg_that_is_not_decoded_is_not_called_damaged(frame: bytes, words: str) -> None:
    content = encoded(SMALL, "JPEG", exif=exif(6)).replace(b"\xff\xc0\0\x11\x08", frame)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=f"This is {words}.*, which is not decoded; save it as PNG"
    ):
        decode(content)
    (note,) = look("a.jpg", content).notes
    assert note[0] == "undecodable"
    assert words in note[1]


def test_a_palette_with_more_opacities_than_numbers_is_damaged() -> None:
    png = encoded(SMALL.convert("P"), "PNG", transparency=0)
    at = png.index(b"tRNS") - 4
    chunk = b"tRNS" + bytes(257)
    of_it = 12 + int.from_bytes(png[at : at + 4], "big")
    longer = png[:at] + struct.pack(">I", 257) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[at + of_it :]
    with pytest.raises(picture_files.RefusedError, match="This file is damaged or cut short"):
        picture_files.decode(longer)


def test_a_damaged_jpeg_is_damaged() -> None:
    for content in (encoded(SMALL, "JPEG")[:300], encoded(SMALL, "JPEG")[:160] + bytes(500), b"\xff\xd8\xff"):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"^This file is damaged or cut short\.$"):
            decode(content)


# ---- what libraries write while files are scanned


def test_a_scan_lets_no_library_speak(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jpeg = encoded(SMALL, "JPEG")
    content = behind(jpeg, 0xDB, b"abc")  # decoded all the same, with a warning
    decode(content)
    assert "Corrupt JPEG data" in capfd.readouterr().err
    for label in ("one", "other"):
        (tmp_path / label).mkdir()
        (tmp_path / label / f"{label}.jpg").write_bytes(content)
        (tmp_path / label / "cut.jpg").write_bytes(jpeg[:-300] if label == "one" else jpeg[:-310])
    report = check(str(tmp_path))
    assert capfd.readouterr().err == ""
    assert {finding.file for finding in report.findings if finding.kind == "truncated"} == {
        str(tmp_path / label / "cut.jpg") for label in ("one", "other")
    }


def test_python_still_speaks_where_libraries_do_not() -> None:
    script = """if True:
        import os, sys
        from app.program import quiet
        with quiet.libraries():
            os.write(2, b"a library, ")
            print("Python, ", end="", file=sys.stderr)
            os.write(2, b"a library, ")
        os.write(2, b"a library later, ")
        try:
            with quiet.libraries():
                raise ValueError
        except ValueError:
            print("Python later", file=sys.stderr)
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == "Python, a library later, Python later\n"
