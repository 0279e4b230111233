"""Quantised LiteRT files: what is inside, what they answer, and how much accuracy they may lose."""

import json
import shutil
import weakref
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from app import exporting
from app.__main__ import app
from app.datasets.dataset import Data
from app.datasets.loading import named
from app.exporting import calibrating, quantizing
from app.exporting import exporting as exporting_module
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from export import certificate, quantization, run_artefact, tflite

LABELS = ("digit", "flower", "temple")


@pytest.fixture(scope="module")
def files(exported: Path, samples: list[Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("quantised")
    made = {kind: folder / f"{kind}.tflite" for kind in quantization.KINDS}
    ranges = quantization.ranges(exported / "model.tflite", "lenet_bn", samples)
    for kind, file in made.items():
        quantization.write(exported / "model.tflite", kind, file, "lenet_bn", ranges)
    return made | {"float32": exported / "model.tflite"}


def answers(file: Path, samples: list[Any]) -> Any:
    network = run_artefact.tflite(str(file))
    return np.concatenate([network(sample[np.newaxis]) for sample in samples])


def types(file: Path) -> Counter[str]:
    return Counter(np.dtype(tensor["dtype"]).name for tensor in tflite.interpreter(file).get_tensor_details())


@pytest.mark.parametrize(("kind", "size"), [("float16", 0.56), ("dynamic", 0.34), ("int8", 0.34)])
def test_a_quantised_file_is_smaller_and_takes_pixels_to_probabilities(
    files: dict[str, Path], kind: str, size: float
) -> None:
    file = files[kind]
    assert file.stat().st_size < size * files["float32"].stat().st_size
    (image,), (probabilities,) = (
        getattr(tflite.interpreter(file), f"get_{end}_details")() for end in ("input", "output")
    )
    assert (image["dtype"], image["shape_signature"].tolist()) == (np.uint8, [-1, -1, -1, 3])
    assert (probabilities["dtype"], probabilities["shape"].tolist()) == (np.float32, [1, 3])
    assert zipfile.ZipFile(file).read("labels.txt").decode().splitlines() == list(LABELS)


def test_what_a_kind_promises_is_in_the_file(files: dict[str, Path]) -> None:
    kernels = 5  # two convolutions and three dense layers
    found = {kind: types(file) for kind, file in files.items()}
    assert found["float32"]["int8"] == found["float32"]["float16"] == 0
    assert found["float16"]["float16"] == kernels
    assert found["dynamic"]["int8"] == kernels
    assert found["int8"]["int8"] > 2 * kernels  # activations, too


@pytest.mark.parametrize(("kind", "limit"), [("float16", 5e-3), ("dynamic", 0.1), ("int8", 0.3)])
def test_a_quantised_file_answers_nearly_as_the_float_file(
    files: dict[str, Path], samples: list[Any], kind: str, limit: float
) -> None:
    right, found = (answers(file, samples) for file in (files["float32"], files[kind]))
    assert np.abs(found - right).max() < limit
    assert np.abs(found - right).max() > 0
    undecided = np.sort(right, axis=1)[:, -1] - np.sort(right, axis=1)[:, -2] < limit
    assert ((found.argmax(axis=1) == right.argmax(axis=1)) | undecided).all()


def test_ranges_come_from_the_samples(exported: Path, samples: list[Any], tmp_path: Path) -> None:
    source = exported / "model.tflite"
    for name, seen in (("dark.tflite", [sample // 16 for sample in samples]), ("light.tflite", samples)):
        quantization.write(source, "int8", tmp_path / name, "lenet_bn", quantization.ranges(source, "lenet_bn", seen))
    right = answers(source, samples)
    worst = [np.abs(answers(tmp_path / name, samples) - right).max() for name in ("dark.tflite", "light.tflite")]
    assert worst[0] > 2 * worst[1]


def test_the_noisiest_operations_can_stay_in_float(exported: Path, samples: list[Any], tmp_path: Path) -> None:
    source = exported / "model.tflite"
    ranges = quantization.ranges(source, "lenet_bn", samples)
    noisiest = quantization.errors(source, "lenet_bn", ranges, samples)
    ratios = [ratio for _, ratio in noisiest]
    assert ratios == sorted(ratios)
    assert all(name.startswith("lenet_bn") for name, _ in noisiest)
    in_float = [name for name, _ in noisiest[:2]]
    for name, chosen in (("all", []), ("mixed", in_float)):
        quantization.write(source, "int8", tmp_path / name, "lenet_bn", ranges, chosen)
    assert types(tmp_path / "mixed")["float32"] > types(tmp_path / "all")["float32"]
    assert (tmp_path / "mixed").stat().st_size > (tmp_path / "all").stat().st_size


# ---- how much it may lose


def scripted(monkeypatch: pytest.MonkeyPatch, losses: dict[str, int]) -> list[str]:
    """Each file answers as many validation pictures wrongly as it is said to; the float32 one none."""
    seen: list[str] = []

    def answers(files: list[Path], validation: calibrating.Pictures, watch: Any) -> list[Any]:
        seen.extend(file.name for file in files)
        truth = validation.labels()
        wrong = [losses.get(file.name, 0) for file in files]
        best = [np.where(np.arange(len(truth)) < count, (truth + 1) % 3, truth) for count in wrong]
        return [np.eye(3)[one] for one in best]

    monkeypatch.setattr(quantizing, "_answers", answers)
    return seen


def quantized(data: Data, trained: Trained, folder: Path, asked: str, max_drop: float) -> dict[str, Any]:
    """The record of the LiteRT file."""
    (found,) = quantizing.quantize(data, trained, folder, ["tflite"], asked, max_drop)
    return found


def test_what_loses_too_much_gives_way_to_the_next_kind(
    data: Data, trained: Trained, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    seen = scripted(monkeypatch, {"model.int8.tflite": 6})
    found = quantized(data, trained, tmp_path, "int8", 1.0)
    assert seen == ["model.tflite", "model.int8.tflite", "model.int8.tflite", "model.float16.tflite"]
    assert (found["asked"], found["kind"], found["drop"]) == ("int8", "float16", 0)
    assert (found["format"], found["file"], found["max_drop"]) == ("tflite", "model.float16.tflite", 1.0)
    lost = 100 * 6 / found["images"]
    assert [one["drop"] for one in found["tried"]] == pytest.approx([lost, lost, 0])
    assert [one["agreement"] for one in found["tried"]] == pytest.approx([1 - lost / 100, 1 - lost / 100, 1])
    assert [(one["lost"], one["won"]) for one in found["tried"]] == [(6, 0), (6, 0), (0, 0)]
    assert "in float32" in found["tried"][1]["what"]
    assert len(found["noisiest"]) > 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.float16.tflite", "model.tflite"]


def test_what_may_be_lost_is_kept(
    data: Data, trained: Trained, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    scripted(monkeypatch, {"model.dynamic.tflite": 6})
    images = quantized(data, trained, tmp_path, "dynamic", 100)["images"]
    assert quantized(data, trained, tmp_path, "dynamic", 600 / images)["kind"] == "dynamic"
    assert quantized(data, trained, tmp_path, "dynamic", 599 / images)["kind"] == "float16"


@pytest.mark.parametrize(("lost", "kind"), [(1, "dynamic"), (4, "dynamic"), (5, "float16")])
def test_what_chance_may_have_lost_is_written_as_asked_and_what_it_cannot_is_not(
    lost: int, kind: str, data: Data, trained: Trained, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    scripted(monkeypatch, {"model.dynamic.tflite": lost})
    found = quantized(data, trained, tmp_path, "dynamic", 0.5)
    assert 100 * lost / found["images"] > 0.5
    assert found["kind"] == kind
    assert found["tried"][0]["p"] == 2**-lost


def test_a_file_that_the_certificate_would_refuse_gives_way_though_it_loses_nothing(
    data: Data,
    trained: Trained,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)

    def answers(files: list[Path], validation: calibrating.Pictures, watch: Any) -> list[Any]:
        truth, place = validation.labels(), np.arange(validation.count)
        wrong = [(place >= 3) & (place < 6) if "dynamic" in file.name else place < 3 for file in files]
        return [np.eye(3)[np.where(one, (truth + 1) % 3, truth)] for one in wrong]

    monkeypatch.setattr(quantizing, "_answers", answers)
    found = quantized(data, trained, tmp_path, "dynamic", 0.5)
    assert found["kind"] == "float16"
    assert [(one["drop"], one["lost"], one["won"]) for one in found["tried"]] == [(0, 3, 3), (0, 0, 0)]
    assert "Rejected dynamic: its answers are not near enough to those of float32 to be certified." in (
        " ".join(capsys.readouterr().err.split())
    )
    assert quantized(data, trained, tmp_path, "dynamic", 50)["kind"] == "dynamic"


def test_every_decision_is_said_with_its_figures(
    data: Data,
    trained: Trained,
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    scripted(monkeypatch, {"model.dynamic.tflite": 5})
    images = quantized(data, trained, tmp_path, "dynamic", 0.5)["images"]
    said = capsys.readouterr().err
    assert (
        f"One image of {images} is {100 / images:.2f} points, and it takes 5 that are lost to tell a loss from chance: "
        "for --max-drop 0.5 the gate needs 1000 validation images."
    ) in said
    lost = f"{500 / images:.2f} points"
    assert f"Quantised to dynamic: {lost} of accuracy lost on {images} validation images (5 lost, 0 won)" in said
    assert f"Rejected dynamic: {lost} are more than --max-drop 0.5, and more than chance (p = 0.031)." in said
    assert "Instead of dynamic, float16 is written." in said
    scripted(monkeypatch, {"model.dynamic.tflite": 1})
    quantized(data, trained, tmp_path, "dynamic", 0.5)
    said = capsys.readouterr().err
    assert "That is within chance (p = 0.50)." in said
    assert "Instead of" not in said


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 0), (3, 3), (9, 2), (2, 9), (40, 21)])
def test_chance_is_what_the_binomial_test_says(lost: int, won: int) -> None:
    right = scipy.stats.binomtest(lost, lost + won, 0.5, "greater").pvalue if lost + won else 1
    assert quantizing.by_chance(lost, won) == pytest.approx(right)


@pytest.mark.parametrize(("images", "max_drop", "enough"), [(153, 0.5, False), (999, 0.5, False), (1000, 0.5, True)])
def test_the_gate_knows_how_many_images_it_needs(images: int, max_drop: float, enough: bool) -> None:
    assert (quantizing.resolution(images, max_drop) is None) == enough


def test_the_gate_asks_for_no_more_images_than_it_takes_without_saying_so() -> None:
    assert str(quantizing.resolution(153, 0.5)).endswith("the gate needs 1000 validation images.")
    said = str(quantizing.resolution(1000, 0.1))
    assert said.endswith("the gate needs 5000 validation images, which is more than the 1,000 it takes at most.")
    assert str(quantizing.resolution(153, 0)).endswith("it takes 5 that are lost to tell a loss from chance.")


def test_a_win_is_not_called_a_loss_below_zero() -> None:
    assert quantizing._points(-0.653) == "0.65 points of accuracy won"
    assert quantizing._points(0.0) == "0.00 points of accuracy lost"


class Counting(Preprocessing):
    """Counts the pictures that it decoded: all of them, and the most that were alive at once."""

    counts: ClassVar[Counter[str]] = Counter()

    def decode(self, encoded: Any) -> Any:
        picture = super().decode(encoded).numpy().copy()
        self.counts.update(all=1, alive=1)
        self.counts["most"] = max(self.counts["most"], self.counts["alive"])
        weakref.finalize(picture, lambda: self.counts.subtract(["alive"]))
        return SimpleNamespace(numpy=lambda: picture)


def test_pictures_are_decoded_one_at_a_time(data: Data, trained: Trained, exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "model.tflite", tmp_path)
    counting = Counting(**trained.preprocessing.model_dump())
    shown = Trained(trained.model, lambda: trained.logits_model, trained.labels, counting)
    found = quantized(data, shown, tmp_path, "int8", 100)
    assert found["images"] == data.validation.count
    # For the ranges, and once for the files in float32 and int8.
    assert counting.counts["all"] == data.train.count + data.validation.count
    assert counting.counts["most"] <= 3


def test_an_export_that_would_lose_too_much_writes_nothing(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, {f"model.{kind}.tflite": 6 for kind in quantization.KINDS})
    with pytest.raises(UserError, match=r"loses more than --max-drop 0.5 points \(dynamic .*, float16 "):
        exporting.export(finished_run.folder, tmp_path, ["tflite"], quantize="dynamic")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_quantised_export_is_certified_and_says_what_was_tried(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], named.load

    def counted(name: str, *rest: Any) -> Data:
        loaded.append(name)
        return load(name, *rest)

    monkeypatch.setattr(named, "load", counted)
    options = ["--to", tmp_path, "--formats", "tflite", "--quantize", "dynamic", "--json"]
    done = CliRunner().invoke(app, [str(word) for word in ("export", finished_run.folder, *options)])
    assert len(loaded) == 1, "the data is read once"
    rows = {row["artefact"]: row for row in json.loads(done.stdout)["rows"]}
    row = rows["LiteRT model.dynamic.tflite"]
    assert (row["tolerance"], row["images"]) == (None, rows["LiteRT model.tflite"]["images"])
    assert row["bytes"] < rows["LiteRT model.tflite"]["bytes"] / 3
    version = tmp_path / finished_run.folder.name / "1"
    assert json.loads((version / "certificate.json").read_text())["quantization"][0]["kind"] == "dynamic"
    assert CliRunner().invoke(app, ["verify", str(version)]).exit_code == 0


def test_what_cannot_be_quantised_says_why(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no quantisation 'int4'\. The kinds are int8, dynamic, float16"):
        exporting.export(finished_run.folder, tmp_path, ["tflite"], quantize="int4")
    with pytest.raises(UserError, match=r"LiteRT, ONNX or OpenVINO file .* add tflite, onnx or openvino to --formats"):
        exporting.export(finished_run.folder, tmp_path, ["saved_model"], quantize="int8")
    with pytest.raises(UserError, match=r"float16 makes a LiteRT file .* add tflite to --formats, or choose int8"):
        exporting.export(finished_run.folder, tmp_path, ["onnx", "openvino"], quantize="float16")
    imported = Run(shutil.copytree(finished_run.folder, tmp_path / "run"))
    written = json.loads(finished_run.classifier.read_text()) | {"data": None}
    imported.classifier.write_text(json.dumps(written))
    with pytest.raises(UserError, match="was imported, so its data is not known here"):
        exporting.export(imported.folder, tmp_path / "exports", ["tflite"], quantize="int8")
    assert not list(tmp_path.rglob("*.tflite"))


@pytest.mark.parametrize(
    ("agreement", "images", "passes"),
    [(31 / 32, 32, True), (30 / 32, 32, False), (1 / 2, 2, True), (0.98, 400, True), (0.975, 400, False)],
)
def test_of_a_quantised_file_one_image_in_a_hundred_may_be_another_class(
    agreement: float, images: int, passes: bool
) -> None:
    found = {"top_1_agreement": agreement, "images": images, "max_difference": 0.5}
    row = found | {"tolerance": None, "differing": certificate.allowed_of(0.5), "held_out": None}
    assert certificate.passes(row) == passes
    assert certificate.passes(row | {"held_out": found}) == passes
    assert not certificate.passes(row | {"max_difference": float("inf")})
    assert not certificate.passes(row | {"tolerance": 1e-4, "differing": 0.0})


def test_what_the_user_allowed_to_be_lost_may_be_named_otherwise() -> None:
    found = {"top_1_agreement": 0.95, "images": 400, "max_difference": 0.5, "tolerance": None, "held_out": None}
    assert [certificate.passes(found | {"differing": certificate.allowed_of(drop)}) for drop in (0.5, 3, 5, 100)] == [
        False,
        False,
        True,
        True,
    ]


def test_a_quantised_file_that_the_certificate_refuses_after_all_names_the_way_out() -> None:
    found = {"top_1_agreement": 1.0, "images": 40, "max_difference": 0.1}
    held_out = {"top_1_agreement": 0.95, "images": 400, "max_difference": 0.5}
    row = found | {"artefact": "ONNX model.int8.onnx", "tolerance": None, "differing": 0.01, "held_out": held_out}
    assert exporting_module._disagreement([row]) == (
        "ONNX model.int8.onnx agrees with the trained network on 95.0% of held-out images, which is too few; allow "
        "more with --max-drop, or leave --quantize out"
    )


@pytest.mark.parametrize(("count", "images", "share"), [(1, 8, 0.01), (9, 400, 0.01), (600, 1000, 0.6), (3, 3, 0.5)])
def test_so_many_by_chance_are_what_the_binomial_distribution_says(count: int, images: int, share: float) -> None:
    right = scipy.stats.binom.sf(count - 1, images, share)
    assert certificate.at_least(count, images, share) == pytest.approx(right)
    assert [certificate.at_least(count, images, one) for one in (0.0, 1.0)] == [0, 1]
    assert certificate.at_least(0, images, 0.0) == 1
