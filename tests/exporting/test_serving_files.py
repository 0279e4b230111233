"""What starts a server beside an export: that Docker, Kubernetes and KServe take it, and take nothing else."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from export import kubernetes, serving

NAMES = ["photos", "Müllers Äpfel", 'a "b" $c', "2024 photos", "on", "写真", "x" * 99]
KUBERNETES = "1.37"
KSERVE = json.loads(Path(__file__).with_name("kserve_inferenceservice.json").read_text())
MAPS = ("labels", "matchLabels", "requests", "limits")  # whose keys no API names


def misspelt(document: Any) -> Iterator[tuple[str, Any]]:
    """Every field that an API names, and the document with that field misspelt."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs):
        if isinstance(key, str):
            yield key, {(key + "x" if one == key else one): other for one, other in document.items()}
        if isinstance(value, dict | list) and key not in MAPS:
            for field, other in misspelt(value):
                changed = copy.copy(document)
                changed[key] = other
                yield f"{key}.{field}", changed


def refused(check: Callable[[Any], object], document: Any, error: type[Exception]) -> dict[str, bool]:
    """By field: whether the document is refused when that is misspelt."""

    def refuses(other: Any) -> bool:
        try:
            check(other)
        except error:
            return True
        return False

    chosen_by = ("apiVersion", "kind")  # these choose the schema
    return {field: refuses(other) for field, other in misspelt(document) if field not in chosen_by}


# ---- Docker and Kubernetes


@pytest.fixture
def strictly(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], object]:
    """As `kubectl` checks a document: a field that the API does not have is refused."""
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    return lambda document: kubernetes_validate.validate(document, KUBERNETES, strict=True)


def on_kubernetes(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    deployment, service = yaml.safe_load_all(serving.configuration(name)["kubernetes.yaml"])
    return deployment, service


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_takes_the_deployment_and_its_service(name: str, strictly: Callable[[Any], object]) -> None:
    for document, kind in zip(on_kubernetes(name), ("Deployment", "Service"), strict=True):
        strictly(document)
        assert document["kind"] == kind
        assert document["metadata"]["name"] == kubernetes.label(name)


def test_kubernetes_takes_no_field_of_them_misspelt(strictly: Callable[[Any], object]) -> None:
    deployment, service = on_kubernetes("photos")
    del service["spec"]["selector"]  # of labels
    for document, fields in ((deployment, 35), (service, 8)):
        found = refused(strictly, document, kubernetes_validate.ValidationError)
        assert [field for field, is_refused in found.items() if not is_refused] == []
        assert len(found) >= fields


def test_the_parts_on_kubernetes_find_one_another() -> None:
    deployment, service = on_kubernetes("Müllers Äpfel")
    pod = deployment["spec"]["template"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    (volume,), (mount,) = pod["spec"]["volumes"], container["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert mount["mountPath"] == "/models"
    assert mount["readOnly"]
    assert volume["persistentVolumeClaim"]["readOnly"]
    assert container["readinessProbe"]["httpGet"] == {
        "path": "/v1/models/M%C3%BCllers%20%C3%84pfel",
        "port": "rest",
    }


@pytest.mark.parametrize("name", NAMES)
def test_docker_and_kubernetes_start_the_same_server(name: str) -> None:
    docker = yaml.safe_load(serving.configuration(name)["compose.yaml"])["services"]["serving"]
    (container,) = on_kubernetes(name)[0]["spec"]["template"]["spec"]["containers"]
    assert docker["image"] == container["image"] == "tensorflow/serving:2.20.0"
    wanted = [
        f"--model_config_file=/models/{name}/models.config",
        "--enable_batching",
        f"--batching_parameters_file=/models/{name}/batching_parameters.txt",
    ]
    # In both, $ begins a variable and $$ stands for it.
    assert docker["command"] == container["args"] == [word.replace("$", "$$") for word in wanted]
    assert docker["volumes"][0]["target"] == f"/models/{name}".replace("$", "$$")


def test_names_become_labels_that_begin_with_a_letter() -> None:
    found = {name: kubernetes.label(name) for name in (*NAMES, "絵", "x" * 98, "-", "Weiß_1.2 ")}
    assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", label) and len(label) <= 48 for label in found.values())
    assert len(set(found.values())) == len(found), "not two networks of one name"
    assert [found[name] for name in ("photos", "Müllers Äpfel", 'a "b" $c', "2024 photos", "Weiß_1.2 ")] == [
        "photos",
        "mullers-apfel",
        "a-b-c",
        "network-2024-photos",
        "weiss-1-2",
    ]


# ---- KServe


def closed(schema: Any) -> Any:
    """Objects with named properties may have no others, as where an API server is asked to be strict: what a
    definition does not name it drops otherwise."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inside = {key: closed(value) for key, value in schema.items()}
    open_ = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return (
        inside if open_ or not isinstance(schema.get("properties"), dict) else inside | {"additionalProperties": False}
    )


@pytest.fixture(scope="module")
def kserve() -> jsonschema.Draft202012Validator:
    schema = copy.deepcopy(KSERVE["schema"])
    # Every definition has the metadata of Kubernetes, and says of it only that it is an object.
    assert schema["properties"]["metadata"] == {"type": "object"}
    schema["properties"]["metadata"]["properties"] = {"name": {"type": "string", "pattern": KSERVE["name"]}}
    schema["properties"]["kind"]["const"] = "InferenceService"
    schema["properties"]["apiVersion"]["const"] = "serving.kserve.io/v1beta1"
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"]["metadata"]["required"] = ["name"]
    return jsonschema.Draft202012Validator(closed(schema))


@pytest.mark.parametrize("name", NAMES)
def test_kserve_takes_the_inference_service(name: str, kserve: jsonschema.Draft202012Validator) -> None:
    document = yaml.safe_load(serving.configuration(name)["inferenceservice.yaml"])
    kserve.validate(document)
    assert document["metadata"]["name"] == kubernetes.label(name)
    model = document["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["runtimeVersion"] == "2.20.0"
    assert model["storageUri"] == f"pvc://exports/{name}"
    assert model["args"] == [
        "--enable_batching",
        "--batching_parameters_file=/mnt/models/batching_parameters.txt",
    ]


def test_kserve_takes_no_field_of_it_misspelt(kserve: jsonschema.Draft202012Validator) -> None:
    document = yaml.safe_load(serving.configuration("photos")["inferenceservice.yaml"])
    found = refused(kserve.validate, document, jsonschema.ValidationError)
    assert [field for field, is_refused in found.items() if not is_refused] == []
    assert len(found) >= 12
    document["spec"]["predictor"]["model"]["args"] = "--enable_batching"
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'array'"):
        kserve.validate(document)


def test_an_export_has_all_that_starts_a_server(exported: Path) -> None:
    written = {path.name: path.read_text() for path in exported.parent.iterdir() if path.is_file()}
    assert written == serving.configuration(exported.parent.name)
    assert {"compose.yaml", "kubernetes.yaml", "inferenceservice.yaml"} < {*written}
