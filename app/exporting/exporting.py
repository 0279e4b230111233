"""Exporting a run, and verifying an export: `export/` does the work, this decides where and says what came of it."""

import functools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from app.artefacts.version_folders import clear, numbers
from app.evaluation import strangeness
from app.exporting import certifying, failures, page_file, quantised_files, quantizing, runtimes
from app.program import paths
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, console, unwatched
from app.program.shown import counted
from app.run_folder import ensembles
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden
from app.run_folder.trained import Trained
from export import certificate, folding, half_precision, on_pixels, onnx_file, openvino_ir, saved_model, serving, tflite

FORMATS = ("saved_model", "tflite", "onnx", "openvino")
DEFAULT = ("saved_model", "tflite")
PRECISIONS = ("float32", "bfloat16")
WRITTEN = dict(zip(FORMATS, ("saved_model.pb", "model.tflite", "model.onnx", "model.xml"), strict=True))
COMPARED = 8  # golden images that show what folding changed


def export(
    folder: Path,
    to: Path,
    formats: Sequence[str] | None = None,
    version: int | None = None,
    quantize: str | None = None,
    max_drop: float = 0.5,
    watch: Watch = unwatched,
    precision: str = "float32",
    *,
    others: Sequence[Path] = (),
    name: str | None = None,
    page: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Writes `to`/`name`/<version>, the next free version unless one is asked for; returns it and the certificate. The
    version appears whole, after its artefacts gave the trained network's answers, or not at all.

    With `others` it is an ensemble (see `ensembles`), one SavedModel. Without a `name` it is that of the run's folder,
    and "ensemble" for several; without `formats` they are `DEFAULT`, and the SavedModel for several.

    `quantize` asks for a quantised file beside the float32 one of each format that has such, of at most `max_drop`
    percentage points less accuracy (see `quantizing.quantize`). `precision` is what the SavedModel computes in. `page`
    asks for a page, too (see `page_file.write`).

    Raises:
        UserError: not a finished run; an unknown format or precision, or a format whose packages are not installed;
            labels that do not fit the network; runs with different labels, or several for another file than the
            SavedModel; a page without a LiteRT file or without LiteRT.js; a target that exists or cannot be a folder;
            nothing to quantise, a run without data to measure that on, or that loses too much; a network that a
            converter cannot take; artefacts that disagree with it.
    """
    folders = [folder, *others]
    formats = formats if formats is not None else DEFAULT[:1] if others else DEFAULT
    for format_ in formats:
        if format_ not in FORMATS:
            raise UserError(f"There is no format '{format_}'. The formats are {', '.join(FORMATS)}.")
    if others and quantize:
        raise UserError(
            f"{len(folders)} runs are an ensemble, of which there is no quantised file; leave --quantize out."
        )
    if others and (single := ", ".join(format_ for format_ in formats if format_ != "saved_model")):
        raise UserError(
            f"{len(folders)} runs are an ensemble, which becomes a SavedModel; leave {single} out of --formats."
        )
    runtimes.check_formats(formats)
    if quantize:
        quantizing.check(quantize, formats)
    if precision not in PRECISIONS:
        raise UserError(f"There is no precision '{precision}'. The precisions are {', '.join(PRECISIONS)}.")
    if precision != "float32" and "saved_model" not in formats:
        raise UserError(f"--precision {precision} is the SavedModel's; add saved_model to --formats.")
    if name is not None and (Path(name).name != name or name == ".."):
        raise UserError(f"--name {name} is not the name of a folder; the folder itself is --to. Nothing was written.")
    if page:
        page_file.check(formats, len(folders))
    runs = [Run(folder) for folder in folders]
    for asked, what in ((quantize, "--quantize, which compares the best class,"), (page, "--page")):
        if asked:
            runs[0].read_finished().check_one_label(runs[0].folder, what)
    networks = ensembles.load(folders)
    for run, trained in zip(runs, networks, strict=True):
        if trained.model.output_shape[-1] != len(trained.labels):
            raise UserError(
                f"{run.classifier} names {counted(len(trained.labels), 'label', 'labels')}, and the network in "
                f"{run.model} has {counted(trained.model.output_shape[-1], 'output', 'outputs')}; put the right labels "
                "there, in the order of the training."
            )
    root = to / (name or ("ensemble" if others else runs[0].folder.resolve().name))
    for place in (to, root):
        if place.exists() and not place.is_dir():
            raise UserError(f"{place} exists and is not a folder; choose another --to. Nothing was written.")
    if paths.is_run(root):
        raise UserError(f"{root} is a run folder; export to another folder, as in --to exports. Nothing was written.")
    number = version or max(numbers(root), default=0) + 1
    target = root / str(number)
    if target.exists():
        raise UserError(
            f"{target} exists; choose another --version, or leave it out for the next. Nothing was written."
        )
    # TensorFlow Serving looks at folders named by integers only: this one is invisible until it is renamed.
    beside = root / f".incomplete-{number}-{os.getpid()}"
    try:
        clear(root)
        beside.mkdir(parents=True)
        data, why = certifying.data_of(runs, watch)
        if data is None:
            if quantize:
                raise UserError(f"{why}.")
            console.print(f"Only golden images are compared: {why}.")
        only_to_quantize = quantize is not None and quantised_files.needs_onnx(quantize, formats)
        written = [*formats, "onnx"] if only_to_quantize else formats
        for step in watch(*_steps(runs[0], networks, beside, written, precision), "Writing artefacts"):
            step()
        quantized = None
        if quantize and data:
            quantized = quantizing.quantize(data, networks[0], beside, formats, quantize, max_drop, watch)
        if only_to_quantize:
            (beside / quantised_files.SOURCES["onnx"]).unlink()
        found = certifying.certify(runs, networks, beside, root.name, data, quantized, precision, watch, page)
        if absent := [WRITTEN[format_] for format_ in formats if not (beside / WRITTEN[format_]).is_file()]:
            raise UserError(f"Nothing was exported: {absent[0]} was not written.")
        if not found["ok"]:
            raise UserError(f"Nothing was exported: {_disagreement(found['rows'])}.")
        if "saved_model" in formats:
            for file_name, text in serving.configuration(root.name).items():
                with whole(root / file_name) as file:
                    file.write_text(text)
        beside.rename(target)
    except (certificate.ArtefactError, on_pixels.ConversionError) as error:
        raise UserError(f"Nothing was exported: {error}.") from error
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"Nothing was exported: {failures.told(error, beside, target)}.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target, found


def _steps(
    run: Run, networks: Sequence[Trained], folder: Path, formats: Sequence[str], precision: str
) -> tuple[list[Callable[[], None]], int]:
    """What writes the artefacts into the folder, one after the other, and how many steps these are; `run` is the one
    with the golden images."""
    pictures = []
    for image in read_golden(run):
        pictures.append((run.golden / image["file"]).read_bytes())
        with failures.decoding_of(run.golden / image["file"]):
            networks[0].preprocessing.decode(pictures[-1])
    folded: list[keras.Model] = []
    labels, english, thresholds = networks[0].labels, networks[0].english, networks[0].thresholds
    known = strangeness.read(run) if len(networks) == 1 else None

    def write_saved_model() -> None:
        served = map(half_precision.in_bfloat16, folded) if precision == "bfloat16" else folded
        prepared = [trained.preprocessing for trained in networks]
        # In bfloat16 a distance is another one than its threshold was measured with.
        strange = known if precision == "float32" else None
        saved_model.write(list(zip(served, prepared, strict=True)), labels, folder, english, thresholds, strange)
        serving.write_warmup(folder, folder.parent.name, min(pictures, key=len))

    def converting(write: Callable[..., None], file: Path) -> Callable[..., None]:
        def convert(**options: Path) -> None:
            failures.writing(file)(write)(
                folded[0], networks[0].preprocessing, labels, file, english, thresholds, **options
            )

        return convert

    def fold(trained: Trained) -> None:
        folded.append(_folded(trained, pictures[:COMPARED]))

    folding_steps: list[Callable[[], None]] = [functools.partial(fold, trained) for trained in networks]
    writers: dict[str, Callable[..., None]] = {
        "saved_model": failures.writing(folder)(write_saved_model),
        "tflite": converting(functools.partial(tflite.write, known=known), folder / "model.tflite"),
        "onnx": converting(onnx_file.write, folder / "model.onnx"),
        "openvino": converting(openvino_ir.write, folder / "model.xml"),
    }

    def convert_one_source() -> None:
        """What reads a SavedModel gets the same one: that of a large network takes a while to write."""
        preprocessing = networks[0].preprocessing
        with failures.writing(folder), on_pixels.as_saved_model(folded[0], preprocessing, folder / "source") as source:
            for name in sorted(from_source):
                writers[name](source=source)

    from_source = {"tflite", "openvino"} if {"tflite", "openvino"} <= {*formats} else set()
    steps = [*folding_steps, *(writers[name] for name in dict.fromkeys(formats) if name not in from_source)]
    if from_source:
        steps.append(convert_one_source)
    if precision == "bfloat16" and half_precision.machine_has_it() is False:
        console.print("This machine has no bfloat16 instructions: the SavedModel will be slow here.")
    return steps, len(steps)


def _folded(trained: Trained, pictures: Sequence[bytes]) -> keras.Model:
    """The network without batch normalisation; says what became of it."""
    try:
        folded = folding.fold(trained.model)
    except folding.FoldingError as error:
        raise UserError(f"Nothing was exported, batch normalisation cannot be folded: {error}") from error
    vanished = len(folding.foldable(trained.model))
    left = sum(isinstance(layer, folding.ScaleAndShift) for layer in folded.layers)
    if vanished or left:
        prepared = tf.stack([trained.preprocessing(trained.preprocessing.decode(picture)) for picture in pictures])
        apart = folding.largest_difference(trained.model, folded, prepared)
        remaining = f"; {left} became a scale and a shift" if left else ""
        console.print(
            f"Folded {counted(vanished, 'batch normalisation', 'batch normalisations')} into the layers before"
            f"{remaining}. Largest difference of a probability: {apart:.1e}"
        )
    return folded


def _disagreement(rows: Sequence[dict[str, Any]]) -> str:
    worst = next(row for row in rows if not certificate.passes(row))
    if (off := worst.get("strangeness", 0.0)) > certificate.STRANGENESS:
        return (
            f"{worst['artefact']} says otherwise how strange pictures are than the trained network, by {off:.2g} where "
            f"{certificate.STRANGENESS:g} is allowed"
        )
    seen = min((worst, worst["held_out"] or worst), key=lambda found: found["top_1_agreement"])
    apart = max(found["max_difference"] for found in (worst, worst["held_out"] or worst))
    agrees = (
        f"{worst['artefact']} agrees with the trained network on {seen['top_1_agreement']:.1%} of "
        f"{'the golden' if seen is worst else 'held-out'} images"
    )
    if worst["tolerance"] is None:
        return f"{agrees}, which is too few; allow more with --max-drop, or leave --quantize out"
    return f"{agrees}, with differences up to {apart:.2g} where {worst['tolerance']:.0g} is allowed"
