"""From decoded pixels to the tensor a network takes: the one definition, used in training and in artefacts.

Everything here is TensorFlow, so that it runs in input pipelines and travels inside exported graphs.
"""

from typing import Any, Literal, NamedTuple, Self

import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from app.images import resizing
from app.images.decoding import LIMITS, answered, count, decoded, decoded_window, refused
from app.images.formats.window import Window

LARGE = 4_000_000  # pixels of a JPEG beyond which it is reduced: one of 12 megapixels then has 3
# Pixels that a margin may lack to a whole number and is that number: TF-slim counts in float64, and a runtime may round
# a product and a difference once or twice.
ROUNDING = 1e-3
LUMA = (0.299, 0.587, 0.114)  # of R, G and B, ITU-R BT.601
SPARE = 1.5  # how many times the wanted rows and columns a reduced window has at least


class Resampling(NamedTuple):
    """How one side is resampled, in whole pixels: `taken` of them from `low` on become `whole`, of which those from
    `shift` on are kept. Scalar float32 tensors, since LiteRT counts pixels in them."""

    low: Any
    taken: Any
    whole: Any
    shift: Any


class Preprocessing(BaseModel):
    """What is done to decoded pixels before the network sees them; stored with every run and inside every artefact.

    1. `aspect` "squash" takes the middle share `crop` (0..1] of both sides and resizes it to `height` x `width`, as
       TF-slim evaluates. "keep" resizes the whole picture until its sides cover int(height / crop) and
       int(width / crop) and takes the middle of that, as torchvision and timm do. "pad" resizes the middle share `crop`
       of both sides, its aspect kept, until it fits into `height` x `width`, and stands in their middle; around it is
       `fill`. Of an odd number of pixels to fill, the smaller half is above or left.
    2. `resize` is "bilinear", or "bicubic" (a = -0.5); with `antialias` the filter widens when it shrinks, as Pillow's.
    3. `colour` is the order of the channels. Each becomes (pixel - mean) / deviation, where pixels are 0..255 and
       `mean` and `deviation` stand in the order of `colour`; the default is -1..1. "grey" makes one channel of the
       three, `LUMA`, which is not rounded; mean and deviation are three times the same number then.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    height: PositiveInt
    width: PositiveInt
    colour: Literal["RGB", "BGR", "grey"] = "RGB"
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    antialias: bool = True
    aspect: Literal["squash", "keep", "pad"] = "squash"
    crop: float = Field(default=1.0, gt=0, le=1)
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    deviation: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (127.5, 127.5, 127.5)

    @model_validator(mode="after")
    def _bicubic_is_antialiased(self) -> Self:
        # TensorFlow's other bicubic filter reads its weights from a table of 1,024 entries: nothing else equals it.
        if self.resize == "bicubic" and not self.antialias:
            raise ValueError("bicubic needs antialias")
        return self

    @model_validator(mode="after")
    def _grey_has_one_scale(self) -> Self:
        if self.colour == "grey" and not len({*self.mean}) == len({*self.deviation}) == 1:
            raise ValueError("grey needs one mean and one deviation, each given three times")
        return self

    @property
    def channels(self) -> int:
        """Of what the network takes."""
        return 1 if self.colour == "grey" else 3

    def in_grey(self) -> Self:
        """The same for a network of one channel. Of means and deviations that differ the luma is taken."""

        def one(numbers: tuple[float, ...]) -> tuple[float, ...]:
            if len({*numbers}) == 1:
                return numbers
            rgb = numbers[::-1] if self.colour == "BGR" else numbers
            return (sum(share * number for share, number in zip(LUMA, rgb, strict=True)),) * 3

        grey = {"colour": "grey", "mean": one(self.mean), "deviation": one(self.deviation)}
        return self.model_copy(update=grey)

    def decode(self, encoded: Any) -> tf.Tensor:
        """As `images.decode`, but a JPEG of more than `LARGE` pixels is reduced while decoding, by 2, 4 or 8, until it
        has no more. Pillow's `draft` gives the same pixels."""
        return answered(decoded, encoded, LIMITS, count(LARGE))

    def refusal(self, encoded: Any) -> tf.Tensor:
        """Why `decode` fails, inside a graph: see `decoding.refused`."""
        return refused(encoded)

    def decode_window(self, encoded: Any, window: Window) -> tf.Tensor:
        """The window of the picture, uint8 (rows, columns, 3): for training, which sees another one every time.

        Of a JPEG little more is decoded, and that is reduced while `SPARE` times the wanted rows and columns are left;
        a resized image then differs from that of the whole by a grey level on average.
        """
        return answered(decoded_window, encoded, window, LIMITS, (SPARE * self.height, SPARE * self.width))

    def described(self) -> str:
        """One line for people, as in "299 x 299 RGB, bilinear with antialias, squashed, -1..1"."""
        resize = f"{self.resize} {'with' if self.antialias else 'without'} antialias"
        if self.aspect == "keep":
            taken = "aspect kept to cover {} x {}, the middle".format(*self._covered())
        else:
            middle = "" if self.crop == 1 else f"the middle {100 * self.crop:.4g} %"
            if self.aspect == "squash":
                taken = f"squashed from {middle}" if middle else "squashed"
            else:
                taken = f"aspect of {middle or 'all'} kept, the rest filled with the mean"
        if len({*self.mean}) == len({*self.deviation}) == 1:
            low, high = ((pixel - self.mean[0]) / self.deviation[0] for pixel in (0, 255))
            scale = f"{low:g}..{high:g}"
        else:
            mean, deviation = (", ".join(f"{n:g}" for n in numbers) for numbers in (self.mean, self.deviation))
            scale = f"minus {mean}, over {deviation}"
        return f"{self.height} x {self.width} {self.colour}, {resize}, {taken}, {scale}"

    @property
    def fill(self) -> tuple[float, ...]:
        """What "pad" lays around a picture, RGB: the mean, which the network sees as 0."""
        return self.mean[::-1] if self.colour == "BGR" else self.mean

    def of_windows(self) -> Self:
        """What is done to the random windows that training cuts out: they take the place of `crop`. One that was
        drawn for the shape of the network ("keep", see `random_window`) is squashed to it, one of the picture's shape
        is padded as the picture would be."""
        return self.model_copy(update={"aspect": "pad" if self.aspect == "pad" else "squash", "crop": 1.0})

    def __call__(self, pixels: tf.Tensor) -> tf.Tensor:
        """Pixels of 0 to 255 (..., height, width, 3), RGB, of any size -> float32 (..., self.height, self.width,
        self.channels).

        At most one axis comes before, that of pictures of one size.
        """
        return self.scaled(self.resized(pixels))

    def resized(self, pixels: tf.Tensor) -> tf.Tensor:
        """The first half of it: still RGB, and of 0 to 255 but for what a bicubic filter overshoots."""
        pixels = tf.convert_to_tensor(pixels)
        wanted = (*pixels.shape[:-3], self.height, self.width, 3)
        if self.aspect == "squash" and self.crop == 1:  # nothing is cut off, before or after
            return tf.ensure_shape(self.filtered(pixels, self.height, self.width), wanted)
        sides = tf.unstack(tf.cast(tf.shape(pixels)[-3:-1], tf.float32))
        rows, columns = (Resampling(*(tf.cast(n, tf.int32) for n in axis)) for axis in self._axes(*sides))
        taken = pixels[..., rows.low : rows.low + rows.taken, columns.low : columns.low + columns.taken, :]
        if self.aspect == "pad":
            whole = self.filtered(taken, rows.whole, columns.whole)
            return tf.ensure_shape(self._filled_around(whole, rows, columns), wanted)
        first = (rows.shift + self.height, columns.shift + self.width)
        kept = self.filtered(taken, rows.whole, columns.whole, first)[..., rows.shift :, columns.shift :, :]
        return tf.ensure_shape(kept, wanted)

    def _filled_around(self, picture: tf.Tensor, rows: Resampling, columns: Resampling) -> tf.Tensor:
        sides = ((rows, self.height), (columns, self.width))
        around = [*([-axis.shift, size - axis.whole + axis.shift] for axis, size in sides), [0, 0]]
        before = [[0, 0]] * (len(picture.shape) - 3)
        outside = 1 - tf.pad(tf.ones((rows.whole, columns.whole, 1)), around)
        return tf.pad(picture, before + around) + outside * tf.constant(self.fill)

    def filtered(self, pixels: tf.Tensor, height: Any, width: Any, first: tuple[Any, Any] | None = None) -> tf.Tensor:
        """Resized by its filter alone, to any size and aspect; float32, of 0 to 255 but for a bicubic overshoot. Of
        that all, or the `first` so many rows and columns."""

        def plain(pixels: tf.Tensor) -> tf.Tensor:
            rows, columns = first or (height, width)
            return tf.image.resize(pixels, (height, width), self.resize)[..., :rows, :columns, :]

        def antialiased(pixels: tf.Tensor) -> tf.Tensor:
            return resizing.antialiased(pixels, height, width, self.resize, first)

        if self.resize == "bicubic":
            return antialiased(pixels)
        if not self.antialias:
            return plain(pixels)
        # The filter widens only where it shrinks: where it does not, the plain operation gives the same, much faster.
        rows, columns = tf.unstack(tf.shape(pixels)[-3:-1])
        grows = tf.logical_and(rows <= height, columns <= width)
        return tf.cond(grows, lambda: plain(pixels), lambda: antialiased(pixels))

    def on_device(self, pixels: tf.Tensor) -> tf.Tensor:
        """The same for a batch (n, height, width, 3) of pictures of one size, in operations that LiteRT, ONNX and
        OpenVINO have; the first knows no antialiased resize, and of ONNX's not every runtime heeds it.

        A separable linear filter is two matrix products, rows and columns: (height, rows) @ picture @ (columns, width).
        """
        x = tf.cast(pixels, tf.float32)
        # Counted by sums: a range of dynamic length would make every later tensor of a LiteRT graph dynamic.
        ones = [line * 0.0 + 1.0 for line in (x[0, :, 0, 0], x[0, 0, :, 0])]
        rows, columns = self._axes(*(tf.reduce_sum(line) for line in ones))
        down = self._filter(tf.cumsum(ones[0]) - 0.5, rows, self.height)
        across = self._filter(tf.cumsum(ones[1]) - 0.5, columns, self.width)
        planes = tf.transpose(x, (0, 3, 1, 2))
        planes = tf.matmul(down, tf.matmul(planes, across, transpose_b=True))
        if self.aspect == "pad":
            inside = self._inside(rows, self.height)[:, tf.newaxis] * self._inside(columns, self.width)
            planes += (1.0 - inside) * tf.reshape(tf.constant(self.fill), (3, 1, 1))
        return self.scaled(tf.transpose(planes, (0, 2, 3, 1)))

    def _axes(self, rows: tf.Tensor, columns: tf.Tensor) -> tuple[Resampling, Resampling]:
        if self.aspect != "keep":
            low = [tf.floor((side - side * self.crop) / 2 + ROUNDING) for side in (rows, columns)]
            taken = (rows - 2 * low[0], columns - 2 * low[1])
            if self.aspect == "pad":
                whole = self._fitting(*taken)
                shift = [-tf.floor((size - n) / 2) for size, n in zip((self.height, self.width), whole, strict=True)]
            else:
                whole = tf.constant(float(self.height)), tf.constant(float(self.width))
                shift = [tf.zeros(())] * 2
            return Resampling(low[0], taken[0], whole[0], shift[0]), Resampling(low[1], taken[1], whole[1], shift[1])
        height, width = (float(side) for side in self._covered())
        tall = rows * width > columns * height
        # With half more above, a quotient of whole numbers keeps its whole part, also where a runtime, as OpenVINO,
        # multiplies by a rounded reciprocal.
        whole = (
            tf.where(tall, tf.floor((width * rows + 0.5) / columns), height),
            tf.where(tall, width, tf.floor((height * columns + 0.5) / rows)),
        )
        spare = (whole[0] - self.height, whole[1] - self.width)
        # Half of what is spare, halves to the even neighbour: Python's round, which torchvision uses.
        shift = [tf.round(pixels / 2) for pixels in spare]
        nothing = tf.zeros(())
        return Resampling(nothing, rows, whole[0], shift[0]), Resampling(nothing, columns, whole[1], shift[1])

    def _fitting(self, rows: tf.Tensor, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows and columns that so many become in their aspect, as large as they fit; one at least."""
        height, width = float(self.height), float(self.width)
        tall = rows * width > columns * height
        return (  # half more above for the reason in `_axes`
            tf.where(tall, height, tf.maximum(tf.floor((width * rows + 0.5) / columns), 1.0)),
            tf.where(tall, tf.maximum(tf.floor((height * columns + 0.5) / rows), 1.0), width),
        )

    def _covered(self) -> tuple[int, int]:
        """What the sides of a picture cover whose aspect is kept, before its middle is taken."""
        # What 299 / (299 / 342) lacks to 342 is rounding.
        return int(self.height / self.crop + 1e-6), int(self.width / self.crop + 1e-6)

    def part(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of a picture of this size that the network sees, in whole pixels."""
        axes = self._axes(tf.constant(height, tf.float32), tf.constant(width, tf.float32))
        if self.aspect == "pad":
            lows, taken = ([int(axis[i]) for axis in axes] for i in (0, 1))
            return slice(lows[0], lows[0] + taken[0]), slice(lows[1], lows[1] + taken[1])
        found = []
        for axis, side in zip(axes, (self.height, self.width), strict=True):
            share = float(axis.taken / axis.whole)  # of its pixels to one of the network's
            low = float(axis.low + axis.shift * share)
            found.append(slice(round(low), round(low + side * share)))
        return found[0], found[1]

    def filled(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of the network's input where the `part` of a picture is that has this size: all, but
        where something is laid around it."""
        whole = [self.height, self.width]
        if self.aspect == "pad":
            whole = [int(n) for n in self._fitting(tf.constant(height, tf.float32), tf.constant(width, tf.float32))]
        lows = [(size - n) // 2 for size, n in zip((self.height, self.width), whole, strict=True)]
        return slice(lows[0], lows[0] + whole[0]), slice(lows[1], lows[1] + whole[1])

    def _inside(self, axis: Resampling, size: int) -> tf.Tensor:
        """(size,): 1 where the picture is, 0 where something is laid around it."""
        places = tf.range(size, dtype=tf.float32) + axis.shift
        return tf.cast(tf.logical_and(places > -0.5, places < axis.whole - 0.5), tf.float32)

    def _filter(self, centres: tf.Tensor, axis: Resampling, size: int) -> tf.Tensor:
        """Weights (size, n) that resample a line of n pixels with these centres; each row of sum 1, outside it of 0."""
        scale = axis.taken / axis.whole
        places = tf.range(size, dtype=tf.float32) + axis.shift
        if self.aspect == "pad":
            places = tf.clip_by_value(places, 0.0, axis.whole - 1.0)  # what is outside has weights too, and loses them
        wanted = axis.low + (places + 0.5) * scale
        distance = tf.abs(wanted[:, tf.newaxis] - centres[tf.newaxis, :])
        x = distance / tf.maximum(scale, 1.0) if self.antialias else distance
        weights = tf.nn.relu(1.0 - x) if self.resize == "bilinear" else _cubic(x)
        if self.crop < 1 and self.aspect != "keep":
            taken = tf.logical_and(centres > axis.low, centres < axis.low + axis.taken)
            weights = weights * tf.cast(taken, tf.float32)
        weights = weights / tf.reduce_sum(weights, axis=1, keepdims=True)
        return weights * self._inside(axis, size)[:, tf.newaxis] if self.aspect == "pad" else weights

    def scaled(self, pixels: tf.Tensor) -> tf.Tensor:
        """The second half: channels in the order of `colour`, each (pixel - mean) / deviation, or the luma of these."""
        if self.colour == "BGR":
            pixels = pixels[..., ::-1]
        # One number for all channels, where it is one: with three, the same arithmetic takes four times as long.
        mean, deviation = (numbers[0] if len({*numbers}) == 1 else numbers for numbers in (self.mean, self.deviation))
        # Times the reciprocal: a graph's optimizer would make that of a division, and change the last bit.
        scaled = (pixels - tf.constant(mean)) * (1 / np.asarray(deviation, np.float32))
        if self.colour != "grey":
            return scaled
        # Of what is scaled: 0 stays 0, also what is laid around a picture.
        return tf.reduce_sum(scaled * tf.constant(LUMA), axis=-1, keepdims=True)


def _cubic(x: tf.Tensor) -> tf.Tensor:
    """Keys' cubic convolution with a = -0.5, at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return tf.where(x < 1.0, near, tf.where(x < 2.0, far, tf.zeros_like(x)))
