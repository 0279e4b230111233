"""What TensorFlow Serving's gRPC services are asked and answer, on messages: as by HTTP, but for the codec and
the texts that differ (prediction_service_impl.cc, get_model_metadata_impl.cc, get_model_status_impl.cc)."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from app.serving import answering, batches, examples, tensor_protos
from app.serving.answering import Answer
from app.serving.messages import message
from app.serving.models import Models, Wanted
from app.serving.refusals import RefusedError
from app.serving.signatures import DEFAULT

PACKAGE = "tensorflow.serving"
PREDICTION, STATUS = f"{PACKAGE}.PredictionService", f"{PACKAGE}.ModelService"


class Method(NamedTuple):
    """`request` is the message's name. What runs no network, `at_once`, waits for none; what is `long` takes its time
    beside those."""

    service: str
    request: str
    answer: Callable[[Models, Any], Answer[Any]]
    at_once: bool = False
    long: bool = False


def predict(models: Models, request: Any) -> Answer[Any]:
    """
    Raises:
        RefusedError: the request, or a picture that is alone in it, has no answer.
    """
    number, servable = models.find(named(request))
    name = request.model_spec.signature_name or DEFAULT
    if name not in servable.signatures:
        raise RefusedError(f'Serving signature key "{name}" not found.', "FAILED_PRECONDITION")
    signature = servable.signatures[name]
    inputs = tensor_protos.inputs(request.inputs, signature.inputs)
    wanted = tensor_protos.output_names(list(request.output_filter), signature.outputs)
    outputs = answering.run(servable, name, inputs)
    response = message(f"{PACKAGE}.PredictResponse")()
    for key in wanted:
        tensor_protos.write(outputs[key], signature.outputs[key].dtype, response.outputs[key])
    _answered_by(response.model_spec, request, number, name)
    return Answer(response, number, name, answering.rows(inputs))


def classify(models: Models, request: Any) -> Answer[Any]:
    """
    Raises:
        RefusedError: the request, or a picture that is alone in it, has no answer, or its signature is none for this.
    """
    number, servable = models.find(named(request))
    name = request.model_spec.signature_name or DEFAULT
    given = request.input
    with_context = given.example_list_with_context
    batches.check(len(given.example_list.examples) + len(with_context.examples))
    serialised = [*given.example_list.examples, *examples.behind(with_context.context, with_context.examples)]
    labels, scores = answering.classes(servable, name, serialised)
    response = message(f"{PACKAGE}.ClassificationResponse")()
    for row in range(len(serialised)):
        classes = response.result.classifications.add().classes
        for column in range((labels if labels is not None else scores).shape[1]):  # type: ignore[union-attr]
            label = "" if labels is None else labels[row, column].decode("utf-8", "replace")
            classes.add(label=label, score=0.0 if scores is None else scores[row, column])
    _answered_by(response.model_spec, request, number, name)
    return Answer(response, number, name, len(serialised))


def regress(models: Models, request: Any) -> NoReturn:
    """
    Raises:
        RefusedError: in every case. No network here is one of regression.
    """
    _, servable = models.find(named(request))
    answering.refuse_regression(servable, request.model_spec.signature_name or DEFAULT)


def multi_inference(models: Models, request: Any) -> NoReturn:
    """
    Raises:
        RefusedError: in every case.
    """
    raise RefusedError("MultiInference is not answered here; ask Classify.", "UNIMPLEMENTED")


def metadata(models: Models, request: Any) -> Answer[Any]:
    """
    Raises:
        RefusedError: there is no such version; something else than its signatures is wanted.
    """
    from google.protobuf import json_format

    wanted = named(request, nameless=True)
    if not request.metadata_field:
        raise RefusedError("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise RefusedError(f"Metadata field {field} is not supported")
    if not wanted.name:
        raise RefusedError("ModelSpec has no name specified.")
    said = answering.metadata(models, wanted)
    response = message(f"{PACKAGE}.GetModelMetadataResponse")()
    signatures = message(f"{PACKAGE}.SignatureDefMap")()
    json_format.ParseDict(said["metadata"]["signature_def"], signatures)
    response.metadata["signature_def"].Pack(signatures)
    number = response.model_spec.version.value = int(said["model_spec"]["version"])
    response.model_spec.name = wanted.name
    return Answer(response, number, "", 0)


def status(models: Models, request: Any) -> Answer[Any]:
    """
    Raises:
        RefusedError: there is no such network or version.
    """
    from google.protobuf import json_format

    said = models.status(named(request, nameless=True))
    return Answer(json_format.ParseDict(said, message(f"{PACKAGE}.GetModelStatusResponse")()), 0, "", 0)


def reload(models: Models, request: Any) -> Answer[Any]:
    """
    Raises:
        RefusedError: what is to be served cannot be; what was served still is.
    """
    if request.config.WhichOneof("config") != "model_config_list":
        said = "ServerModelConfig type not supported by HandleReloadConfigRequest."
        raise RefusedError(f"{said} Only ModelConfigList is currently supported")
    if models.reload is None:
        raise RefusedError("What is served here cannot be changed.", "UNIMPLEMENTED")
    models.reload(request.config)
    response = message(f"{PACKAGE}.ReloadConfigResponse")()
    response.status.SetInParent()  # it says OK
    return Answer(response, 0, "", 0)


def named(request: Any, nameless: bool = False) -> Wanted:
    """What a request asks.

    Raises:
        RefusedError: it does not say, or not the name unless it may be `nameless`.
    """
    if not request.HasField("model_spec"):
        raise RefusedError("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name and not nameless:
        raise RefusedError("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return Wanted(spec.name, version, spec.version_label if choice == "version_label" else None)


def _answered_by(spec: Any, request: Any, number: int, signature: str) -> None:
    spec.name, spec.version.value, spec.signature_name = request.model_spec.name, number, signature


METHODS = {
    "Predict": Method(PREDICTION, "PredictRequest", predict),
    "Classify": Method(PREDICTION, "ClassificationRequest", classify),
    "Regress": Method(PREDICTION, "RegressionRequest", regress, at_once=True),
    "MultiInference": Method(PREDICTION, "MultiInferenceRequest", multi_inference, at_once=True),
    "GetModelMetadata": Method(PREDICTION, "GetModelMetadataRequest", metadata, at_once=True),
    "GetModelStatus": Method(STATUS, "GetModelStatusRequest", status, at_once=True),
    "HandleReloadConfigRequest": Method(STATUS, "ReloadConfigRequest", reload, at_once=True, long=True),
}
