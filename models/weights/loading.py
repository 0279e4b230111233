"""What a builder's `weights=` names: published weights, or a file on this machine."""

import re
import textwrap
import warnings
from os import PathLike
from pathlib import Path

import keras

from . import keras_h5
from .assignment import assign
from .checkpoint import read
from .published import FILES, KerasFiles, imagenet
from .tensors import WeightsError

KERAS_3, LEGACY = (".weights.h5", ".weights.json", ".keras"), (".h5", ".hdf5")
# What Keras says about a batch normalisation: four weights are with gamma, three without.
COUNTS = re.compile(r"expect(?:s|ed) (\d+) (?:weight\(s\)|variables).*?[Rr]eceived (\d+)", re.DOTALL)


def load(model: keras.Model, network: str, weights: str | PathLike[str]) -> None:
    """Sets the weights of `model`, which the builder of `network` made, to those that `weights` names.

    "imagenet", see `published.imagenet`; a file of `Model.save_weights` or `Model.save` of this network or of that of
    `keras.applications`; or an `.h5` that Keras publishes, as `checkpoint.read` takes it. Where the published file has
    no gamma and the model has, gamma is 1.

    Raises:
        WeightsError: no such file, one of another format, or of another network or other arguments.
    """
    if weights == "imagenet":
        imagenet(model, network)
        return
    if not isinstance(weights, str | PathLike) or not (path := Path(weights)).exists():
        raise WeightsError(
            f'weights={weights!r} is neither "imagenet" nor a file that exists; None starts from random weights.'
        )
    if path.is_file() and not path.name.endswith(KERAS_3 + LEGACY):
        raise WeightsError(
            f"{path} is no file of Keras, whose names end in .weights.h5, .keras or .h5: those of TF-slim, PyTorch "
            "and Caffe are read by `weights.read` and `weights.assign` of this package."
        )
    if not path.name.endswith(KERAS_3) and path.is_file() and not _has_our_names(path):
        if not isinstance(FILES.get(network), KerasFiles):
            raise WeightsError(f"{path} has none of the layers of {network}.")
        assign(model, read(path, network, "keras"))
        return
    try:
        with warnings.catch_warnings():
            # Keras looks for every layer a second time, in a list that files of other models do not have.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsError(f"{path} does not fit {network} as it is built here: {_reason(str(error))}") from error


def _has_our_names(path: Path) -> bool:
    return any(name.startswith("stem_1_conv/") for name in keras_h5.tensors(path))


def _reason(said: str) -> str:
    """What to do about it where gamma is all that is wrong, and else what Keras said."""
    counts = COUNTS.search(said)
    if counts and (counts[1], counts[2]) == ("4", "3"):
        return "its batch normalisations have no gamma, build it with scale=False."
    if counts and (counts[1], counts[2]) == ("3", "4"):
        return "its batch normalisations have a gamma, build it with scale=True."
    short = textwrap.shorten(said, 240, placeholder=" ...")
    return f"build it with the arguments that the file was saved with ({short})."
