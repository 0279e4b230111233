"""A SavedModel has an answer for every row: what cannot be decoded fails nobody else's request."""

import json
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from app.__main__ import app
from app.images import decoding
from app.images.preprocessing import Preprocessing
from export import saved_model
from tests.makers.image_files import FILES, SMALL, encoded

BMP, PNG, JPEG, GIF = (encoded(SMALL, kind) for kind in ("BMP", "PNG", "JPEG", "GIF"))
WEBP = encoded(SMALL, "WEBP", lossless=True)
BAD = {
    "text": b"hello",
    "nothing": b"",
    "a cut JPEG": JPEG[:500],
    "the beginning of a JPEG": JPEG[:3],
    "a cut PNG": PNG[:300],
    "a PNG that claims too much": PNG[:16] + struct.pack(">II", 30_000, 30_000) + PNG[24:],
    "a BMP that claims too much": BMP[:18] + struct.pack("<ii", 100_000, 100_000) + BMP[26:],
    "a cut BMP": BMP[:200],
    "a cut GIF": GIF[:200],
    "a cut WebP": WEBP[:60],
    "a WebP that claims too much": WEBP[:21] + b"\xff\xff\xff\x0f" + WEBP[25:],
    "a JPEG that is too long": JPEG + bytes(decoding.LIMITS.bytes),
}


def why(content: bytes) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decoding.decode(content)
    return decoding.refusal(caught.value)


@pytest.fixture(scope="module")
def signatures(exported: Path) -> Any:
    return tf.saved_model.load(str(exported)).signatures


def test_every_bad_row_has_its_reason_and_every_good_one_its_answer(signatures: Any) -> None:
    good = list(FILES.values())[: len(BAD)]
    mixed = [content for pair in zip(good, BAD.values(), strict=True) for content in pair]
    alone = signatures["serving_default"](image_bytes=tf.constant(good))
    found = {name: value.numpy() for name, value in signatures["serving_default"](image_bytes=mixed).items()}
    assert not any(alone["errors"].numpy())
    np.testing.assert_array_equal(found["scores"][::2], alone["scores"])
    np.testing.assert_array_equal(found["classes"][::2], alone["classes"])
    assert [said.decode() for said in found["errors"]] == [
        said for content in BAD.values() for said in ("", why(content))
    ]
    assert (found["scores"][1::2] == 0).all()
    assert (found["classes"][1::2] == b"").all()


def test_a_batch_in_which_no_row_is_good_is_answered(signatures: Any) -> None:
    found = signatures["serving_default"](image_bytes=tf.constant(list(BAD.values())))
    assert [said.decode() for said in found["errors"].numpy()] == [why(content) for content in BAD.values()]
    assert not found["scores"].numpy().any()


def test_examples_and_features_have_a_row_for_each_too(signatures: Any) -> None:
    def example(**content: bytes) -> bytes:
        lists = {name.replace("_", "/"): tf.train.Feature(bytes_list={"value": [one]}) for name, one in content.items()}
        return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()

    served = signatures["serving_default"](image_bytes=tf.constant([JPEG]))
    examples = [example(image_encoded=JPEG), example(image_encoded=b"no"), example(image_format=b"jpeg")]
    found = signatures["classify"](inputs=tf.constant(examples))
    assert found.keys() == {"classes", "scores"}, "an API that knows no more"
    np.testing.assert_array_equal(found["scores"], np.concatenate([served["scores"], np.zeros((2, 3))]))
    np.testing.assert_array_equal(found["classes"][1:], np.full((2, 3), b""))
    embedding = signatures["features"](image_bytes=tf.constant([b"no", JPEG]))["embedding"].numpy()
    assert not embedding[0].any()
    alone = signatures["features"](image_bytes=tf.constant([JPEG]))["embedding"].numpy()
    np.testing.assert_allclose(embedding[1], alone[0], rtol=0, atol=1e-5)


AS_A_SERVER = """
import json, sys
import tensorflow as tf
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signature = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def["serving_default"]
    files = [open(file, "rb").read() for file in sys.argv[2:]]
    names = sorted(signature.outputs)
    found = session.run([signature.outputs[name].name for name in names], {signature.inputs["image_bytes"].name: files})
    print(json.dumps({name: value.astype("U" if value.dtype == object else float).tolist()
                      for name, value in zip(names, found)}))
"""


@pytest.mark.slow
def test_a_session_as_serving_opens_it_answers_the_good_rows(exported: Path, signatures: Any, tmp_path: Path) -> None:
    files = [JPEG, b"no", PNG, BAD["a cut GIF"]]
    for number, content in enumerate(files):
        (tmp_path / str(number)).write_bytes(content)
    command = [sys.executable, "-I", "-c", AS_A_SERVER, exported, *(tmp_path / str(number) for number in range(4))]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    alone = signatures["serving_default"](image_bytes=tf.constant([JPEG, PNG]))
    assert found["errors"] == ["", why(b"no"), "", why(BAD["a cut GIF"])]
    np.testing.assert_allclose(found["scores"][::2], alone["scores"], rtol=0, atol=1e-5)
    assert found["classes"][1] == found["classes"][3] == ["", "", ""]


@pytest.mark.slow
def test_an_ensemble_whose_networks_want_other_sizes_has_an_answer_for_every_row(tmp_path: Path) -> None:
    def network(side: int) -> tuple[Any, Preprocessing]:
        image = keras.Input((side, side, 3))
        answer = keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(image))
        return keras.Model(image, answer), Preprocessing(height=side, width=side)

    saved_model.write([network(3), network(4)], ["one", "other"], tmp_path / "1")
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    found = served(image_bytes=tf.constant([b"no", JPEG]))
    assert [bool(said) for said in found["errors"].numpy()] == [True, False]
    assert found["scores"].numpy().sum(axis=1) == pytest.approx([0, 1], abs=1e-5)


def test_rows_are_decoded_beside_each_other() -> None:
    """Each of the first two waits for the other."""
    here = threading.Barrier(2)

    def meeting(_: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(lambda: np.float32(here.wait(timeout=30)), [], tf.float32), ())

    @tf.function
    def both(batch: tf.Tensor) -> Any:
        return saved_model._each_that_can(meeting, batch, tf.constant(-1.0))

    values, succeeded = both(tf.constant(["a", "b"]))
    assert succeeded.numpy().all()
    assert sorted(values.numpy()) == [0, 1]


def test_predicting_with_an_export_says_the_reason_for_each_picture(exported: Path, tmp_path: Path) -> None:
    for name, content in {"a.jpg": JPEG, "b.gif": BAD["a cut GIF"], "c.png": b"no"}.items():
        (tmp_path / name).write_bytes(content)
    done = CliRunner().invoke(app, ["predict", str(exported), str(tmp_path)])
    assert done.exit_code == 1
    lines = [line for line in done.stdout.splitlines() if line.startswith(str(tmp_path))]
    assert lines[1:] == [
        f"{tmp_path / 'b.gif'}: This GIF is damaged or cut short.",
        f"{tmp_path / 'c.png'}: {why(b'no')}",
    ]
    assert "0." in lines[0]
