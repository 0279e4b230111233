"""Faults as converters, exporters and people make them, planted into a copy of an honest export.

Which layer, channel, class or byte is drawn by the seed. A network with other weights counts as a fault when it answers
pictures, which no certificate asks about, by more than the tolerance otherwise: two channels that are equal may change
places.
"""

import functools
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import openvino
import tensorflow as tf
from PIL import Image

from app.images.preprocessing import Preprocessing
from app.run_folder.trained import Trained
from export import folding, onnx_file, openvino_ir, quantization, saved_model, serving, tflite
from tests.makers.exports import change

Array = np.ndarray[Any, Any]
Pixels = Callable[[Path], Array]
FORMATS = {
    "SavedModel": ("saved_model.pb", "variables", "assets", "assets.extra"),
    "LiteRT": ("model.tflite",),
    "ONNX": ("model.onnx",),
    "OpenVINO": ("model.xml", "model.bin"),
}
WRITERS = {"LiteRT": tflite.write, "ONNX": onnx_file.write, "OpenVINO": openvino_ir.write}
ON_PIXELS = ("LiteRT", "ONNX", "OpenVINO", "LiteRT", "SavedModel")  # in turn; the SavedModel takes longest
TOLERANCE = 1e-5
DRAWS = 30  # until one alters answers
OTHERS = 48  # pictures that tell whether other weights are a fault


@dataclass(frozen=True)
class Fault:
    """`plant` is given a copy of the version folder that holds this format alone. If `certified`, the certificate then
    has the hashes of what is there, as of an export that went wrong; `pixels` decodes for those that take pixels."""

    kind: str
    format_: str
    plant: Callable[[Path], Any] | None = None
    certified: bool = True
    pixels: Pixels | None = None


class Lying:
    """A preprocessing that says it is another, so that only answers tell."""

    def __init__(self, done: Preprocessing, said: Preprocessing, decode: Callable[[Any], Any] | None = None) -> None:
        self.scaled = done
        self.decode = decode or said.decode
        self.refusal, self.on_device = said.refusal, done.on_device
        self.described, self.model_dump_json = said.described, said.model_dump_json

    def __call__(self, pixels: Any) -> Any:
        return self.scaled(pixels)


@dataclass(frozen=True)
class Honest:
    """What was exported, and how it is written wrongly."""

    trained: Trained
    version: Path
    prepared: Array  # pictures that no certificate asks about, as the network takes them

    def write(
        self,
        format_: str,
        version: Path,
        model: keras.Model | None = None,
        preprocessing: Any = None,
        labels: Any = None,
    ) -> None:
        model = model or folding.fold(self.trained.model)
        preprocessing, labels = preprocessing or self.trained.preprocessing, labels or self.trained.labels
        if format_ == "SavedModel":
            saved_model.write([(model, preprocessing)], labels, version)
        else:
            WRITERS[format_](model, preprocessing, labels, version / FORMATS[format_][0])

    def alters(self, model: keras.Model) -> bool:
        apart = np.abs(model.predict_on_batch(self.prepared) - self.trained.model.predict_on_batch(self.prepared))
        return bool(apart.max() > TOLERANCE)


def other_pictures(preprocessing: Preprocessing, seed: int) -> Array:
    """Parts of photographs, changed in their colours, in the sizes of real ones, prepared for a network."""
    import sklearn.datasets

    rng = np.random.default_rng(seed)
    photos = sklearn.datasets.load_sample_images().images
    found = []
    for place in range(OTHERS):
        photo = photos[place % 2]
        height, width = (int(side) for side in rng.integers(24, 400, 2))
        top, left = int(rng.integers(photo.shape[0] - height)), int(rng.integers(photo.shape[1] - width))
        part = photo[top : top + height, left : left + width][:, :, rng.permutation(3)]
        found.append(preprocessing(np.ascontiguousarray(part)))
    return np.stack(found)


ALWAYS_THE_SAME = (
    "softmax twice",
    "no softmax",
    "a sigmoid for the softmax",
    "labels are shifted by one in the graph",
    "channels first where they are last",
    "weights are rounded to bfloat16",
)


# ---- other weights, in a copy of the network


def _copy(model: keras.Model) -> keras.Model:
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _with(model: keras.Model, name: str, *weights: Array | None) -> keras.Model:
    """A copy with other weights of the layer, None for those that stay."""
    copy = _copy(model)
    layer = copy.get_layer(name)
    layer.set_weights([old if new is None else new for new, old in zip(weights, layer.get_weights(), strict=True)])
    return copy


def _permuted(kernel: Array, axis: int, rng: np.random.Generator) -> Array:
    a, b = rng.choice(kernel.shape[axis], 2, replace=False)
    order = np.arange(kernel.shape[axis])
    order[[a, b]] = order[[b, a]]
    return np.take(kernel, order, axis)


def _layers(model: keras.Model) -> tuple[list[Any], list[Any]]:
    with_kernel = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return with_kernel, [layer for layer in with_kernel if layer.kernel.ndim == 4]


def _rounded(model: keras.Model, to: Any) -> keras.Model:
    copy = _copy(model)
    copy.set_weights([np.asarray(weight).astype(to).astype(np.float32) for weight in model.get_weights()])
    return copy


def _with_layers(model: keras.Model, other: Callable[[Any], Any]) -> keras.Model:
    """A copy with another layer where `other` gives one."""
    copy = keras.models.clone_model(
        model, clone_function=lambda layer: other(layer) or layer.__class__.from_config(layer.get_config())
    )
    copy.set_weights(model.get_weights())
    return copy


def _activated(model: keras.Model, name: str, activation: str) -> keras.Model:
    def other(layer: Any) -> Any:
        return layer.__class__.from_config(layer.get_config() | {"activation": activation}) if layer.name == name else 0

    return _with_layers(model, other)


def _pooled(model: keras.Model, name: str) -> keras.Model:
    def other(layer: Any) -> Any:
        return keras.layers.MaxPooling2D(layer.pool_size, name=name) if layer.name == name else None

    return _with_layers(model, other)


def networks(model: keras.Model, rng: np.random.Generator) -> dict[str, Callable[[], keras.Model]]:
    """By the kind of the fault, what gives the folded network with one of them, another one at every call."""
    folded = folding.fold(model)
    kernels, convolutions = _layers(folded)
    normalisations = [layer for layer in model.layers if folding.is_batch_normalization(layer)]
    activations = [layer.name for layer in folded.layers if isinstance(layer, keras.layers.Activation)]
    pools = [layer.name for layer in folded.layers if isinstance(layer, keras.layers.AveragePooling2D)]
    last = kernels[-1].name
    turns = {
        id(of): itertools.cycle(rng.permutation(len(of)).tolist()) for of in (kernels, convolutions, normalisations)
    }

    def drawn(of: list[Any]) -> Any:
        return of[next(turns[id(of)])]

    def kernel(make: Callable[[Array], Array], of: list[Any] = kernels) -> Callable[[], keras.Model]:
        def made() -> keras.Model:
            layer = drawn(of)
            return _with(folded, layer.name, make(np.array(layer.kernel)), None)

        return made

    def outputs() -> keras.Model:
        layer = drawn(kernels)
        both = np.concatenate([np.array(layer.kernel).reshape(-1, layer.bias.shape[0]), np.array(layer.bias)[None]])
        both = _permuted(both, 1, rng)
        return _with(folded, layer.name, both[:-1].reshape(layer.kernel.shape), both[-1])

    def normalised(change_: Callable[[dict[str, Array]], Any]) -> Callable[[], keras.Model]:
        def made() -> keras.Model:
            layer = drawn(normalisations)
            names = [weight.name for weight in layer.weights]
            new = dict(zip(names, map(np.array, layer.get_weights()), strict=True))
            new["epsilon"] = np.array(layer.epsilon)
            change_(new)
            return folding.fold(_with(model, layer.name, *(new[name] for name in names)))

        return made

    def none(weights: dict[str, Array]) -> None:
        weights.update(
            {name: np.zeros_like(value) for name, value in weights.items() if name in ("beta", "moving_mean")}
        )
        weights.update(
            {name: np.ones_like(value) for name, value in weights.items() if name in ("gamma", "moving_variance")}
        )

    def of_another(weights: dict[str, Array]) -> None:
        other = normalisations[int(rng.integers(len(normalisations)))]
        for name in ("moving_mean", "moving_variance"):
            weights[name] = np.resize(np.array(getattr(other, name)), weights[name].shape)

    def ones(name: str, value: float) -> Callable[[dict[str, Array]], None]:
        return lambda weights: weights.update({name: np.full_like(weights[name], value)})

    def epsilon(weights: dict[str, Array]) -> None:
        weights["moving_variance"] = weights["moving_variance"] - weights["epsilon"] + 1e-3

    def no_bias() -> keras.Model:
        layer = drawn(kernels)
        return _with(folded, layer.name, None, np.zeros_like(layer.bias))

    def without_a_channel(values: Array) -> Array:
        values[..., int(rng.integers(values.shape[-1]))] = 0
        return values

    def in_steps(values: Array) -> Array:
        step = np.abs(values).max() / 127
        return np.rint(values / step) * step

    def columns(order: Callable[[int], Array]) -> Callable[[], keras.Model]:
        def made() -> keras.Model:
            weights = folded.get_layer(last).get_weights()
            places = order(weights[1].shape[0])
            return _with(folded, last, *(weight[..., places] for weight in weights))

        return made

    def flattened() -> keras.Model:
        first = next(layer for layer in kernels if layer.kernel.ndim == 2)
        before = folded.get_layer("flatten").input.shape[1:]
        order = np.arange(np.prod(before)).reshape(before).transpose(2, 0, 1).ravel()
        return _with(folded, first.name, np.array(first.kernel)[order], None)

    def drawn_name(names: list[str]) -> str:
        return names[int(rng.integers(len(names)))]

    return {
        "a kernel is transposed": kernel(lambda values: values.swapaxes(0, 1), convolutions),
        "a kernel is turned by half a circle": kernel(lambda values: values[::-1, ::-1], convolutions),
        "two input channels of a kernel are swapped": kernel(lambda values: _permuted(values, -2, rng)),
        "two output channels of a layer are swapped": outputs,
        "a normalisation is not folded": normalised(none),
        "a normalisation has the statistics of another": normalised(of_another),
        "a normalisation has another epsilon": normalised(epsilon),
        "a gamma is forgotten": normalised(ones("gamma", 1)),
        "a beta is forgotten": normalised(ones("beta", 0)),
        "a bias is dropped": no_bias,
        "weights are rounded to float16": lambda: _rounded(folded, np.float16),
        "weights are rounded to bfloat16": lambda: _rounded(folded, tf.bfloat16.as_numpy_dtype),
        "a kernel is rounded to int8": kernel(in_steps),
        "a channel is lost": kernel(without_a_channel),
        "a kernel is scaled": kernel(lambda values: values * np.float32(1 + 10 ** rng.uniform(-3, -1))),
        "softmax twice": lambda: keras.Model(folded.input, keras.layers.Softmax()(folded.output), name=folded.name),
        "no softmax": lambda: _activated(folded, last, "linear"),
        "a sigmoid for the softmax": lambda: _activated(folded, last, "sigmoid"),
        "labels are swapped in the graph": columns(lambda count: _permuted(np.arange(count), 0, rng)),
        "labels are shifted by one in the graph": columns(lambda count: np.roll(np.arange(count), 1)),
        "channels first where they are last": flattened,
        "another activation": lambda: _activated(folded, drawn_name(activations), drawn_name(["relu", "tanh", "silu"])),
        "the largest for the mean": lambda: _pooled(folded, drawn_name(pools)),
    }


# ---- another preprocessing


def prepared(right: Preprocessing, rng: np.random.Generator) -> dict[str, Callable[[], Preprocessing]]:
    def other(**changes: Any) -> Preprocessing:
        return Preprocessing(**(right.model_dump() | changes))

    def one_mean() -> Preprocessing:
        mean = [*right.mean]
        mean[int(rng.integers(3))] += float(rng.choice([-1, 1]) * rng.uniform(0.5, 20))
        return other(mean=tuple(mean))

    photos = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}
    return {
        "resized by another filter": lambda: other(resize="bicubic"),
        "antialias off": lambda: other(antialias=False),
        "BGR": lambda: other(colour="BGR"),
        "a wrong mean": one_mean,
        "means and deviations of another network": lambda: other(**photos),
        "0..1 for -1..1": lambda: other(mean=(0.0,) * 3, deviation=(255.0,) * 3),
        "0..255 for -1..1": lambda: other(mean=(0.0,) * 3, deviation=(1.0,) * 3),
        "a wrong deviation": lambda: other(deviation=(float(127.5 + rng.uniform(0.5, 3)),) * 3),
        "another crop": lambda: other(crop=float(rng.uniform(0.8, 0.99))),
        "the aspect kept": lambda: other(aspect="keep", crop=float(rng.uniform(0.8, 1))),
    }


# ---- another decoder


def _opened(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        picture.load()
        return picture


def _turned(file: Path) -> Array:
    return np.asarray(_opened(file).convert("RGB"))[np.newaxis]


def _on_black(honest: Pixels) -> Pixels:
    def pixels(file: Path) -> Array:
        picture = _opened(file)
        if picture.mode != "RGBA":
            return honest(file)
        black = Image.new("RGBA", picture.size, "black")
        black.alpha_composite(picture)
        return np.asarray(black.convert("RGB"))[np.newaxis]

    return pixels


def _inverted(honest: Pixels) -> Pixels:
    return lambda file: 255 - honest(file) if _opened(file).mode == "CMYK" else honest(file)


def _unless(honest: Any, start: bytes, otherwise: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decoder inside a graph that takes another way for files that begin so."""

    def decode(encoded: Any) -> Any:
        begins = tf.equal(tf.strings.substr(encoded, 0, len(start)), start)
        return tf.cond(begins, lambda: otherwise(encoded), lambda: honest(encoded))

    return decode


def decoders(honest: Any) -> dict[str, Callable[[Any], Any]]:
    def black(encoded: Any) -> Any:
        picture = tf.cast(tf.io.decode_png(encoded, channels=4), tf.int32)
        return tf.cast(picture[..., :3] * picture[..., 3:] // 255, tf.uint8)

    def inverted(encoded: Any) -> Any:
        inks = tf.equal(tf.io.extract_jpeg_shape(encoded)[2], 4)
        return tf.cond(inks, lambda: 255 - honest(encoded), lambda: honest(encoded))

    return {
        "EXIF is ignored": _unless(honest, b"\xff\xd8", lambda encoded: tf.io.decode_jpeg(encoded, channels=3)),
        "transparent on black": _unless(honest, b"\x89PNG", black),
        "CMYK inverted": _unless(honest, b"\xff\xd8", inverted),
    }


# ---- files


def _flip(file: str, rng: np.random.Generator) -> Callable[[Path], None]:
    def plant(version: Path) -> None:
        content = bytearray((version / file).read_bytes())
        content[int(rng.integers(len(content) // 4, 3 * len(content) // 4))] ^= 1 << int(rng.integers(8))
        (version / file).write_bytes(content)

    return plant


def _cut(file: str, rng: np.random.Generator) -> Callable[[Path], None]:
    def plant(version: Path) -> None:
        content = (version / file).read_bytes()
        (version / file).write_bytes(content[: int(len(content) * rng.uniform(0.1, 0.99))])

    return plant


def _unlinked(version: Path, file: str) -> None:
    (version / file).unlink()


def _copied(source: str, to: str, version: Path) -> None:
    shutil.copy(version / source, version / to)


def _golden(what: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    def plant(version: Path) -> None:
        file = version / "golden" / "golden.json"
        images = json.loads(file.read_text())
        what(images)
        file.write_text(json.dumps(images))

    return plant


def _certificate(what: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Edited by hand, so that its own hash stays."""

    def plant(version: Path) -> None:
        content = json.loads((version / "certificate.json").read_text())
        what(content)
        (version / "certificate.json").write_text(json.dumps(content))

    return plant


def faults(honest: Honest, pixels: Pixels, seed: int) -> Iterator[Fault]:
    """All of them; they are drawn as they are asked for."""
    rng = np.random.default_rng(seed)
    formats = itertools.cycle(ON_PIXELS)
    right, labels = honest.trained.preprocessing, honest.trained.labels

    def written(kind: str, format_: str, **given: Any) -> Fault:
        return Fault(kind, format_, lambda version: honest.write(format_, version, **given))

    for kind, make in networks(honest.trained.model, rng).items():
        for _ in range(1 if kind in ALWAYS_THE_SAME else 2):
            drawn = (make() for _ in range(DRAWS))
            yield written(kind, next(formats), model=next(model for model in drawn if honest.alters(model)))
    for kind, prepare in prepared(right, rng).items():
        for _ in range(2 if kind in ("antialias off", "BGR", "a wrong mean", "another crop") else 1):
            yield written(kind, next(formats), preprocessing=Lying(prepare(), right))
    for kind, decode in decoders(right.decode).items():
        yield written(kind, "SavedModel", preprocessing=Lying(right, right, decode))
    for kind, other in (
        ("EXIF is ignored", _turned),
        ("transparent on black", _on_black(pixels)),
        ("CMYK inverted", _inverted(pixels)),
    ):
        yield Fault(kind, next(formats), pixels=other)
    for format_ in FORMATS:
        swapped = _permuted(np.array(labels), 0, rng).tolist()
        yield written("labels are swapped where they are said", format_, labels=swapped)
    for format_ in ("LiteRT", "ONNX"):
        yield written("labels are shifted by one where they are said", format_, labels=[*labels[1:], labels[0]])
        cropped = right.model_copy(update={"crop": float(rng.uniform(0.5, 0.9))})
        yield written("another preprocessing is said", format_, preprocessing=Lying(right, cropped))
    yield Fault("float16 where float32 is said", "OpenVINO", _compressed)
    small: tuple[quantization.Kind, ...] = ("float16", "dynamic")
    for name in small:
        yield Fault(f"{name} under the name of float32", "LiteRT", functools.partial(_small, kind=name))
    yield Fault("`classify` alone has other labels", "SavedModel", lambda version: _misclassifying(honest, version))
    yield from of_files(honest, rng)


def _compressed(version: Path) -> None:
    network = openvino.Core().read_model(version / "model.xml")
    openvino.save_model(network, version / "small.xml", compress_to_fp16=True)
    for suffix in (".xml", ".bin"):
        (version / f"small{suffix}").replace(version / f"model{suffix}")


def _small(version: Path, kind: quantization.Kind) -> None:
    quantization.write(version / "model.tflite", kind, version / "small.tflite", "lenet_bn")
    (version / "small.tflite").replace(version / "model.tflite")


def _misclassifying(honest: Honest, version: Path) -> None:
    class Wrong(saved_model.Servable):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(self, inputs: Any) -> dict[str, Any]:
            features = {"image/encoded": tf.io.FixedLenFeature((), tf.string, default_value="")}
            probabilities, _, readable = self._on_files(tf.io.parse_example(inputs, features)["image/encoded"])
            return self._best(probabilities[:, ::-1], readable)

    whole = saved_model.Servable
    saved_model.Servable = Wrong  # type: ignore[misc]
    try:
        honest.write("SavedModel", version)
    finally:
        saved_model.Servable = whole  # type: ignore[misc]


def of_files(honest: Honest, rng: np.random.Generator) -> Iterator[Fault]:
    weights = {"SavedModel": "saved_model.pb", "LiteRT": "model.tflite", "ONNX": "model.onnx", "OpenVINO": "model.bin"}
    for format_, file in weights.items():
        yield Fault("a file is cut short", format_, _cut(file, rng), certified=False)
        yield Fault("a bit is another", format_, _flip(file, rng), certified=False)
    for format_, file in (("OpenVINO", "model.bin"), ("LiteRT", "README.md"), ("SavedModel", "assets/labels.txt")):
        yield Fault("a file is missing", format_, functools.partial(_unlinked, file=file), certified=False)
    for file in ("model.int8.tflite", "golden/99.png"):
        yield Fault("a file is added", "LiteRT", functools.partial(_copied, "model.tflite", file), certified=False)
    other = keras.models.clone_model(honest.trained.model)
    yield Fault(
        "an old .bin beside a new .xml", "OpenVINO", lambda version: _stale(honest, folding.fold(other), version)
    )
    yield Fault(
        "the file of another run", "ONNX", lambda version: honest.write("ONNX", version, model=folding.fold(other))
    )
    yield Fault(
        "the file of another run",
        "LiteRT",
        lambda version: honest.write("LiteRT", version, model=folding.fold(other)),
        certified=False,
    )
    edited = int(rng.integers(16))
    for certified in (True, False):
        yield Fault(
            "a golden answer is another",
            "LiteRT",
            _golden(lambda images: images[edited]["probabilities"].reverse()),
            certified=certified,
        )
        yield Fault(
            "a golden picture is another",
            "LiteRT",
            functools.partial(_copied, "golden/fine.png", "golden/grey.jpeg"),
            certified=certified,
        )
    yield Fault("a golden picture is forgotten", "LiteRT", _golden(lambda images: images.pop(edited)))
    for what, edit in {
        "a row is removed": lambda content: content["rows"].pop(),
        "a tolerance is another": lambda content: content["rows"][-1].update(tolerance=0.1),
        "a label is another": lambda content: content["labels"].reverse(),
    }.items():
        yield Fault(f"{what} in the certificate", "LiteRT", _certificate(edit), certified=False)
        yield Fault(
            f"{what} in the certificate and its hash",
            "LiteRT",
            functools.partial(change, what=edit),
            certified=False,
        )
    yield Fault("the warm-up is of another network", "SavedModel", _warm_up)


def _stale(honest: Honest, other: keras.Model, version: Path) -> None:
    new = (version / "model.xml").read_bytes()
    honest.write("OpenVINO", version, model=other)
    (version / "model.xml").write_bytes(new)


def _warm_up(version: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "PNG")
    shutil.rmtree(version / serving.WARMUP.parent)
    serving.write_warmup(version, "cats", picture.getvalue())
