"""Copies that are not quite equal are found across splits, and other pictures are not taken for copies."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image, ImageEnhance

from app.datasets.checks import check, checking
from app.datasets.checks.near_duplicates import FAR, FAR_AT_FIRST, near_duplicates
from app.datasets.dataset import ImageFile, Picture
from app.datasets.files import scanning
from app.datasets.files.likeness import likeness
from app.datasets.index import Known
from app.datasets.loading import load
from app.program.progress import unwatched
from tests.makers.image_folders import age

RANK = {"test": 0, "validation": 1, "train": 2}


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """24 windows of two photographs, which show different things, and none of them the bare sky."""
    found = []
    for photo in sklearn.datasets.load_sample_images().images:
        for top in range(0, 420, 105):
            windows = [photo[top : top + 105, left : left + 128] for left in range(0, 640, 128)]
            found += [Image.fromarray(window) for window in windows if window.mean(axis=2).std() > 20]
    return found[:24]


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(io.BytesIO(buffer.getvalue()))


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((2, 2, image.width - 2, image.height - 2))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((400, 300)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cropped": cropped,
}


def distance(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def of(image: Image.Image) -> bytes:
    return likeness(np.asarray(image))


# ---- what pictures are known by


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_near_and_another_picture_is_far(photographs: list[Image.Image], kind: str) -> None:
    own, copies = [of(image) for image in photographs], [of(COPIES[kind](image)) for image in photographs]
    assert {len(bits) for bits in own} == {32}
    near = {(i, j) for i, one in enumerate(own) for j, copy in enumerate(copies) if distance(one, copy) <= FAR}
    assert near == {(i, i) for i in range(len(own))}
    assert max(distance(one[:8], copy[:8]) for one, copy in zip(own, copies, strict=True)) <= FAR_AT_FIRST


def test_the_bits_are_signs_of_a_cosine_transform(photographs: list[Image.Image]) -> None:
    """By the sum that defines it, of the 64 x 64 grey pixels; the first eight bytes are the lowest frequencies."""
    image = photographs[5]
    grey = np.asarray(image.convert("L").resize((64, 64), Image.Resampling.LANCZOS), float)
    cosines = np.cos(np.pi * np.outer(np.arange(16), 2 * np.arange(64) + 1) / 128)
    found = cosines @ grey @ cosines.T
    bits = found > np.median(found)
    own = np.unpackbits(np.frombuffer(of(image), np.uint8)).astype(bool)
    assert (own[:64] == bits[:8, :8].ravel()).all()
    assert (own[64:].reshape(3, 8, 8) == [bits[:8, 8:], bits[8:, :8], bits[8:, 8:]]).all()


def test_what_shows_next_to_nothing_is_like_nothing(photographs: list[Image.Image]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(126, 131, (50, 50, 3), dtype=np.uint8)
    tiny = rng.integers(0, 256, (15, 90, 3), dtype=np.uint8)
    for picture in (np.full((40, 40, 3), 7, np.uint8), noise, tiny):
        assert likeness(picture) == b""
    assert likeness(np.asarray(photographs[0].resize((16, 16)))) != b""


# ---- finding them


def made(count: int, copies: int) -> list[Picture]:
    """Pictures with random bits, and as many that differ in 1, 2 ... of them from one of the first, in all splits."""
    rng = np.random.default_rng(3)
    bits = list(rng.integers(0, 2, (count, 256)))
    for number in range(copies):
        one = bits[int(rng.integers(count))].copy()
        one[rng.choice(256, number % 90, replace=False)] ^= 1
        bits.append(one)
    names = [*RANK]
    return [
        Picture(
            ImageFile(Path(f"{number:04}.png"), "a", names[int(rng.integers(3))]),
            Known(1, 1, "", f"shown {number if number % 10 else 0}", likeness=np.packbits(one).tobytes()),
        )
        for number, one in enumerate(bits)
    ]


def test_they_are_those_that_comparing_all_with_all_finds() -> None:
    pictures = made(300, 300)
    pictures += [
        picture._replace(known=picture.known._replace(likeness=empty))
        for picture in pictures[:9]
        for empty in (b"", None)
    ]
    wanted = {}
    for one in pictures:
        near = [
            (distance(one.known.likeness, other.known.likeness), RANK[str(other.file.split)], other.file)
            for other in pictures
            if one.known.likeness
            and other.known.likeness
            and RANK[str(other.file.split)] < RANK[str(one.file.split)]
            and one.shown != other.shown
            and distance(one.known.likeness[:8], other.known.likeness[:8]) <= FAR_AT_FIRST
        ]
        if near and min(near)[0] <= FAR:
            bits, _, other = min(near)
            why = f"looks almost as {other.path} does, which is in {other.split} ({bits} of 256 bits differ)"
            wanted[str(one.file.path)] = why
    found = near_duplicates(pictures, unwatched)
    assert (FAR, FAR_AT_FIRST) == (60, 14), "what docs/groups_and_duplicates.md was measured with"
    assert len(wanted) > 60
    assert {finding.file: finding.reason for finding in found} == wanted
    assert {finding.kind for finding in found} == {"near-duplicate"}
    differing = [int(finding.reason.split("(")[1].split()[0]) for finding in found]
    assert differing == sorted(differing), "the surest first"


def test_none_are_found_where_there_is_nothing_to_compare() -> None:
    pictures = made(40, 40)
    assert near_duplicates([], unwatched) == []
    assert near_duplicates([one._replace(file=one.file._replace(split="test")) for one in pictures], unwatched) == []
    assert near_duplicates([one._replace(known=one.known._replace(likeness=b"")) for one in pictures], unwatched) == []


# ---- in a data set


@pytest.fixture
def shared(photographs: list[Image.Image], tmp_path: Path) -> Path:
    """Two classes in three splits; four of training are copies of what is held out, one of them an equal one."""
    root = tmp_path / "photos"
    for number, image in enumerate(photographs):
        path = root / ("train", "train", "val", "test")[number % 4] / "ab"[number // 4 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    recompressed(photographs[2]).save(root / "train" / "a" / "of val.jpg")
    cropped(photographs[3]).save(root / "train" / "a" / "of test.png")
    COPIES["half"](photographs[7]).save(root / "val" / "b" / "small.png")
    photographs[11].save(root / "train" / "a" / "equal.bmp")
    cropped(photographs[0]).save(root / "train" / "a" / "within.png")  # in its own split
    age(root)
    return root


def test_a_check_names_them_and_leaves_it_to_the_owner(shared: Path, tmp_path: Path) -> None:
    report = check(str(shared))
    found = {Path(one.file).name: one.reason for one in report.findings if one.kind == "near-duplicate"}
    assert {name: reason.split(" does")[0].split("/")[-1] for name, reason in found.items()} == {
        "of val.jpg": "2.png",
        "of test.png": "3.png",
        "small.png": "7.png",
    }
    assert Counter(one.kind for one in report.findings) == {"near-duplicate": 3, "leak": 1}
    assert report.faults == 1
    assert report.quarantine == ("train/a/equal.bmp",)
    checking.write(report, tmp_path / "found")
    listed = tmp_path / "found" / "near_duplicates.txt"
    assert {*listed.read_text().splitlines()} == {"train/a/of val.jpg", "train/a/of test.png", "val/b/small.png"}
    load(str(shared), quarantine=listed)
    left = {file.path.name for file in load(str(shared), quarantine=listed).files}
    assert left == {path.name for path in shared.rglob("*.*")} - {*found}


def test_only_a_check_asks_for_likeness_and_only_once(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    look = scanning.look  # type: ignore[attr-defined]

    def noted(name: str, encoded: bytes, likeness: bool = False) -> Known:
        asked.append(likeness)
        return look(name, encoded, likeness)

    monkeypatch.setattr(scanning, "look", noted)
    load(str(shared))
    assert asked == [False] * 29
    first = check(str(shared))
    assert asked == [False] * 29 + [True] * 29
    assert check(str(shared)) == first
    load(str(shared))
    assert len(asked) == 58
    for path in shared.rglob("*.png"):
        path.touch()
    age(shared)
    assert check(str(shared)) == first, "of the same bytes all is known"
    assert len(asked) == 58
