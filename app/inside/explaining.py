"""Why did the network say that? Heat maps over pictures, through tf-keras-vis, and what a class looks like to it."""

import contextlib
import functools
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import scipy.ndimage
import tensorflow as tf
from numpy.typing import NDArray
from tf_keras_vis.activation_maximization import ActivationMaximization
from tf_keras_vis.activation_maximization.callbacks import Callback
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.saliency import Saliency
from tf_keras_vis.scorecam import Scorecam

from app import run_folder
from app.images import view
from app.images.finding import pictures
from app.images.preprocessing import Preprocessing
from app.inside import explanation_figure
from app.inside.explanation_figure import Panel
from app.inside.methods import MAXIMIZATION, check
from app.networks import english, feature_maps, receptive_field
from app.program.errors import UserError
from app.program.files import whole
from app.program.progress import Watch, unwatched

# Grad-CAM 1610.02391, Grad-CAM++ 1710.11063, Layer-CAM (Jiang et al. 2021, IEEE TIP), Score-CAM 1910.01279.
AT_A_LAYER = {"grad-cam": Gradcam, "grad-cam++": GradcamPlusPlus, "layer-cam": Layercam, "score-cam": Scorecam}
SEED = 0
# Score-CAM takes a prediction per channel: of all 2,048 of Inception-v3 it would hold 7 GB of masked images. Those that
# vary most decide; https://github.com/tabayashi0117/Score-CAM calls it Faster Score-CAM.
MASKS = 64
SAMPLES, NOISE = 25, 0.15  # of SmoothGrad; 1706.03825 finds 10 % to 20 % of the range, and little gain past 50 samples
STEPS, RATE, JITTER = 100, 3.0, 2  # of activation maximization; grey levels of the first step, pixels
BLUR = (6.0, 2.0)  # deviation in pixels of the filter on its gradient, at the first step and at the last


def explain(
    folder: Path,
    paths: Sequence[Path],
    to: Path,
    methods: Sequence[str] = ("grad-cam",),
    classes: Sequence[str] = (),
    layer: str | None = None,
    watch: Watch = unwatched,
) -> list[dict[str, Any]]:
    """Writes a PNG into the folder `to` for every image: a row per class, the best one if none is named, with the image
    and each method side by side, at the size that the image has.

    A row per image: `file`, `picture`, `classes`, their `scores` and, of synsets, English `names`; or `error` where it
    could not be read. `classes` are labels, names or numbers. `layer` is where the first four of `METHODS` look,
    `feature_maps.last_stage` if left out.

    Raises:
        UserError: not a finished run; a method, class or layer that it does not have; no images; a picture that exists.
    """
    check(methods)
    trained = run_folder.load(folder)
    chosen = [english.number(text, trained.labels, trained.names) for text in classes]
    stage = feature_maps.named(trained.logits_model, layer) if layer else feature_maps.last_stage(trained.logits_model)
    files = _names(pictures(paths), to)
    numbers: dict[Path, list[int]] = {}
    rows: list[dict[str, Any]] = []
    for file, picture in watch(files.items(), len(files), "Predicting"):
        try:
            image = view.read(file, trained.preprocessing).image
        except UserError as error:
            rows.append({"file": str(file), "picture": None, "classes": [], "scores": [], "error": str(error)})
            continue
        scores = trained.model.predict_on_batch(image[np.newaxis])[0]
        numbers[file] = chosen or [int(scores.argmax())]
        labels = [trained.labels[number] for number in numbers[file]]
        row = {
            "file": str(file),
            "picture": str(picture),
            "classes": labels,
            "scores": [float(scores[number]) for number in numbers[file]],
        }
        rows.append(row | {"names": [trained.names.get(label, label) for label in labels]} if trained.names else row)
    ideals = {}
    if MAXIMIZATION in methods:
        for number in sorted({number for several in numbers.values() for number in several}):
            what = f"Maximizing {english.named(trained.labels[number], trained.names)}"
            ideals[number] = maximized(trained.logits_model, number, trained.preprocessing, watch, what)

    def panel(image: NDArray[np.float32], picture: NDArray[np.uint8], number: int, method: str) -> Panel:
        if method == MAXIMIZATION:
            return Panel(method, ideals[number])
        heat = heat_map(trained.logits_model, image, number, method, stage)
        return Panel(method, picture, heat[trained.preprocessing.filled(*picture.shape[:2])])

    to.mkdir(parents=True, exist_ok=True)
    for row in watch([row for row in rows if "error" not in row], len(numbers), "Explaining"):
        file = Path(row["file"])
        image = view.read(file, trained.preprocessing).image
        shown = view.at_its_own_size(file, trained.preprocessing)
        panels = [[panel(image, shown, number, method) for method in methods] for number in numbers[file]]
        named = [english.named(label, trained.names) for label in row["classes"]]
        with whole(files[file]) as beside:
            explanation_figure.drawn(file.name, shown, list(zip(named, row["scores"], strict=True)), panels).savefig(
                beside, format="png"
            )
    return rows


def _names(files: Sequence[Path], to: Path) -> dict[Path, Path]:
    """The picture to write for each image, of its name; a number tells images of one name apart."""
    if to.exists() and not to.is_dir():
        raise UserError(f"{to} is not a folder; choose another --to.")
    found: dict[Path, Path] = {}
    taken: set[Path] = set()
    for file in dict.fromkeys(files):
        endings = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
        names = (to / f"{file.stem}{ending}.png" for ending in endings)
        found[file] = next(name for name in names if name not in taken)
        taken.add(found[file])
        if found[file].exists():
            raise UserError(f"{found[file]} exists; choose another --to. Nothing in it was touched.")
    return found


def heat_map(
    model: keras.Model,
    image: NDArray[np.float32],
    number: int,
    method: str = "grad-cam",
    layer: keras.layers.Layer | None = None,
) -> NDArray[np.float64]:
    """What of an image (height, width, 3) speaks for class `number`: (height, width), from 0 to 1 at the strongest.

    `model` gives logits; `method` is one of `METHODS` but the last. `layer` is where the CAMs are taken, the
    `feature_maps.last_stage` if left out: each value of its map is laid where its unit looks, see `receptive_field`.
    All 0 where nothing speaks for the class.
    """
    if method in AT_A_LAYER:
        # tf-keras-vis passes lists of inputs, and Keras warns where a model was not made with one.
        model = keras.Model(model.inputs, model.output)
        layer = layer or feature_maps.last_stage(model)
        heat = receptive_field.fields(model)[layer.name].spread(
            _cam(model, image, number, method, layer), *image.shape[:2]
        )
    else:
        options = {"smooth_samples": SAMPLES, "smooth_noise": NOISE} if method == "smoothgrad" else {}
        pixels = keras.Input(image.shape)
        whole_network = keras.Model([pixels], keras.layers.Lambda(_compiled(model))(pixels))
        with _seeded():
            heat = Saliency(whole_network)(_of_class(number), image, normalize_map=False, **options)[0]
    return heat / (heat.max() or 1.0)


@functools.lru_cache(maxsize=1)
def _compiled(model: keras.Model) -> Any:
    """The network's logits for images (1, height, width, 3), in one graph. Left to itself the library runs layer by
    layer, which takes several times as long. The next image of the same network finds the graph made."""
    return tf.function(lambda images: model(images, training=False), autograph=False)


def _cam(
    model: keras.Model, image: NDArray[np.float32], number: int, method: str, layer: keras.layers.Layer
) -> NDArray[Any]:
    """The class activation map on the grid of the layer."""
    score, options = (_of_class(number), {})
    if method == "grad-cam++":
        # It multiplies by exp(logit), which leaves the map's proportions alone and may overflow: take the logit off.
        score = _from_zero(number)
    if method == "score-cam":
        options["max_N"] = min(MASKS, layer.output.shape[-1])
    # Left to itself the library takes the last convolution below the layer: one column of an Inception module.
    with contextlib.redirect_stdout(io.StringIO()):  # Score-CAM calls Keras' `predict`, which draws a bar there
        return np.asarray(
            AT_A_LAYER[method](model)(
                score,
                image,
                penultimate_layer=layer,
                seek_penultimate_conv_layer=False,
                expand_cam=False,
                normalize_cam=False,
                **options,
            )
        )[0]


def _of_class(number: int) -> Any:
    return lambda logits: logits[:, number]


def _from_zero(number: int) -> Any:
    return lambda logits: logits[:, number] - tf.stop_gradient(logits[:, number])


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """SmoothGrad's noise comes from NumPy's global generator: the same every time, and the caller's state kept."""
    state = np.random.get_state()
    np.random.seed(SEED)
    try:
        yield
    finally:
        np.random.set_state(state)


def maximized(
    model: keras.Model,
    number: int,
    preprocessing: Preprocessing,
    watch: Watch = unwatched,
    what: str = "Maximizing",
) -> NDArray[np.uint8]:
    """A picture, uint8 RGB (height, width, 3), that raises the logit of class `number`: from grey, by gradient ascent.

    The library's settings are for VGG and give noise on networks with strided stems and many short ways. Here every
    step sees the picture moved by some pixels, and follows the smoothed gradient, coarse first and finer later
    (A. Øygard 2015, "Visualizing GoogLeNet classes").
    """
    rng = np.random.default_rng(SEED)
    shape = (preprocessing.height, preprocessing.width, 3)

    def of_moved(pixels: tf.Tensor) -> tf.Tensor:
        moved = tf.roll(pixels, rng.integers(-JITTER, JITTER + 1, 2), (1, 2))
        return _compiled(model)(preprocessing.scaled(moved))

    pixels = keras.Input(shape)
    on_pixels = keras.Model([pixels], keras.layers.Lambda(of_moved)(pixels))
    deviations = iter(np.geomspace(*BLUR, STEPS))

    def smoothed(gradient: tf.Tensor) -> NDArray[Any]:
        deviation = next(deviations)
        coarse = scipy.ndimage.gaussian_filter(gradient, (0, deviation, deviation, 0))
        return coarse / (coarse.std() or 1.0)

    ticks = iter(watch(range(STEPS), STEPS, what))

    class Tick(Callback):
        def __call__(self, *_: Any, **__: Any) -> None:
            next(ticks)

    found = ActivationMaximization(on_pixels)(
        _of_class(number),
        seed_input=rng.normal(127.5, 8, shape).astype(np.float32),
        input_range=(0.0, 255.0),
        input_modifiers=None,
        regularizers=None,
        steps=STEPS,
        optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(RATE, STEPS)),
        gradient_modifier=smoothed,
        callbacks=Tick(),
    )
    next(ticks, None)  # ends the bar
    return np.rint(np.asarray(found)[0]).astype(np.uint8)
