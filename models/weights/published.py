"""`weights="imagenet"`: what Keras and TF-slim publish, fetched once into `~/.keras/models/inceptions`.

A file that was not fetched here is never deleted: somebody put it there. Keras' own, in `~/.keras/models`, serves too.
Keras publishes an MD5 sum of every file. TF-slim publishes none: its checkpoints are held against the names and shapes
of the network, and against their own hash from the second use on.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import keras

from .assignment import Report, assign
from .checkpoint import read
from .download import fetch
from .tensors import WeightsError

KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
# The bucket behind download.tensorflow.org, which answers without encryption only.
SLIM = "https://storage.googleapis.com/download.tensorflow.org/models"


@dataclass(frozen=True)
class KerasFiles:
    """`path` is completed by `.h5` and, without the classifier, `_notop.h5`; `filters` are those of `stem_1`."""

    path: str
    md5: str
    md5_notop: str
    filters: int
    classes: tuple[int, ...] = (1000,)


@dataclass(frozen=True)
class SlimArchive:
    archive: str
    checkpoint: str
    filters: int
    classes: tuple[int, ...] = (1000, 1001)


FILES: dict[str, KerasFiles | SlimArchive] = {
    "inception_v1": SlimArchive("inception_v1_2016_08_28.tar.gz", "inception_v1.ckpt", 64),
    "inception_v2": SlimArchive("inception_v2_2016_08_28.tar.gz", "inception_v2.ckpt", 64),
    "inception_v3": KerasFiles(
        "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels",
        "9a0d58056eeedaa3f26cb7ebd46da564",
        "bcbd6486424b2319ff4ef7d526e38f63",
        32,
    ),
    "inception_v4": SlimArchive("inception_v4_2016_09_09.tar.gz", "inception_v4.ckpt", 32),
    "inception_resnet_v2": KerasFiles(
        "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels",
        "e693bd0210a403b3192acc6073ad2e96",
        "d19885ff4a710c122648d3b5c3b684e4",
        32,
    ),
    "densenet121": KerasFiles(
        "densenet/densenet121_weights_tf_dim_ordering_tf_kernels",
        "9d60b8095a5708f2dcce2bca79d332c7",
        "30ee3e1110167f948a6b9946edeeb738",
        64,
    ),
}


def imagenet(model: keras.Model, network: str) -> Report:
    """Sets the weights of `model`, `network` as its builder makes it, to the published ones for ImageNet.

    They are made for images in [-1, 1], those of densenet121 for ImageNet's mean 0 and deviation 1. TF-slim's have 1001
    classes, with the background first; a model of 1000 takes the others.

    Raises:
        WeightsError: nothing is published for this network, or not for this many classes or channels, this width, or
            without normalisation; the file cannot be fetched, which says where to put it; it is not the published one.
    """
    if network not in FILES:
        raise WeightsError(
            f'No weights="imagenet" of {network} are published in Keras: there are {", ".join(FILES)}; weights=None '
            "starts from random ones."
        )
    files = FILES[network]
    _check(model, network, files)
    if isinstance(files, KerasFiles):
        return assign(model, read(_keras_file(model, files), network, "keras"))
    return _from_slim(model, network, files)


def is_published(path: Path) -> bool:
    """Whether the file is one that Keras publishes the MD5 sum of."""
    sums = {md5 for files in FILES.values() if isinstance(files, KerasFiles) for md5 in (files.md5, files.md5_notop)}
    return _hash(path, "md5") in sums


def folder() -> Path:
    """`models/inceptions` in Keras' folder: `~/.keras`, or what the environment variable KERAS_HOME names."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models" / "inceptions"


def _check(model: keras.Model, network: str, files: KerasFiles | SlimArchive) -> None:
    layers = {layer.name: layer for layer in model.layers}
    what = f'weights="imagenet" of {network}'
    channels = layers["stem_1_conv"].input.shape[-1]
    if channels != 3:
        raise WeightsError(f"{what} are for images of 3 channels, the model takes {channels}.")
    if "predictions" in layers and layers["predictions"].units not in files.classes:
        counts = " or ".join(map(str, files.classes))
        raise WeightsError(
            f"{what} have {counts} classes, the model has {layers['predictions'].units}: "
            "build it with include_top=False, or without weights."
        )
    if not any(name.endswith("_bn") for name in layers):
        raise WeightsError(f"{what} are for the network with batch normalisation: normalization=None has none.")
    if layers["stem_1_conv"].filters != files.filters:
        raise WeightsError(f"{what} are for the full width, width=1.0.")
    if isinstance(files, KerasFiles) and "auxiliary" in layers:
        raise WeightsError(f"{what} come without the auxiliary head: build it with auxiliary=False.")


def _keras_file(model: keras.Model, files: KerasFiles) -> Path:
    top = _has_classifier(model)
    url = f"{KERAS}/{files.path}{'' if top else '_notop'}.h5"
    published = files.md5 if top else files.md5_notop
    path = folder() / url.rpartition("/")[2]
    of_keras = path.parent.parent / path.name
    for present in (path, of_keras):
        if present.exists() and _hash(present, "md5") == published:
            return present
    if path.exists():
        raise WeightsError(
            f"{path} has the MD5 sum {_hash(path, 'md5')}, the published file has {published}: move it away, and that "
            "one is fetched; to load it as it is, name it in `weights=`."
        )
    _fetch(url, path, f"{path.name} at {path}")
    if (found := _hash(path, "md5")) != published:
        path.unlink()
        raise WeightsError(
            f"{url} gave a file with the MD5 sum {found}, the published one has {published}: it was deleted, try again."
        )
    return path


def _from_slim(model: keras.Model, network: str, files: SlimArchive) -> Report:
    path = folder() / files.checkpoint
    recorded = path.with_name(f"{path.name}.sha256")
    if not path.exists():
        recorded.unlink(missing_ok=True)
        url = f"{SLIM}/{files.archive}"
        archive = path.with_name(files.archive)
        put_here = archive.exists()
        if not put_here:
            _fetch(url, archive, f"{files.checkpoint} of that archive at {path}")
        _extract(archive, files.checkpoint, path, keep=put_here)
    found = _hash(path, "sha256")
    if recorded.exists() and recorded.read_text().strip() != found:
        raise WeightsError(f"{path} is not the file of its first use any more: move it away, and it is fetched again.")
    checkpoint = read(path, network, "slim")
    if checkpoint.classes != 1001:
        raise WeightsError(
            f"{path} has {checkpoint.classes} classes, the published file 1001: move it away, and that is fetched."
        )
    layers = {layer.name: layer for layer in model.layers}
    report = assign(
        model,
        checkpoint,
        auxiliary="auxiliary" in layers,
        drop_background=_has_classifier(model) and layers["predictions"].units == 1000,
    )
    recorded.write_text(f"{found}\n")
    return report


def _fetch(url: str, to: Path, what: str) -> None:
    try:
        fetch(url, to)
    except WeightsError as error:
        raise WeightsError(f"{str(error).removesuffix('.')}; without a network put {what}.") from error


def _extract(archive: Path, member: str, to: Path, keep: bool) -> None:
    """The one file `member` of the archive, wherever it lies in it. The archive is deleted unless it is to be kept."""
    part = to.with_name(f"{to.name}.part")
    try:
        with tarfile.open(archive, "r:gz") as files:
            infos = [info for info in files if info.isfile() and info.name.rpartition("/")[2] == member]
            source = files.extractfile(infos[0]) if infos else None
            if source is None:
                raise tarfile.ReadError(f"there is no {member} in it")
            with source, part.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        part.unlink(missing_ok=True)
        if keep:
            raise WeightsError(
                f"{archive} is not the published archive ({error}): move it away, and that is fetched."
            ) from error
        archive.unlink()
        raise WeightsError(f"{archive} was not the published archive ({error}): it was deleted, try again.") from error
    part.replace(to)
    if not keep:
        archive.unlink()


def _has_classifier(model: keras.Model) -> bool:
    return any(layer.name == "predictions" for layer in model.layers)


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
