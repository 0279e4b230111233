"""How a step may change a picture: a gradient by pixels in, a direction by pixels out, in the same memory.

Another parametrisation of a picture is another metric for its gradient. With picture = L z, a step along the gradient
by z changes the picture by L Lᵀ times the gradient by pixels: that is all that a step needs of L, and the picture
itself is the state, whatever the parametrisation.
"""

from collections.abc import Callable, Mapping

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float32]
Parametrization = Callable[[Array], Array]  # (height, width, 3) -> the same shape
# A square root of the covariance of the colours of natural images: a column is a colour that varies independently of
# the others. Lucid's figures, measured on ImageNet; only their proportions matter here.
COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
GREY, CONTRAST = 127.5, 10.0  # mean and deviation of the noise that a dream begins with


def pixels(gradient: Array) -> Array:
    """Each pixel and colour by itself: L = 1."""
    return gradient


def fourier(gradient: Array) -> Array:
    """By frequencies and decorrelated colours: L = C F⁻¹ f^(-1/2), with C the `COLOURS`, F the orthonormal Fourier
    transform of the picture, and f the frequency in cycles a pixel, at least one over the longer side.

    A step then has the amplitudes that natural pictures have, 1/f, where the gradient is white: large forms move as
    easily as small ones, and in colours that go together.
    """
    height, width = gradient.shape[:2]
    down, across = (f(side).astype(np.float32) for f, side in ((np.fft.fftfreq, height), (np.fft.rfftfreq, width)))
    mixture = COLOURS @ COLOURS.T
    # In little memory: C and Cᵀ at once, since F leaves colours alone; row by row, colour by colour, side by side.
    for row in gradient:
        row[:] = row @ mixture
    for colour in range(3):
        spectrum = scipy.fft.rfft(gradient[..., colour], axis=1)
        spectrum = scipy.fft.fft(spectrum, axis=0, overwrite_x=True)
        for row, frequency in zip(spectrum, down, strict=True):
            row /= np.maximum(np.hypot(frequency, across), 1 / max(height, width))
        spectrum = scipy.fft.ifft(spectrum, axis=0, overwrite_x=True)
        gradient[..., colour] = scipy.fft.irfft(spectrum, width, axis=1)
    return gradient


PARAMETRIZATIONS: Mapping[str, Parametrization] = {"pixels": pixels, "fourier": fourier}


def noise(rng: np.random.Generator, height: int, width: int, parametrization: Parametrization) -> NDArray[np.uint8]:
    """A picture (height, width, 3) to begin with: grey, and as much of every direction as a step may take."""
    picture = normalized(parametrization(rng.standard_normal((height, width, 3), np.float32)))
    picture *= CONTRAST
    picture += GREY
    return rounded(picture)


def rounded(picture: Array) -> NDArray[np.uint8]:
    """As a file holds it; in place, but for the last step."""
    return np.rint(np.clip(picture, 0, 255, out=picture), out=picture).astype(np.uint8)


def root_mean_square(x: Array) -> float:
    return float(np.linalg.norm(x.reshape(-1))) / x.size**0.5


def normalized(x: Array) -> Array:
    """`x` at a root mean square of 1, in place; zeros stay."""
    x /= root_mean_square(x) or 1.0
    return x
