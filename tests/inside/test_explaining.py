"""Heat maps against a network written out in float64 NumPy with finite differences for its gradients; where they peak
on a trained network; and what `explain` writes and refuses."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from keras import layers
from PIL import Image

from app import run_folder
from app.__main__ import main
from app.images import view
from app.images.preprocessing import Preprocessing
from app.inside import explaining, explanation_figure
from app.inside.explanation_figure import Panel
from app.inside.methods import METHODS
from app.networks import feature_maps
from app.program.errors import UserError
from app.run_folder.folder import Run
from models import BNInception
from tests.makers.canvases import DIGIT, Canvases, planted
from tests.makers.canvases import SIDE as CANVAS

Array = np.ndarray[Any, Any]
SIDE = 6
COUNT = 45_000  # canvases to train on


# ---- the oracle


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Two columns on a first map, and logits to which places count differently: a mean over all places would give each
    the same gradient. All maps are as large as the image, so that nothing is resized."""
    keras.utils.set_random_seed(5)

    def step(x: Any, filters: int, name: str) -> Any:
        return layers.Conv2D(filters, 1, activation="relu", bias_initializer="random_normal", name=name)(x)

    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = step(image, 5, "bottom")
    x = layers.Concatenate(name="module")([step(x, 4, "left"), step(x, 3, "right")])
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(x)), name="small")


@pytest.fixture(scope="module")
def image() -> Array:
    return np.random.default_rng(7).normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)


def step(model: keras.Model, name: str, x: Array) -> Array:
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer(name).get_weights())
    return np.maximum(x @ kernel[0, 0] + bias, 0)


def maps(model: keras.Model, x: Array) -> dict[str, Array]:
    bottom = step(model, "bottom", x.astype(np.float64))
    return {"bottom": bottom, "module": module(model, bottom)}


def module(model: keras.Model, bottom: Array) -> Array:
    return np.concatenate([step(model, name, bottom) for name in ("left", "right")], axis=-1)


def logit(model: keras.Model, module: Array, number: int) -> float:
    kernel, bias = (np.asarray(weight, np.float64) for weight in model.get_layer("logits").get_weights())
    return float((module.ravel() @ kernel + bias)[number])


def above(model: keras.Model, name: str, number: int) -> Callable[[Array], float]:
    """The logit as a function of the map `name`."""
    if name == "module":
        return lambda x: logit(model, x, number)
    if name == "bottom":
        return lambda x: logit(model, module(model, x), number)
    return lambda x: logit(model, maps(model, x)["module"], number)


def gradient(function: Callable[[Array], float], x: Array) -> Array:
    """By central differences: exact where nothing bends within a millionth."""
    found, x = np.zeros(x.shape), x.astype(np.float64)
    for place in np.ndindex(x.shape):
        nudge = np.zeros(x.shape)
        nudge[place] = 1e-6
        found[place] = (function(x + nudge) - function(x - nudge)) / 2e-6
    return found


def grad_cam(a: Array, g: Array) -> Array:
    """1610.02391, equations 1 and 2."""
    return np.maximum((a * g.mean(axis=(0, 1))).sum(axis=-1), 0)


def grad_cam_plus_plus(a: Array, g: Array) -> Array:
    """1710.11063, equations 10 and 19; the weights of a channel's places add up to 1, as in its authors' code."""
    alpha = g**2 / np.where(g == 0, 1, 2 * g**2 + a.sum(axis=(0, 1)) * g**3)
    total = alpha.sum(axis=(0, 1))
    alpha = alpha / np.where(total == 0, 1, total)
    return np.maximum((a * (alpha * np.maximum(g, 0)).sum(axis=(0, 1))).sum(axis=-1), 0)


def layer_cam(a: Array, g: Array) -> Array:
    """Jiang et al. 2021, equations 5 and 6."""
    return np.maximum((a * np.maximum(g, 0)).sum(axis=-1), 0)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", ["bottom", "module"])
@pytest.mark.parametrize(
    ("method", "formula"),
    [("grad-cam", grad_cam), ("grad-cam++", grad_cam_plus_plus), ("layer-cam", layer_cam)],
    ids=["grad-cam", "grad-cam++", "layer-cam"],
)
def test_a_cam_is_its_papers_formula(
    method: str, formula: Callable[[Array, Array], Array], name: str, number: int, network: keras.Model, image: Array
) -> None:
    at = maps(network, image)[name]
    wanted = formula(at, gradient(above(network, name, number), at))
    found = explaining.heat_map(network, image, number, method, network.get_layer(name))
    np.testing.assert_allclose(found, wanted / (wanted.max() or 1), atol=1e-5)
    assert wanted.max() > 0 or (method, number) == ("grad-cam", 0)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_score_cam_weighs_every_channel_by_what_it_leaves_of_the_answer(
    number: int, network: keras.Model, image: Array, capfd: pytest.CaptureFixture[str]
) -> None:
    """1910.01279, Algorithm 1, with probabilities."""
    at = maps(network, image)["module"]
    low, high = at.min(axis=(0, 1)), at.max(axis=(0, 1))
    weights = []
    for channel in range(at.shape[-1]):
        mask = (at[..., channel] - low[channel]) / (high[channel] - low[channel] + 1e-7)
        logits = [above(network, "image", other)(image * mask[..., np.newaxis]) for other in range(3)]
        weights.append(np.exp(logits[number]) / np.exp(logits).sum())
    wanted = np.maximum((at * np.array(weights)).sum(axis=-1), 0)
    found = explaining.heat_map(network, image, number, "score-cam", network.get_layer("module"))
    np.testing.assert_allclose(found, wanted / wanted.max(), atol=1e-5)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("number", [0, 1, 2])
def test_saliency_is_the_largest_gradient_of_a_pixel(number: int, network: keras.Model, image: Array) -> None:
    """1312.6034, section 3.1."""
    wanted = np.abs(gradient(above(network, "image", number), image)).max(axis=-1)
    found = explaining.heat_map(network, image, number, "saliency")
    np.testing.assert_allclose(found, wanted / wanted.max(), atol=1e-5)


def test_smoothgrad_is_the_mean_of_saliencies_under_noise(network: keras.Model, image: Array) -> None:
    before = np.random.get_state(legacy=False)["state"]["key"]
    found = explaining.heat_map(network, image, 1, "smoothgrad")
    np.testing.assert_array_equal(found, explaining.heat_map(network, image, 1, "smoothgrad"))
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], before)
    noise = np.random.default_rng(0).normal(0, 0.15 * (image.max() - image.min()), (200, *image.shape))
    with tf.GradientTape() as tape:
        noisy = tf.constant(np.float32(image + noise))
        tape.watch(noisy)
        answer = tf.reduce_sum(network(noisy, training=False)[:, 1])
    wanted = np.abs(tape.gradient(answer, noisy)).max(axis=-1).mean(axis=0)
    without = np.abs(gradient(above(network, "image", 1), image)).max(axis=-1)
    correlations = [np.corrcoef(found.ravel(), other.ravel())[0, 1] for other in (wanted, without)]
    assert correlations[0] > max(0.95, correlations[1])


def test_the_layer_is_the_module_and_not_its_last_column(network: keras.Model, image: Array) -> None:
    for number in (1, 2):
        found = explaining.heat_map(network, image, number)
        np.testing.assert_array_equal(
            found, explaining.heat_map(network, image, number, layer=network.get_layer("module"))
        )
        column = explaining.heat_map(network, image, number, layer=network.get_layer("right"))
        assert np.abs(found - column).max() > 0.1


def test_an_extreme_logit_has_a_map_too(network: keras.Model, image: Array) -> None:
    """Grad-CAM++ multiplies by its exponential, which float32 cannot hold."""
    extreme = keras.models.clone_model(network)
    extreme.set_weights(network.get_weights())
    wanted = explaining.heat_map(network, image, 1, "grad-cam++", network.get_layer("module"))
    for offset in (-200, 200):
        extreme.get_layer("logits").bias.assign_add(np.full(3, offset, np.float32))
        found = explaining.heat_map(extreme, image, 1, "grad-cam++", extreme.get_layer("module"))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        extreme.get_layer("logits").bias.assign_sub(np.full(3, offset, np.float32))


# ---- what a class looks like


def test_the_maximized_picture_raises_its_class_and_is_the_same_again(
    network: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To this network every one of its six by six places means something else.
    monkeypatch.setattr(explaining, "BLUR", (0.1, 0.1))
    monkeypatch.setattr(explaining, "JITTER", 0)
    monkeypatch.setattr(explaining, "STEPS", 40)
    preprocessing = Preprocessing(height=SIDE, width=SIDE, colour="BGR", mean=(120, 110, 100), deviation=(60, 50, 70))

    def logits(picture: Array) -> Array:
        return network.predict_on_batch(preprocessing(picture)[np.newaxis])[0]

    noise = [np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8) for seed in range(20)]
    for number in (0, 2):
        found = explaining.maximized(network, number, preprocessing)
        assert found.shape == (SIDE, SIDE, 3)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, explaining.maximized(network, number, preprocessing))
        assert logits(found)[number] > max(logits(picture)[number] for picture in noise)


# ---- where it looks


PREPROCESSING = Preprocessing(height=64, width=64)


def untrained(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return BNInception(input_shape=(64, 64, 3), classes=10, width=0.25, classifier_activation=None, momentum=0.9)


@pytest.fixture(scope="module")
def trained_on_canvases() -> keras.Model:
    """`bn_inception` at a quarter of its width that has seen COUNT canvases, each once: first without fragments, then
    with fainter ones, and the last two fifths as they are."""
    contrast = np.clip(np.linspace(-0.5, 2.0, COUNT), 0, 1)
    model, canvases = untrained(1), planted(COUNT, seed=0, contrast=contrast)
    examples = tf.data.Dataset.from_tensor_slices((canvases.pictures, canvases.labels))
    batches = examples.map(lambda picture, label: (PREPROCESSING(picture), label)).batch(32, drop_remainder=True)
    rate = keras.optimizers.schedules.CosineDecay(0.003, COUNT // 32)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    model.optimizer.build(model.trainable_variables)  # before the first step, which would be traced twice
    model.fit(batches.prefetch(2), verbose=0, shuffle=False)
    return model


def peaks_on_the_digit(model: keras.Model, canvases: Canvases) -> float:
    """Of the Grad-CAM heat maps of the best class, at the last stage, the share whose peak lies on the digit."""
    hits = []
    for picture, (top, left) in zip(canvases.pictures, canvases.places, strict=True):
        image = PREPROCESSING(picture).numpy()
        number = int(model.predict_on_batch(image[np.newaxis])[0].argmax())
        heat = explaining.heat_map(model, image, number)
        row, column = (place * CANVAS // 64 for place in np.unravel_index(heat.argmax(), heat.shape))
        hits.append(0 <= row - top < DIGIT and 0 <= column - left < DIGIT)
    return float(np.mean(hits))


@pytest.mark.slow
def test_grad_cam_finds_the_digit(trained_on_canvases: keras.Model) -> None:
    """Of 300 peaks 89 % were seen to lie on the digit; after 70,000 canvases in batches of 64, 93 %."""
    assert peaks_on_the_digit(trained_on_canvases, planted(150, seed=1, held_out=True)) >= 0.8


@pytest.mark.slow
def test_on_random_weights_grad_cam_does_not_find_the_digit() -> None:
    assert feature_maps.last_stage(untrained(0)).output.shape[1:3] == (8, 8)
    canvases = planted(60, seed=2, held_out=True)
    shares = [peaks_on_the_digit(untrained(seed), canvases) for seed in range(8)]
    assert np.mean(shares) <= 2 * (DIGIT / CANVAS) ** 2


# ---- the command


def explained(run: Run, *arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["explain", str(run.folder), *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_explain_writes_a_picture_for_every_image(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [pictures / "temple" / "00.jpg", pictures / "digit" / "00.jpg", pictures / "flower" / "05.png"]
    options = ["--class", "temple", "--class", 1, "--method", "saliency", "--method", "grad-cam", "--json"]
    assert explained(finished_run, *files, "--to", tmp_path / "a" / "b", *options) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert [Path(row["picture"]).name for row in rows] == ["00.png", "00_2.png", "05.png"]
    trained = run_folder.load(finished_run.folder)
    for row, file in zip(rows, files, strict=True):
        assert row["classes"] == ["temple", "flower"]
        image = view.read(file, trained.preprocessing).image
        assert row["scores"] == pytest.approx(trained.model.predict_on_batch(image[np.newaxis])[0][[2, 1]], abs=1e-6)
        with Image.open(row["picture"]) as picture:
            assert picture.format == "PNG"
            with Image.open(file) as original:
                across, down = (side * max(1, -(-312 // max(original.size))) for side in original.size)
            # Three panels beside each other, for two classes.
            assert picture.width == pytest.approx(3 * across, abs=50)
            assert picture.height == pytest.approx(2 * down, abs=150)


@pytest.mark.parametrize("kind", ["squashed", "middle", "kept", "padded"])
def test_a_photograph_is_explained_at_its_own_size(
    kind: str, finished_run: Run, pictures: Path, tmp_path: Path
) -> None:
    """To the pixel, upright, and without what the network never saw."""
    kept = {"aspect": "keep", "crop": 0.875}
    options = {"squashed": {}, "middle": {"crop": 0.875}, "kept": kept, "padded": {"aspect": "pad"}}[kind]
    shutil.copytree(finished_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("report.html", "checkpoints"))
    known = json.loads((tmp_path / "run" / "classifier.json").read_text())
    known["preprocessing"] |= options
    (tmp_path / "run" / "classifier.json").write_text(json.dumps(known))
    photo = Image.fromarray(sklearn.datasets.load_sample_images().images[0]).crop((0, 0, 500, 400))
    turned = Image.Exif()
    turned[0x0112] = 6
    photo.save(tmp_path / "photo.png", exif=turned)
    shown = np.asarray(photo.transpose(Image.Transpose.ROTATE_270))  # 500 rows, 400 columns
    if kind == "middle":
        shown = shown[31:469, 25:375]
    elif kind == "kept":  # resized to 45 x 36 the network takes rows 6 to 37 and columns 2 to 33
        shown = shown[round(6 * 500 / 45) : round(38 * 500 / 45), round(2 * 400 / 36) : round(34 * 400 / 36)]
    (row,) = explaining.explain(tmp_path / "run", [tmp_path / "photo.png"], tmp_path / "to", classes=["temple"])
    with Image.open(row["picture"]) as written:
        found = np.asarray(written.convert("RGB"))
    height, width = shown.shape[:2]
    left, top = explanation_figure.GAP, found.shape[0] - explanation_figure.GAP - height
    assert found.shape[1] == 3 * left + 2 * width
    apart = np.abs(found[top : top + height, left : left + width].astype(int) - shown)
    assert (apart <= 1).mean() > 0.99
    beside = found[top : top + height, 2 * left + width : 2 * left + 2 * width]
    assert beside.shape == shown.shape
    assert apart.max() <= 1
    assert np.corrcoef(beside.mean(axis=-1).ravel(), shown.mean(axis=-1).ravel())[0, 1] > 0.3, "under the heat"


def test_heat_lies_on_the_part_of_a_padded_picture_that_it_speaks_of(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("report.html", "checkpoints"))
    known = json.loads((tmp_path / "run" / "classifier.json").read_text())
    known["preprocessing"] |= {"aspect": "pad"}
    (tmp_path / "run" / "classifier.json").write_text(json.dumps(known))
    Image.new("RGB", (40, 50)).save(tmp_path / "photo.png")
    whole = np.arange(32 * 32, dtype=np.float64).reshape(32, 32)
    monkeypatch.setattr(explaining, "heat_map", lambda *_: whole)
    heats = []
    drawn = explanation_figure.drawn

    def noting(*given: Any) -> Any:
        heats.append(given[3][0][0].heat)
        return drawn(*given)

    monkeypatch.setattr(explanation_figure, "drawn", noting)
    explaining.explain(tmp_path / "run", [tmp_path / "photo.png"], tmp_path / "to", classes=["temple"])
    np.testing.assert_array_equal(heats[0], whole[:, 3:28])  # 32 rows and 25 columns of 50 and 40


@pytest.mark.parametrize("shape", [(8, 8), (120, 300), pytest.param((3000, 1000), marks=pytest.mark.slow)], ids=str)
def test_a_tiny_picture_is_enlarged_in_whole_pixels_and_a_huge_one_reduced(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    heat = np.zeros((32, 32))
    heat[4:8, 20:24] = 1
    figure = explanation_figure.drawn("a" * 99, picture, [("b " * 60, 0.5)], [[Panel("grad-cam", picture, heat)]])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    found = np.asarray(Image.open(buffer).convert("RGB")).astype(int)
    height, width = {(8, 8): (312, 312), (120, 300): (240, 600), (3000, 1000): (2000, 667)}[shape]
    gap = explanation_figure.GAP
    assert found.shape[1] == 3 * gap + 2 * width
    first, second = (
        found[-gap - height : found.shape[0] - gap, gap + place * (gap + width) :][:, :width] for place in (0, 1)
    )
    if shape != (3000, 1000):
        scale = height // shape[0]
        np.testing.assert_allclose(first, picture.repeat(scale, axis=0).repeat(scale, axis=1), atol=1)
    # The hottest place is where the network's is, whatever the size; red is more than blue there alone.
    warm = np.argwhere(second[..., 0] - second[..., 2] > 60)
    assert len(warm)
    assert np.abs(warm.mean(axis=0) / (height, width) - (6 / 32, 22 / 32)).max() < 0.05


@pytest.mark.slow
def test_all_methods_beside_each_other_and_every_byte_again(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    for to in ("one", "two"):
        explaining.explain(finished_run.folder, [pictures / "digit" / "00.jpg"], tmp_path / to, METHODS)
    one, two = (tmp_path / to / "00.png" for to in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as picture, Image.open(pictures / "digit" / "00.jpg") as original:
        assert picture.width > 7 * original.width  # eight panels


def test_without_options_grad_cam_explains_the_best_class(
    finished_run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.jpg").write_text("no picture")
    assert explained(finished_run, pictures / "digit" / "00.jpg", tmp_path / "broken.jpg", "--to", tmp_path / "to") == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{pictures / 'digit' / '00.jpg'}: ")
    assert first.endswith(f": {tmp_path / 'to' / '00.png'}")
    assert second == f"{tmp_path / 'broken.jpg'} cannot be read: This is no JPEG, PNG, GIF, WebP or BMP file."
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["00.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "gradcam"], r"There is no method 'gradcam'. The methods are grad-cam, grad-cam\+\+, "),
        (["--layer", "stem4"], "no layer 'stem4' with a map; the nearest names are stem_4, "),
        (["--class", "tempel"], "no class 'tempel'; the nearest names are temple, .* the numbers go from 0 to 2"),
        (["--class", "3"], "no class '3'; .* the numbers go from 0 to 2"),
        (["--class", "-1"], "no class '-1'"),
        (["nosuch.jpg"], "nosuch.jpg does not exist"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_is_named_and_nothing_written(
    options: list[str],
    message: str,
    finished_run: Run,
    pictures: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(SystemExit, match=f"^Error: .*{message}"):
        main(["explain", str(finished_run.folder), str(pictures / "digit"), "--to", str(tmp_path / "to"), *options])
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_exists_is_left_alone(finished_run: Run, pictures: Path, tmp_path: Path) -> None:
    files = [pictures / "temple" / "00.jpg", pictures / "flower" / "05.png"]
    (tmp_path / "05.png").write_text("years of work")
    with pytest.raises(UserError, match=r"05.png exists; choose another --to"):
        explaining.explain(finished_run.folder, files, tmp_path)
    with pytest.raises(UserError, match=r"05.png is not a folder; choose another --to"):
        explaining.explain(finished_run.folder, files, tmp_path / "05.png")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["years of work"]
