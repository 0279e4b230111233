"""Published weights as run folders: the answers of their source, and everything later commands need."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import safetensors.numpy
import sklearn.datasets
import tensorflow as tf

from app import evaluation, exporting, recipe, run_folder, training
from app.evaluation import prediction
from app.program import files
from app.program.errors import UserError
from app.program.progress import unwatched
from app.run_folder import importing
from app.run_folder.folder import Run
from app.run_folder.golden import read_golden
from models.weights import published as published_files
from tests.oracles import caffe_files, caffe_forward

Array = np.ndarray[Any, Any]
Tensors = dict[str, Array]
EPSILON = 1e-5


# ---- torchvision's ResNet-18 in raw TensorFlow, from its published names


def resnet18_blocks() -> Iterator[tuple[str, int, int, int]]:
    """Prefix, channels in and out, stride."""
    width = 64
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            yield f"layer{layer}.{block}", width, channels, 2 if layer > 1 and block == 0 else 1
            width = channels


def resnet18_tensors(classes: int = 1000) -> Tensors:
    rng = np.random.default_rng(11)
    found: Tensors = {}

    def convolution(name: str, inputs: int, outputs: int, side: int) -> None:
        found[f"{name}.weight"] = rng.normal(0, (2 / (inputs * side**2)) ** 0.5, (outputs, inputs, side, side))

    def normalization(name: str, channels: int) -> None:
        found[f"{name}.weight"] = rng.uniform(0.5, 1.5, channels)
        found[f"{name}.bias"] = rng.normal(0, 0.3, channels)
        found[f"{name}.running_mean"] = rng.normal(0, 0.3, channels)
        found[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels)

    convolution("conv1", 3, 64, 7)
    normalization("bn1", 64)
    for name, inputs, outputs, stride in resnet18_blocks():
        convolution(f"{name}.conv1", inputs, outputs, 3)
        normalization(f"{name}.bn1", outputs)
        convolution(f"{name}.conv2", outputs, outputs, 3)
        normalization(f"{name}.bn2", outputs)
        if stride == 2:
            convolution(f"{name}.downsample.0", inputs, outputs, 1)
            normalization(f"{name}.downsample.1", outputs)
    found["fc.weight"] = rng.normal(0, 0.05, (classes, 512))
    found["fc.bias"] = rng.normal(0, 0.1, classes)
    counters = {name.replace("running_var", "num_batches_tracked") for name in found if name.endswith("running_var")}
    return {name: value.astype(np.float32) for name, value in found.items()} | {
        name: np.array(7, np.int64) for name in counters
    }


def resnet18_logits(tensors: Tensors, images: Array) -> Array:
    def convolution(x: Any, name: str, stride: int) -> Any:
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 1, 0)
        around = kernel.shape[0] // 2
        x = tf.pad(x, [[0, 0], [around, around], [around, around], [0, 0]])
        return tf.nn.conv2d(x, kernel, stride, "VALID")

    def normalization(x: Any, name: str) -> Any:
        factor = tensors[f"{name}.weight"] / np.sqrt(tensors[f"{name}.running_var"] + EPSILON)
        return (x - tensors[f"{name}.running_mean"]) * factor + tensors[f"{name}.bias"]

    x = tf.nn.relu(normalization(convolution(images, "conv1", 2), "bn1"))
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
    for name, _, _, stride in resnet18_blocks():
        y = tf.nn.relu(normalization(convolution(x, f"{name}.conv1", stride), f"{name}.bn1"))
        y = normalization(convolution(y, f"{name}.conv2", 1), f"{name}.bn2")
        if stride == 2:
            x = normalization(convolution(x, f"{name}.downsample.0", 2), f"{name}.downsample.1")
        x = tf.nn.relu(x + y)
    features = tf.reduce_mean(x, (1, 2))
    logits: Array = (features @ tensors["fc.weight"].T + tensors["fc.bias"]).numpy()
    return logits


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as torchvision publishes it, in the safe format."""
    file = tmp_path_factory.mktemp("published") / "resnet18.safetensors"
    safetensors.numpy.save_file(resnet18_tensors(), file)
    return file.rename(file.with_name(f"resnet18-{files.digest(file)[:8]}.safetensors"))


@pytest.fixture(scope="module")
def imported(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Read only."""
    run = Run(tmp_path_factory.mktemp("runs") / "resnet18")
    importing.import_weights(published, "resnet18", "torchvision", run.folder)
    return run


def test_an_imported_network_gives_the_logits_of_its_source(imported: Run) -> None:
    trained = run_folder.load(imported.folder)
    photographs = sklearn.datasets.load_sample_images().images
    images = np.stack([trained.preprocessing(photograph).numpy() for photograph in photographs])
    right = resnet18_logits(resnet18_tensors(), images)
    found = trained.logits_model.predict_on_batch(images)
    assert np.abs(found - right).max() <= 1e-5 * np.abs(right).max()
    probabilities = trained.model.predict_on_batch(images)
    np.testing.assert_allclose(probabilities, tf.nn.softmax(right), rtol=1e-3, atol=1e-7)


def test_an_imported_network_prepares_images_as_its_source_does(imported: Run) -> None:
    found = run_folder.load(imported.folder).preprocessing
    assert (found.height, found.width, found.aspect, found.crop, found.colour) == (224, 224, "keep", 0.875, "RGB")
    np.testing.assert_allclose(found.mean, np.multiply((0.485, 0.456, 0.406), 255))
    np.testing.assert_allclose(found.deviation, np.multiply((0.229, 0.224, 0.225), 255))


def test_a_published_files_thousand_classes_are_imagenets(imported: Run, published: Path, tmp_path: Path) -> None:
    labels = run_folder.load(imported.folder).labels
    assert len(set(labels)) == 1000
    assert (labels[0], labels[999]) == ("n01440764", "n15075141")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"thing {i}\n" for i in range(1000)))
    importing.import_weights(published, "resnet18", "torchvision", tmp_path / "run", labels=names)
    assert run_folder.load(tmp_path / "run").labels[:2] == ("thing 0", "thing 1")


def test_another_files_thousand_classes_are_imagenets_where_the_user_says_so(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.symlink_to(published)
    importing.import_weights(mine, "resnet18", "torchvision", tmp_path / "run")
    labels = Run(tmp_path / "run").read_classifier().labels
    assert (labels[0], labels[999]) == ("class_000", "class_999")
    said = " ".join(capsys.readouterr().err.split())
    assert "The labels are class_000 to class_999, since the file does not say" in said
    assert "--labels imagenet" in said
    importing.import_weights(mine, "resnet18", "torchvision", tmp_path / "again", labels=Path("imagenet"))
    assert Run(tmp_path / "again").read_classifier().labels[999] == "n15075141"


def test_what_says_that_the_classes_are_imagenets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str, source: str, classes: int = 1000) -> bool:
        (tmp_path / name).write_bytes(b"weights")
        return importing._is_of_imagenet(tmp_path / name, source, classes)

    digest = hashlib.sha256(b"weights").hexdigest()
    for source in ("torchvision", "timm", "cadene"):
        assert said(f"resnet18-{digest[:8]}.pth", source)
        assert said(f"bn_inception-{digest[:9]}.pth", source)
        assert not said("resnet18-00000000.pth", source)
        assert not said("resnet18.pth", source)
        assert not said(f"resnet18-{digest[:8]}.pth", source, classes=999)
    assert not said(f"resnet18-{digest[:8]}.pth", "facenet")
    assert [said("v4.ckpt", source, 1001) for source in ("slim", "timm", "cadene")] == [True] * 3
    assert not any(said("v4.ckpt", source, 1001) for source in ("facenet", "keras", "torchvision"))
    assert not said("v4.ckpt", "slim", 1000)

    assert not said("v3.h5", "keras")
    files_of_keras = published_files.KerasFiles("v3", hashlib.md5(b"weights").hexdigest(), "", 32)
    monkeypatch.setitem(published_files.FILES, "inception_v3", files_of_keras)
    assert said("v3.h5", "keras")

    assert not said("bvlc_googlenet.caffemodel", "caffe")
    monkeypatch.setattr(importing, "BVLC_SHA1", hashlib.sha1(b"weights").hexdigest())
    assert said("bvlc_googlenet.caffemodel", "caffe")
    assert not said("bvlc_googlenet.caffemodel", "caffe", classes=999)

    config: dict[str, Any] = {"pretrained_cfg": {"tag": "tf_in1k"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert said("model.safetensors", "timm")
    assert not said("model.safetensors", "torchvision")
    other: dict[str, Any]
    for other in (config | {"label_names": ["a"]}, {"pretrained_cfg": {"tag": "sw_in12k"}}, {"pretrained_cfg": {}}):
        (tmp_path / "config.json").write_text(json.dumps(other))
        assert not said("model.safetensors", "timm")


def test_an_import_says_where_it_came_from_and_what_became_of_every_tensor(imported: Run, published: Path) -> None:
    origin = imported.read_classifier().origin
    assert origin is not None
    assert (origin.path, origin.source) == (str(published), "torchvision")
    assert origin.sha256 == files.digest(published)
    report = json.loads(imported.load_report.read_text())
    assert {row["source"] for row in report["loaded"] + report["skipped"]} == set(resnet18_tensors())
    assert len(report["loaded"]) == 102
    assert {row["source"].rpartition(".")[2] for row in report["skipped"]} == {"num_batches_tracked"}
    assert all(row["how"] for row in report["loaded"] + report["skipped"])
    assert report["missing"] == []


@pytest.mark.slow
def test_an_imported_network_predicts_and_is_exported_with_its_proof(imported: Run, tmp_path: Path) -> None:
    picture = imported.golden / read_golden(imported)[0]["file"]
    (row,) = prediction.predict(imported.folder, [picture], 5, unwatched)
    folder, found = exporting.export(imported.folder, tmp_path)
    assert found["ok"]
    assert [line["accuracy"] for line in found["rows"]] == [None] * 5
    assert len(json.loads((folder / "golden" / "golden.json").read_text())) >= 8
    (exported,) = prediction.predict(folder, [picture], 5, unwatched)
    assert exported["classes"] == row["classes"]
    np.testing.assert_allclose(exported["scores"], row["scores"], atol=1e-5)


def test_an_imported_network_is_evaluated_on_data_that_are_named(imported: Run) -> None:
    with pytest.raises(UserError, match="has no data of its own; name some with --data"):
        evaluation.evaluate(imported.folder, None)
    with pytest.raises(UserError, match=r"digits has other labels than .*new: '0', '1'"):
        evaluation.evaluate(imported.folder, "digits")


def test_timms_own_configuration_counts(tmp_path: Path) -> None:
    config = {
        "pretrained_cfg": {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "crop_pct": 0.9,
            "interpolation": "bilinear",
            "input_size": [3, 320, 320],
        }
    }
    file = tmp_path / "model.safetensors"
    plain = importing._preprocessing(file, "inception_v3", "timm")
    assert (plain.height, plain.crop, plain.resize, plain.mean[0]) == (299, 0.875, "bicubic", 127.5)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = importing._preprocessing(file, "inception_v3", "timm")
    assert (found.height, found.crop, found.resize) == (320, 0.9, "bilinear")
    np.testing.assert_allclose(found.mean, [123.675, 116.28, 103.53])
    np.testing.assert_allclose(found.deviation, [58.395, 57.12, 57.375])
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json is not a configuration of timm"):
        importing._preprocessing(file, "inception_v3", "timm")


def test_caffes_networks_take_blue_first_less_their_own_means() -> None:
    def found(network: str) -> Any:
        return importing._preprocessing(Path("a.caffemodel"), network, "caffe")

    photograph = sklearn.datasets.load_sample_images().images[0]
    for network in ("googlenet", "bn_inception", "resnet18"):
        pixels = found(network)(photograph).numpy()
        assert pixels.shape == (224, 224, 3)
        np.testing.assert_allclose(found(network).mean, (104, 117, 123))
        middle = photograph[200:227, 300:340].mean((0, 1))[::-1] - (104, 117, 123)
        np.testing.assert_allclose(pixels[100:124, 100:124].mean((0, 1)), middle, atol=12)
    assert (found("googlenet").aspect, found("googlenet").antialias) == ("squash", False)
    assert (found("bn_inception").aspect, found("resnet18").aspect) == ("keep", "keep")
    dense = found("densenet121")
    assert (dense.colour, dense.mean) == ("BGR", (103.94, 116.78, 123.68))
    np.testing.assert_allclose(dense.deviation, 1 / 0.017)


@pytest.mark.slow
def test_a_googlenet_of_caffe_is_imported_with_its_heads(tmp_path: Path, fresh_process: Callable[..., str]) -> None:
    parts = caffe_files.googlenet(classes=7)
    file = caffe_files.write(tmp_path / "mine.caffemodel", parts, old=True)
    arguments = ["import", file, "--network", "googlenet", "--source", "caffe", "--auxiliary", "--to", tmp_path / "run"]
    script = "import sys; from app.__main__ import main; main(sys.argv[1:])"
    report = json.loads(fresh_process(script, *arguments, "--json"))
    assert (len(report["loaded"]), report["skipped"], report["missing"]) == (128, [], [])
    assert next(row["how"] for row in report["loaded"] if row["source"] == "loss1/fc[0]") == "channels last, transposed"
    trained = run_folder.load(tmp_path / "run")
    photographs = sklearn.datasets.load_sample_images().images
    images = np.stack([trained.preprocessing(photograph).numpy() for photograph in photographs])
    right = caffe_forward.answers(parts, images.transpose(0, 3, 1, 2))["loss3/classifier"]
    assert np.abs(trained.logits_model.predict_on_batch(images) - right).max() <= 1e-5 * np.abs(right).max()
    with_heads = keras.models.load_model(Run(tmp_path / "run").auxiliary)
    assert sorted(with_heads.output) == ["auxiliary_1", "auxiliary_2", "predictions"]


@pytest.mark.slow
def test_the_command_prints_its_load_report(published: Path, tmp_path: Path, fresh_process: Callable[..., str]) -> None:
    arguments = ["import", published, "--network", "resnet18", "--source", "torchvision", "--to", tmp_path / "run"]
    script = "import sys; from app.__main__ import main; main(sys.argv[1:])"
    found = json.loads(fresh_process(script, *arguments, "--json"))
    assert found == json.loads((tmp_path / "run" / "import.json").read_text())
    assert set(found) == {"loaded", "skipped", "missing"}
    row = next(row for row in found["loaded"] if row["source"] == "layer3.0.conv1.weight")
    assert set(row) == {"source", "target", "shape", "how"}
    assert "residual_4_1_1_conv" in row["target"]
    shutil.rmtree(tmp_path / "run")
    printed = fresh_process(script, *arguments)
    for tensor in ("layer3.0.conv1.weight", "bn1.num_batches_tracked"):
        assert tensor in printed
    assert "102 tensors loaded, 20 skipped" in printed


# ---- mistakes


def text(folder: Path, content: str) -> Path:
    file = folder / "labels.txt"
    file.write_text(content)
    return file


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown network": ({"network": "resnet1"}, "There is no network 'resnet1'"),
    "an unknown source": ({"source": "torch"}, "There is no source 'torch'"),
    "a source that has no such network": ({"source": "slim"}, "slim publishes no weights of resnet18"),
    "another network": ({"network": "densenet121"}, "resnet18"),
    "no file": ({"file": Path("nowhere.safetensors")}, "nowhere"),
    "too few labels": ({"labels": "a\nb\n"}, "has 2 labels, the network 1000 classes"),
    "a label twice": ({"labels": "a\n" * 1000}, "has the label 'a' twice"),
    "labels of another number": ({"drop_background": True, "labels": Path("imagenet")}, "999 classes, ImageNet 1000"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_no_folder(mistake: str, published: Path, tmp_path: Path) -> None:
    changed, words = MISTAKES[mistake]
    arguments = {"file": published, "network": "resnet18", "source": "torchvision", "to": tmp_path / "runs" / "new"}
    if isinstance(changed.get("labels"), str):
        changed = {"labels": text(tmp_path, changed["labels"])}
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=words) as error:
        importing.import_weights(**{**arguments, **changed})
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_an_import_does_not_overwrite(published: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("precious")
    with pytest.raises(UserError, match="kept exists; choose another --to"):
        importing.import_weights(published, "resnet18", "torchvision", tmp_path / "kept")
    assert (tmp_path / "kept" / "file").read_text() == "precious"


def test_a_file_cut_short_leaves_no_folder(published: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(published.read_bytes()[: published.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.safetensors"):
        importing.import_weights(cut, "resnet18", "torchvision", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.safetensors"]


@pytest.mark.slow
def test_an_imported_network_is_fine_tuned(imported: Run, tmp_path: Path) -> None:
    wanted = recipe.load("default", ("steps=3", "batch_size=4", "optimizer.rate=1e-6"))  # weights are noise
    run = training.train("digits", None, tmp_path / "run", wanted, unwatched, imported.folder)
    tuned = run_folder.load(run.folder)
    assert tuned.labels == tuple("0123456789")
    assert tuned.preprocessing == run_folder.load(imported.folder).preprocessing
