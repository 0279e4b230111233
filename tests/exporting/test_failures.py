"""What an export says that fails: the file that it is about, wherever that lies."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from app import exporting, run_folder
from app.artefacts import certified
from app.datasets import loading
from app.exporting import calibrating, certifying, failures
from app.exporting import exporting as exporting_module
from app.program.errors import UserError
from app.program.files import whole
from app.run_folder.folder import Run


def told_by(run: Path, to: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        exporting.export(run, to, ["tflite"], **options)
    assert not list(to.rglob("*.tflite"))
    return str(caught.value)


def test_an_image_of_the_run_that_is_gone_is_named(finished_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    gone = sorted(run.golden.glob("*.*"))[0]
    gone.unlink()
    assert told_by(run.folder, tmp_path / "exports") == f"Nothing was exported: {gone}: No such file or directory."


def test_an_image_of_the_run_that_is_none_is_named(finished_run: Run, tmp_path: Path) -> None:
    run = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    spoilt = sorted(run.golden.glob("*.*"))[1]
    spoilt.write_bytes(b"no")
    words = told_by(run.folder, tmp_path / "exports")
    assert words == f"Nothing was exported: {spoilt} cannot be decoded. This is no JPEG, PNG, GIF, WebP or BMP file."


def test_a_test_image_that_cannot_be_decoded_any_more_is_named(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, trained = loading.of_run(finished_run), run_folder.load(finished_run.folder)
    last = data.files[-1]
    real = certifying._probabilities

    def probabilities(networks: Any, encoded: bytes) -> list[float]:
        return real(networks, b"no" if encoded == last.path.read_bytes() else encoded)

    monkeypatch.setattr(certifying, "_probabilities", probabilities)
    with pytest.raises(UserError) as caught:
        certifying.test_images(data, [trained], tmp_path, 100, lambda items, *_: items)
    assert str(caught.value).startswith(f"Nothing was exported: {last.path} cannot be decoded. This is no JPEG")


def test_a_validation_image_is_called_by_its_file_and_one_without_a_file_by_its_place(finished_run: Run) -> None:
    data = loading.of_run(finished_run)
    for split in ("train", "validation", "test"):
        examples = getattr(data, split).in_order().as_numpy_iterator()
        for place, (encoded, _) in enumerate(examples):
            assert Path(failures.picture(data, split, place)).read_bytes() == encoded
    stream = loading.named.load("digits")
    assert failures.picture(stream, "validation", 3) == "the validation image 3 of digits"
    spoilt = tf.data.Dataset.from_tensor_slices(([b"no"], [0]))
    preprocessing = run_folder.load(finished_run.folder).preprocessing
    with pytest.raises(UserError, match=r"exported: number 0 cannot be decoded\. This is no JPEG"):
        list(calibrating.Pictures(spoilt, preprocessing, 1, lambda place: f"number {place}"))


def full(model: Any, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    raise OSError(28, "No space left on device")


def exhausted(model: Any, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9]\nmore")


def elsewhere(model: Any, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    tf.io.read_file("/nosuch/picture.jpg")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (full, "{target}/model.tflite could not be written: No space left on device."),
        (exhausted, "OOM when allocating tensor with shape[9]."),
        (elsewhere, "/nosuch/picture.jpg; No such file or directory."),
    ],
)
def test_only_what_was_to_be_written_is_blamed_for_it(
    write: Any, words: str, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = type("Wrong", (), {"write": staticmethod(write)})
    monkeypatch.setattr(exporting_module, "tflite", wrong)
    said = told_by(finished_run.folder, tmp_path / "exports")
    assert said == "Nothing was exported: " + words.format(target=tmp_path / "exports" / "pictures" / "1")


def test_a_folder_that_cannot_be_made_is_named(finished_run: Run) -> None:
    said = told_by(finished_run.folder, Path("/proc/exports"))
    assert said == "Nothing was exported: /proc/exports could not be written: No such file or directory."


def test_a_file_of_an_export_that_cannot_be_read_is_named_and_not_the_certificate(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(file: Path) -> str:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(certified, "digest", locked)
    with pytest.raises(UserError, match=r"^/.*/1/[\w./]+ of this export cannot be read: Permission denied\.$"):
        exporting.verify(exported)


def test_a_file_that_is_read_while_another_is_written_is_blamed_itself(tmp_path: Path) -> None:
    target, other = tmp_path / "target.json", tmp_path / "other.json"
    with pytest.raises(UserError) as caught, whole(target):
        other.read_text()
    assert str(caught.value).startswith(f"{other}: No such file or directory. {target} was not written")
    with pytest.raises(UserError, match=r"target\.json could not be written: No such file"), whole(target):
        pass
