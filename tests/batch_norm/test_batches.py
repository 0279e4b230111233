"""Pictures that are gone through several times are decoded once, and are the same every time."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app.batch_norm import batches, repair
from app.batch_norm.batches import Batches, DecodedOnce
from app.datasets.files.image_files import FileSplit
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from tests.makers.image_files import FILES
from tests.makers.untrained_runs import untrained

KINDS = [kind for kind in FILES if kind.startswith(("JPEG", "PNG", "GIF of", "BMP of 16"))]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Of many kinds and three sizes."""
    folder = tmp_path / "files"
    folder.mkdir()
    found = [folder / f"{number:02}.{kind.split()[0].rstrip(',').lower()}" for number, kind in enumerate(KINDS)]
    for file, kind in zip(found, KINDS, strict=True):
        file.write_bytes(FILES[kind])
    return found


@pytest.fixture
def plain(files: list[Path]) -> Batches:
    split = FileSplit(tuple(map(str, files)), tuple(range(len(files))))
    return Batches(split, Preprocessing(height=24, width=31, aspect="keep", crop=0.875), size=8, seed=3, most=42)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each content of a file was decoded for a network."""
    found: Counter[bytes] = Counter()
    decode = Preprocessing.decode

    def counted(self: Preprocessing, encoded: Any) -> tf.Tensor:
        tf.numpy_function(lambda content: found.update([np.asarray(content).tobytes()]), [encoded], [])
        return decode(self, encoded)

    monkeypatch.setattr(Preprocessing, "decode", counted)
    return found


@pytest.mark.parametrize("memory", [2**30, 50_000])
def test_every_pass_has_the_same_bits_from_memory_and_from_the_disk(
    memory: int, plain: Batches, decoded: Counter[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[Any] = []
    make = tempfile.TemporaryFile

    def noted(**options: Any) -> Any:
        on_disk.append(make(**options))
        return on_disk[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    monkeypatch.setattr(batches, "MEMORY", memory)
    right = list(plain)
    assert [len(labels) for _, labels in right] == [8, 8, 8, 8, 8, 2]
    decoded.clear()
    with DecodedOnce(plain) as once:
        assert once.count == 6
        for _ in range(3):
            for (images, labels), (wanted, truth) in zip(once, right, strict=True):
                np.testing.assert_array_equal(images, wanted)
                np.testing.assert_array_equal(labels, truth)
                assert (images.dtype, labels.dtype) == (wanted.dtype, truth.dtype)
    assert decoded.total() == 42
    assert len(on_disk) == (memory < 2**30)
    assert all(file.closed for file in on_disk)


def test_a_pass_that_was_given_up_is_begun_again(plain: Batches) -> None:
    right = list(plain)
    with DecodedOnce(plain) as once:
        next(iter(once))
        for (images, labels), (wanted, truth) in zip([*once, *once], right * 2, strict=True):
            np.testing.assert_array_equal(images, wanted)
            np.testing.assert_array_equal(labels, truth)


def test_the_exact_form_decodes_each_image_once_whatever_the_depth(
    files: list[Path], decoded: Counter[bytes], tmp_path: Path
) -> None:
    run = untrained(tmp_path / "run", 32, ("a", "b"))
    found = repair.adapt(run.folder, str(files[0].parent), tmp_path / "adapted", exact=True)
    assert len(found["layers"]) > 3
    assert found["images"] == len(files)
    # And once by the adapted network, which is to say how strange pictures are.
    assert decoded == Counter(2 * [file.read_bytes() for file in files])


def test_a_full_disk_is_told_with_a_way_out(plain: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w+b")  # noqa: SIM115
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda _: full)
    with (
        pytest.raises(UserError, match=r"cannot hold the decoded pictures: No space left on device[.] Set TMPDIR"),
        DecodedOnce(plain) as once,
    ):
        list(once)
