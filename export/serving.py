"""What TensorFlow Serving is told about an exported network: its configuration, and the requests it warms up with.

Written beside the version folders, `<name>/models.config` and `batching_parameters.txt`, for a server that finds that
folder as /models/<name>, and what starts one: `compose.yaml`, `kubernetes.yaml`, and `inferenceservice.yaml` of KServe.
The warm-up requests are inside each version.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from . import kubernetes

VERSION = "2.20.0"  # the newest release; a long test asks exports in its TensorFlow
IMAGE = f"tensorflow/serving:{VERSION}"
BATCHING = ("--enable_batching",)
PARAMETERS = "batching_parameters.txt"
# Requests that wait together become a batch of the next of these sizes; each is warmed up, so that no client waits for
# the first of its kind.
BATCH_SIZES = (1, 2, 4, 8, 16)
TIMEOUT = 1000  # microseconds that a request waits for others
WARMUP = Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup(version: Path, name: str, image: bytes) -> None:
    """Writes a request of `serving_default` for every batch size into the version folder, all of the same image file.

    A server refuses a version one of whose requests fails.
    """
    file = version / WARMUP
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for size in BATCH_SIZES:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image] * size))
            writer.write(log.SerializeToString())


def configuration(name: str) -> dict[str, str]:
    """The files for the folder of the network `name`, file name -> text."""
    return {
        "models.config": _models_config(name),
        PARAMETERS: batching_parameters(),
        "compose.yaml": _compose(name),
        "kubernetes.yaml": kubernetes.deployment(name, IMAGE, _arguments(name)),
        "inferenceservice.yaml": kubernetes.inference_service(name, VERSION, BATCHING, PARAMETERS),
    }


def batching_parameters(sizes: Sequence[int] = BATCH_SIZES) -> str:
    """The text of TensorFlow Serving's file of batches: of these sizes, in rising order."""
    allowed = "".join(f"allowed_batch_sizes: {size}\n" for size in sizes)
    limits = {"max_batch_size": sizes[-1], "batch_timeout_micros": TIMEOUT, "max_enqueued_batches": 100}
    return "".join(f"{key} {{ value: {value} }}\n" for key, value in limits.items()) + allowed


def _models_config(name: str) -> str:
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = name, f"/models/{name}", "tensorflow"
    return text_format.MessageToString(config, as_utf8=True)


def _arguments(name: str) -> list[str]:
    place = f"/models/{name}"
    return [f"--model_config_file={place}/models.config", *BATCHING, f"--batching_parameters_file={place}/{PARAMETERS}"]


def _compose(name: str) -> str:
    def quoted(value: object) -> str:
        # $NAME would be a variable, $$ is a dollar sign.
        return json.dumps(value, ensure_ascii=False).replace("$", "$$")

    return f"""# TensorFlow Serving on the newest version beside this file: REST on 8501, gRPC on 8500.
#     docker compose -f compose.yaml up
#     printf '{{"instances": [{{"b64": "%s"}}]}}' "$(base64 < picture.jpg | tr -d '\\n')" |
#         curl -s -d @- http://localhost:8501/v1/models/{name}:predict
services:
  serving:
    image: {IMAGE}
    command: {quoted(_arguments(name))}
    ports: ["8500:8500", "8501:8501"]
    volumes:
      - {{type: bind, source: ., target: {quoted(f"/models/{name}")}, read_only: true}}
"""
