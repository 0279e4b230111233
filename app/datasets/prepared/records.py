"""A data set as TFRecord shards: written once, verified by checksums, read in any order.

train-00000-of-00004 ...   `tf.train.Example`s: image/encoded, image/class/label, image/class/text, image/filename. With
                           several labels a picture, or none, label and text are lists, and image/class/set is the place
                           of the set among the `label_sets` of the index
index.json                 labels, fingerprint, every shard with its count and SHA-256; written last
unfinished.json            the same, while shards are missing
"""

import hashlib
import itertools
import os
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from app.datasets.dataset import SPLITS, Data, shuffled_order
from app.datasets.index import Index, Known, settled
from app.datasets.label_sets import LabelSets
from app.program.errors import UserError
from app.program.files import digest, whole, write_json
from app.program.parallel import in_parallel
from app.program.progress import Watch
from app.program.shown import command

SHARD = 1_000  # images: about 100 MB of photographs
LABEL, SET = "image/class/label", "image/class/set"
AT_ONCE = 32  # one call into Python for each would take longer than reading
BEFORE, AFTER = 12, 4  # bytes around a record: its length and the checksum of that; its own checksum


class Shard(BaseModel):
    model_config = ConfigDict(frozen=True)

    file: str
    count: int
    sha256: str


class ShardIndex(BaseModel):
    """`index.json`. All but the shards is what was told of the data they were written from; `order` is a hash of its
    files in their order."""

    model_config = ConfigDict(frozen=True)

    source: str
    labels: tuple[str, ...]
    label_sets: LabelSets = ()
    fingerprint: str
    order: str
    image_size: int | None
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    test: tuple[Shard, ...]


@dataclass(frozen=True, eq=False)
class RecordSplit:
    """Reads by offset, so that an epoch is shuffled as a whole, as that of image files is, and nothing is held in
    memory. `places` is (count, 3): the number of the shard, the first byte of the record, its length. `label` is the
    name of an example's number."""

    shards: tuple[Path, ...]
    places: NDArray[np.int64]
    label: str = LABEL

    @property
    def count(self) -> int:
        return len(self.places)

    def in_order(self) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.range(self.count), self.count)

    def shuffled(self, seed: int, epoch: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.data.Dataset:
        return self._examples(shuffled_order(self.count, seed, epoch, skipped), self.count - skipped)

    def drawn(self, order: tf.data.Dataset, count: tf.Tensor | int) -> tf.data.Dataset:
        return self._examples(order, count)

    def at(self, places: Sequence[int]) -> tf.data.Dataset:
        return self._examples(tf.data.Dataset.from_tensor_slices(tf.constant(places, tf.int64)), len(places))

    def _examples(self, order: tf.data.Dataset, count: tf.Tensor | int) -> tf.data.Dataset:
        features = {
            "image/encoded": tf.io.FixedLenFeature((), tf.string),
            self.label: tf.io.FixedLenFeature((), tf.int64),
        }

        def parsed(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            records = tf.numpy_function(self._read, [numbers], tf.string, stateful=False)
            examples = tf.io.parse_example(tf.ensure_shape(records, (None,)), features)
            return examples["image/encoded"], examples[self.label]

        examples = order.batch(AT_ONCE).map(parsed, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
        return examples.apply(tf.data.experimental.assert_cardinality(count))

    def _read(self, numbers: NDArray[np.int64]) -> NDArray[np.object_]:
        found = np.empty(len(numbers), object)
        for i, (shard, first, length) in enumerate(self.places[numbers]):
            with self.shards[shard].open("rb") as file:
                file.seek(first)
                found[i] = file.read(length)
        return found


def load(name: str, watch: Watch) -> Data:
    """`records:FOLDER`, every shard that is not known yet held against its checksum; see `loading.load`."""
    folder = Path(name.removeprefix("records:"))
    if not (folder / "index.json").is_file():
        if (folder / "unfinished.json").is_file():
            raise UserError(f"The records in {folder} are unfinished; the `records` command that began them goes on.")
        raise UserError(f"{folder} holds no records: `python -m app records DATA --to FOLDER` writes some.")
    index = _read_index(folder / "index.json")
    splits = {split: [folder / shard.file for shard in getattr(index, split)] for split in SPLITS}
    shards = [shard for split in SPLITS for shard in getattr(index, split)]
    known = Index(folder).read()
    spans = watch(in_parallel(lambda shard: _spans(folder, shard, known), shards), len(shards), "Verifying shards")
    found = iter(spans)
    made = {}
    for split, paths in splits.items():
        places = [np.insert(span, 0, number, axis=1) for number, span in enumerate(itertools.islice(found, len(paths)))]
        span = np.concatenate([np.empty((0, 3), np.int64), *places])
        made[split] = RecordSplit(tuple(paths), span, SET if index.label_sets else LABEL)
    Index(folder).add(known)
    return Data(
        name,
        index.labels,
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=index.fingerprint,
        image_size=index.image_size,
        label_sets=index.label_sets,
    )


def _spans(folder: Path, shard: Shard, known: dict[str, Known]) -> NDArray[np.int64]:
    """First byte and length of every record of a shard. One that is `known` by its size and time of change is not held
    against its checksum again; others become so."""
    path = folder / shard.file
    again = f"`{command('records', 'DATA', '--to', folder)}` with the same DATA writes it again."
    spans = []
    position = 0
    try:
        with path.open("rb") as file:
            status, before = os.fstat(file.fileno()), known.get(shard.file)
            if not (before and before.is_of(status) and before.encoded == shard.sha256):
                if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    raise UserError(f"The shard {path} is damaged, its checksum is another than in index.json: {again}")
                known[shard.file] = Known(status.st_size, settled(status), shard.sha256, None)
            for _ in range(shard.count):
                file.seek(position)
                (length,) = struct.unpack("<Q", file.read(8))
                spans.append((position + BEFORE, length))
                position += BEFORE + length + AFTER
    except OSError as error:
        raise UserError(f"The shard {path} cannot be read ({error.strerror}): {again}") from error
    return np.array(spans, np.int64)


def _read_index(path: Path) -> ShardIndex:
    try:
        return ShardIndex.model_validate_json(path.read_text())
    except (ValidationError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged; remove its folder and write the records again.") from error


# ---- writing


def write(data: Data, folder: Path, watch: Watch) -> ShardIndex:
    """Writes `data` as shards of 1,000 images, in its order. Of an earlier call that was interrupted, the shards that
    still have their checksums are kept.

    Raises:
        UserError: the folder holds something else, or records of other data; the disk is full.
    """
    names = {split: [file.path.name for file in data.files if file.split == split] for split in SPLITS}
    order = hashlib.sha256(repr(data.files).encode()).hexdigest()
    done = _begun(data, folder, order, watch)
    plan = {}
    for split in SPLITS:
        count = -(-getattr(data, split).count // SHARD)
        plan[split] = [f"{split}-{number:05}-of-{count:05}" for number in range(count)]

    def index() -> ShardIndex:
        return ShardIndex(
            source=data.name,
            labels=data.labels,
            label_sets=data.label_sets,
            fingerprint=data.fingerprint,
            order=order,
            image_size=data.image_size,
            **{split: tuple(done[file] for file in files if file in done) for split, files in plan.items()},
        )

    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "unfinished.json", index().model_dump(mode="json"))
    (folder / "index.json").unlink(missing_ok=True)
    for split, files in plan.items():
        if all(file in done for file in files):
            continue
        source = getattr(data, split)
        read = watch(source.in_order().as_numpy_iterator(), source.count, f"Writing {split}")
        examples = itertools.zip_longest(read, names[split])
        for file in files:
            some = itertools.islice(examples, SHARD)
            if file in done:
                deque(some, maxlen=0)  # read past
                continue
            done[file] = _write_shard(folder / file, some, data)
            write_json(folder / "unfinished.json", index().model_dump(mode="json"))
    write_json(folder / "index.json", index().model_dump(mode="json"))
    for left in (folder / "unfinished.json", *folder.glob(".*-of-*")):  # the latter by a process that was killed
        left.unlink(missing_ok=True)
    return index()


def _begun(data: Data, folder: Path, order: str, watch: Watch) -> dict[str, Shard]:
    """The whole shards that are there already, by file name."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    for path in (folder / "unfinished.json", folder / "index.json"):
        if path.is_file():
            before = _read_index(path)
            if (before.fingerprint, before.labels) != (data.fingerprint, data.labels):
                raise UserError(
                    f"{folder} holds records of {before.source} as it was, not of {data.name} as it is; choose another "
                    "--to, or remove the folder."
                )
            if (before.order, before.label_sets) != (order, data.label_sets):
                return {}
            shards = [shard for split in SPLITS for shard in getattr(before, split)]
            found = watch(in_parallel(lambda shard: _is_whole(folder, shard), shards), len(shards), "Verifying shards")
            return {shard.file: shard for shard, there in zip(shards, found, strict=True) if there}
    raise UserError(f"{folder} exists and holds no records; choose another --to. Nothing in it was touched.")


def _is_whole(folder: Path, shard: Shard) -> bool:
    path = folder / shard.file
    return path.is_file() and digest(path) == shard.sha256


def _write_shard(path: Path, examples: Iterable[tuple[tuple[bytes, int], str | None]], data: Data) -> Shard:
    count = 0
    with whole(path) as beside:
        try:
            with tf.io.TFRecordWriter(os.fsencode(beside)) as writer:
                for (encoded, label), name in examples:
                    writer.write(_example(encoded, int(label), data, name))
                    count += 1
        except tf.errors.OpError as error:
            raise OSError(error.message) from error
        checksum = digest(beside)
    return Shard(file=path.name, count=count, sha256=checksum)


def _example(encoded: bytes, label: int, data: Data, name: str | None) -> bytes:
    def text(*values: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def numbers(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    labels = data.label_sets[label] if data.label_sets else (label,)
    features = {
        "image/encoded": text(encoded),
        LABEL: numbers(*labels),
        "image/class/text": text(*(data.labels[place].encode() for place in labels)),
        **({SET: numbers(label)} if data.label_sets else {}),
    }
    if name:
        features["image/filename"] = text(name.encode(errors="surrogateescape"))
    # In a fixed order: the same data give the same checksums.
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)
