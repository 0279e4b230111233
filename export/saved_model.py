"""A SavedModel for TensorFlow Serving: bytes of image files in, names and scores out.

    serving_default   image_bytes string [N]              -> classes string [N, k], scores float32 [N, k], best first,
                                                             and errors string [N]; of several labels a picture also
                                                             thresholds float32 [N, k], of these classes
    classify          inputs string [N]                   -> classes and scores, of tf.train.Example with
                                                             `image/encoded`
    predict_pixels    images uint8 [N, height, width, 3]  -> probabilities float32 [N, classes], in label order
    features          image_bytes string [N]              -> embedding float32 [N, d]: what the classifier is given
    unknown           image_bytes string [N]              -> of a network that has it (see `strangeness`): strangeness
                                                             and stranger, float32 [N], unknown, bool [N], and all that
                                                             serving_default gives

k is the smaller of 10 and the number of classes; of several labels a picture it is their number. Files of different
formats and sizes may be in one batch. A file that cannot be decoded has an answer of its own, since a server makes
batches of the requests of several clients: the reason in `errors`, which are empty for all others, empty classes, and
scores or an embedding of 0. Of several networks, an ensemble, the probabilities are the arithmetic mean and the
embeddings follow each other.

The weights are constants of the graph, which TensorFlow brings once into the order that its kernels want; variables it
would bring there at every request.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

from . import merging, metadata, strangeness
from .preprocessing import Preprocessing
from .strangeness import Strangeness

TOP = 10
PARALLEL = 10  # files decoded at a time
DAMAGED = "This file is damaged or cut short."
STANDING = "ImmutableConst"  # an operation without inputs, of any type and shape


class Servable(tf.Module):
    """Networks that give probabilities, each a function as `_function` makes it, with its preprocessing and the shape
    of its images, and their labels as one TensorFlow module."""

    def __init__(
        self,
        networks: Sequence[tuple[Any, Preprocessing, tuple[int, ...]]],
        labels: Sequence[str],
        assets: Sequence[Path],
        thresholds: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.labels = tf.constant(labels)
        self.thresholds = tf.constant(thresholds, tf.float32) if thresholds else None
        self.top = len(labels) if thresholds else min(TOP, len(labels))
        self.assets = [tf.saved_model.Asset(str(file)) for file in assets]
        self.networks = networks

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serving_default(self, image_bytes: Any) -> dict[str, Any]:
        probabilities, *_, readable = self._on_files(image_bytes)
        return self._named(probabilities, readable, image_bytes)

    # `inputs` is the name that TensorFlow Serving's :classify looks for, which takes no other output than these two.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: Any) -> dict[str, Any]:
        features = {"image/encoded": tf.io.FixedLenFeature((), tf.string, default_value="")}
        probabilities, *_, readable = self._on_files(tf.io.parse_example(inputs, features)["image/encoded"])
        return self._best(probabilities, readable)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def predict_pixels(self, images: Any) -> dict[str, Any]:
        return {"probabilities": self._answers(lambda preprocessing, _: preprocessing(images))[0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def features(self, image_bytes: Any) -> dict[str, Any]:
        _, embedding, *_, readable = self._on_files(image_bytes)
        return {"embedding": tf.where(readable[:, tf.newaxis], embedding, 0.0)}

    def _named(self, probabilities: tf.Tensor, readable: tf.Tensor, image_bytes: tf.Tensor) -> dict[str, Any]:
        errors = _reasons(self.networks[0][1], image_bytes, readable)
        return {**self._best(probabilities, readable), **self._least(probabilities), "errors": errors}

    def _least(self, probabilities: tf.Tensor) -> dict[str, Any]:
        """Of several labels a picture the `thresholds`, in the order of the scores; nothing of one."""
        if self.thresholds is None:
            return {}
        _, indices = tf.math.top_k(probabilities, k=self.top)
        return {"thresholds": tf.gather(self.thresholds, indices)}

    def _best(self, probabilities: tf.Tensor, readable: tf.Tensor) -> dict[str, Any]:
        scores, indices = tf.math.top_k(probabilities, k=self.top)
        answered = readable[:, tf.newaxis]
        classes = tf.where(answered, tf.gather(self.labels, indices), "")
        return {"classes": classes, "scores": tf.where(answered, scores, 0.0)}

    def _on_files(self, image_bytes: tf.Tensor) -> tuple[Any, ...]:
        """What the networks answer to files, and whether each was one that can be decoded, (N,)."""
        decoded = []

        def images(preprocessing: Preprocessing, shape: tuple[int, ...]) -> tf.Tensor:
            def prepare(file: tf.Tensor) -> tf.Tensor:
                return preprocessing(preprocessing.decode(file))

            images, readable = _each_that_can(prepare, image_bytes, tf.zeros(shape))
            decoded.append(readable)
            return images

        return *self._answers(images), tf.reduce_all(decoded, axis=0)

    def _answers(self, images_for: Callable[[Preprocessing, tuple[int, ...]], tf.Tensor]) -> tuple[Any, ...]:
        """Probabilities and embedding of a batch, prepared for each network; of one that has it how strange it is."""
        prepared: list[tuple[Preprocessing, tf.Tensor]] = []
        answers = []
        for network, preprocessing, shape in self.networks:
            images = next((images for known, images in prepared if known == preprocessing), None)
            if images is None:
                images = images_for(preprocessing, shape)
                prepared.append((preprocessing, images))
            answers.append(network(images))
        if len(answers) == 1:
            return tuple(answers[0])
        return tf.reduce_mean([answer[0] for answer in answers], 0), tf.concat([answer[1] for answer in answers], 1)


class Judging(Servable):
    """The same of one network that also says how strange pictures are."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def unknown(self, image_bytes: Any) -> dict[str, Any]:
        probabilities, _, *found, readable = self._on_files(image_bytes)
        strange = strangeness.Measured(*found)
        return {
            **self._named(probabilities, readable, image_bytes),
            "strangeness": tf.where(readable, strange.strangeness, 0.0),
            "stranger": tf.where(readable, strange.stranger, 0.0),
            "unknown": tf.logical_and(readable, strange.unknown),
        }


def _each_that_can(
    function: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor, otherwise: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """What the function gives for each of the batch, `otherwise` where it fails, and where it did not, both (N, ...).

    A graph cannot catch the error of an operation, but a data set can leave out the element that it befell.
    """
    count = tf.size(batch)
    end = tf.data.Dataset.from_tensors((count, otherwise))  # so that there is one, if all others fail
    row = tf.autograph.experimental.do_not_convert(lambda place, one: (place, function(one)))
    rows = tf.data.Dataset.from_tensor_slices((tf.range(count), batch)).map(row, num_parallel_calls=PARALLEL)
    whole = rows.ignore_errors().concatenate(end).batch(tf.cast(count, tf.int64) + 1)
    places, values = whole.get_single_element()
    # Of those left out the place is that of the last one, `otherwise`; nothing is copied where none was.
    found = tf.tensor_scatter_nd_update(
        tf.fill([count], tf.size(places) - 1), places[:-1, tf.newaxis], tf.range(tf.size(places) - 1)
    )
    succeeded = found < tf.size(places) - 1
    values = tf.cond(tf.reduce_all(succeeded), lambda: values[:-1], lambda: tf.gather(values, found))
    return tf.ensure_shape(values, (None, *otherwise.shape)), succeeded


def _reasons(preprocessing: Preprocessing, files: tf.Tensor, readable: tf.Tensor) -> tf.Tensor:
    """Why each file could not be decoded, in a sentence that is empty where it could."""

    def told() -> tf.Tensor:
        failed = tf.where(~readable)
        reasons, _ = _each_that_can(preprocessing.refusal, tf.gather_nd(files, failed), tf.constant(""))
        reasons = tf.where(tf.equal(reasons, ""), DAMAGED, reasons)
        return tf.tensor_scatter_nd_update(tf.fill(tf.shape(files), ""), failed, reasons)

    return tf.cond(tf.reduce_all(readable), lambda: tf.fill(tf.shape(files), ""), told)


def _function(model: keras.Model, weights: dict[str, keras.Variable], known: Strangeness | None = None) -> Any:
    """The network as a function: prepared images (N, height, width, 3) -> [probabilities, embedding], both float32, and
    what is measured of strangeness, where that is known.

    In place of its weights are operations of their shapes, which cannot be run, and which `_fill` makes constants of in
    the file. `weights` gets them by the names of these.
    """
    merged = merging.merge(model)  # here every operation has threads woken for it, which costs more than a small one
    both = strangeness.network(merged, known.layers if known else ())
    last = strangeness.classifier(merged)

    def standing_for(weight: keras.Variable) -> Any:
        name = f"weight {len(weights)}"
        weights[name] = weight
        return tf.raw_ops.ImmutableConst(dtype=weight.dtype, shape=weight.shape, memory_region_name=name)

    @tf.function(input_signature=[tf.TensorSpec([None, *model.inputs[0].shape[1:]], tf.float32)])
    def network(images: Any) -> list[Any]:
        variables = [both.trainable_variables, both.non_trainable_variables]
        groups = [[*map(standing_for, group)] for group in variables]
        outputs, _ = both.stateless_call(*groups, images, training=False)
        probabilities, embedding, *pooled = (tf.cast(output, tf.float32) for output in outputs)
        if not known:
            return [probabilities, embedding]
        of = {id(each): constant for each, constant in zip(chain(*variables), chain(*groups), strict=True)}
        logits = tf.matmul(embedding, of[id(last.kernel)])
        if last.bias is not None:
            logits += of[id(last.bias)]
        independent = strangeness.is_independent(merged)
        return [probabilities, embedding, *strangeness.measured(known, pooled, logits, independent)]

    # One function, which all signatures call, so that the weights are in the file once.
    return network.get_concrete_function()


def _fill(folder: Path, weights: Mapping[str, keras.Variable]) -> None:
    """Writes the weights into the graph of a SavedModel. In TensorFlow's own way, which freezes variables and saves
    that, they are copied so often that a network of 200 MB takes 8 GB."""
    file = folder / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for meta_graph in content.meta_graphs:
        for function in meta_graph.graph_def.library.function:
            outputs = {}  # an operation's output is known by its name, too
            for node in function.node_def:
                if node.op == STANDING:
                    value = weights[node.attr.pop("memory_region_name").s.decode()].numpy()
                    del node.attr["shape"]
                    node.op = "Const"
                    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
                    outputs[f"{node.name}:tensor:0"] = f"{node.name}:output:0"
            for node in function.node_def:
                node.input[:] = [outputs.get(name, name) for name in node.input]
        known = meta_graph.meta_info_def.stripped_op_list.op
        del known[next(place for place, operation in enumerate(known) if operation.name == STANDING)]
    file.write_bytes(content.SerializeToString())
    write_fingerprint(str(folder))


def _before_the_classifier(model: keras.Model) -> Any:
    """The tensor (batch, d) that the last dense layer is given."""
    return strangeness.classifier(model).input


def write(
    networks: Sequence[tuple[keras.Model, Preprocessing]],
    labels: Sequence[str],
    folder: Path,
    english: Sequence[str] = (),
    thresholds: Sequence[float] = (),
    known: Strangeness | None = None,
) -> None:
    """Writes the SavedModel `folder`, with the labels inside the graph and as `assets/labels.txt`, one a line, and
    their English names, where they have such, as `assets/labels_en.txt`. Where a picture may have several labels, so
    are their `thresholds`, inside and as `assets/thresholds.txt`.

    Each network takes images of its preprocessing and gives probabilities (batch, len(labels)). What is `known` of
    strangeness is of the only one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assets = {folder / name: content for name, content in metadata.texts(labels, english, thresholds).items()}
    for file, content in assets.items():
        file.write_text(content, encoding="utf-8")
    weights: dict[str, keras.Variable] = {}  # not of the module: they would be saved a second time, as variables
    functions = [
        (_function(model, weights, known), preprocessing, model.inputs[0].shape[1:])
        for model, preprocessing in networks
    ]
    servable = (Judging if known else Servable)(functions, labels, [*assets], thresholds)
    names = ["serving_default", "classify", "predict_pixels", "features", *(["unknown"] if known else [])]
    signatures = {name: getattr(servable, name) for name in names}
    tf.saved_model.save(servable, str(folder), signatures=signatures)
    _fill(folder, weights)
    for file in assets:
        file.unlink()
