"""Artefacts: the folded network, the SavedModel, the LiteRT file, and the certificate that must not believe them."""

import base64
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flatbuffers.table
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import number_types
from google.protobuf import text_format
from keras import layers
from PIL import Image
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2
from typer.testing import CliRunner

from app import exporting, run_folder
from app.__main__ import app
from app.artefacts import certified, version_folders
from app.datasets.dataset import Data, Split, spread
from app.evaluation import prediction
from app.exporting import certifying
from app.exporting import exporting as exporting_module
from app.images.decoding import decode
from app.images.preprocessing import Preprocessing
from app.pipeline.input_pipeline import evaluation_batches, training_batches
from app.program.errors import UserError
from app.program.progress import unwatched
from app.recipe import Recipe
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run, versions
from app.run_folder.golden import read_golden, specimens
from app.run_folder.trained import Trained
from export import (
    certificate,
    folding,
    half_precision,
    merging,
    metadata,
    on_pixels,
    run_artefact,
    saved_model,
    serving,
    tflite,
)
from models import NETWORKS, BatchNormalization
from tests import ROOT
from tests.makers.exports import SAVED_MODEL, certify_again, change, forget_the_run, without
from tests.makers.image_files import FILES, PHOTO, encoded, exif
from tests.makers.networks import disturb
from tests.oracles.references import REFERENCES

Array = np.ndarray[Any, Any]
LABELS = ("digit", "flower", "temple")
SIGNATURES = ["SavedModel serving_default", "SavedModel classify", "SavedModel predict_pixels"]
SERVED = ["REST SavedModel", "gRPC SavedModel"]


def noise(model: keras.Model, count: int = 2) -> Array:
    return np.random.default_rng(5).uniform(-1, 1, (count, *model.input_shape[1:])).astype("float32")


def assert_same_outputs(folded: keras.Model, model: keras.Model, limit: float = 2e-6) -> None:
    """Within `limit` of the largest output."""
    x = noise(model)
    found, right = (
        np.concatenate([np.ravel(y) for y in keras.tree.flatten(m(x, training=False))]) for m in (folded, model)
    )
    difference = np.abs(found - right).max() / np.abs(right).max()
    assert np.isfinite(right).all()
    assert difference <= limit, f"largest difference {difference:.1e} of the largest output"


def answer(trained: Trained, encoded: bytes) -> Array:
    found: Array = trained.model.predict_on_batch(trained.preprocessing(decode(encoded))[tf.newaxis])[0]
    return found


@pytest.fixture(scope="module")
def one_of_each_format(pictures: Path) -> list[Path]:
    """The first twelve pictures of a class: every format once, each of another size."""
    return sorted((pictures / "flower").iterdir())[:12]


# ---- folding


LARGE = {"inception_v4", "inception_resnet_v1", "inception_resnet_v2", "inception_resnet_v2_paper", "densenet121"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LARGE else ()) for name in NETWORKS]
)
def test_a_folded_network_computes_the_same_without_batch_normalisation(name: str) -> None:
    keras.utils.set_random_seed(3)
    side = max(32, REFERENCES[name].minimum)
    model = disturb(NETWORKS[name](input_shape=(side, side, 3), classes=7, width=0.25, classifier_activation=None))
    makers = {id(layer.output): layer for layer in model.layers}
    normalizations = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    # DenseNet normalises what comes out of its pools and concatenations: there is nothing before them to fold into.
    stay = [layer for layer in normalizations if not isinstance(makers[id(layer.input)], layers.Conv2D | layers.Dense)]
    folded = folding.fold(model)
    assert bool(stay) == name.startswith("densenet")
    assert len(folding.foldable(model)) == len(normalizations) - len(stay)
    assert not [layer for layer in folded.layers if folding.is_batch_normalization(layer)]
    assert {layer.name for layer in folded.layers if isinstance(layer, folding.ScaleAndShift)} == {
        layer.name for layer in stay
    }
    assert (folded.count_params() < model.count_params()) == bool(normalizations)
    assert_same_outputs(folded, model, limit=1e-5)


def test_folding_leaves_the_network_it_was_given_alone() -> None:
    model = disturb(NETWORKS["lenet_bn"](classes=3))
    x, before = noise(model), [weight.numpy() for weight in model.weights]
    right = model(x, training=False).numpy()
    folding.fold(model)
    for weight, was in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), was)
    np.testing.assert_array_equal(model(x, training=False), right)


def test_folding_multiplies_in_float64() -> None:
    """Each product is rounded once; in float32 about half of them would come out one bit apart."""
    rng = np.random.default_rng(10)
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, BatchNormalization(name="bn")(layers.Conv2D(64, 1, name="conv")(image)))
    model.get_layer("conv").set_weights([rng.normal(size=(1, 1, 1, 64)), rng.normal(size=64)])
    model.get_layer("bn").set_weights(list(rng.uniform(0.5, 1.5, (4, 64))))
    kernel, bias = (weight.astype(np.float64) for weight in model.get_layer("conv").get_weights())
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in model.get_layer("bn").get_weights())
    factor = gamma / np.sqrt(variance + 1e-3)
    found = folding.fold(model).get_layer("conv").get_weights()
    np.testing.assert_array_equal(found[0], (kernel * factor).astype(np.float32))
    np.testing.assert_array_equal(found[1], (factor * (bias - mean) + beta).astype(np.float32))


FOLDED = {
    "ours": lambda x: BatchNormalization()(layers.Conv2D(5, 3)(x)),
    "Keras' own": lambda x: layers.BatchNormalization()(layers.Conv2D(5, 3)(x)),
    "without gamma": lambda x: BatchNormalization(scale=False)(layers.Conv2D(5, 3, use_bias=False)(x)),
    "without beta": lambda x: BatchNormalization(center=False)(layers.Conv2D(5, 3, use_bias=False)(x)),
    "without either": lambda x: layers.BatchNormalization(scale=False, center=False)(layers.Conv2D(5, 3)(x)),
    "a dense layer": lambda x: BatchNormalization()(layers.Dense(5)(layers.Flatten()(x))),
    "a dense layer along the last axis": lambda x: BatchNormalization(axis=3)(layers.Dense(5)(x)),
    "groups, strides and dilation": lambda x: BatchNormalization()(layers.Conv2D(4, 3, dilation_rate=2, groups=2)(x)),
    "in a residual": lambda x: x + BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)),
    "two on one map": lambda x: layers.Concatenate()([BatchNormalization()(layers.Conv2D(5, 3)(x)) for _ in range(2)]),
}


def network(tops: Callable[[Any], Any]) -> keras.Model:
    keras.utils.set_random_seed(6)
    image = keras.Input((9, 8, 4))
    return disturb(keras.Model(image, tops(image)))


@pytest.mark.parametrize("kind", FOLDED)
def test_every_normalisation_after_a_linear_layer_is_folded(kind: str) -> None:
    model = network(FOLDED[kind])
    folded = folding.fold(model)
    assert folding.foldable(model)
    assert not [layer for layer in folded.layers if folding.is_batch_normalization(layer)]
    assert_same_outputs(folded, model)


def branching(x: Any) -> Any:
    y = layers.Conv2D(5, 3)(x)
    return layers.Concatenate()([y, BatchNormalization()(y)])


def normalised_twice(x: Any) -> Any:
    y = layers.Conv2D(5, 3)(x)
    return layers.Concatenate()([BatchNormalization()(y), BatchNormalization()(y)])


def shared(x: Any) -> Any:
    convolution, normalization = layers.Conv2D(4, 3, padding="same"), BatchNormalization()
    return normalization(convolution(normalization(convolution(x))))


def also_an_output(x: Any) -> Any:
    y = layers.Conv2D(5, 3)(x)
    return [y, BatchNormalization()(y)]


LEFT = {
    "after an activation": lambda x: BatchNormalization()(layers.ReLU()(layers.Conv2D(5, 3)(x))),
    "a convolution with an activation": lambda x: BatchNormalization()(layers.Conv2D(5, 3, activation="relu")(x)),
    "another axis": lambda x: BatchNormalization(axis=1)(layers.Conv2D(5, 3)(x)),
    "after a pool": lambda x: BatchNormalization()(layers.MaxPooling2D()(x)),
    "a depthwise convolution": lambda x: BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2)(x)),
    "a transposed convolution": lambda x: BatchNormalization()(layers.Conv2DTranspose(5, 3)(x)),
    "at the bottom": lambda x: layers.Conv2D(5, 3)(BatchNormalization()(x)),
    "something else reads the convolution": branching,
    "two normalisations read one convolution": normalised_twice,
    "layers called twice": shared,
    "the convolution is an output too": also_an_output,
}


@pytest.mark.parametrize("kind", LEFT)
def test_a_normalisation_that_does_not_vanish_becomes_a_scale_and_a_shift(kind: str) -> None:
    model = network(LEFT[kind])
    folded = folding.fold(model)
    assert folding.foldable(model) == []
    assert not [layer for layer in folded.layers if folding.is_batch_normalization(layer)]
    assert any(isinstance(layer, folding.ScaleAndShift) for layer in folded.layers)
    assert_same_outputs(folded, model)


def test_a_scale_and_a_shift_are_the_normalisations_in_float64_and_survive_a_file(tmp_path: Path) -> None:
    model = network(LEFT["after an activation"])
    gamma, beta, mean, variance = (weight.astype(np.float64) for weight in model.layers[-1].get_weights())
    factor = gamma / np.sqrt(variance + 1e-3)
    folded = folding.fold(model)
    scale, shift = folded.layers[-1].get_weights()
    np.testing.assert_array_equal(scale, factor.astype(np.float32))
    np.testing.assert_array_equal(shift, (beta - factor * mean).astype(np.float32))
    assert folding.largest_difference(model, folded, noise(model)) < 1e-5
    folded.save(tmp_path / "folded.keras")
    assert_same_outputs(keras.models.load_model(tmp_path / "folded.keras"), folded)


def test_half_precision_goes_through_a_scale_and_a_shift_in_float32() -> None:
    x = np.full((1, 1, 1, 1), 1000, np.float16)
    layer = folding.ScaleAndShift(dtype="mixed_float16")
    layer.build(x.shape)
    layer.set_weights([np.array([1.0]), np.array([-999.75])])
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    assert float(found[0, 0, 0, 0]) == 0.25  # 999.75 has no half-precision number


def test_the_difference_of_a_folded_network_is_that_of_its_worst_output() -> None:
    model = network(FOLDED["ours"])
    folded = folding.fold(model)
    kernel, bias = folded.layers[-1].get_weights()
    folded.layers[-1].set_weights([kernel, bias + np.array([0, 0, 0.5, 0, 0])])
    assert folding.largest_difference(model, folded, noise(model)) == pytest.approx(0.5, abs=1e-4)


class Opaque(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def inside() -> keras.Model:
    image = keras.Input((9, 8, 4))
    return keras.Model(image, keras.Sequential([layers.Conv2D(3, 1), BatchNormalization(name="hidden")])(image))


def broken(weight: int, value: float) -> keras.Model:
    model = network(FOLDED["ours"])
    weights = model.layers[-1].get_weights()
    weights[weight][2:4] = value
    model.layers[-1].set_weights(weights)
    return model


REFUSED = {
    "no graph": (lambda: Opaque(name="opaque"), "opaque is Opaque, not a graph"),
    "inside another model": (inside, "hidden lies inside another model"),
    "a mean that is no number": (lambda: broken(2, np.nan), "channel 2, the first of 2"),
    "a variance below zero": (lambda: broken(3, -1), "channel 2, the first of 2"),
    "an infinite beta": (lambda: broken(1, np.inf), "channel 2, the first of 2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_network_that_cannot_be_folded_says_which_layer_and_why(kind: str) -> None:
    make, why = REFUSED[kind]
    with pytest.raises(folding.FoldingError, match=why):
        folding.fold(make())


# ---- the SavedModel

WITHOUT_THE_PROJECT = """
import json, sys
for name in ("models", "export", "app", "inceptions", "keras"):
    sys.modules[name] = None
import tensorflow as tf

folder, *files = sys.argv[1:]
contents = [open(file, "rb").read() for file in files]
loaded = tf.saved_model.load(folder)
serving = loaded.signatures["serving_default"]

def listed(classes, scores):
    return {"classes": [[name.decode() for name in row] for row in classes], "scores": scores.tolist()}

reply = serving(image_bytes=tf.constant(contents))
found = {"object": listed(reply["classes"].numpy(), reply["scores"].numpy())}
examples = [
    tf.train.Example(
        features=tf.train.Features(
            feature={"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
        )
    ).SerializeToString()
    for content in contents
]
reply = loaded.signatures["classify"](inputs=tf.constant(examples))
found["classify"] = listed(reply["classes"].numpy(), reply["scores"].numpy())
found["features"] = loaded.signatures["features"](image_bytes=tf.constant(contents))["embedding"].numpy().tolist()

# As TensorFlow Serving runs it: a session, the tag, tensors by the names that the signature gives.
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    graph = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = graph.signature_def["serving_default"]
    fetches = [signature.outputs["classes"].name, signature.outputs["scores"].name]
    classes, scores = session.run(fetches, {signature.inputs["image_bytes"].name: contents})
    found["session"] = listed(classes, scores)
    found["signatures"] = {
        name: {
            "method": definition.method_name,
            "inputs": {key: [tf.dtypes.as_dtype(info.dtype).name, [size.size for size in info.tensor_shape.dim]]
                       for key, info in definition.inputs.items()},
            "outputs": {key: [tf.dtypes.as_dtype(info.dtype).name, [size.size for size in info.tensor_shape.dim]]
                        for key, info in definition.outputs.items()},
        }
        for name, definition in graph.signature_def.items() if not name.startswith("__")
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def served(exported: Path, one_of_each_format: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process that has neither this project nor Keras is told by the SavedModel."""
    folder = tmp_path_factory.mktemp("elsewhere")
    files = [exported, *one_of_each_format]
    command = [sys.executable, "-I", "-c", WITHOUT_THE_PROJECT, *map(str, files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_one_batch_takes_files_of_every_format_and_size(
    served: Any, trained: Trained, one_of_each_format: list[Path]
) -> None:
    assert len({path.suffix.lower() for path in one_of_each_format}) == 6
    assert len({tuple(decode(path.read_bytes()).shape) for path in one_of_each_format}) == 12
    for path, classes, scores in zip(
        one_of_each_format, served["object"]["classes"], served["object"]["scores"], strict=True
    ):
        right = answer(trained, path.read_bytes())
        assert scores == sorted(scores, reverse=True)
        assert classes == [LABELS[i] for i in np.argsort(-right)]
        np.testing.assert_allclose(scores, np.sort(right)[::-1], rtol=0, atol=1e-5)


def test_a_session_as_serving_opens_it_gives_the_same_answers(served: Any) -> None:
    assert served["session"]["classes"] == served["object"]["classes"]
    np.testing.assert_allclose(served["session"]["scores"], served["object"]["scores"], rtol=0, atol=1e-6)


def test_signatures_have_the_published_names_types_and_shapes(served: Any) -> None:
    assert served["signatures"] == {
        "serving_default": {
            "method": "tensorflow/serving/predict",
            "inputs": {"image_bytes": ["string", [-1]]},
            "outputs": {"classes": ["string", [-1, 3]], "scores": ["float32", [-1, 3]], "errors": ["string", [-1]]},
        },
        "classify": {
            "method": "tensorflow/serving/predict",
            "inputs": {"inputs": ["string", [-1]]},
            "outputs": {"classes": ["string", [-1, 3]], "scores": ["float32", [-1, 3]]},
        },
        "features": {
            "method": "tensorflow/serving/predict",
            "inputs": {"image_bytes": ["string", [-1]]},
            "outputs": {"embedding": ["float32", [-1, 84]]},
        },
        "predict_pixels": {
            "method": "tensorflow/serving/predict",
            "inputs": {"images": ["uint8", [-1, -1, -1, 3]]},
            "outputs": {"probabilities": ["float32", [-1, 3]]},
        },
    }


def test_examples_are_classified_as_the_files_in_them(served: Any) -> None:
    assert served["classify"] == served["object"]


def test_features_are_what_the_classifier_is_given(
    served: Any, trained: Trained, one_of_each_format: list[Path]
) -> None:
    dense = trained.model.get_layer("predictions")
    prepared = np.stack([trained.preprocessing(decode(path.read_bytes())) for path in one_of_each_format])
    features = keras.Model(trained.model.input, dense.input).predict_on_batch(prepared)
    np.testing.assert_allclose(served["features"], features, rtol=0, atol=1e-4)
    logits = np.array(served["features"]) @ dense.kernel.numpy() + dense.bias.numpy()
    right = [answer(trained, path.read_bytes()) for path in one_of_each_format]
    np.testing.assert_allclose(tf.nn.softmax(logits), right, rtol=0, atol=1e-4)


def test_warm_up_is_a_request_of_every_batch_size_that_a_server_may_make(exported: Path) -> None:
    file = exported / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    batches = [tf.make_ndarray(request.inputs["image_bytes"]) for request in requests]
    parameters = (exported.parent / "batching_parameters.txt").read_text()
    assert [len(batch) for batch in batches] == [int(n) for n in re.findall(r"allowed_batch_sizes: (\d+)", parameters)]
    assert f"max_batch_size {{ value: {len(batches[-1])} }}" in parameters
    assert {request.model_spec.signature_name for request in requests} == {"serving_default"}
    assert {request.model_spec.name for request in requests} == {exported.parent.name}
    assert all(decode(content).shape[-1] == 3 for batch in batches for content in batch)


@pytest.mark.slow
def test_a_warm_up_that_fails_turns_the_certificate_red(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "1")
    warmup = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    warmup.unlink()
    warmup.parent.rmdir()
    serving.write_warmup(tmp_path / "1", "pictures", b"no image")
    forget_the_run(tmp_path / "1")
    with pytest.raises(UserError, match="does not run"):
        exporting.verify(tmp_path / "1")


@pytest.mark.parametrize("name", ["photos", "Müllers Äpfel", 'a "b" c'])
def test_a_server_can_read_its_configuration(name: str) -> None:
    files = serving.configuration(name)
    config = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, f"/models/{name}", "tensorflow")
    service = yaml.safe_load(files["compose.yaml"])["services"]["serving"]
    assert service["volumes"] == [{"type": "bind", "source": ".", "target": f"/models/{name}", "read_only": True}]
    assert f"--model_config_file=/models/{name}/models.config" in service["command"]
    assert f"--batching_parameters_file=/models/{name}/batching_parameters.txt" in service["command"]
    assert "--enable_batching" in service["command"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bn_inception", "densenet121"])
def test_the_executed_graph_fuses_every_convolution_that_has_a_bias(name: str, tmp_path: Path) -> None:
    # Not as it is initialised: TensorFlow leaves out biases that are zeros.
    model = folding.fold(disturb(NETWORKS[name](input_shape=(64, 64, 3), classes=3, width=0.25)))
    convolutions = [layer for layer in merging.merge(model).layers if isinstance(layer, layers.Conv2D)]
    assert (name == "bn_inception") == (
        len(convolutions) < sum(isinstance(layer, layers.Conv2D) for layer in model.layers)
    )
    saved_model.write([(model, Preprocessing(height=64, width=64))], LABELS, tmp_path / "1")
    picture = tf.io.encode_png(np.zeros((9, 9, 3), np.uint8)).numpy()
    metadata = tf.compat.v1.RunMetadata()
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "1")).signature_def[
            "serving_default"
        ]
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        inputs = {signature.inputs["image_bytes"].name: [picture]}
        session.run(signature.outputs["scores"].name, inputs, options=options, run_metadata=metadata)
    # A frozen function would show as one call here: its nodes are in the graphs of functions.
    graphs = [*metadata.partition_graphs, *(found.post_optimization_graph for found in metadata.function_graphs)]
    operations = [node.op for graph in graphs for node in graph.node]
    fused = [operation for operation in operations if "FusedConv2D" in operation]
    assert len(fused) == sum(layer.use_bias for layer in convolutions)
    assert len([operation for operation in operations if "Conv2D" in operation]) == len(convolutions)
    assert not [operation for operation in operations if "BatchNorm" in operation or operation == "Rsqrt"]


@pytest.mark.slow
def test_the_examples_of_the_model_card_run_without_the_project(exported: Path, finished_run: Run) -> None:
    card = (exported / "README.md").read_text()
    figures = json.loads(finished_run.metrics.read_text())
    assert f"top-1 {figures['top_1']:.4f}" in card
    assert "digit, flower, temple" in card
    assert "32 x 32 RGB, bilinear with antialias, squashed, -1..1" in card
    examples = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(examples) == 2
    first = min(json.loads((exported / "golden" / "golden.json").read_text()), key=lambda image: image["file"])
    right = np.array(first["probabilities"])
    for example in examples:
        done = subprocess.run([sys.executable, "-I", "-c", example], cwd=exported, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        names, scores = re.fullmatch(r"(\[.*\] )?\[(.*)\]", done.stdout.strip()).groups()  # type: ignore[union-attr]
        expected = np.sort(right)[::-1] if names else right
        np.testing.assert_allclose([float(score) for score in scores.split()], expected, atol=1e-4)
        assert not names or names.startswith(f"['{LABELS[right.argmax()]}'")


def test_the_line_for_a_shell_of_the_model_card_takes_a_picture_of_any_size(exported: Path, tmp_path: Path) -> None:
    found = re.search(r"```sh\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)
    assert found
    (name,) = re.findall(r"golden/\S+\w", found[1])
    (tmp_path / "golden").mkdir()
    (tmp_path / name).write_bytes(bytes(200_000))  # an argument of a program may have less
    (tmp_path / "curl").write_text("#!/bin/sh\nexec cat\n")
    (tmp_path / "curl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", found[1]], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert base64.b64decode(json.loads(done.stdout)["instances"][0]["b64"]) == bytes(200_000)


def test_the_labels_are_an_asset(exported: Path) -> None:
    assert (exported / "assets" / "labels.txt").read_text() == "digit\nflower\ntemple\n"
    assert [path.name for path in (exported / "assets").iterdir()] == ["labels.txt"]
    assert not (exported / "labels.txt").exists()


def test_no_normalisation_is_left_in_the_graph(exported: Path) -> None:
    graph = loader_impl.parse_saved_model(str(exported)).meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    operations = [node.op for node in nodes]
    assert operations.count("Conv2D") >= 2, "no convolution was found: the search proves nothing"
    assert not [name for name in operations if "BatchNorm" in name or name == "Rsqrt"]


@pytest.mark.slow
def test_of_twelve_classes_the_best_ten_are_served(tmp_path: Path) -> None:
    labels = [f"classe {i} é" for i in range(12)]
    keras.utils.set_random_seed(7)
    model = disturb(NETWORKS["lenet_bn"](input_shape=(32, 32, 3), classes=12))
    preprocessing = Preprocessing(height=32, width=32)
    saved_model.write([(folding.fold(model), preprocessing)], labels, tmp_path / "1")
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    pixels = np.random.default_rng(8).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    right = model.predict_on_batch(np.stack([preprocessing(image) for image in pixels]))
    found = loaded.signatures["predict_pixels"](images=tf.constant(pixels))["probabilities"].numpy()
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5)
    contents = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    reply = loaded.signatures["serving_default"](image_bytes=tf.constant(contents))
    assert reply["classes"].shape == reply["scores"].shape == (3, 10)
    best = np.argsort(-right, axis=1)[:, :10]
    np.testing.assert_allclose(reply["scores"], np.take_along_axis(right, best, axis=1), rtol=0, atol=1e-5)
    assert [[name.decode() for name in row] for row in reply["classes"].numpy()] == [
        [labels[i] for i in row] for row in best
    ]
    assert (tmp_path / "1" / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines() == labels


# ---- LiteRT


def test_the_device_file_answers_as_the_network_for_pictures_of_any_size(
    exported: Path, trained: Trained, one_of_each_format: list[Path]
) -> None:
    interpreter = Interpreter(str(exported / "model.tflite"))
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["shape_signature"].tolist()) == (np.uint8, [-1, -1, -1, 3])
    assert (probabilities["dtype"], probabilities["shape"].tolist()) == (np.float32, [1, 3])
    for path in one_of_each_format:
        pixels = decode(path.read_bytes()).numpy()[np.newaxis]
        interpreter.resize_tensor_input(image["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], pixels)
        interpreter.invoke()
        found = interpreter.get_tensor(probabilities["index"])[0]
        np.testing.assert_allclose(found, answer(trained, path.read_bytes()), rtol=0, atol=1e-4)


def test_the_labels_are_in_the_tail_of_the_device_file(exported: Path) -> None:
    with zipfile.ZipFile(exported / "model.tflite") as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.read("labels.txt").decode() == "digit\nflower\ntemple\n"


def test_the_device_file_takes_pictures_of_one_size_together(exported: Path) -> None:
    network = run_artefact.tflite(str(exported / "model.tflite"))
    pictures_ = np.random.default_rng(0).integers(0, 256, (5, 40, 61, 3), dtype=np.uint8)
    alone = [network(picture[np.newaxis])[0] for picture in pictures_]
    np.testing.assert_allclose(network(pictures_), alone, rtol=0, atol=1e-6)


class Described:
    """A table of a FlatBuffer, its fields by their numbers in the schema."""

    def __init__(self, content: bytes, at: int) -> None:
        self.table = flatbuffers.table.Table(content, at)

    def text(self, number: int) -> str:
        return self.table.String(self.table.Pos + self._field(number)).decode()

    def byte(self, number: int) -> int:
        return self.table.Get(number_types.Int8Flags, self.table.Pos + self._field(number))

    def child(self, number: int) -> "Described":
        return Described(self.table.Bytes, self.table.Indirect(self.table.Pos + self._field(number)))

    def children(self, number: int) -> list["Described"]:
        start, count = self.table.Vector(self._field(number)), self.table.VectorLen(self._field(number))
        return [Described(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def numbers(self, number: int) -> list[float]:
        return self.table.GetVectorAsNumpy(number_types.Float32Flags, self._field(number)).tolist()

    def _field(self, number: int) -> int:
        return self.table.Offset(4 + 2 * number)


def description(file: Path) -> Described:
    model = flatbuffer_utils.read_model(file)
    (entry,) = (entry for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = bytes(model.buffers[entry.buffer].data)
    assert content[4:8] == b"M001"
    return Described(content, int.from_bytes(content[:4], "little"))


def test_the_device_file_describes_itself(exported: Path) -> None:
    """The numbers are those of the fields in MediaPipe's metadata_schema.fbs, counted a second time."""
    found = description(exported / "model.tflite")
    assert found.text(0) == "lenet_bn"
    assert "which of 3 classes" in found.text(1)
    assert "32 x 32 RGB, bilinear with antialias" in found.text(1)
    assert found.text(7) == "1.0.0"
    (graph,) = found.children(3)
    (image,), (probability,) = graph.children(2), graph.children(3)
    assert (image.text(0), probability.text(0)) == ("image", "probability")
    assert (image.child(3).byte(0), image.child(3).child(1).byte(0)) == (2, 1)  # ImageProperties: RGB
    assert (image.child(5).numbers(0), image.child(5).numbers(1)) == ([255], [0])
    (labels,) = probability.children(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def described_labels(file: Path) -> list[Described]:
    (graph,) = description(file).children(3)
    (probability,) = graph.children(3)
    return probability.children(6)


def test_labels_that_are_synsets_have_their_english_names_beside_them(tmp_path: Path) -> None:
    labels, english = ["n01440764", "n01443537"], ["tench", "goldfish"]
    model = NETWORKS["lenet_bn"](input_shape=(32, 32, 3), classes=2)
    preprocessing = Preprocessing(height=32, width=32)
    saved_model.write([(model, preprocessing)], labels, tmp_path / "1", english)
    assert (tmp_path / "1" / "assets" / "labels_en.txt").read_text() == "tench\ngoldfish\n"
    assert sorted(path.name for path in (tmp_path / "1" / "assets").iterdir()) == ["labels.txt", "labels_en.txt"]
    named, carried = tmp_path / "named.tflite", tmp_path / "carried.tflite"
    tflite.write(model, preprocessing, labels, named, english)
    tflite.write(model, preprocessing, labels, carried)
    assert [one.text(0) for one in described_labels(carried)] == ["labels.txt"]
    metadata.carry(named, carried)
    for file in (named, carried):
        with zipfile.ZipFile(file) as archive:
            assert archive.read("labels.txt").decode() == "n01440764\nn01443537\n"
            assert archive.read("labels_en.txt").decode() == "tench\ngoldfish\n"
        plain, other = described_labels(file)
        assert (plain.text(0), other.text(0), other.byte(2), other.text(3)) == ("labels.txt", "labels_en.txt", 2, "en")


def every_sort() -> dict[str, bytes]:
    """With a photograph so large that it is reduced."""
    large = encoded(PHOTO.resize((2600, 1800)), "JPEG", quality=30, exif=exif(8))
    return {**FILES, "JPEG, reduced": large}


def test_what_is_decoded_outside_is_decoded_as_inside(tmp_path: Path) -> None:
    preprocessing = Preprocessing(height=32, width=32)
    for kind, content in every_sort().items():
        (tmp_path / "picture").write_bytes(content)
        found, right = run_artefact.pixels(tmp_path / "picture")[0], preprocessing.decode(content).numpy()
        np.testing.assert_array_equal(found, right, err_msg=kind)


@dataclass(frozen=True)
class Pictures(Split):
    """A split in which every picture is a class of its own."""

    contents: list[bytes]

    @property
    def count(self) -> int:
        return len(self.contents)

    def in_order(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((self.contents, tf.range(self.count, dtype=tf.int64)))

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        return self.in_order().shuffle(self.count, seed).skip(skipped)


class Onlooker:
    """A network that keeps what it is shown."""

    seen: Array

    def predict_on_batch(self, images: Any) -> Array:
        (self.seen,) = np.asarray(images)
        return np.zeros((1, 1))


def test_training_evaluation_prediction_and_the_saved_model_see_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = list(every_sort().values())
    preprocessing = Preprocessing(height=7, width=9, crop=0.9)
    right = [preprocessing(preprocessing.decode(content)).numpy() for content in contents]

    split, count = Pictures(contents), len(contents)
    ((images, labels),) = training_batches(split, preprocessing, Recipe(batch_size=count), count, 0).take(1)
    for image, label in zip(images.numpy(), labels.numpy().argmax(axis=1), strict=True):
        np.testing.assert_array_equal(image, right[label])
    ((images, labels),) = evaluation_batches(split, preprocessing, count)
    np.testing.assert_array_equal(images, right)

    network = Onlooker()
    shown = SimpleNamespace(model=network, preprocessing=preprocessing, labels=["it"], names={}, thresholds=())
    monkeypatch.setattr(run_folder, "load", lambda _: shown)
    (tmp_path / "classifier.json").write_text("{}")
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(content)  # whatever it is
        (reply,) = prediction.predict(tmp_path, [tmp_path / f"{i}.png"], 1, unwatched)
        assert "error" not in reply
        np.testing.assert_array_equal(network.seen, right[i])

    # What the classifier of this network is given are the pixels.
    pixels = keras.Input((7, 9, 3))
    model = keras.Model(pixels, layers.Dense(2, activation="softmax")(layers.Flatten()(pixels)))
    saved_model.write([(model, preprocessing)], ["one", "other"], tmp_path / "1")
    serve = tf.saved_model.load(str(tmp_path / "1")).signatures["features"]
    served = serve(image_bytes=tf.constant(contents))["embedding"].numpy()
    np.testing.assert_array_equal(served.reshape(-1, 7, 9, 3), right)


# ---- the certificate

GOLDEN = [
    {"file": "00.png", "label": "digit", "probabilities": [0.7, 0.2, 0.1]},
    {"file": "01.png", "label": "temple", "probabilities": [0.1, 0.3, 0.6]},
    {"file": "02.png", "label": "flower", "probabilities": [0.5, 0.4, 0.1]},
]


def row(*answers: Any) -> dict[str, Any]:
    """The row for these answers, and for the network's own where there is None."""
    given = [image["probabilities"] if one is None else one for image, one in zip(GOLDEN, answers, strict=True)]
    return certificate.compare("it", GOLDEN, LABELS, {"answers": given, "milliseconds": 1.5}, 1000)


def test_the_networks_own_answers_pass() -> None:
    found = row(None, None, None)
    assert certificate.passes(found)
    assert found == {
        "artefact": "it",
        "precision": "float32",
        "tolerance": 1e-5,
        "differing": 0.0,
        "images": 3,
        "top_1_agreement": 1.0,
        "max_difference": 0.0,
        "accuracy": 2 / 3,  # the network is wrong about the third
        "held_out": None,
        "not_compared": {},
        "bytes": 1000,
        "milliseconds": 1.5,
    }


@pytest.mark.parametrize(
    ("answers", "difference", "agreement"),
    [
        pytest.param(
            [[0.7, 0.2, 0.1], None, [0.5, 0.4 - 2e-5, 0.1 + 2e-5]], 2e-5, 1, id="a score beyond the tolerance"
        ),
        pytest.param([[0.2, 0.7, 0.1], None, None], 0.5, 2 / 3, id="two labels swapped"),
        pytest.param(
            [{"flower": 0.7, "digit": 0.2, "temple": 0.1}, None, None], 0.5, 2 / 3, id="two labels swapped, by name"
        ),
        pytest.param([{"digit": 0.7, "flower": 0.2}, None, None], math.inf, 2 / 3, id="a label left out"),
        pytest.param([{"digit": 0.7, "flower": 0.2, "tree": 0.1}, None, None], math.inf, 2 / 3, id="an unknown label"),
        pytest.param([{"temple": 0.1, "digit": 0.7, "flower": 0.2}, None, None], math.inf, 2 / 3, id="the worst first"),
        pytest.param([[0.7, 0.3], None, None], math.inf, 2 / 3, id="fewer classes"),
        pytest.param([[0.7, 0.2, 0.1, 0.0], None, None], math.inf, 2 / 3, id="more classes"),
        pytest.param([[0.1, 0.3, 0.6], [0.7, 0.2, 0.1], None], 0.6, 1 / 3, id="answers in another order"),
        pytest.param([[0.7, 0.2, math.nan], None, None], math.inf, 1, id="a score that is no number"),
        pytest.param([[math.nan] * 3] * 3, math.inf, None, id="no numbers at all"),
        pytest.param([[0.7, 0.2, math.inf], None, None], math.inf, 2 / 3, id="an infinite score"),
        pytest.param([[1.0, 0.0, 0.0], None, None], 0.3, 1, id="the right class, too sure"),
    ],
)
def test_an_artefact_that_disagrees_does_not_pass(answers: Any, difference: float, agreement: float | None) -> None:
    found = row(*answers)
    assert not certificate.passes(found)
    assert found["max_difference"] == pytest.approx(difference)
    if agreement is not None:
        assert found["top_1_agreement"] == pytest.approx(agreement)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([[0.7 + 5e-6, 0.2 - 5e-6, 0.1], None, None], id="within the tolerance"),
        pytest.param([{"digit": 0.7, "flower": 0.2, "temple": 0.1}, None, None], id="by name"),
    ],
)
def test_an_artefact_that_agrees_passes(answers: Any) -> None:
    assert certificate.passes(row(*answers))


def test_the_other_of_two_equally_probable_classes_is_no_mistake() -> None:
    golden = [{"file": "00.png", "label": "digit", "probabilities": [0.45, 0.45 - 2e-6, 0.1 + 2e-6]}]
    reply = {"answers": [[0.45 - 2e-6, 0.45, 0.1 + 2e-6]], "milliseconds": 1.0}
    assert certificate.passes(certificate.compare("it", golden, LABELS, reply, 1))


def test_answers_to_fewer_images_are_no_answer() -> None:
    with pytest.raises(ValueError):
        certificate.compare("it", GOLDEN, LABELS, {"answers": [[0.7, 0.2, 0.1]], "milliseconds": 1.0}, 1)


def test_a_picture_without_an_answer_is_named_and_counts_for_nothing() -> None:
    given: list[Any] = [image["probabilities"] for image in GOLDEN]
    reply = {"answers": [given[0], "a text", given[2], [0.7, 0.2, 0.1], "another"], "milliseconds": 1.0}
    held_out = [GOLDEN[0], {**GOLDEN[1], "name": "test/temple/b.png"}]
    found = certificate.compare("it", GOLDEN, LABELS, reply, 1, held_out=held_out)
    assert found["not_compared"] == {"01.png": "a text", "test/temple/b.png": "another"}
    assert (found["images"], found["top_1_agreement"], found["accuracy"]) == (2, 1, 0.5)
    assert (found["held_out"]["images"], found["held_out"]["accuracy"]) == (1, 1)
    assert certificate.passes(found)
    nothing = certificate.compare("it", GOLDEN, LABELS, reply | {"answers": ["a text"] * 5}, 1, held_out=held_out)
    assert (nothing["images"], nothing["held_out"]) == (0, None)
    assert not certificate.passes(nothing)
    assert not certificate.passes(nothing | {"tolerance": None})


def test_what_was_held_out_is_compared_for_itself() -> None:
    given = [image["probabilities"] for image in GOLDEN]
    reply = {"answers": [*given, [0.7, 0.2, 0.1], [0.3, 0.6, 0.1]], "milliseconds": 1.0}
    found = certificate.compare("it", GOLDEN, LABELS, reply, 1, held_out=GOLDEN[:2])
    assert (found["images"], found["top_1_agreement"], found["max_difference"]) == (3, 1, 0)
    assert found["held_out"] == {
        "images": 2,
        "top_1_agreement": 0.5,
        "max_difference": pytest.approx(0.5),
        "accuracy": 0.5,
    }
    assert not certificate.passes(found)
    quantised = certificate.compare("it", GOLDEN, LABELS, reply, 1, "int8", held_out=GOLDEN[:2])
    assert certificate.passes(quantised)  # one of few images proves nothing
    with pytest.raises(ValueError, match="gave 5 answers to 3 images"):
        certificate.compare("it", GOLDEN, LABELS, reply, 1)


def test_an_export_carries_its_proof(exported: Path, finished_run: Run, trained: Trained) -> None:
    found = json.loads((exported / "certificate.json").read_text())
    assert found["ok"] is True
    names = ["trained network", *SIGNATURES, "LiteRT model.tflite", *SERVED]
    assert [row["artefact"] for row in found["rows"]] == names
    assert found["not_served"] is None
    assert found["labels"] == list(LABELS)
    (network,) = found["networks"]
    assert network["network"] == "lenet_bn"
    figures = json.loads(finished_run.metrics.read_text())
    for row_ in found["rows"]:
        assert certificate.passes(row_)
        assert row_["bytes"] > 1000
        assert row_["milliseconds"] > 0
        # Fewer test images than golden ones: these are all of them.
        assert row_["accuracy"] == pytest.approx(figures["top_1"])
        if row_["artefact"] in SERVED:
            assert row_["held_out"] is None
            continue
        assert row_["held_out"]["images"] == figures["count"]
        assert row_["held_out"]["accuracy"] == pytest.approx(figures["top_1"])
    golden = json.loads((exported / "golden" / "golden.json").read_text())
    of_the_run = read_golden(finished_run)
    assert [(image["file"], image["label"]) for image in golden[: len(of_the_run)]] == [
        (image["file"], image["label"]) for image in of_the_run
    ]
    assert [image["label"] for image in golden[len(of_the_run) :]] == [None] * 6
    # Of the files as they are, so that it was written after all of them.
    files = {name: hashlib.sha256(content).hexdigest() for name, content in contents(exported).items()}
    assert {"README.md", "fingerprint.pb", "golden/golden.json", "golden/faded.png", "model.tflite"} < files.keys()
    assert found["sha256"]["files"] == {name: value for name, value in files.items() if name != "certificate.json"}
    assert network["sha256"]["model"] == hashlib.sha256(finished_run.model.read_bytes()).hexdigest()
    for image in golden:
        encoded = (exported / "golden" / image["file"]).read_bytes()
        np.testing.assert_allclose(image["probabilities"], answer(trained, encoded), rtol=0, atol=1e-6)


def test_golden_images_come_in_every_form_that_programs_prepare_differently(exported: Path) -> None:
    def opened(name: str) -> Image.Image:
        with Image.open(exported / "golden" / name) as image:
            image.load()
            return image

    assert opened("progressive.jpeg").info["progressive"]
    assert (opened("cmyk.jpeg").mode, opened("grey.jpeg").mode, opened("faded.png").mode) == ("CMYK", "L", "RGBA")
    assert opened("turned.jpeg").getexif()[0x0112] == 6
    assert np.ptp(np.asarray(opened("faded.png").getchannel("A"))) > 250
    assert {side % 2 for side in opened("grey.jpeg").size} == {1}
    # Of a grey picture, too, the colours of the last are others, also where they are seen small, and it is fine.
    fine = specimens(np.asarray(opened("grey.jpeg").convert("RGB")))["fine.png"]
    large = Image.open(io.BytesIO(fine))
    red, _, blue = np.moveaxis(np.asarray(large.resize((32, 32), Image.Resampling.BOX), np.float32), -1, 0)
    assert np.abs(red - blue).max() > 25
    assert np.abs(np.diff(np.asarray(large, np.float32), axis=0)).mean() > 25


def device_file_only(exported: Path, to: Path) -> Path:
    """A copy without the SavedModel, which is as much proof in a fifth of the time."""
    return without(exported, to / "pictures" / "1", *SAVED_MODEL)


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def failing(version: Path) -> list[str]:
    """The artefacts that disagree, as if this were what was certified."""
    certify_again(version)
    _, found = exporting.verify(version)
    assert (found["changed"], found["missing"], found["added"]) == ([], [], [])
    assert found["ok"] is (all(certificate.passes(row) for row in found["rows"]) and not found["says"])
    return [row["artefact"] for row in found["rows"] if not certificate.passes(row)]


def test_an_untouched_export_verifies(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)
    written = json.loads((version / "certificate.json").read_text())
    _, found = exporting.verify(version)
    assert (found["ok"], found["not_repeated"], found["elsewhere"]) == (True, None, None)
    assert (found["changed"], found["missing"], found["added"], found["says"]) == ([], [], [], [])
    assert [row["held_out"]["images"] for row in found["rows"]] == [written["held_out"]] * 2


@pytest.mark.slow
def test_deleted_files_are_named_and_a_failure_though_the_others_agree(exported: Path, tmp_path: Path) -> None:
    version = shutil.copytree(exported, tmp_path / "1")
    forget_the_run(version)
    (version / "model.tflite").unlink()
    (version / serving.WARMUP).unlink()
    _, found = exporting.verify(version)
    assert [row["artefact"] for row in found["rows"]] == SIGNATURES
    assert all(certificate.passes(row) for row in found["rows"])
    assert found["missing"] == ["assets.extra/tf_serving_warmup_requests", "model.tflite"]
    assert (found["ok"], found["changed"], found["added"]) == (False, [], [])


def test_every_file_that_is_not_as_it_was_certified_is_named(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)
    forget_the_run(version)
    count = len(certificate.golden(version))
    for changed in ("README.md", "golden/turned.jpeg", "model.tflite"):
        with (version / changed).open("ab") as file:
            file.write(b"\0")
    (version / "golden" / "cmyk.jpeg").write_bytes(b"no image")
    for missing in ("assets/labels.txt", "fingerprint.pb", "golden/grey.jpeg"):
        (version / missing).unlink()
    (version / "assets" / "names.txt").touch()
    _, found = exporting.verify(version)
    assert [row["artefact"] for row in found["rows"]] == ["LiteRT model.tflite"]
    assert certificate.passes(found["rows"][0])
    assert found["rows"][0]["images"] == count - 3, "other images than those certified are no questions"
    assert found["ok"] is False
    assert found["changed"] == ["README.md", "golden/cmyk.jpeg", "golden/turned.jpeg", "model.tflite"]
    assert found["missing"] == ["assets/labels.txt", "fingerprint.pb", "golden/grey.jpeg"]
    assert found["added"] == ["assets/names.txt"]


def test_an_artefact_with_a_row_has_to_answer_whatever_the_list_of_files_says(exported: Path, tmp_path: Path) -> None:
    version = shutil.copytree(exported, tmp_path / "1", ignore=shutil.ignore_patterns(*SAVED_MODEL))
    forget_the_run(version)
    change(version, lambda content: content["sha256"].update(files=certified.hashes(version)))
    _, found = exporting.verify(version)
    assert all(certificate.passes(row) for row in found["rows"])
    assert (found["ok"], found["changed"], found["added"]) == (False, [], [])
    assert found["missing"] == sorted([*SIGNATURES, *SERVED])


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"changed": ["a"], "missing": ["b", "c"]}, "; not the files that were certified: a; not there any more: b, c"),
        ({"added": ["d"]}, "; never certified: d"),
        ({"says": ["e has f", "g has h"]}, "; e has f; g has h"),
    ],
    ids=str,
)
def test_the_command_names_the_files_and_fails(
    files: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"ok": False, "rows": [], "changed": [], "missing": [], "added": [], "says": []} | files
    found |= {"not_repeated": None, "not_served": None, "elsewhere": None}
    (tmp_path / "certificate.json").write_text(json.dumps({"networks": []}))
    monkeypatch.setattr(exporting, "verify", lambda *_: (tmp_path, found))
    done = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == f"{tmp_path} DISAGREES with its network{words}"


def test_a_certificate_that_does_not_name_all_files_is_refused(exported: Path, tmp_path: Path) -> None:
    version = shutil.copytree(exported, tmp_path / "1")
    change(version, lambda content: content["sha256"].update(files={"model.tflite": "0"}))
    with pytest.raises(UserError, match=r"does not name all of its files\. Export the run again"):
        exporting.verify(version)


def test_an_export_without_its_golden_images_is_refused(exported: Path, tmp_path: Path) -> None:
    version = shutil.copytree(exported, tmp_path / "1")
    for image in version.glob("golden/*"):
        if image.name != "golden.json":
            image.unlink()
    with pytest.raises(UserError, match="has no golden image left"):
        exporting.verify(version)


class Unread(Split):
    count = 40

    def in_order(self) -> tf.data.Dataset:
        raise AssertionError("read")

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        raise AssertionError("read")


class Asked(Unread):
    def at(self, places: Any) -> tf.data.Dataset:
        read = [b"%d" % place for place in places]
        return tf.data.Dataset.from_tensor_slices((read, tf.constant([place % 3 for place in places], tf.int64)))


def test_of_the_data_only_the_test_images_asked_about_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certifying, "_probabilities", lambda networks, encoded: [float(encoded)])
    data = Data("it", LABELS, Unread(), Unread(), Asked(), "")
    found = certifying.test_images(data, [], tmp_path, 7, unwatched)
    places = spread(40, 7)
    assert [image["probabilities"] for image in found] == [[place] for place in places]
    assert [image["label"] for image in found] == [LABELS[place % 3] for place in places]
    assert [Path(image["file"]).read_bytes() for image in found] == [b"%d" % place for place in places]


def test_an_artefact_that_does_not_answer_in_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runner.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "model.tflite").touch()
    monkeypatch.setattr(certificate, "RUNNER", tmp_path / "runner.py")
    monkeypatch.setattr(certificate, "LOADING", 0.6)
    started = time.monotonic()
    with pytest.raises(certificate.ArtefactError, match=r"model\.tflite did not answer 3 images in 1 seconds"):
        certificate.rows(tmp_path, GOLDEN, LABELS, 0.2)
    assert time.monotonic() - started < 30


def test_the_time_allowed_is_that_of_loading_and_a_multiple_of_the_networks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    def run(artefact: Path, files: Any, limit: float) -> dict[str, Any]:
        limits.append(limit)
        return {}

    monkeypatch.setattr(certificate, "_run", run)
    (tmp_path / "model.tflite").touch()
    certificate.rows(tmp_path, GOLDEN, LABELS, 50, held_out=GOLDEN * 4)
    assert limits == [600 + 15 * 200 * 0.050]


@pytest.mark.parametrize(
    "wrong", [pytest.param({"antialias": False}, marks=pytest.mark.slow), {"crop": 0.875}], ids=str
)
def test_a_wrong_resize_turns_the_certificate_red(
    wrong: dict[str, Any], exported: Path, trained: Trained, tmp_path: Path
) -> None:
    version = tmp_path / "pictures" / "1"
    shutil.copytree(exported, version, ignore=shutil.ignore_patterns(*SAVED_MODEL, "assets*", "*.tflite"))
    other = trained.preprocessing.model_copy(update=wrong)
    folded = folding.fold(trained.model)
    if "antialias" in wrong:
        saved_model.write([(folded, other)], LABELS, version)
    tflite.write(folded, other, LABELS, version / "model.tflite")
    served = SIGNATURES if "antialias" in wrong else []
    assert failing(version) == [*served, "LiteRT model.tflite"]


def test_an_export_whose_run_is_gone_is_verified_on_its_golden_images(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)
    forget_the_run(version)
    _, found = exporting.verify(version)
    assert [row["artefact"] for row in found["rows"]] == ["LiteRT model.tflite"]
    assert found["rows"][0]["held_out"] is None
    assert found["ok"] is True
    assert found["not_repeated"] == f"{version / 'gone'} does not hold the network any more"


def test_a_tampered_answer_is_found(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)

    def tamper(golden: Any) -> None:
        golden[-1]["probabilities"][0] += 3e-4

    change_json(version / "golden" / "golden.json", tamper)
    assert failing(version) == ["trained network", "LiteRT model.tflite"]


def test_another_networks_artefact_is_found(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)
    keras.utils.set_random_seed(9)
    other = NETWORKS["lenet_bn"](input_shape=(32, 32, 3), classes=3)
    tflite.write(other, Preprocessing(height=32, width=32), LABELS, version / "model.tflite")
    assert failing(version) == ["LiteRT model.tflite"]


@pytest.mark.slow
def test_swapped_labels_are_found(exported: Path, tmp_path: Path, trained: Trained) -> None:
    version = tmp_path / "pictures" / "1"
    shutil.copytree(exported, version, ignore=shutil.ignore_patterns(*SAVED_MODEL, "assets", "*.tflite"))
    saved_model.write([(folding.fold(trained.model), trained.preprocessing)], ("flower", "digit", "temple"), version)
    assert failing(version) == SIGNATURES[:2]


def test_a_truncated_saved_model_is_named(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "1", ignore=shutil.ignore_patterns("*.tflite"))
    graph = tmp_path / "1" / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    with pytest.raises(certificate.ArtefactError, match="does not run") as caught:
        certificate.rows(tmp_path / "1", certificate.golden(exported), LABELS, 1.0)
    assert str(tmp_path / "1") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_version_without_artefacts_is_no_export(exported: Path, tmp_path: Path) -> None:
    version = device_file_only(exported, tmp_path)
    (version / "model.tflite").unlink()
    with pytest.raises(UserError, match=r"holds no saved_model\.pb and no \.tflite"):
        exporting.verify(version)


# ---- in bfloat16


@pytest.mark.parametrize("name", ["googlenet", pytest.param("densenet121", marks=pytest.mark.slow)])
def test_all_but_the_classifier_becomes_bfloat16(name: str) -> None:
    keras.utils.set_random_seed(3)
    side = max(32, REFERENCES[name].minimum)
    model = folding.fold(disturb(NETWORKS[name](input_shape=(side, side, 3), classes=7, width=0.25)))
    half = half_precision.in_bfloat16(model)
    assert {weight.dtype for weight in half.get_layer("predictions").weights} == {"float32"}
    convolutions = [layer for layer in half.layers if isinstance(layer, layers.Conv2D)]
    assert {weight.dtype for layer in convolutions for weight in layer.weights} == {"bfloat16"}
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert keras.backend.standardize_dtype(half.output.dtype) == "float32"
    apart = folding.largest_difference(model, half, noise(model))
    assert 0 < apart < 1e-2


@pytest.mark.slow
def test_an_export_in_bfloat16_is_certified_as_that(finished_run: Run, tmp_path: Path) -> None:
    version, found = exporting.export(finished_run.folder, tmp_path, ["saved_model"], precision="bfloat16")
    row_ = found["rows"][1]
    assert row_["artefact"] == "SavedModel serving_default, bfloat16"
    assert (row_["precision"], row_["tolerance"]) == ("bfloat16", 1e-2)
    assert 1e-5 < row_["max_difference"] < 1e-2
    assert failing(version) == []
    served = tf.saved_model.load(str(version)).signatures["predict_pixels"]
    assert served.structured_outputs["probabilities"].dtype == tf.float32
    graph = loader_impl.parse_saved_model(str(version)).meta_graphs[0].graph_def
    nodes = [node for function in graph.library.function for node in function.node_def]
    types = {op: {tf.as_dtype(node.attr["T"].type) for node in nodes if node.op == op} for op in ("Conv2D", "MatMul")}
    assert types == {"Conv2D": {tf.bfloat16}, "MatMul": {tf.bfloat16, tf.float32}}


# ---- versions


@pytest.fixture
def hollow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports that are folders with a file and a certificate, for what is not about their content."""

    def certify(runs: Any, networks: Any, folder: Path, *rest: Any) -> dict[str, Any]:
        (folder / "certificate.json").write_text("{}")
        return {"ok": True, "rows": []}

    monkeypatch.setattr(certifying, "certify", certify)
    monkeypatch.setattr(tflite, "write", lambda *given, **more: given[3].write_text(str(time.time())))


def test_versions_count_up_and_none_is_written_twice(hollow: None, finished_run: Run, tmp_path: Path) -> None:
    def export(version: int | None = None) -> str:
        return exporting.export(finished_run.folder, tmp_path, ["tflite"], version)[0].name

    root = tmp_path / "pictures"
    assert [export(), export(), export(7), export()] == ["1", "2", "7", "8"]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        export(2)
    assert str(root / "2") in str(caught.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in root.iterdir()) == ["1", "2", "7", "8"]
    assert {version_folders.newest(path) for path in (tmp_path, root, root / "8")} == {root / "8"}
    assert version_folders.newest(root / "2") == root / "2"
    assert not (root / "1" / "saved_model.pb").exists()


def test_what_a_killed_export_left_is_cleared_away_by_the_next(hollow: None, finished_run: Run, tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    root = tmp_path / "pictures"
    left, other, foreign = (root / f".incomplete-{end}" for end in (f"1-{dead.pid}", f"1-{os.getppid()}", "notes"))
    for folder in (left, other, foreign):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    exporting.export(finished_run.folder, tmp_path, ["tflite"])
    assert not left.exists()
    assert other.exists(), "another process is still writing it"
    assert foreign.exists()


def test_ten_is_newer_than_nine(tmp_path: Path) -> None:
    for name in ("9", "10", "2", ".incomplete-11-5", "notes"):
        (tmp_path / "exports" / "run" / name).mkdir(parents=True)
    assert version_folders.newest(tmp_path / "exports").name == "10"
    assert version_folders.newest(tmp_path / "exports" / "run").name == "10"


@pytest.mark.parametrize("place", ["nosuch", "empty", "file"])
def test_what_holds_no_version_is_no_export(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        version_folders.newest(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)


def another_network(model: keras.Model, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    keras.utils.set_random_seed(9)
    tflite.write(keras.models.clone_model(model), preprocessing, labels, file)


def no_artefact(model: keras.Model, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    file.write_bytes(b"not a FlatBuffer")


def full_disk(model: keras.Model, preprocessing: Any, labels: Any, file: Path, *_: Any, **more: Any) -> None:
    file.write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (another_network, "Nothing was exported: LiteRT model.tflite agrees with the trained network on"),
        (no_artefact, "Nothing was exported: .*model.tflite does not run"),
        (
            full_disk,
            r"Nothing was exported: .*pictures/1/model\.tflite could not be written: No space left on device\.",
        ),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    write: Any, words: str, finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two write real, wrong files; the check must see it from the outside."""
    monkeypatch.setattr(
        exporting_module,
        "tflite",
        type("Wrong", (), {"write": staticmethod(write)}),
    )
    with pytest.raises(UserError, match=words):
        exporting.export(finished_run.folder, tmp_path / "exports", ["tflite"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not list((tmp_path / "exports" / "pictures").glob("*"))


class Unknown(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * tf.math.bessel_i0e(x)


def test_a_network_that_litert_cannot_take_is_refused_with_the_operation(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.Dense(3, "softmax")(layers.Flatten()(Unknown()(image))), name="odd")
    with pytest.raises(on_pixels.ConversionError, match=r"LiteRT has no tf\.BesselI0e, which odd needs"):
        tflite.write(model, Preprocessing(height=8, width=8), LABELS, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def copied(run: Run, to: Path) -> Run:
    shutil.copytree(run.folder, to)
    return Run(to)


def test_labels_that_do_not_fit_are_refused(finished_run: Run, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    written = json.loads(run.classifier.read_text())
    run.classifier.write_text(json.dumps(written | {"labels": ["one", "two"]}))
    with pytest.raises(UserError, match=r"classifier\.json names 2 labels, and the network .* has 3 outputs"):
        exporting.export(run.folder, tmp_path / "exports", ["tflite"])
    assert not (tmp_path / "exports").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"formats": ["coreml"]}, "no format 'coreml'. The formats are saved_model, tflite, onnx, openvino"),
        ({"formats": ["saved_model"], "precision": "float8"}, "no precision 'float8'. The precisions are float32, bfl"),
        ({"formats": ["tflite"], "precision": "bfloat16"}, "add saved_model to --formats"),
    ],
)
def test_what_cannot_be_exported_is_said_before_anything_is_written(
    options: dict[str, Any], words: str, finished_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        exporting.export(finished_run.folder, tmp_path / "exports", **options)
    assert not (tmp_path / "exports").exists()


# ---- as its users run it


def untrained_run(name: str, folder: Path) -> Run:
    """A network of the family with random weights and statistics, at quarter width, as an import leaves one behind."""
    keras.utils.set_random_seed(3)
    side = max(32, REFERENCES[name].minimum)
    arguments = {"input_shape": [side, side, 3], "classes": 7, "width": 0.25}
    folder.mkdir()
    classifier = Classifier(
        network=name,
        arguments=arguments,
        labels=tuple("abcdefg"),
        preprocessing=Preprocessing(height=side, width=side),
        recipe=None,
        versions=versions(),
        seed=0,
        data=None,
    )
    run = Run(folder)
    run.classifier.write_text(classifier.model_dump_json())
    disturb(classifier.build()).save(run.model)
    run.golden.mkdir()
    (run.golden / "00.jpeg").write_bytes(encoded(PHOTO, "JPEG"))
    (run.golden / "golden.json").write_text(json.dumps([{"file": "00.jpeg", "label": None}]))
    return run


# With every normalisation folded, and with those that become a scale and a shift.
VERIFIED = ("inception_v3", "densenet_d2l")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_family_is_exported_and_certified(name: str, tmp_path: Path) -> None:
    run = untrained_run(name, tmp_path / name)
    version, found = exporting.export(run.folder, tmp_path / "exports", exporting.FORMATS)
    assert found["ok"]
    assert len(found["rows"]) == 7
    assert all(row["images"] == 7 for row in found["rows"])
    if name in VERIFIED:
        _, again = exporting.verify(version)
        assert again["ok"]
        assert [row["artefact"] for row in again["rows"]] == [row["artefact"] for row in found["rows"]]
        assert all(row["images"] == 7 for row in again["rows"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KILLED = 10


@pytest.mark.slow
def test_an_export_killed_while_it_writes_leaves_whole_versions_only(finished_run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "export", str(finished_run.folder), "--to", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start() -> Any:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)

    root = tmp_path / finished_run.folder.name

    def starts_to_write(process: Any) -> float:
        beside = f".incomplete-*-{process.pid}"
        while not list(root.glob(beside)):  # while it imports there is nothing to leave half
            assert process.poll() is None
            time.sleep(0.01)
        return time.monotonic()

    process = start()
    began = starts_to_write(process)
    assert process.wait() == 0
    writing = time.monotonic() - began
    first = contents(root / "1")
    killed = 0
    for moment in np.random.default_rng(0).uniform(0, writing, KILLED):
        process = start()
        starts_to_write(process)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
        assert contents(root / "1") == first
        for version in root.glob("[0-9]*"):
            certified = json.loads((version / "certificate.json").read_text())
            found = {name: hashlib.sha256(content).hexdigest() for name, content in contents(version).items()}
            found.pop("certificate.json")
            assert certified["sha256"]["files"] == found
    assert killed > KILLED / 2
    before = len(list(root.glob("[0-9]*")))
    assert start().wait() == 0
    assert len(list(root.glob("[0-9]*"))) == before + 1
    assert not list(root.glob(".incomplete-*"))
