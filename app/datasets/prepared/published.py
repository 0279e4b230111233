"""Data sets of TensorFlow Datasets: `tfds:NAME` from its catalogue, and `digits`, which needs no network."""

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import platformdirs
import tensorflow as tf
import tensorflow_datasets as tfds

from app.datasets.dataset import Data, Split
from app.datasets.prepared.digits import Digits
from app.program.errors import UserError

WINDOW = 10_000
# What nobody may pass on: file and size in bytes, by the split that is made of it.
MANUAL = {
    "imagenet2012": {
        "train": ("ILSVRC2012_img_train.tar", 147_897_477_120),
        "validation": ("ILSVRC2012_img_val.tar", 6_744_924_160),
    }
}
UNLABELLED = {"imagenet2012": {"test"}}  # splits whose labels were never published


def load(name: str) -> Data:
    """`digits` or `tfds:NAME`; see `loading.load`."""
    return _digits() if name == "digits" else _catalogued(name)


@dataclass(frozen=True)
class TfdsSplit:
    builder: Any
    instruction: str
    image: str
    label: str
    count: int

    def in_order(self) -> tf.data.Dataset:
        dataset = self.builder.as_dataset(split=self.instruction, decoders={self.image: tfds.decode.SkipDecoding()})
        return dataset.map(lambda example: (example[self.image], example[self.label]))

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        return Split.at(self, places)  # there is no random access

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        """Shuffled within windows of 10,000 examples: no random access is needed, nor the state of a buffer. What is
        skipped has to be read, though not decoded."""

        def mix(window: tf.Tensor, examples: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, labels = examples
            count = tf.size(labels, tf.int64)
            key = tf.cast(tf.stack([seed + WINDOW * window, epoch]), tf.uint32)
            order = tf.random.experimental.index_shuffle(tf.range(count), key, count - 1)
            return tf.gather(encoded, order), tf.gather(labels, order)

        return self.in_order().batch(min(self.count, WINDOW)).enumerate().map(mix).unbatch().skip(skipped)


def _digits() -> Data:
    # Beside the downloads of other programs it would look like one of theirs; this one is made here, in a second.
    builder = Digits(data_dir=os.environ.get("TFDS_DATA_DIR") or platformdirs.user_cache_dir("inceptions"))
    with contextlib.redirect_stdout(io.StringIO()):
        tfds.disable_progress_bar()
        try:
            builder.download_and_prepare()
        finally:
            tfds.enable_progress_bar()
    return _from_builder("digits", builder, image_size=64)


def held_out(name: str) -> tuple[tuple[str, ...], TfdsSplit]:
    """The labels of `tfds:NAME`, and its test images for networks that have seen none: without a test split those for
    validation, without either all.

    Raises:
        UserError: as `load`.
    """
    builder = _prepared(name, ("validation",))
    published = _labelled(builder)
    split = next((split for split in ("test", "validation", "train") if split in published), None)
    if split is None:
        raise UserError(f"{name} has no split 'test', 'validation' or 'train'; it has {', '.join(sorted(published))}.")
    image, label = _features(name, builder)
    labels = tuple(builder.info.features[label].names)
    return labels, TfdsSplit(builder, split, image, label, builder.info.splits[split].num_examples)


def _catalogued(name: str) -> Data:
    return _from_builder(name, _prepared(name, ("train", "validation")))


def _prepared(name: str, needed: Sequence[str]) -> Any:
    """`needed` are splits that count where a data set is prepared from whatever files are there."""
    try:
        builder = tfds.builder(name.removeprefix("tfds:"))
        if builder.name in MANUAL:
            _check_manual(name, builder, needed)
        with contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare()
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(f"TensorFlow Datasets has no data set called '{name.removeprefix('tfds:')}'.") from error
    except (OSError, ValueError, AssertionError, tfds.download.DownloadError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name} could not be prepared: {why}") from error
    return builder


def _check_manual(name: str, builder: Any, needed: Sequence[str]) -> None:
    folder = builder.data_dir_root / "downloads" / "manual"
    prepared = builder.data_path.exists()
    lacking = []
    for split in needed:
        file, size = MANUAL[builder.name][split]
        found = (folder / file).stat().length if (folder / file).exists() else 0
        if prepared and split not in builder.info.splits:
            lacking.append(file)
        elif not prepared and found < size:
            lacking.append(f"{file} ({f'{found:,} of {size:,} bytes are there' if found else 'missing'})")
    if lacking:
        first = f"was prepared without all it needs: remove {builder.data_path} and put" if prepared else "needs"
        raise UserError(
            f"{name} {first} {' and '.join(lacking)} in the folder {folder}; whoever registers can download them from "
            "https://image-net.org/download-images."
        )


def _labelled(builder: Any) -> set[str]:
    return set(builder.info.splits) - UNLABELLED.get(builder.name, set())


def _from_builder(name: str, builder: Any, image_size: int | None = None) -> Data:
    image, label = _features(name, builder)
    instructions = _instructions(name, _labelled(builder))
    made = {
        split: TfdsSplit(builder, instruction, image, label, builder.info.splits[instruction].num_examples)
        for split, instruction in instructions.items()
    }
    identity = f"{builder.info.full_name} {[(made[split].instruction, made[split].count) for split in instructions]}"
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    return Data(
        name,
        tuple(builder.info.features[label].names),
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=fingerprint,
        image_size=image_size,
    )


def _features(name: str, builder: Any) -> tuple[str, str]:
    """The names of its image and of its label."""
    features = builder.info.features
    image = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    label = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not image or not label:
        raise UserError(f"{name} has no image with a class label: its features are {', '.join(features)}.")
    return image[0], label[0]


def _instructions(name: str, published: Iterable[str]) -> dict[str, str]:
    """The published splits; what is missing is cut from the end of `train`, 20 % for test and 8 % for validation."""
    published = set(published)
    if "train" not in published:
        raise UserError(f"{name} has no split 'train'; it has {', '.join(sorted(published))}.")
    instructions = {"train": "train"}
    end = 100
    for split, share in (("test", 20), ("validation", 8)):
        if split in published:
            instructions[split] = split
        else:
            instructions[split] = f"train[{end - share}%:{end}%]"
            end -= share
    if end < 100:
        instructions["train"] = f"train[:{end}%]"
    return instructions
