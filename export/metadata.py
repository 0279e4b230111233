"""What a LiteRT file says of itself: the metadata that LiteRT's and MediaPipe's tools read, and the labels in its tail.

The metadata is a FlatBuffer of its own, in a buffer of the model that is named TFLITE_METADATA; tables and the numbers
of their fields are those of MediaPipe's metadata_schema.fbs, version 1.5.0. Files that it names lie in a zip archive
behind the model.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert.schema_py_generated import BufferT, MetadataT
from ai_edge_litert.tools import flatbuffer_utils

ENTRY = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
PARSER = "1.0.0"  # the first version of the schema has all that is used here
LABELS = "labels.txt"
ENGLISH, LANGUAGE = "labels_en.txt", "en"
THRESHOLDS = "thresholds.txt"
OF_SEVERAL = "a picture has those whose probability reaches that in thresholds.txt"
AXIS_LABELS, FEATURE, IMAGE, RGB = 2, 1, 2, 1  # TENSOR_AXIS_LABELS; FeatureProperties and ImageProperties; colours


def write(
    file: Path,
    name: str,
    text: str,
    labels: Sequence[str],
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
) -> None:
    """Writes into the LiteRT file, of one image and one tensor of probabilities, what it is called, what it does, what
    goes in and comes out, and the labels; with their `english` names, which MediaPipe gives as `display_name` where it
    is asked for `display_names_locale="en"`. Where a picture may have several labels, `thresholds` of them lie beside:
    MediaPipe knows one for all labels alone, and gives all scores."""
    _put(file, _metadata(name, text, english, bool(thresholds)), texts(labels, english, thresholds))


def texts(labels: Sequence[str], english: Sequence[str], thresholds: Sequence[float]) -> dict[str, str]:
    """The files of what there is of these, by name."""
    files = {LABELS: labels, ENGLISH: english, THRESHOLDS: [str(one) for one in thresholds]}
    return {name: lines(content) for name, content in files.items() if content}


def lines(content: Sequence[str]) -> str:
    """One a line, as files of labels are."""
    return "".join(f"{line}\n" for line in content)


def carry(source: Path, file: Path) -> None:
    """Writes into the LiteRT file what the file `source` says of itself."""
    model = flatbuffer_utils.read_model_from_bytearray(source.read_bytes())
    (entry,) = (entry for entry in model.metadata if entry.name == ENTRY)
    with zipfile.ZipFile(source) as archive:
        files = {each: archive.read(each).decode() for each in archive.namelist()}
    _put(file, bytes(model.buffers[entry.buffer].data), files)


def _put(file: Path, metadata: bytes, files: Mapping[str, str]) -> None:
    model = flatbuffer_utils.read_model_from_bytearray(file.read_bytes())
    entry = MetadataT(ENTRY, len(model.buffers))
    model.buffers.append(BufferT(np.frombuffer(metadata, np.uint8)))
    model.metadata = [*(other for other in model.metadata or () if other.name != ENTRY), entry]
    flatbuffer_utils.write_model(model, file)
    with zipfile.ZipFile(file, "a") as archive:
        for each, content in files.items():
            archive.writestr(each, content)


def _metadata(name: str, text: str, english: Sequence[str], several: bool) -> bytes:
    to = _Tables()
    image = to.table(
        {
            0: to.text("image"),
            1: to.text("Pixels of an upright RGB picture of any size, 0 to 255; resized and scaled inside."),
            3: to.table({1: to.table({}, {0: RGB})}, {0: IMAGE}),
            5: to.table({0: to.numbers([255.0]), 1: to.numbers([0.0])}),
        }
    )
    labels = [to.table({0: to.text(LABELS), 1: to.text("The classes, one a line.")}, {2: AXIS_LABELS})]
    if english:
        said = to.text("The classes in English, one a line.")
        labels.append(to.table({0: to.text(ENGLISH), 1: said, 3: to.text(LANGUAGE)}, {2: AXIS_LABELS}))
    probabilities = to.table(
        {
            0: to.text("probability"),
            1: to.text(f"Of each class, in the order of the labels; {OF_SEVERAL if several else 'their sum is 1'}."),
            3: to.table({1: to.table({})}, {0: FEATURE}),
            5: to.table({0: to.numbers([1.0]), 1: to.numbers([0.0])}),
            6: to.tables(labels),
        }
    )
    graph = to.table({2: to.tables([image]), 3: to.tables([probabilities])})
    model = to.table({0: to.text(name), 1: to.text(text), 3: to.tables([graph]), 7: to.text(PARSER)})
    to.builder.Finish(model, file_identifier=IDENTIFIER)
    return bytes(to.builder.Output())


class _Tables:
    """Writes what a table refers to before the table, as a FlatBuffer is written; each gives its place."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def text(self, content: str) -> int:
        return int(self.builder.CreateString(content))

    def numbers(self, values: Sequence[float]) -> int:
        return int(self.builder.CreateNumpyVector(np.array(values, np.float32)))

    def tables(self, places: Sequence[int]) -> int:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return int(self.builder.EndVector())

    def table(self, fields: Mapping[int, int], bytes_: Mapping[int, int] | None = None) -> int:
        """Of fields that lie elsewhere, number -> place, and fields that are one byte, number -> value."""
        single = bytes_ or {}
        self.builder.StartObject(max([*fields, *single], default=-1) + 1)
        for number, place in fields.items():
            self.builder.PrependUOffsetTRelativeSlot(number, place, 0)
        for number, value in single.items():
            self.builder.PrependInt8Slot(number, value, 0)
        return int(self.builder.EndObject())
