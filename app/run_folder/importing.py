"""Published weights in, a run folder out: whose they are, how its images were prepared, what became of each tensor."""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import sklearn.datasets
from PIL import Image

from app.images.preprocessing import Preprocessing
from app.networks import cards, synsets
from app.program.errors import UserError
from app.program.files import digest, whole, write_json
from app.program.progress import console
from app.program.shown import command
from app.run_folder import golden
from app.run_folder.classifier import Classifier, Origin
from app.run_folder.folder import Run, versions
from models import weights

IMAGENET = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}
# TF-slim evaluates on the middle 87.5 % of both sides, squashed, by a bilinear filter that does not widen.
SLIM = {"crop": 0.875, "antialias": False}
# The means of ImageNet's pictures in B, G and R, as the descriptions of trainings with Caffe write them, and no scale.
CAFFE = {
    "side": 224,
    "crop": 224 / 256,
    "colour": "BGR",
    "mean": (104.0, 117.0, 123.0),
    "deviation": (1.0, 1.0, 1.0),
}
# torchvision's own networks turn ImageNet's mean and deviation back into -1..1 before the first layer
# (`transform_input`): for them the preprocessing is -1..1, and the kernels are as they were published.
PREPROCESSING: dict[tuple[str, str], dict[str, Any]] = {
    ("slim", "inception_v1"): {"side": 224, **SLIM},
    ("slim", "inception_v2"): {"side": 224, **SLIM},
    ("slim", "inception_v3"): {"side": 299, **SLIM},
    ("slim", "inception_v4"): {"side": 299, **SLIM},
    ("slim", "inception_resnet_v2"): {"side": 299, **SLIM},
    ("keras", "inception_v3"): {"side": 299},
    ("keras", "inception_resnet_v2"): {"side": 299},
    ("keras", "densenet121"): {"side": 224, **IMAGENET},
    ("torchvision", "inception_v1"): {"side": 224, "aspect": "keep", "crop": 224 / 256},
    ("torchvision", "inception_v3"): {"side": 299, "aspect": "keep", "crop": 299 / 342},
    ("torchvision", "resnet18"): {"side": 224, "aspect": "keep", "crop": 224 / 256, **IMAGENET},
    ("torchvision", "densenet121"): {"side": 224, "aspect": "keep", "crop": 224 / 256, **IMAGENET},
    ("timm", "inception_v3"): {"side": 299, "aspect": "keep", "crop": 0.875, "resize": "bicubic"},
    ("timm", "inception_v4"): {"side": 299, "aspect": "keep", "crop": 0.875, "resize": "bicubic"},
    ("timm", "inception_resnet_v2"): {"side": 299, "aspect": "keep", "crop": 0.8975, "resize": "bicubic"},
    ("facenet", "inception_resnet_v1"): {"side": 160, "deviation": (128.0, 128.0, 128.0)},
    ("cadene", "bn_inception"): {**CAFFE, "aspect": "keep", "mean": (104.0, 117.0, 128.0)},
    ("cadene", "inception_v4"): {"side": 299, "aspect": "keep", "crop": 0.875},
    ("cadene", "inception_resnet_v2"): {"side": 299, "aspect": "keep", "crop": 0.8975},
    # BVLC's pictures were squashed to 256 x 256 by OpenCV, whose filter does not widen.
    ("caffe", "googlenet"): {**CAFFE, "antialias": False},
    ("caffe", "bn_inception"): {**CAFFE, "aspect": "keep"},
    ("caffe", "resnet18"): {**CAFFE, "aspect": "keep"},
    ("caffe", "densenet121"): {
        **CAFFE,
        "aspect": "keep",
        "mean": (103.94, 116.78, 123.68),
        "deviation": (1 / 0.017,) * 3,
    },
}
# What Caffe's own page says of `bvlc_googlenet.caffemodel`.
BVLC_SHA1 = "405fc5acd08a3bb12de8ee5e23a96bec22f08204"
GOLDEN_SIDE, GOLDEN_STEP = 320, 64  # windows of the sample photographs, in pixels


def import_weights(
    file: Path,
    network: str,
    source: str,
    to: Path,
    labels: Path | None = None,
    partial: Sequence[str] = (),
    auxiliary: bool = False,
    drop_background: bool = False,
) -> weights.Report:
    """Writes the run folder `to` from a file of published weights; returns what became of every tensor. A file without
    a classifier becomes a run that a training can begin with, and no more: its network ends in the features.

    `labels` is a text file with a name per line, or the word `imagenet`. Without it the classes are ImageNet's where
    source and file say so (see `_is_of_imagenet`), and else `class_0`, `class_1`, ... `partial` are scopes whose
    tensors may be missing or left over. `auxiliary` keeps the auxiliary heads as well, for fine-tuning;
    `drop_background` leaves class 0 out.

    Raises:
        UserError: unknown network or source, a target that exists, a file that is not what it should be, labels that
            are not as many as the classes, or anything asked of a classifier that the file does not have. The target
            is not created.
    """
    cards.check_name(network)
    if source not in weights.SOURCES:
        raise UserError(f"There is no source '{source}'. The sources are {', '.join(weights.SOURCES)}.")
    if (source, network) not in PREPROCESSING:
        known = sorted(name for origin, name in PREPROCESSING if origin == source)
        raise UserError(f"{source} publishes no weights of {network}; of it come {', '.join(known)}.")
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise UserError(f"{to} exists; choose another --to. Nothing in it was touched.")
    try:
        checkpoint = weights.read(file, network, source)
        preprocessing = _preprocessing(file, network, source)
        arguments = {**checkpoint.arguments, "input_shape": (preprocessing.height, preprocessing.width, 3)}
        names: tuple[str, ...] = ()
        if checkpoint.classes is None:
            asked = {"--labels": labels, "--auxiliary": auxiliary, "--drop-background": drop_background}
            if option := next((option for option, value in asked.items() if value), None):
                raise UserError(f"{file} has no classifier, of which {option} says something; leave {option} out.")
            arguments.pop("include_top", None)
        else:
            arguments["classes"] = checkpoint.classes - drop_background
            names = _names(file, source, labels, checkpoint.classes, arguments["classes"])
        classifier = Classifier(
            network=network,
            arguments=arguments,
            labels=names,
            preprocessing=preprocessing,
            recipe=None,
            versions=versions(),
            seed=0,
            data=None,
            origin=Origin(path=str(file), sha256=_digest(file), source=source),
        )
        model = classifier.build(auxiliary=auxiliary) if names else _features(classifier)
        report = weights.assign(
            model, checkpoint, auxiliary=auxiliary, partial=tuple(partial), drop_background=drop_background
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if not names:
        again = command("train", "DATA", "--from", to, "--to", "RUN")
        console.print(f"{file} has no classifier; the run is for `{again}`.")
    del checkpoint  # and with it the file's pages in memory: saving takes as much again, twice
    _write(to, classifier, model, report)
    return report


def as_json(report: weights.Report) -> dict[str, Any]:
    """`loaded`, `skipped` and `missing`: a list of `source`, `target`, `shape`, `how` each."""
    return {name: [row._asdict() for row in rows] for name, rows in vars(report).items()}


def _preprocessing(file: Path, network: str, source: str) -> Preprocessing:
    """That of the source's own evaluation. timm keeps it in a config.json beside the weights, whose word counts: the
    weights of one of its networks come from several trainings."""
    options = dict(PREPROCESSING[source, network])
    side = options.pop("side")
    config = file.with_name("config.json")
    if source == "timm" and config.is_file():
        try:
            stored = _timm(config)["pretrained_cfg"]
            options["mean"] = tuple(255 * value for value in stored["mean"])
            options["deviation"] = tuple(255 * value for value in stored["std"])
            options["crop"], options["resize"] = stored["crop_pct"], stored["interpolation"]
            side = stored["input_size"][-1]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{config} is not a configuration of timm ({error}); mend or remove it.") from error
    return Preprocessing(height=side, width=side, **options)


def _timm(config: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(config.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{config} is not a configuration of timm ({error}); mend or remove it.") from error


def _features(classifier: Classifier) -> keras.Model:
    """The network up to what a classifier is given, (batch, features)."""
    full = classifier.model_copy(update={"arguments": {**classifier.arguments, "classes": 1}}).build()
    return keras.Model(full.input, full.get_layer("predictions").input, name=full.name)


def _names(file: Path, source: str, labels: Path | None, in_file: int, classes: int) -> tuple[str, ...]:
    """Of `classes` classes, of a file with `in_file` of them; `labels` are as in `import_weights`."""
    is_said = labels == synsets.IN_PLACE_OF_A_FILE
    of_imagenet = is_said or (labels is None and _is_of_imagenet(file, source, in_file))
    return _synsets(classes) if of_imagenet else _labels(labels, classes)


def _labels(file: Path | None, classes: int) -> tuple[str, ...]:
    if file is not None:
        try:
            names = tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} could not be read as text with a label per line: {error}.") from error
        if len(names) != classes:
            raise UserError(f"{file} has {len(names)} labels, the network {classes} classes; give one line per class.")
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"{file} has the label '{twice}' twice; every class needs a name of its own.")
        return names
    names = tuple(f"class_{i:0{len(str(classes - 1))}}" for i in range(classes))
    if classes in (1000, 1001):
        console.print(
            f"The labels are {names[0]} to {names[-1]}, since the file does not say that its classes are ImageNet's; "
            f"if they are, import it with --labels {synsets.IN_PLACE_OF_A_FILE}."
        )
    return names


def _synsets(classes: int) -> tuple[str, ...]:
    """Of ImageNet, in the order of published networks; of 1001 classes the first is the background."""
    if classes not in (1000, 1001):
        raise UserError(f"The network has {classes} classes, ImageNet 1000, or 1001 with the background before them.")
    return (*((synsets.BACKGROUND,) if classes == 1001 else ()), *synsets.synsets())


def _is_of_imagenet(file: Path, source: str, classes: int) -> bool:
    """Whether source and file say that the classes are ImageNet's. They are a thousand, and one of these holds:

    - TF-slim's background is before them, also in a port;
    - the file has a sum that Keras publishes, or Caffe;
    - its name ends in the beginning of its SHA-256, as those of torchvision, timm and Cadene do;
    - timm's configuration is beside it, with a tag that ends in `in1k` and without labels of its own.
    """
    if classes == 1001:
        return source in ("slim", "timm", "cadene")
    if classes != 1000 or source in ("slim", "facenet"):
        return False
    if source == "keras":
        return weights.is_published(file)
    if source == "caffe":
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha1").hexdigest() == BVLC_SHA1
    named = re.fullmatch(r".*-([0-9a-f]{8,64})", file.stem)
    if named and _digest(file).startswith(named[1]):
        return True
    config = file.with_name("config.json")
    if source != "timm" or not config.is_file():
        return False
    stored = _timm(config)
    return "label_names" not in stored and str(stored["pretrained_cfg"].get("tag", "")).endswith("in1k")


def _write(to: Path, classifier: Classifier, model: keras.Model, report: weights.Report) -> None:
    """The whole folder, or nothing of it."""
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = Run(to.with_name(f".incomplete-{to.name}-{os.getpid()}"))
    try:
        beside.folder.mkdir()
        plain = model
        if len(model.outputs) > 1:
            with whole(beside.auxiliary) as path:
                model.save(path)
            plain = classifier.build()
            for layer in plain.layers:
                layer.set_weights(model.get_layer(layer.name).get_weights())
        with whole(beside.model) as path:
            plain.save(path)
        write_json(beside.classifier, classifier.model_dump(mode="json"))
        write_json(beside.load_report, as_json(report))
        if classifier.labels:
            golden.keep(beside, ((encoded, None) for encoded in _windows()))
        if to.is_dir():
            to.rmdir()
        beside.folder.rename(to)
    except OSError as error:
        raise UserError(f"{to} could not be written: {error.strerror or error}. Nothing was imported.") from error
    finally:
        shutil.rmtree(beside.folder, ignore_errors=True)


def _windows() -> Iterator[bytes]:
    """Windows of two photographs, for exports to be compared on: nobody gave images with these weights."""
    for photograph in sklearn.datasets.load_sample_images().images:
        height, width = photograph.shape[:2]
        for left in range(0, width - GOLDEN_SIDE + 1, GOLDEN_STEP):
            top = left % (height - GOLDEN_SIDE)
            buffer = io.BytesIO()
            window = photograph[top : top + GOLDEN_SIDE, left : left + GOLDEN_SIDE]
            Image.fromarray(window).save(buffer, "JPEG", quality=90)
            yield buffer.getvalue()


def _digest(file: Path) -> str:
    """Of a checkpoint of several files, the one with the tensors."""
    data = file.with_name(f"{file.name}.data-00000-of-00001")
    return digest(file if file.is_file() else data)
