"""Image files that the decoder takes and that programs read in different ways, and pieces to make some of."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.makers.image_files import NOISE, PHOTO, RNG, SMALL, Array, encoded, exif

SHORT, LONG = 3, 4


def chunk(name: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png: bytes, made: bytes, behind_pixels: bool = False) -> bytes:
    at = len(png) - 12 if behind_pixels else 33
    return png[:at] + made + png[at:]


def long_text(size: int = 1_100_000) -> bytes:
    """A chunk as picture generators write it: what it was asked for, packed."""
    return chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a temple, " * (size // 10)))


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def behind(jpeg: bytes, marker: int, made: bytes) -> bytes:
    """`made`, behind the first segment with this marker."""
    at = jpeg.index(bytes([0xFF, marker]))
    at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg[:at] + made + jpeg[at:]


def exif_of_type(type_: int, orientation: int, order: str = "<") -> bytes:
    """A segment whose one entry stores the orientation as SHORT or LONG."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(
        order + ("I" if type_ == LONG else "HH"), *([orientation] if type_ == LONG else [orientation, 0])
    )
    entry = struct.pack(order + "HHI", 0x0112, type_, 1) + value
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


def xmp(orientation: int) -> bytes:
    """A JPEG segment with an orientation in XMP alone."""
    said = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + said.encode())


def of_telephone(image: Image.Image) -> bytes:
    """An MPO: a JPEG and, behind it, another one."""
    buffer = io.BytesIO()
    image.save(buffer, "MPO", save_all=True, append_images=[SMALL], quality=30)
    return buffer.getvalue()


def scans_of(jpeg: bytes) -> list[int]:
    """Where every scan of a JPEG ends."""
    ends, at = [], 0
    while (at := jpeg.find(b"\xff\xda", at)) >= 0:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        while jpeg[at] != 0xFF or jpeg[at + 1] in (0, *range(0xD0, 0xD8)):
            at += 1
        ends.append(at)
    return ends


def incomplete(image: Image.Image, scans: int) -> bytes:
    """A progressive JPEG that ends, as it should, behind so many of its ten scans."""
    content = encoded(image, "JPEG", progressive=True, quality=85)
    return content[: scans_of(content)[scans - 1]] + b"\xff\xd9"


def without_mark(jpeg: bytes) -> bytes:
    """Without the segment by which Adobe's programs say that inks are stored as their negative."""
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def frame_in_the_middle(gif: bytes) -> bytes:
    """A screen that its frame of 61 x 43 does not cover."""
    at = gif.index(b"\x2c" + bytes(4))
    return gif[:6] + struct.pack("<HH", 80, 70) + gif[10 : at + 1] + struct.pack("<HH", 7, 5) + gif[at + 5 :]


def bmp(
    pixels: Array,
    bits: int,
    header: int = 40,
    packing: int = 0,
    masks: tuple[int, ...] = (),
    colours: Array | None = None,
    offset: int | None = None,
    packed: bytes | None = None,
) -> bytes:
    """A BMP whose pixels are these numbers (height, width), with any header. `colours` (count, 3) are RGB; `offset` is
    what it says instead of where its pixels are; `packed` stands there instead of them."""
    height, width = pixels.shape
    if header == 12:
        content = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        count = 0 if colours is None else len(colours)
        content = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, packing, 0, 0, 0, count, 0)
        content += struct.pack(f"<{len(masks)}I", *masks) if header > 40 else b""
        content = content.ljust(header, b"\0")[:header]
        content += struct.pack(f"<{len(masks)}I", *masks) if header == 40 else b""
    if colours is not None:
        for colour in colours[:, ::-1]:
            content += colour.astype(np.uint8).tobytes() + (b"" if header == 12 else b"\0")
    rows = b""
    for line in pixels[::-1]:
        if bits < 8:
            line = np.packbits((line[:, np.newaxis] >> np.arange(bits - 1, -1, -1)) & 1)
        elif bits == 24:
            line = np.stack([line >> shift & 255 for shift in (0, 8, 16)], axis=1)
        stored = line.astype({16: "<u2", 32: "<u4"}.get(bits, "u1")).tobytes()
        rows += stored + bytes(-len(stored) % 4)
    rows = rows if packed is None else packed
    start = 14 + len(content)
    said = start if offset is None else offset
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, said) + content + rows


def runs(pixels: Array, bits: int) -> bytes:
    """Numbers (height, width) packed by run lengths: repeated and copied ones in turn, with moves where they are 0."""
    made = b""
    for number, line in enumerate(pixels[::-1].tolist()):
        at, turn = 0, number
        while at < len(line):
            turn += 1
            left = line[at : at + 3 + turn % 200]
            equal = next((i for i, value in enumerate(left) if value != left[0]), len(left))
            if left[0] == 0 and turn % 2 and equal > 1:
                made += bytes([0, 2, equal, 0])
                at += equal
            elif turn % 3 and len(left) > 2:
                made += bytes([0, len(left)]) + _halves(left, bits) + bytes(len(_halves(left, bits)) % 2)
                at += len(left)
            elif bits == 4 and turn % 4 == 0 and len(left) > 1:
                pair = next((i for i, value in enumerate(left) if value != left[i % 2]), len(left))
                made += bytes([pair]) + _halves(left[:2], bits)
                at += pair
            else:
                made += bytes([equal]) + _halves([left[0]] * 2, bits)[:1]
                at += equal
        made += bytes([0, 0])
    return made + bytes([0, 1])


def _halves(numbers: list[int], bits: int) -> bytes:
    if bits == 8:
        return bytes(numbers)
    padded = [*numbers, 0][: len(numbers) + len(numbers) % 2]
    return bytes(16 * first + second for first, second in zip(padded[::2], padded[1::2], strict=True))


def gif(pixels: Array, colours: Array | None, bits: int = 8, codes: list[int] | None = None) -> bytes:
    """A GIF whose pixels are these numbers (height, width). Its codes, of `bits` + 1 bits, are the numbers themselves,
    and clear the table of codes before it grows; or they are those that are given."""
    height, width = pixels.shape
    clear = 2**bits
    if codes is None:
        codes = []
        for i, number in enumerate(pixels.ravel().tolist()):
            codes += [clear] * (i % (clear - 2) == 0) + [number]
        codes.append(clear + 1)
    packed = sum(code << i * (bits + 1) for i, code in enumerate(codes))
    content = packed.to_bytes(-(-len(codes) * (bits + 1) // 8), "little")
    flags = 0 if colours is None else 0x80 | (len(colours) - 1).bit_length() - 1
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0)
    screen += b"" if colours is None else colours.astype(np.uint8).tobytes()
    blocks = [content[i : i + 255] for i in range(0, len(content), 255)]
    frame = struct.pack("<BHHHHBB", 0x2C, 0, 0, width, height, 0, bits)
    return screen + frame + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;"


_LINES = np.repeat(RNG.integers(0, 4, (43, 9)), 7, axis=1)[:, :61]
_PNG, _JPEG = encoded(SMALL, "PNG"), encoded(SMALL, "JPEG")
_DEEP = Image.fromarray(np.asarray(NOISE.getchannel("A")).astype(np.uint16) * 257)

# Of which a second decoder has nothing to compare, with a part of the reason.
NOT_COMPARED = {
    "GIF with a code before its time": (
        gif(np.zeros((2, 2), int), RNG.integers(0, 256, (256, 3)), codes=[256, 5, 300, 6, 7, 8, 257]),
        "broken data stream",
    ),
    "JPEG of which half the scans came": (incomplete(PHOTO.crop((0, 0, 317, 201)), 5), "scans"),
}
# Which a second decoder reads as the first if it is told what was decided.
COMPARED = {
    "PNG with a long text": with_chunk(_PNG, long_text()),
    "PNG with a long text behind its pixels": with_chunk(_PNG, long_text(), behind_pixels=True),
    "PNG with a long profile": with_chunk(_PNG, chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(1_100_000)))),
    "JPEG of a telephone": of_telephone(PHOTO),
    "large JPEG of a telephone": of_telephone(PHOTO.resize((2600, 1800), Image.Resampling.NEAREST)),
    "JPEG, orientation as LONG": encoded(SMALL, "JPEG", exif=exif_of_type(LONG, 6)),
    "JPEG, orientation as LONG, the other order": encoded(SMALL, "JPEG", exif=exif_of_type(LONG, 8, ">")),
    "JPEG, orientation behind the tables": behind(_JPEG, 0xDB, segment(0xE1, exif(6))),
    "JPEG, orientation behind the frame": behind(_JPEG, 0xC0, segment(0xE1, exif(7))),
    "JPEG, orientation in XMP": behind(_JPEG, 0xE0, xmp(6)),
    "JPEG CMYK without Adobe's mark": without_mark(encoded(SMALL.convert("CMYK"), "JPEG")),
    "JPEG progressive": encoded(SMALL, "JPEG", progressive=True),
    "PNG of 16 bits with a transparent level": with_chunk(encoded(_DEEP, "PNG"), chunk(b"tRNS", _DEEP.tobytes()[:2])),
    "PNG, orientation behind its pixels": with_chunk(_PNG, chunk(b"eXIf", exif(6)[6:]), behind_pixels=True),
    "BMP packed by runs": bmp(_LINES, 8, 40, 1, colours=RNG.integers(0, 256, (256, 3)), packed=runs(_LINES, 8)),
    "BMP of OS 2": bmp(RNG.integers(0, 2**24, (43, 61)), 24, 12),
    "BMP of 16 bits with alpha": bmp(RNG.integers(0, 2**16, (43, 61)), 16, 56, 3, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "BMP with masks of its own": bmp(RNG.integers(0, 2**32, (43, 61)), 32, 40, 3, (0x3FF, 0xFFC00, 0x3FF00000)),
    "BMP of 16 bits": bmp(RNG.integers(0, 2**16, (43, 61)), 16, 40, 3, (0xF800, 0x7E0, 0x1F)),
    "GIF without colours": gif(RNG.integers(0, 256, (43, 61)), None),
    "GIF with fewer colours than numbers": gif(RNG.integers(0, 256, (43, 61)), RNG.integers(0, 256, (16, 3))),
    "GIF whose frame leaves a margin": frame_in_the_middle(encoded(SMALL.quantize(16), "GIF")),
}
