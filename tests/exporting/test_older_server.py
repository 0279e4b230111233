"""Exports in the TensorFlow of the server that `compose.yaml` names, which is older than the one that writes them."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from app import exporting
from app.images.decoding import decode
from app.run_folder import golden
from app.run_folder.folder import Run
from export import certificate, serving
from tests.makers.environments import interpreter_with
from tests.makers.untrained_runs import untrained

Array = np.ndarray[Any, Any]
LABELS = ("digit", "flower", "temple")
SYNSETS = ("n01440764", "n01443537", "n01484850")
SERVER = f"tensorflow=={serving.VERSION}"
# By the session path, as the server does. The classes of the first signature are put in the order of the labels.
ASK = """
import json, sys
import numpy as np
import tensorflow as tf

with np.load(sys.argv[2]) as arrays:
    pixels = [arrays[name] for name in sorted(arrays)]
files = [open(file, "rb").read() for file in json.loads(sys.argv[3])]
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signatures = tf.compat.v1.saved_model.load(session, ["serve"], sys.argv[1]).signature_def

    def ask(signature, **inputs):
        wanted = signatures[signature]
        fed = {wanted.inputs[name].name: value for name, value in inputs.items()}
        return session.run({name: one.name for name, one in wanted.outputs.items()}, fed)

    served = ask("serving_default", image_bytes=files)
    assert not any(served["errors"]), served["errors"]
    scores = [row[np.argsort(names)].tolist() for names, row in zip(served["classes"], served["scores"])]
    decoded = [ask("predict_pixels", images=one[None])["probabilities"][0].tolist() for one in pixels]
print(json.dumps({"version": tf.__version__, "serving_default": scores, "predict_pixels": decoded}))
"""


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Path:
    return interpreter_with(SERVER, request)


def float32(run: Run, to: Path) -> Path:
    return exporting.export(run.folder, to, ["saved_model"])[0]


def bfloat16(run: Run, to: Path) -> Path:
    return exporting.export(run.folder, to, ["saved_model"], precision="bfloat16")[0]


def ensemble(run: Run, to: Path) -> Path:
    other = untrained(to / "other", 48, LABELS, like=run)
    return exporting.export(run.folder, to, others=[other.folder])[0]


def with_english_names(run: Run, to: Path) -> Path:
    other = untrained(to / "synsets", 32, SYNSETS)
    pictures = ((run.golden / image["file"]).read_bytes() for image in golden.read_golden(run))
    golden.keep(other, ((picture, None) for picture in pictures))
    version = exporting.export(other.folder, to / "exports", ["saved_model"])[0]
    assert (version / "assets" / "labels_en.txt").is_file()
    return version


@pytest.mark.long
@pytest.mark.parametrize("kind", [float32, bfloat16, ensemble, with_english_names])
def test_the_server_gives_the_golden_answers(
    kind: Callable[[Run, Path], Path], finished_run: Run, server: Path, tmp_path: Path
) -> None:
    version = kind(finished_run, tmp_path)
    images = certificate.golden(version)
    pixels = [decode(Path(image["file"]).read_bytes()).numpy() for image in images]
    np.savez(tmp_path / "pixels.npz", **{f"{i:03}": one for i, one in enumerate(pixels)})
    files = json.dumps([image["file"] for image in images])
    command = [str(server), "-I", "-c", ASK, str(version), str(tmp_path / "pixels.npz"), files]
    done = subprocess.run(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["version"] == serving.VERSION
    here = tf.saved_model.load(str(version)).signatures["predict_pixels"]
    mine = np.stack([here(images=tf.constant(one[None]))["probabilities"].numpy()[0] for one in pixels])
    right = [image["probabilities"] for image in images]  # the trained network's, in float32
    for signature in ("serving_default", "predict_pixels"):
        np.testing.assert_allclose(found[signature], mine, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found[signature], right, rtol=0, atol=1e-2 if kind is bfloat16 else 1e-5)
