"""A hundred faults planted into real exports, of which the certificate has to find each, and a thousand honest
questions, of which it may mistrust none."""

import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app import exporting, run_folder
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from export import certificate, run_artefact
from tests.makers import faults
from tests.makers.exports import certify_again, forget_the_run, without
from tests.makers.faults import FORMATS, Fault, Honest

COUNT, SEED = 100, 19
# Asked in processes of their own, as a user asks: runtimes may crash over such a file.
IN_PROCESSES = ("a file is cut short", "a bit is another")
ASKED, SIDES = 1000, ((32, 32), (20, 47), (97, 161), (200, 31), (64, 64), (161, 97), (33, 32), (240, 320))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def honest(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    """An export in all formats. Read only."""
    formats = ("saved_model", "tflite", "onnx", "openvino")
    version, found = exporting.export(finished_run.folder, tmp_path_factory.mktemp("exports"), formats)
    assert found["ok"]
    trained = run_folder.load(finished_run.folder)
    return Honest(trained, version, faults.other_pictures(trained.preprocessing, SEED))


def in_this_process(artefact: Path, files: Any, limit: float) -> dict[str, Any]:
    """What `run_artefact` says in a process of its own, of which a hundred take too long."""
    try:
        ways = (run_artefact.saved_model if artefact.is_dir() else run_artefact.of_file)(str(artefact))
        return {
            name: {"answers": [way(Path(file)) for file in files], "milliseconds": 1.0} for name, way in ways.items()
        }
    except Exception as error:
        raise certificate.ArtefactError(f"{artefact} does not run: {type(error).__name__}") from error


def planted(fault: Fault, honest: Honest, to: Path) -> Path:
    """A copy of the export in the fault's format alone, with the fault."""
    others = {name for names in FORMATS.values() for name in names} - {*FORMATS[fault.format_]}
    version = without(honest.version, to / "pictures" / "1", *others)
    forget_the_run(version)
    if fault.plant:
        fault.plant(version)
    if fault.certified:
        certify_again(version)
    return version


def found(version: Path) -> str:
    """What `verify` has against it, empty if nothing."""
    try:
        _, result = exporting.verify(version)
    except UserError as error:
        return str(error)
    if result["ok"]:
        return ""
    rows = [
        f"{row['artefact']} by {row['max_difference']:.1e}" for row in result["rows"] if not certificate.passes(row)
    ]
    return "; ".join([*rows, *result["changed"], *result["missing"], *result["added"], *result["says"]])


def test_each_of_a_hundred_faults_is_found(honest: Honest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, missed, told = set(), [], []
    pixels = run_artefact.pixels
    for number, fault in enumerate(faults.faults(honest, pixels, SEED)):
        version = planted(fault, honest, tmp_path / "it")
        with monkeypatch.context() as patched:
            if fault.kind not in IN_PROCESSES:
                patched.setattr(certificate, "_run", in_this_process)
            patched.setattr(run_artefact, "pixels", fault.pixels or pixels)
            words = found(version)
        kinds.add(fault.kind)
        told.append(f"{number:3} {fault.kind} ({fault.format_}): {words}")
        if not words:
            missed.append(told[-1])
        shutil.rmtree(tmp_path / "it")
    print("\n".join(told))
    assert missed == []
    assert len(told) == COUNT
    assert len(kinds) >= 50


def test_the_export_without_a_fault_is_not_mistrusted(honest: Honest, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(certificate, "_run", in_this_process)
    for format_ in FORMATS:
        assert found(planted(Fault("none", format_), honest, tmp_path / format_)) == ""
        # Written again by what plants the faults.
        fault = Fault("none", format_, functools.partial(honest.write, format_))
        assert found(planted(fault, honest, tmp_path / f"{format_} again")) == ""


def questions(trained: Trained, seed: int) -> list[tuple[Any, Any]]:
    """Pictures of one size, uint8 (8, height, width, 3), and what the network answers to each, (8, classes)."""
    import sklearn.datasets

    rng = np.random.default_rng(seed)
    photos = [*sklearn.datasets.load_sample_images().images]
    digits = sklearn.datasets.load_digits().images[:100]
    found = []
    for height, width in SIDES:
        pictures = []
        for place in range(8):
            photo = photos[place % 2]
            if place > 5:
                photo = np.uint8(digits[int(rng.integers(100))] * 15).repeat(60, 0).repeat(80, 1)
                photo = np.stack([photo] * 3, axis=-1)
            top, left = int(rng.integers(photo.shape[0] - height)), int(rng.integers(photo.shape[1] - width))
            pictures.append(photo[top : top + height, left : left + width])
        prepared = np.stack([trained.preprocessing(picture) for picture in pictures])
        found.append((np.stack(pictures), trained.model.predict_on_batch(prepared)))
    return found


def test_a_thousand_honest_questions_raise_no_alarm(honest: Honest, tmp_path: Path) -> None:
    """Of batches of one to eight pictures, of eight sizes, in any order, with one thread and with two, of files that
    were written anew."""
    asked = questions(honest.trained, SEED)
    rng = np.random.default_rng(SEED)
    networks: dict[str, list[Any]] = {}
    runtimes = {"LiteRT": run_artefact.tflite, "ONNX": run_artefact.onnx, "OpenVINO": run_artefact.openvino}
    for format_, load in runtimes.items():
        honest.write(format_, tmp_path)
        files = [folder / FORMATS[format_][0] for folder in (honest.version, tmp_path)]
        networks[format_] = [load(str(file), threads) for file in files for threads in (1, 2)]
    served = [
        tf.saved_model.load(str(honest.version)).signatures[name] for name in ("predict_pixels", "serving_default")
    ]

    def by_pixels(pictures: Any) -> Any:
        return served[0](images=tf.constant(pictures))["probabilities"].numpy()

    def by_bytes(pictures: Any) -> Any:
        files = tf.constant([tf.io.encode_png(picture).numpy() for picture in pictures])
        reply = served[1](image_bytes=files)
        names = [[name.decode() for name in row] for row in reply["classes"].numpy()]
        by_name = [dict(zip(*row, strict=True)) for row in zip(names, reply["scores"].numpy(), strict=True)]
        return [[row[label] for label in honest.trained.labels] for row in by_name]

    networks["SavedModel"] = [by_pixels, by_bytes]
    largest = dict.fromkeys(networks, 0.0)
    for number in range(ASKED):
        format_ = [*networks][number % len(networks)]
        pictures, right = asked[int(rng.integers(len(asked)))]
        places = rng.permutation(len(pictures))[: int(rng.integers(1, len(pictures) + 1))]
        network = networks[format_][int(rng.integers(len(networks[format_])))]
        answers = np.asarray(network(pictures[places])).tolist()
        golden = [{"file": "it", "label": None, "probabilities": right[place].tolist()} for place in places]
        reply = {"answers": answers, "milliseconds": 1.0}
        row = certificate.compare(format_, golden, honest.trained.labels, reply, 1)
        assert certificate.passes(row), f"question {number}, {format_}: {row['max_difference']:.1e}"
        largest[format_] = max(largest[format_], row["max_difference"])
    print({name: f"{value:.1e}" for name, value in largest.items()})
    assert max(largest.values()) > 0, "nothing was computed"
