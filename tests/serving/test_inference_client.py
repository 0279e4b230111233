"""Triton's own client, in an environment of its own, asks `serve` by the Open Inference Protocol."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.serving import starting
from tests.makers.environments import interpreter_with

CLIENT = "tritonclient[http]==2.73.0"
ASK = """
import base64, json, sys, urllib.request
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

address, name, *files = sys.argv[1:]
client = http.InferenceServerClient(address)
pictures = [open(file, "rb").read() for file in files]

def predict(**body):
    request = urllib.request.Request(f"http://{address}/v1/models/{name}:predict", json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=60))["outputs"]

def given(name, datatype, array, **more):
    tensor = http.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, **more)
    return [tensor]

def refused(ask):
    try:
        ask()
    except InferenceServerException as error:
        return [error.status(), error.message()]

told = {"alive": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(name),
                  client.is_model_ready(name, "1"), client.is_model_ready(name, "2"), client.is_model_ready("other")]}
told["server"], told["metadata"] = client.get_server_metadata(), client.get_model_metadata(name)

encoded = given("image_bytes", "BYTES", np.array(pictures, np.object_))
right = predict(inputs=[{"b64": base64.b64encode(picture).decode()} for picture in pictures])
told["classes"] = right["classes"]
outputs = [http.InferRequestedOutput("scores", binary_data=False), http.InferRequestedOutput("classes")]
told["same"] = []
for options in ({}, {"model_version": "1"}, {"outputs": outputs, "request_id": "7"},
                {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
                {"request_compression_algorithm": "deflate"}):
    found = client.infer(name, encoded, **options)
    assert found.get_response().get("id") == options.get("request_id")
    scores, classes = found.as_numpy("scores"), found.as_numpy("classes")
    assert scores.dtype == np.float32
    told["same"].append(bool((scores == np.array(right["scores"], np.float32)).all()))
    told["same"].append([[label.decode() for label in row] for row in classes] == right["classes"])

pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
right = np.array(predict(signature_name="predict_pixels", inputs=pixels.tolist()), np.float32)
for sent in (True, False):
    for got in (True, False):
        found = client.infer(name, given("images", "UINT8", pixels, binary_data=sent),
                             outputs=[http.InferRequestedOutput("probabilities", binary_data=got)],
                             parameters={"signature_name": "predict_pixels"})
        told["same"].append(bool((found.as_numpy("probabilities") == right).all()))

bad = np.array([b"no picture", pictures[0]], np.object_)
told["errors"] = [error.decode() for error in client.infer(name, given("image_bytes", "BYTES", bad)).as_numpy("errors")]
as_text = given("image_bytes", "BYTES", np.array([base64.b64encode(pictures[0])], np.object_), binary_data=False)
told["refused"] = [
    refused(lambda: client.infer(name, given("image_bytes", "BYTES", bad[:1]))),
    refused(lambda: client.infer(name, as_text)),
    refused(lambda: client.infer(name, given("images", "UINT8", pixels))),
    refused(lambda: client.infer(name, encoded, model_version="2")),
    refused(lambda: client.infer("other", encoded)),
    refused(lambda: client.get_model_config(name)),
]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Path:
    return interpreter_with(CLIENT, request)


@pytest.mark.long
@pytest.mark.parametrize("artefact", ["saved_model", "tflite"])
def test_tritons_client_gets_the_answers_of_predict(
    artefact: str, client: Path, exported: Path, pictures: Path
) -> None:
    # Of many sizes and formats, in one request.
    files = [*sorted(pictures.glob("*/0[0-5].*")), *sorted(pictures.glob("*/11.webp"))]
    with starting.in_background(exported.parent, artefact) as url:
        address, _, name = url.removeprefix("http://").replace("/v1/models/", " ").partition(" ")
        command = [str(client), "-c", ASK, address, name, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["alive"] == [True, True, True, True, False, False]
    assert told["server"]["extensions"] == ["binary_tensor_data"]
    assert told["metadata"]["inputs"] == [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}]
    assert told["metadata"]["platform"] == {"saved_model": "tensorflow_savedmodel", "tflite": "litert_tflite"}[artefact]
    assert len({tuple(row) for row in told["classes"]}) > 1
    assert told["same"] == [True] * 14
    unknown = "This is no JPEG, PNG, GIF, WebP or BMP file."
    assert told["errors"] == [unknown, ""]
    for (status, said), expected in zip(
        told["refused"],
        [
            ("400", unknown),
            ("400", "The input image_bytes has a picture in base64."),
            ("400", 'There is no input "images": this signature has image_bytes; the parameter `signature_name` names'),
            ("404", f"Servable not found for request: Specific({name}, 2)"),
            ("404", "Servable not found for request: Latest(other)"),
            ("404", f"The Open Inference Protocol has no GET /v2/models/{name}/config."),
        ],
        strict=True,
    ):
        assert (status, said[: len(expected[1])]) == expected
