"""A dream as a file: a recipe in, a PNG out, with the recipe inside it. What a dream is made of is in `dreams`."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from app import run_folder
from app.images import decoding
from app.images.decoding import reason
from app.inside.dreams import objectives, transformations, unfinished
from app.inside.dreams.ascent import Gradient, ascend, octave_sizes
from app.inside.dreams.laplacian import equalized, resized
from app.inside.dreams.objectives import Objective
from app.inside.dreams.parametrizations import PARAMETRIZATIONS, Array, noise, rounded
from app.inside.dreams.tiles import TiledGradient
from app.inside.dreams.unfinished import Point
from app.networks.cards import CARDS
from app.program import paths, stopping
from app.program.errors import UserError, nearest
from app.program.files import digest, whole
from app.program.progress import Watch, unwatched
from app.program.stopping import Stopped
from app.run_folder.folder import Run, versions
from app.run_folder.trained import Trained

KEYWORD = "inceptions.dream"  # of the text in a PNG
LAYER = re.compile(r"(?P<name>[^:=]+)(:(?P<channel>\d+))?(=(?P<weight>-?\d+(\.\d*)?))?")
# Whole modules from the middle of each network: lower ones give strokes and textures, higher ones parts of objects.
PRESETS: Mapping[str, tuple[str, ...]] = {
    "lenet_bn": ("stem_3",),
    "googlenet": ("inception_4c",),  # as the first published dreams
    "inception_v1": ("inception_4c",),
    "bn_inception": ("inception_4c",),
    "inception_v2": ("inception_4c",),
    "inception_v3": ("reduction_a", "inception_b_2"),  # mixed3 and mixed5 of TensorFlow's tutorial
    "inception_v4": ("reduction_a", "inception_b_2"),
    "inception_resnet_v1": ("reduction_a", "inception_resnet_b_3"),
    "inception_resnet_v2": ("reduction_a", "inception_resnet_b_5"),
    "inception_resnet_v2_paper": ("reduction_a", "inception_resnet_b_3"),
    "resnet18": ("residual_4_1",),
    "densenet121": ("transition_2",),
    "resnet18_d2l": ("residual_4_1",),
    "densenet_d2l": ("transition_2",),
}
PORTED = 32  # pixels: what the sides of images of Caffe's networks are multiples of, and of Cadene's port of one


class Dream(BaseModel):
    """Everything that decides a picture. Paths are as they were given.

    `layers` are what to make more of, each LAYER, LAYER:CHANNEL or either with =WEIGHT; without any those of `PRESETS`.
    `image` is what to begin with, None for noise; `guide` a picture whose features to look for. `size` is the longer
    side in pixels.

    Every octave is `octave_scale` times as large as the one before, has `steps` steps, and each changes the picture by
    `rate` grey levels, root mean square. `laplacian` is how many bands of the gradient's frequencies are given the
    same strength; 0 leaves it as it is. `roll` moves the picture by a random distance each step, `rotation` (degrees)
    and `scale` (a share) turn and scale what the network sees by up to so much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    layers: tuple[str, ...] = ()
    image: str | None = None
    guide: str | None = None
    size: int = Field(default=512, ge=16, le=decoding.LIMITS.side)
    octaves: PositiveInt = Field(default=4, le=16)
    octave_scale: float = Field(default=1.4, ge=1.01, le=4)
    steps: PositiveInt = 20
    rate: PositiveFloat = 1.0
    laplacian: int = Field(default=0, ge=0, le=12)
    parametrization: Literal["pixels", "fourier"] = "pixels"
    roll: bool = True
    rotation: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0)


def recipe(**choices: Any) -> Dream:
    """The recipe with these choices, and the defaults for others.

    Raises:
        UserError: a value that its choice does not take.
    """
    try:
        return Dream(**choices)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}={first['input']}: {first['msg'].lower()}.") from error


def dream(recipe: Dream, to: Path, watch: Watch = unwatched) -> list[float]:
    """Writes the picture to `to`, a PNG; returns the objective before every step. The same call goes on with what was
    stopped, and makes the same bytes.

    Raises:
        Stopped: SIGTERM or Ctrl-C asked for it; the step that it goes on from is written beside `to`.
        UserError: `to` exists or is no .png; not a finished run; a picture that cannot be read; a layer or channel that
            the network does not have.
    """
    paths.check_png(to)
    run = Run(Path(recipe.model))
    classifier = run.read_classifier()
    recipe = recipe.model_copy(update={"layers": recipe.layers or PRESETS[classifier.network]})
    start = None if recipe.image is None else read(Path(recipe.image))
    guide = None if recipe.guide is None else read(Path(recipe.guide))
    files = {"model": run.model, "image": recipe.image, "guide": recipe.guide}
    trained = run_folder.load(run.folder)
    gradient = gradient_of(
        trained,
        recipe,
        guide,
        smallest=CARDS[classifier.network].minimum,
        multiple=PORTED if classifier.arguments.get("ported_from") in ("cadene", "caffe") else 1,
    )
    about = {
        "recipe": recipe.model_dump(mode="json"),
        "network": classifier.network,
        "sha256": {name: digest(Path(file)) for name, file in files.items() if file is not None},
        "versions": versions(),
    }
    with stopping.requests() as request:

        def leave(point: Point) -> None:
            if request.signal is not None:
                unfinished.keep(to, about, point)
                raise Stopped(request.signal, point.step)

        picture, values = drawn(gradient, recipe, start, watch, unfinished.kept(to, about), leave)
    text = PngImagePlugin.PngInfo()
    text.add_text(KEYWORD, json.dumps(about))
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole(to) as beside:
        Image.fromarray(picture).save(beside, "PNG", pnginfo=text)
    unfinished.forget(to)
    return values


def recipe_of(picture: Path) -> Dream:
    """The recipe inside a picture that `dream` wrote.

    Raises:
        UserError: there is none.
    """
    try:
        with Image.open(picture) as file:
            return Dream(**json.loads(file.info[KEYWORD])["recipe"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{picture} is not a picture with the recipe of a dream inside.") from error


def gradient_of(
    trained: Trained, recipe: Dream, guide: tf.Tensor | None = None, smallest: int = 1, multiple: int = 1
) -> TiledGradient:
    """What moves the picture: the recipe's layers, or what `guide`, uint8 (height, width, 3), has in them.

    For `smallest` and `multiple` see `TiledGradient`.

    Raises:
        UserError: a network without convolutions; a layer or channel that it does not have; a channel beside a guide.
    """
    convolutions(trained.model)
    seen = None if guide is None else trained.preprocessing(guide)
    through = [transformations.rotated(recipe.rotation)] if recipe.rotation else []
    if recipe.scale:
        through.append(transformations.scaled(recipe.scale))
    return TiledGradient(
        trained.model,
        [_objective(trained.model, layer, seen) for layer in recipe.layers],
        trained.preprocessing,
        through,
        recipe.roll,
        smallest,
        multiple,
    )


def drawn(
    gradient: Gradient,
    recipe: Dream,
    start: tf.Tensor | None = None,
    watch: Watch = unwatched,
    begun: Point | None = None,
    after: Callable[[Point], None] | None = None,
) -> tuple[NDArray[np.uint8], list[float]]:
    """The picture, uint8 (height, width, 3), and the objective before every step; from `start`, or from noise. For
    `begun` and `after` see `ascend`."""
    rng = np.random.default_rng(recipe.seed)
    parametrization = PARAMETRIZATIONS[recipe.parametrization]
    if start is None:
        pixels = noise(rng, recipe.size, recipe.size, parametrization)
    else:
        height, width = (max(1, round(side * recipe.size / max(start.shape[:2]))) for side in start.shape[:2])
        pixels = rounded(resized(start, height, width).copy())

    def direction(by_pixels: Array) -> Array:
        return parametrization(equalized(by_pixels, recipe.laplacian) if recipe.laplacian else by_pixels)

    sizes = octave_sizes(pixels.shape[0], pixels.shape[1], recipe.octaves, recipe.octave_scale)
    picture, values = ascend(pixels, sizes, recipe.steps, recipe.rate, gradient, direction, rng, watch, begun, after)
    return rounded(picture), values


def convolutions(model: keras.Model, layer: str | None = None) -> list[dict[str, Any]]:
    """`name`, `kernel`, `strides` and `shape` (height, width, channels) of every convolution, or of the one `layer`.

    Raises:
        UserError: there is none, or no layer of that name.
    """
    kinds = (keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.DepthwiseConv2D)
    found = {each.name: each for each in model.layers if isinstance(each, kinds)}
    if not found:
        raise UserError(f"{model.name} has no convolutions, and there is nothing to dream with.")
    if layer is not None:
        if layer not in found:
            raise UserError(
                f"{model.name} has no convolution '{layer}'; the nearest names are {nearest(layer, found)}, and "
                "`dream --list` names all."
            )
        found = {layer: found[layer]}
    return [
        {
            "name": name,
            "kernel": list(each.kernel_size),
            "strides": list(each.strides),
            "shape": list(each.output.shape[1:]),
        }
        for name, each in found.items()
    ]


def read(file: Path) -> tf.Tensor:
    """The pixels of a picture, uint8 (height, width, 3).

    Raises:
        UserError: it cannot be read; says why.
    """
    try:
        return decoding.decode(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read: {reason(error)}.") from error
    except tf.errors.InvalidArgumentError as error:
        raise UserError(f"{file} cannot be dreamt with. {decoding.refusal(error)}") from error


def _objective(model: keras.Model, text: str, guide: tf.Tensor | None) -> Objective:
    parts = LAYER.fullmatch(text)
    if parts is None:
        raise UserError(f"'{text}' is not LAYER, LAYER:CHANNEL or LAYER:CHANNEL=WEIGHT, as in inception_4c:12=0.5.")
    name, channel, weight = parts["name"], parts["channel"], float(parts["weight"] or 1)
    if guide is not None:
        if channel is not None:
            raise UserError(f"A guide has whole layers looked at: write {name} instead of {name}:{channel}.")
        return objectives.guided(model, name, guide, weight)
    if channel is not None:
        return objectives.channel(model, name, int(channel), weight)
    return objectives.layer(model, name, weight)
