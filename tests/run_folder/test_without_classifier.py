"""Files without a classifier as run folders: a network that gives its features, for `train --from` and no more."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy

from app import recipe, run_folder, training
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder import importing
from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.run_folder.trained import load_network
from tests.models.test_weights import keras_2_names
from tests.oracles import slim_networks, weight_files
from tests.run_folder.test_importing import resnet18_logits, resnet18_tensors

Array = np.ndarray[Any, Any]


def features(run: Path, images: Array) -> Array:
    """What the network of a run gives."""
    return np.asarray(load_network(Run(run))(images, training=False))


def resnet18_trunk(folder: Path) -> Path:
    """A file of torchvision's ResNet-18 whose last layer was taken off."""
    tensors = {name: value for name, value in resnet18_tensors().items() if not name.startswith("fc.")}
    safetensors.numpy.save_file(tensors, folder / "trunk.safetensors")
    return folder / "trunk.safetensors"


@pytest.mark.slow
def test_a_notop_file_of_keras_gives_the_pooled_features_of_keras_applications(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(299, 299, 3), pooling="avg")
    weight_files.randomize(theirs, seed=1)
    weight_files.write_keras_2(theirs, tmp_path / "v3_notop.h5", keras_2_names(theirs))
    report = importing.import_weights(tmp_path / "v3_notop.h5", "inception_v3", "keras", tmp_path / "v3")
    assert (len(report.loaded), report.skipped, report.missing) == (len(theirs.weights), [], [])
    x = weight_files.image(299, 299)
    expected = np.asarray(theirs(x, training=False))
    assert expected.shape == (2, 2048)
    assert weight_files.relative_error(features(tmp_path / "v3", x), expected) < 1e-4
    assert Run(tmp_path / "v3").read_start().labels == ()
    said = " ".join(capsys.readouterr().err.split())
    assert f"v3_notop.h5 has no classifier; the run is for `python -m app train DATA --from {tmp_path}/v3" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "source", "bottleneck", "side"),
    [("inception_v1", "slim", None, 224), ("inception_resnet_v1", "facenet", 128, 160)],
)
def test_the_classifier_of_a_checkpoint_makes_its_logits_of_the_features_of_the_rest(
    network: str, source: str, bottleneck: int | None, side: int, tmp_path: Path
) -> None:
    tensors = slim_networks.made_up(slim_networks.variables(network, classes=11, bottleneck=bottleneck), seed=5)
    top = {name: value for name, value in tensors.items() if "Logits" in name and "AuxLogits" not in name}
    assert len(top) == 2
    rest = {name: value for name, value in tensors.items() if name not in top}
    file = weight_files.write_tensorflow(tmp_path / "trunk.ckpt", rest, 2)
    importing.import_weights(file, network, source, tmp_path / "run")
    kernel, bias = (value.reshape(-1, 11) for value in sorted(top.values(), key=np.size, reverse=True))
    x = weight_files.image(side, side)[:2]
    found = features(tmp_path / "run", x) @ kernel + bias
    assert weight_files.relative_error(found, slim_networks.logits(network, tensors, x)) < 1e-4


@pytest.mark.slow
def test_a_training_begins_with_a_network_without_a_classifier(tmp_path: Path) -> None:
    importing.import_weights(resnet18_trunk(tmp_path), "resnet18", "torchvision", tmp_path / "trunk")
    x = weight_files.image(224, 224)
    tensors = resnet18_tensors()
    top = features(tmp_path / "trunk", x) @ tensors["fc.weight"].T + tensors["fc.bias"]
    assert weight_files.relative_error(top, resnet18_logits(tensors, x)) < 1e-4

    wanted = recipe.load("default", ("steps=2", "batch_size=4", "freeze=base", "image_size=32"))
    run = training.train("digits", None, tmp_path / "run", wanted, unwatched, tmp_path / "trunk")
    trained = run_folder.load(run.folder)
    assert trained.labels == tuple("0123456789")
    assert trained.preprocessing.deviation == Run(tmp_path / "trunk").read_start().preprocessing.deviation
    kernels = [layer.kernel.numpy() for layer in trained.model.layers if isinstance(layer, keras.layers.Conv2D)]
    np.testing.assert_array_equal(kernels[0], tensors["conv1.weight"].transpose(2, 3, 1, 0))
    assert json.loads(run.metrics.read_text())["count"] > 0


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What such an import leaves, as far as commands read it before they refuse. Read only."""
    run = Run(tmp_path_factory.mktemp("runs") / "trunk")
    run.folder.mkdir()
    described = Classifier(
        network="lenet_bn",
        arguments={"input_shape": (16, 16, 3)},
        labels=(),
        preprocessing=Preprocessing(height=16, width=16),
        recipe=None,
        versions={},
        seed=0,
        data=None,
    )
    run.classifier.write_text(described.model_dump_json())
    run.model.write_bytes(b"")
    return run


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "RUN"),
        ("evaluate", "RUN", "--data", "digits"),
        ("predict", "RUN", "PICTURE"),
        ("export", "RUN", "--to", "NEW"),
        ("verify", "PICTURE", "--against", "RUN"),
        ("serve", "RUN"),
        ("explain", "RUN", "PICTURE", "--to", "NEW"),
        ("explain", "RUN", "PICTURE", "--class", "cat", "--to", "NEW"),
        ("activations", "RUN", "PICTURE", "--layer", "inception_4a", "--to", "NEW"),
        ("dream", "PICTURE", "--model", "RUN", "--to", "NEW"),
        ("batch-norm", "report", "RUN", "digits"),
        ("batch-norm", "recalibrate", "RUN", "digits"),
        ("batch-norm", "adapt", "RUN", "digits", "--to", "NEW"),
    ],
    ids=" ".join,
)
def test_a_command_that_needs_classes_names_the_run_and_the_way_out(
    command: Sequence[str], nameless: Run, tmp_path: Path
) -> None:
    from PIL import Image

    from app.__main__ import main

    Image.new("RGB", (16, 16)).save(tmp_path / "picture.onnx", "PNG")
    places = {"RUN": nameless.folder, "PICTURE": tmp_path / "picture.onnx", "NEW": tmp_path / "new.png"}
    with pytest.raises(SystemExit) as ended:
        main([str(places.get(part, part)) for part in command])
    way_out = f"`python -m app train DATA --from {nameless.folder} --to RUN` trains one on your images."
    assert ended.value.code == (
        f"Error: {nameless.folder} is of a file without a classifier, so that it names nothing: {way_out}"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.onnx"]


@pytest.mark.parametrize(
    ("asked", "value"), [("labels", Path("imagenet")), ("auxiliary", True), ("drop_background", True)]
)
def test_what_is_asked_of_a_classifier_is_refused_where_the_file_has_none(
    asked: str, value: Any, tmp_path: Path
) -> None:
    file = resnet18_trunk(tmp_path)
    option = "--" + asked.replace("_", "-")
    with pytest.raises(UserError, match=rf"trunk\.safetensors has no classifier, of which {option} says something"):
        importing.import_weights(file, "resnet18", "torchvision", tmp_path / "run", **{asked: value})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trunk.safetensors"]
