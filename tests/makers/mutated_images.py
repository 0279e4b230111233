"""A program of its own: decodes a long animation and then files that were damaged on purpose, and says what came of it.

    python -m tests.makers.mutated_images COUNT [SEED]

Prints one JSON object: how many were `decoded`, how many `refused`, for which `reasons`; the `peak` of memory in
megabytes above the start, and the `seconds` of the slowest. What is neither decoded nor refused ends it.
"""

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image

from app.images.decoding import decode
from tests.makers.image_files import FILES, NOISE, PHOTO, encoded, exif
from tests.makers.odd_files import COMPARED


def long_animation() -> bytes:
    """300 frames of 4 megapixels, which nearly nothing encodes: all of them unpacked are 1.2 GB."""
    content = encoded(Image.new("P", (2000, 2000)), "GIF")
    start = content.index(b"\x2c" + bytes(4))
    return content[:start] + 300 * content[start:-1] + b";"


LARGER = {
    "GIF long animation": long_animation(),
    "JPEG": encoded(PHOTO, "JPEG", exif=exif(6)),
    "JPEG progressive": encoded(PHOTO, "JPEG", progressive=True),
    "PNG": encoded(PHOTO, "PNG"),
    "PNG transparent": encoded(NOISE.resize((700, 500)), "PNG"),
    "GIF": encoded(PHOTO, "GIF"),
    "GIF animation": encoded(PHOTO.quantize(9), "GIF", save_all=True, append_images=[PHOTO.rotate(5).quantize(9)] * 4),
    "WebP": encoded(PHOTO, "WEBP"),
    "BMP": encoded(PHOTO, "BMP"),
}
SIDES = (0, 1, 255, 256, 4096, 4800, 8192, 8193, 32767, 65535)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One or two of: bytes changed anywhere, bytes changed in the header, a number in it replaced, a cut, a piece
    missing, a piece twice, zeros."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 3)):
        size = len(damaged)
        start, end = sorted(rng.integers(0, size + 1, 2).tolist())
        kind = rng.integers(7)
        if kind == 0:
            for at in rng.integers(0, size, rng.integers(1, 9)) if size else ():
                damaged[at] = rng.integers(256)
        elif kind == 1:
            for at in rng.integers(0, min(size, 64), rng.integers(1, 5)) if size else ():
                damaged[at] = rng.integers(256)
        elif kind == 2:
            length, at = int(rng.choice([2, 3, 4])), int(rng.integers(0, 200))
            number = int(rng.choice(SIDES)).to_bytes(length, "little")
            damaged[at : at + length] = number if rng.random() < 0.5 else number[::-1]
        elif kind == 3:
            del damaged[end:]
        elif kind == 4:
            del damaged[start : start + int(rng.integers(1, 100))]
        elif kind == 5:
            damaged[start:start] = damaged[start : start + int(rng.integers(1, 100))]
        else:
            damaged[start : start + 20] = bytes(len(damaged[start : start + 20]))
    return bytes(damaged)


def kilobytes(name: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith(name)).split()[1])


def main(count: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    originals = [*FILES.values(), *COMPARED.values(), *(list(LARGER.values()) * 4)]
    decode(originals[0])  # which traces the decoder
    start = kilobytes("VmRSS")
    decoded, reasons, peak, seconds = 0, Counter[str](), 0, 0.0
    for i in range(count):
        content = mutated(originals[rng.integers(len(originals))], rng) if i else LARGER["GIF long animation"]
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        began = time.perf_counter()
        try:
            pixels = decode(content)
            assert pixels.dtype == tf.uint8
            assert pixels.shape[0] * pixels.shape[1] > 0
            decoded += 1
        except tf.errors.InvalidArgumentError as error:
            reasons[re.sub(r"-?\d+", "N", error.message)] += 1
        seconds = max(seconds, time.perf_counter() - began)
        peak = max(peak, kilobytes("VmHWM") - start)
    found = {"decoded": decoded, "refused": reasons.total(), "peak": peak // 1024, "seconds": round(seconds, 2)}
    print(json.dumps({**found, "reasons": reasons}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
