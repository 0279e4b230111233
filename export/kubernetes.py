"""An exported network on Kubernetes: by TensorFlow Serving in a Deployment of its own, and by KServe.

Both find the folder of exports on a PersistentVolumeClaim, which is the cluster's to provide.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

CLAIM = "exports"
MEMORY = "2Gi"
# A label has 63 characters at most; KServe and Knative append to an InferenceService's name.
LONGEST = 40


def label(name: str) -> str:
    """The network's name as a DNS label that begins with a letter, as Services (RFC 1035) and KServe want it: without
    accents, and with hyphens for what else a label cannot have. What is cut or has no such letter gets digits of the
    name's hash, so that it is not another network's."""
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    found = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    if not found or len(found) > LONGEST:
        found = f"{found[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".strip("-")
    return found if found[0].isalpha() else f"network-{found}"


def deployment(name: str, image: str, arguments: Sequence[str]) -> str:
    """A Deployment and its Service, for `kubectl`; the arguments of the server find its folder as /models/`name`."""
    # $(NAME) would be an environment variable, $$ is a dollar sign.
    words = [argument.replace("$", "$$") for argument in arguments]
    short = _quoted(label(name))
    return f"""# TensorFlow Serving on the newest version beside this file, on Kubernetes: REST on 8501, gRPC on 8500.
# It wants a PersistentVolumeClaim `{CLAIM}` that holds this folder under its own name.
#     kubectl apply -f kubernetes.yaml
#     kubectl port-forward service/{label(name)} 8501     # and ask it as compose.yaml says
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {short}
  labels: {{app.kubernetes.io/name: {short}}}
spec:
  replicas: 1
  selector:
    matchLabels: {{app.kubernetes.io/name: {short}}}
  template:
    metadata:
      labels: {{app.kubernetes.io/name: {short}}}
    spec:
      containers:
        - name: serving
          image: {image}
          args: {_quoted(words)}
          ports:
            - {{name: grpc, containerPort: 8500}}
            - {{name: rest, containerPort: 8501}}
          # The server opens its ports when the network is loaded and has answered its warm-up requests.
          readinessProbe:
            httpGet: {{path: {_quoted("/v1/models/" + quote(name))}, port: rest}}
          resources:
            requests: {{cpu: "1", memory: {MEMORY}}}
            limits: {{memory: {MEMORY}}}
          volumeMounts:
            - {{name: exports, mountPath: /models, readOnly: true}}
      volumes:
        - name: exports
          persistentVolumeClaim: {{claimName: {CLAIM}, readOnly: true}}
---
apiVersion: v1
kind: Service
metadata:
  name: {short}
  labels: {{app.kubernetes.io/name: {short}}}
spec:
  selector: {{app.kubernetes.io/name: {short}}}
  ports:
    - {{name: grpc, port: 8500, targetPort: grpc}}
    - {{name: rest, port: 8501, targetPort: rest}}
"""


def inference_service(name: str, version: str, options: Sequence[str], parameters: str) -> str:
    """KServe's InferenceService, served by TensorFlow Serving of a version with further options, and with the batching
    parameters in a file beside the versions. KServe mounts these as /mnt/models and says so to the server itself."""
    words = [*options, f"--batching_parameters_file=/mnt/models/{parameters}"]
    return f"""# KServe's InferenceService on the newest version beside this file, asked as /v1/models/{label(name)}.
# It wants a PersistentVolumeClaim `{CLAIM}` that holds this folder under its own name.
#     kubectl apply -f inferenceservice.yaml
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {_quoted(label(name))}
spec:
  predictor:
    model:
      modelFormat: {{name: tensorflow}}
      # KServe's own choice is older than the network's operations may be.
      runtimeVersion: {_quoted(version)}
      storageUri: {_quoted(f"pvc://{CLAIM}/{name}")}
      args: {_quoted(words)}
      resources:
        requests: {{cpu: "1", memory: {MEMORY}}}
        limits: {{memory: {MEMORY}}}
"""


def _quoted(value: object) -> str:
    """As JSON, which is YAML, too: `on` and `1e3` stay texts."""
    return json.dumps(value, ensure_ascii=False)
