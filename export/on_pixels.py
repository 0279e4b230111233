"""The function that files for other runtimes are made of: decoded pixels in, probabilities out.

LiteRT, ONNX and OpenVINO all get this one, so that a picture is resized and scaled in one way everywhere.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from . import strangeness
from .preprocessing import Preprocessing
from .strangeness import Strangeness


class ConversionError(Exception):
    """A network that a converter cannot take: the operations, in one sentence."""


def classifier(
    model: keras.Model, preprocessing: Preprocessing, *, constant: bool = False, known: Strangeness | None = None
) -> Any:
    """`image`, uint8 (N, height, width, 3), RGB, of any size and number -> `probabilities`, float32 (N, classes).

    `model` takes preprocessed images and gives probabilities. Its weights are variables, or if `constant` of the graph
    itself: every way to freeze a graph afterwards copies them many times. With what is `known` of strangeness that is
    given, too: `strangeness`, `stranger` and `unknown`.
    """
    groups = (model.trainable_variables, model.non_trainable_variables) if constant else ()
    weights = [[variable.numpy() for variable in group] for group in groups]

    both = strangeness.network(model, known.layers) if known else None

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")])
    def classify(image: Any) -> dict[str, Any]:
        prepared = preprocessing.on_device(image)
        if known and both:
            probabilities, before, *pooled = both(prepared, training=False)
            last = strangeness.classifier(both)
            with tf.name_scope(model.name):  # by which quantizers know what is of the network, as the classifier is
                logits = tf.matmul(before, last.kernel.value)
                if last.bias is not None:
                    logits += last.bias.value
            found = strangeness.measured(known, pooled, logits, strangeness.is_independent(model))
            return {"probabilities": probabilities, **_kept_on_the_processor(found)}
        if not weights:
            return {"probabilities": model(prepared, training=False)}
        constants = [[tf.constant(value) for value in group] for group in weights]
        return {"probabilities": model.stateless_call(*constants, prepared, training=False)[0]}

    return classify


def _kept_on_the_processor(found: strangeness.Measured) -> dict[str, Any]:
    """The same by an operation that no delegate takes: what is no output of a graph, a delegate does not give back."""
    numbers = {"strangeness": found.strangeness, "stranger": found.stranger}
    kept = {name: tf.cumsum(each[:, tf.newaxis], axis=1)[:, 0] for name, each in numbers.items()}
    return kept | {"unknown": found.unknown}


@contextlib.contextmanager
def as_saved_model(
    model: keras.Model, preprocessing: Preprocessing, beside: Path, known: Strangeness | None = None
) -> Iterator[Path]:
    """The folder of a SavedModel of `classifier`, near the file `beside`; it is gone afterwards.

    Converters that read it by themselves need less memory than for a function, whose weights they copy many times.
    """
    classify = classifier(model, preprocessing, known=known)
    servable = tf.Module()
    # The variables themselves: behind a Keras model the converters do not find their values.
    servable.weights = [variable.value for variable in model.variables]
    with tempfile.TemporaryDirectory(dir=beside.parent, prefix=".") as folder:
        tf.saved_model.save(servable, folder, signatures=classify)
        yield Path(folder)


def description(
    model: keras.Model, preprocessing: Preprocessing, labels: Sequence[str], thresholds: Sequence[float] = ()
) -> str:
    """A line for people."""
    what = "labels a picture has, none or several" if thresholds else "classes a picture shows"
    return f"{model.name}: which of {len(labels)} {what}. Inside: {preprocessing.described()}."


def facts(
    model: keras.Model,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    english: Sequence[str],
    thresholds: Sequence[float] = (),
) -> dict[str, str]:
    """What a file says of itself where it has room for texts by name: `description` is for people, all others are
    JSON; `labels_en` are the English names of the labels, where they have such, and `thresholds` those of the labels,
    where a picture may have several."""
    lists = {"labels": labels, "labels_en": english, "thresholds": thresholds}
    return {
        "description": description(model, preprocessing, labels, thresholds),
        **{name: json.dumps([*content], ensure_ascii=False) for name, content in lists.items() if content},
        "preprocessing": preprocessing.model_dump_json(),
    }
