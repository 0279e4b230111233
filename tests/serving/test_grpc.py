"""TensorFlow Serving's gRPC services: messages, texts of errors, limits; and its own stubs as a client."""

import asyncio
import json
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from app.artefacts import loading
from app.program.errors import UserError
from app.serving import messages, server, tensor_protos
from app.serving.batching import Batched, Parameters
from app.serving.bodies import Bodies
from app.serving.examples import of_request
from app.serving.grpc_answering import METHODS, PACKAGE
from app.serving.grpc_server import Grpc
from app.serving.models import Model, Models, Version
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError
from app.serving.signatures import TYPES, TensorInfo
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo, texts
from tests.serving.test_limits import Waits
from tests.serving.test_process import serving

VERSIONS = {1: Version(Echo(1)), 2: Version(None, "it is broken"), 3: Version(Echo(3))}
MODELS = Models({"m": Model(VERSIONS, {"stable": 1})})


def request(method: str, name: str | None = "m", signature: str = "", **fields: Any) -> Any:
    made = messages.message(f"{PACKAGE}.{METHODS[method].request}")(**fields)
    if name is not None:
        made.model_spec.name = name
        made.model_spec.signature_name = signature
    return made


def predicting(inputs: dict[str, NDArray[Any]], signature: str = "", name: str = "m", **fields: Any) -> Any:
    made = request("Predict", name, signature, **fields)
    dtypes = {TYPES[dtype][1]: dtype for dtype in TYPES}
    for key, array in inputs.items():
        tensor_protos.write(array, dtypes[array.dtype.type], made.inputs[key])
    return made


def answer(method: str, asked: Any, models: Models = MODELS) -> Any:
    return METHODS[method].answer(models, asked).content


def array(proto: Any) -> Any:
    """Without TensorFlow: a tensor is read as the input of a signature is."""
    dtype = tensor_protos._name(proto.dtype)
    return tensor_protos.inputs({"x": proto}, {"x": TensorInfo("", dtype, None)})["x"]


ONE = np.ones(1, np.float32)


@pytest.mark.parametrize("dtype", TYPES)
def test_tensors_of_every_type_come_back_as_they_went(dtype: str) -> None:
    short, kind = TYPES[dtype]
    given = np.array([[b"a", b"\xff"], [b"", b"d"]], np.object_)
    if kind is not np.object_:
        low, high = (-1.5, 3.25) if np.dtype(kind).kind == "f" else (0, 1)
        if np.dtype(kind).kind in "iu":
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
        given = np.array([[low, high, 0], [1, 0, 1]], kind)
    found = array(answer("Predict", predicting({"x": given}, short)).outputs["y"])
    assert found.dtype == given.dtype
    np.testing.assert_array_equal(found, given)
    if kind is not np.object_:
        packed = predicting({}, short)
        tensor_protos.write(given, dtype, packed.inputs["x"])
        packed.inputs["x"].ClearField(tensor_protos.FIELDS[dtype])
        packed.inputs["x"].tensor_content = given.tobytes()
        np.testing.assert_array_equal(array(answer("Predict", packed).outputs["y"]), given)


def test_the_last_value_of_a_tensor_stands_for_all_that_are_not_said() -> None:
    asked = predicting({"x": np.zeros((2, 2), np.float32)})
    for said, found in (([3, 4], [[3, 4], [4, 4]]), ([], [[0, 0], [0, 0]]), ([1, 2, 3, 4, 5], [[1, 2], [3, 4]])):
        del asked.inputs["x"].float_val[:]
        asked.inputs["x"].float_val.extend(said)
        np.testing.assert_array_equal(array(answer("Predict", asked).outputs["y"]), found)


def test_a_prediction_says_who_gave_it_and_has_the_outputs_that_are_wanted() -> None:
    both = {"a": ONE, "b": texts(b"b")}
    found = answer("Predict", predicting(both, "two"))
    assert (sorted(found.outputs), found.outputs["b_bytes"].string_val) == (["a", "b_bytes"], [b"b"])
    spec = found.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 3, "two")
    assert sorted(answer("Predict", predicting(both, "two", output_filter=["a"])).outputs) == ["a"]
    assert answer("Predict", predicting({"x": ONE})).model_spec.signature_name == "serving_default"
    for choice in ({"version": {"value": 1}}, {"version_label": "stable"}):
        asked = predicting({"x": ONE}, "number")
        asked.model_spec.MergeFrom(messages.message(f"{PACKAGE}.ModelSpec")(**choice))
        assert answer("Predict", asked).outputs["version"].int64_val == [1]


def spoiled(**fields: Any) -> Any:
    asked = predicting({"x": ONE})
    tensor = asked.inputs["x"]
    for name, value in fields.items():
        if name == "sides":
            del tensor.tensor_shape.dim[:]
            for side in value:
                tensor.tensor_shape.dim.add(size=side)
        elif name == "unknown_rank":
            tensor.tensor_shape.unknown_rank = value
        else:
            setattr(tensor, name, value)
    return asked


def of_version(**choice: Any) -> Any:
    asked = predicting({"x": ONE})
    asked.model_spec.MergeFrom(messages.message(f"{PACKAGE}.ModelSpec")(**choice))
    return asked


REFUSED: list[tuple[str, Any, str, str]] = [
    ("Predict", request("Predict", None), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("Predict", request("Predict", ""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    ("Predict", request("Predict", "n"), "NOT_FOUND", "Servable not found for request: Latest(n)"),
    ("Predict", of_version(version={"value": 50}), "NOT_FOUND", "Servable not found for request: Specific(m, 50)"),
    ("Predict", of_version(version={"value": 2}), "NOT_FOUND", "Servable not found for request: Specific(m, 2)"),
    ("Predict", of_version(version_label="x"), "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
    ("Predict", predicting({"x": ONE}, "none"), "FAILED_PRECONDITION", 'Serving signature key "none" not found.'),
    (
        "Predict",
        predicting({}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    (
        "Predict",
        predicting({"z": ONE}),
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
    ),
    (
        "Predict",
        predicting({"x": ONE}, output_filter=["z"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    (
        "Predict",
        predicting({"x": ONE}, output_filter=["y", "y"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    ),
    (
        "Predict",
        predicting({"x": texts(b"a")}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but string is provided",
    ),
    ("Predict", spoiled(dtype=0), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", spoiled(tensor_content=b"abc"), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", spoiled(sides=[-1]), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", spoiled(sides=[0, 2**62, 2**62]), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", spoiled(unknown_rank=True), "INVALID_ARGUMENT", "tensor parsing error: x"),
    ("Predict", spoiled(sides=[2**40]), "RESOURCE_EXHAUSTED", "The input x is larger than 67108864 bytes."),
    ("Predict", predicting({"x": ONE}, "fails"), "RESOURCE_EXHAUSTED", "it ran out"),
    ("Classify", request("Classify", "n"), "NOT_FOUND", "Servable not found for request: Latest(n)"),
    ("Classify", request("Classify", "m", "both"), "INVALID_ARGUMENT", "Input is empty."),
    ("Classify", request("Classify", "m", "x"), "INVALID_ARGUMENT", "No signature was found with the name: x"),
    ("Classify", request("Classify", "m", "two"), "INVALID_ARGUMENT", "Expected one input Tensor."),
    ("Regress", request("Regress", "n"), "NOT_FOUND", "Servable not found for request: Latest(n)"),
    ("Regress", request("Regress"), "INVALID_ARGUMENT", "No regression inputs found in SignatureDef: serving_default"),
    (
        "MultiInference",
        messages.message(f"{PACKAGE}.MultiInferenceRequest")(),
        "UNIMPLEMENTED",
        "MultiInference is not",
    ),
    ("GetModelMetadata", request("GetModelMetadata", None), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (
        "GetModelMetadata",
        request("GetModelMetadata"),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    (
        "GetModelMetadata",
        request("GetModelMetadata", metadata_field=["x"]),
        "INVALID_ARGUMENT",
        "Metadata field x is not supported",
    ),
    ("GetModelStatus", request("GetModelStatus", None), "INVALID_ARGUMENT", "Missing ModelSpec"),
    ("GetModelStatus", request("GetModelStatus", "n"), "NOT_FOUND", "Could not find any versions of model n"),
]


@pytest.mark.parametrize(("method", "asked", "code", "said"), REFUSED)
def test_what_is_refused_has_tensorflow_servings_code_and_text(method: str, asked: Any, code: str, said: str) -> None:
    with pytest.raises(RefusedError) as refused:
        answer(method, asked)
    assert (refused.value.code, refused.value.message[: len(said)]) == (code, said)


def test_no_mutation_of_a_valid_message_is_more_than_refused() -> None:
    random_ = random.Random(0)
    both = predicting({"a": ONE, "b": texts(b"b")}, "two", output_filter=["a"])
    classify = request("Classify", "m", "both")
    classify.input.example_list.examples.append(of_request({"examples": [{"a": 1}]})[0])
    outcomes = Counter[str]()
    for _ in range(1000):
        method, asked = random_.choice([("Predict", both), ("Classify", classify)])
        content = bytearray(asked.SerializeToString())
        for _ in range(random_.randint(1, 3)):
            content[random_.randrange(len(content))] = random_.randrange(256)
        try:
            answer(method, type(asked).FromString(bytes(content)))
            outcomes["answered"] += 1
        except DecodeError:
            outcomes["no message"] += 1
        except RefusedError:
            outcomes["refused"] += 1
    assert min(outcomes[kind] for kind in ("answered", "no message", "refused")) > 20, outcomes


def test_classes_are_told_with_their_scores_and_a_context_stands_before_its_examples() -> None:
    first, second = of_request({"examples": [{"a": 1}, {"a": 2}]})
    asked = request("Classify", "m", "both")
    asked.input.example_list.examples.extend([first, second])
    found = answer("Classify", asked)
    rows = [[(each.label, each.score) for each in row.classes] for row in found.result.classifications]
    assert rows == [[("cat", 0.75), ("dog", 0.25)]] * 2
    assert (found.model_spec.version.value, found.model_spec.signature_name) == (3, "both")
    asked.input.example_list_with_context.examples.append(first)
    asked.input.example_list_with_context.context = second
    answer("Classify", asked)
    assert VERSIONS[3].servable.seen == [second + first]  # type: ignore[union-attr]
    for signature, one in (("only_classes", ("cat", 0.0)), ("only_scores", ("", 0.75))):
        asked.model_spec.signature_name = signature
        classes = answer("Classify", asked).result.classifications[0].classes
        assert (classes[0].label, classes[0].score) == one


def test_status_and_metadata_are_those_of_http() -> None:
    found = answer("GetModelStatus", request("GetModelStatus"))
    said = [
        (one.version, one.state, one.status.error_code, one.status.error_message) for one in found.model_version_status
    ]
    assert said == [(3, 30, 0, ""), (2, 50, 2, "it is broken"), (1, 30, 0, "")]
    found = answer("GetModelMetadata", request("GetModelMetadata", metadata_field=["signature_def"]))
    assert (found.model_spec.name, found.model_spec.version.value) == ("m", 3)
    packed = found.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signatures = messages.message(f"{PACKAGE}.SignatureDefMap").FromString(packed.value).signature_def
    assert sorted(signatures) == sorted(VERSIONS[3].servable.signatures)  # type: ignore[union-attr]
    info = signatures["two"].inputs["b"]
    assert (info.name, info.dtype, info.tensor_shape.unknown_rank) == ("b:0", 7, True)


def served(use: Callable[[Any, Grpc], Awaitable[None]], models: Models = MODELS, turns: Turns | None = None) -> None:
    """`use` gets a channel to a server that answers for it."""

    async def serve() -> None:
        answering = Grpc(models, turns or Turns(Settings()), server.listen("127.0.0.1", 0), "127.0.0.1")
        await answering.start()
        try:
            async with grpc.aio.insecure_channel(answering.address) as channel:
                await use(channel, answering)
        finally:
            await answering.stop(0)

    asyncio.run(asyncio.wait_for(serve(), 60))


async def call(channel: Any, method: str, asked: Any, **options: Any) -> Any:
    response = {
        "Predict": "PredictResponse",
        "GetModelStatus": "GetModelStatusResponse",
        "HandleReloadConfigRequest": "ReloadConfigResponse",
    }[method]
    stub = channel.unary_unary(
        f"/{METHODS[method].service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages.message(f"{PACKAGE}.{response}").FromString,
    )
    return await stub(asked, **options)


async def refusal(channel: Any, asked: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(channel, "Predict", asked, **options)
    return refused.value.code().name, refused.value.details() or ""


def test_a_file_answers_by_grpc_as_by_itself(exported: Path) -> None:
    network = loading.load(exported / "model.tflite")
    picture = exported / "golden" / json.loads((exported / "golden" / "golden.json").read_text())[0]["file"]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)

    async def use(channel: Any, _: Grpc) -> None:
        good = {"image_bytes": texts(picture.read_bytes(), b"none")}
        found = (await call(channel, "Predict", predicting(good, name="pictures"))).outputs
        classes, scores, errors = (array(found[name]) for name in ("classes", "scores", "errors"))
        assert classes.shape == scores.shape
        assert (classes[0, 0].decode() in network.labels, classes[1, 0], errors[0]) == (True, b"", b"")
        asked = predicting({"images": pixels}, "predict_pixels", "pictures")
        found = (await call(channel, "Predict", asked)).outputs
        np.testing.assert_allclose(array(found["probabilities"]), network.answer(pixels), atol=1e-6)
        code, said = await refusal(channel, predicting({"image_bytes": texts(b"none")}, name="pictures"))
        assert (code, said) == ("INVALID_ARGUMENT", errors[1].decode())
        status = await call(channel, "GetModelStatus", request("GetModelStatus", "pictures"))
        assert [one.state for one in status.model_version_status] == [30]

    served(use, Models({"pictures": Model({1: Version(OfFile(network))}, {})}))


def test_only_who_has_the_token_is_answered_by_grpc(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns(Settings("secret"))

    async def use(channel: Any, _: Grpc) -> None:
        asked = predicting({"x": ONE})
        for given in ((), (("authorization", "Bearer secret2"),), (("authorization", "secret"),)):
            code, said = await refusal(channel, asked, metadata=given)
            assert (code, said) == ("UNAUTHENTICATED", "The header Authorization has not this server's token.")
        assert await call(channel, "Predict", asked, metadata=(("authorization", "Bearer secret"),))
        # What fails tells its reason to the log alone; what is long is cut.
        allowed = (("authorization", "Bearer secret"),)
        code, said = await refusal(channel, predicting({"x": ONE}, "breaks"), metadata=allowed)
        assert (code, said) == ("INTERNAL", "The server failed at this request; its log says how.")
        code, said = await refusal(channel, predicting({"x": ONE}, "s" * 5000), metadata=allowed)
        assert (code, len(said), said[-15:]) == ("FAILED_PRECONDITION", 1024 + 12, "sss...TRUNCATED")

    served(use, turns=turns)
    assert "a secret of the program" in caplog.text
    page = turns.metrics.page().decode()
    assert '{model_name="m",status="OK"} 1.0' in page
    assert '{model_name="",status="UNAUTHENTICATED"} 3.0' in page
    assert 'request_latency_count{API="predict",entrypoint="GRPC",model_name="m"} 1.0' in page


def test_grpc_has_the_limits_of_http() -> None:
    bodies = Bodies(most=1000, together=1500, reserved=0)

    async def use(channel: Any, _: Grpc) -> None:
        code, _said = await refusal(channel, predicting({"x": np.ones(300, np.float32)}))
        assert code == "RESOURCE_EXHAUSTED"
        bodies.held = 1400  # of others
        code, said = await refusal(channel, predicting({"x": np.ones(100, np.float32)}))
        assert (code, said) == ("UNAVAILABLE", "The server holds as much as it can; try again.")
        assert await call(channel, "Predict", predicting({"x": ONE}))
        assert bodies.held == 1400

    served(use, turns=Turns(Settings(), bodies))


def test_grpc_waits_in_the_same_queue_and_no_longer_than_its_deadline() -> None:
    class Counts(Waits):
        runs = 0

        def run(self, signature: str, inputs: Any) -> Any:
            self.runs += 1
            return super().run(signature, inputs)

    waits = Counts()

    async def use(channel: Any, _: Grpc) -> None:
        asked = predicting({"x": ONE})
        first = asyncio.create_task(call(channel, "Predict", asked))
        await asyncio.to_thread(waits.begun.wait, 10)
        assert (await refusal(channel, asked, timeout=0.1))[0] == "DEADLINE_EXCEEDED"
        gone = asyncio.create_task(call(channel, "Predict", asked))
        await asyncio.sleep(0.05)
        gone.cancel()
        late = asyncio.create_task(refusal(channel, asked))  # the one before has its place until its turn
        await asyncio.sleep(0.05)
        code, said = await refusal(channel, asked)
        assert (code, said) == ("UNAVAILABLE", "4 requests wait already; try again.")
        code, said = await late
        assert (code, said) == ("DEADLINE_EXCEEDED", "There was no answer in 0.5 seconds.")
        waits.go.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await first
        await asyncio.sleep(0.1)
        assert await call(channel, "Predict", asked)
        assert waits.runs == 2  # the first and the last: nobody waited for the others any more

    models = Models({"m": Model({1: Version(Batched(waits, Parameters()))}, {})})
    served(use, models, Turns(Settings(waiting=4, deadline=0.5)))


def test_what_is_asked_is_answered_at_the_end_and_who_watches_is_let_go() -> None:
    waits = Waits()

    async def use(channel: Any, answering: Grpc) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        state = health_pb2.HealthCheckResponse
        for name in ("", "PredictionService", "tensorflow.serving.ModelService"):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == state.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
            await health.Check(health_pb2.HealthCheckRequest(service="other"))
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == state.SERVING
        asked = asyncio.create_task(call(channel, "Predict", predicting({"x": ONE})))
        await asyncio.to_thread(waits.begun.wait, 10)
        started = time.monotonic()
        ending = asyncio.create_task(answering.stop(30))
        assert (await watching.read()).status == state.NOT_SERVING
        await asyncio.sleep(0.2)
        assert not ending.done()
        waits.go.set()
        assert array((await asked).outputs["y"]) == [1]
        await ending
        assert time.monotonic() - started < 10

    served(use, Models({"m": Model({1: Version(waits)}, {})}))


def test_a_port_of_grpc_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is in use; choose another --grpc-port."):
            server.listen("127.0.0.1", port, "--grpc-port")

    async def use(_: Any, answering: Grpc) -> None:
        port = int(answering.address.rpartition(":")[2])
        with pytest.raises(UserError, match=f"Port {port} of 127.0.0.1 is in use"):
            server.listen("127.0.0.1", port, "--grpc-port")
        # Another, which had the port before this began to answer.
        with socket.socket() as listening:
            listening.bind(("127.0.0.2", port))
            late = Grpc(MODELS, Turns(Settings()), listening, "127.0.0.1")
            with pytest.raises(UserError, match=f"Port {port} is in use; choose another --grpc-port."):
                await late.start()

    served(use)


POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
OURS = {  # by names of their own here
    "Dim": "TensorShapeProto.Dim",
    "State": "ModelVersionStatus.State",
    "ServableVersionPolicy": POLICY,
    **{choice: f"{POLICY}.{choice}" for choice in ("Latest", "All", "Specific")},
}
BYTES = {"ExampleList.examples", "ExampleListWithContext.examples", "ExampleListWithContext.context"}


@pytest.mark.slow
def test_the_messages_are_those_of_the_official_stubs() -> None:
    from google.protobuf import descriptor_pool
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401

    official, seen = descriptor_pool.Default(), 0

    def theirs(name: str) -> str:
        package, _, last = name.rpartition(".")
        return f"{package}.{OURS.get(last, last)}"

    def check(field: Any, known: Any) -> None:
        assert (known.number, known.is_repeated) == (field.number, field.is_repeated), field.full_name
        if field.full_name.removeprefix(f"{PACKAGE}.") in BYTES:
            assert (known.message_type.full_name, field.type) == ("tensorflow.Example", field.TYPE_BYTES)
            return
        assert known.type == field.type, field.full_name
        if field.enum_type:
            assert known.enum_type.full_name == theirs(field.enum_type.full_name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            for part, other in zip(field.message_type.fields, known.message_type.fields, strict=True):
                check(part, other)
        elif field.message_type:
            assert known.message_type.full_name == theirs(field.message_type.full_name)
        # Of a TensorInfo there are other kinds, which no export here has.
        choice, other = field.containing_oneof, known.containing_oneof
        if field.full_name != "tensorflow.TensorInfo.name":
            assert (choice and choice.name) == (other and other.name), field.full_name

    for package in messages.MESSAGES:
        file = messages.pool().FindFileByName(f"{package}.proto")
        for name, enum in file.enum_types_by_name.items():
            values = official.FindEnumTypeByName(theirs(f"{package}.{name}")).values_by_name
            for value in enum.values:
                assert values[value.name].number == value.number
        for name, described in file.message_types_by_name.items():
            if name == "BatchingParameters":  # of a file, and not of a service: the stubs lack it
                continue
            fields = official.FindMessageTypeByName(theirs(f"{package}.{name}")).fields_by_name
            for field in described.fields:
                check(field, fields[field.name])
                seen += 1
    assert seen > 50
    for name, method in METHODS.items():
        known = official.FindServiceByName(method.service).methods_by_name[name]
        assert known.input_type.full_name == f"{PACKAGE}.{method.request}"


# As somebody writes it who has TensorFlow Serving.
CLIENT = """
import json, sys
from pathlib import Path
import grpc, numpy as np, tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, model_management_pb2,
    model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc, regression_pb2,
)

address, picture = sys.argv[1], Path(sys.argv[2]).read_bytes()
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)
told = {}

def asked(kind, signature="", name="pictures"):
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    return request

def refused(call, request):
    try:
        call(request, timeout=30)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

request = asked(predict_pb2.PredictRequest)
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([picture, b"none"]))
found = prediction.Predict(request, timeout=30)
told["outputs"] = sorted(found.outputs)
told["classes"] = [each.decode() for each in tf.make_ndarray(found.outputs["classes"])[0]]
told["scores"] = tf.make_ndarray(found.outputs["scores"])[0].tolist()
told["spec"] = [found.model_spec.name, found.model_spec.version.value, found.model_spec.signature_name]
request.output_filter.append("scores")
told["filtered"] = sorted(prediction.Predict(request).outputs)
request.model_spec.version_label = "stable"
told["labelled"] = prediction.Predict(request).model_spec.version.value
request.model_spec.version.value = 9
told["unknown version"] = refused(prediction.Predict, request)

pixels = asked(predict_pb2.PredictRequest, "predict_pixels")
images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
pixels.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
probabilities = tf.make_ndarray(prediction.Predict(pixels).outputs["probabilities"])
told["probabilities"] = [list(probabilities.shape), probabilities.sum(axis=1).tolist()]
pixels.inputs["images"].CopyFrom(tf.make_tensor_proto(images.astype(np.float32)))
told["wrong type"] = refused(prediction.Predict, pixels)
pixels.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
pixels.inputs["images"].tensor_content = b"abc"
told["bad tensor"] = refused(prediction.Predict, pixels)

classify = asked(classification_pb2.ClassificationRequest, "classify")
example = tf.train.Example()
example.features.feature["image/encoded"].bytes_list.value.append(picture)
classify.input.example_list.examples.append(example)
best = prediction.Classify(classify).result.classifications[0].classes[0]
told["classified"] = [best.label, best.score]

metadata = asked(get_model_metadata_pb2.GetModelMetadataRequest)
metadata.metadata_field.append("signature_def")
signatures = get_model_metadata_pb2.SignatureDefMap()
assert prediction.GetModelMetadata(metadata).metadata["signature_def"].Unpack(signatures)
told["signatures"] = {name: sorted(signature.inputs) for name, signature in signatures.signature_def.items()}
status = models.GetModelStatus(asked(get_model_status_pb2.GetModelStatusRequest)).model_version_status
told["status"] = [[one.version, one.state, one.status.error_code] for one in status]
told["health"] = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status
told["unknown"] = refused(prediction.Predict, asked(predict_pb2.PredictRequest, name="none"))
told["regress"] = refused(prediction.Regress, asked(regression_pb2.RegressionRequest, "classify"))
told["several"] = refused(prediction.MultiInference, inference_pb2.MultiInferenceRequest())[0]

reload = model_management_pb2.ReloadConfigRequest()
model = reload.config.model_config_list.config.add(name="again", base_path=sys.argv[3], model_platform="tensorflow")
model.model_version_policy.all.SetInParent()
model.version_labels["canary"] = 1
told["reloaded"] = models.HandleReloadConfigRequest(reload, timeout=60).status.error_code
request.model_spec.name, request.model_spec.version_label = "again", "canary"
told["of the other name"] = prediction.Predict(request).model_spec.version.value
model.version_labels["canary"] = 2
told["wrong label"] = refused(models.HandleReloadConfigRequest, reload)
print(json.dumps(told))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def golden(exported: Path) -> Path:
    return exported / "golden" / str(json.loads((exported / "golden" / "golden.json").read_text())[0]["file"])


@pytest.mark.slow
def test_an_unchanged_client_on_the_official_stubs_is_answered(
    exported: Path, fresh_process: Callable[..., str]
) -> None:
    def told(artefact: str) -> dict[str, Any]:
        port = free_port()
        options = ("--artefact", artefact, "--label", "stable=1", "--grpc-port", str(port))
        with serving(exported.parent, *options) as (process, _):
            found = json.loads(fresh_process(CLIENT, f"127.0.0.1:{port}", golden(exported), exported.parent))
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            assert ("/site-packages/tensorflow/" in maps) == (artefact == "saved_model")
            (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            print(f"{artefact}: {int(peak) / 1000:.0f} MB")
            if artefact == "tflite":
                assert int(peak) * 1024 < 150e6 + 3 * (exported / "model.tflite").stat().st_size
            # Its socket is of IPv6, at the address that means 127.0.0.1.
            tables = [Path(f"/proc/{process.pid}/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
            sockets = [line.split() for table in tables for line in table]
            addresses = [line[1] for line in sockets if line[3] == "0A" and line[1].endswith(f":{port:04X}")]
            assert [address[-13:] for address in addresses] == [f"0100007F:{port:04X}"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        return dict(found)

    file, saved_model = told("tflite"), told("saved_model")
    for found in (file, saved_model):
        assert found["outputs"] == ["classes", "errors", "scores"]
        assert found["spec"] == ["pictures", 1, "serving_default"]
        assert (found["filtered"], found["labelled"]) == (["scores"], 1)
        assert found["unknown version"] == ["NOT_FOUND", "Servable not found for request: Specific(pictures, 9)"]
        shape, sums = found["probabilities"]
        assert (shape[0], sums) == (2, pytest.approx([1, 1], abs=1e-5))
        assert found["wrong type"] == ["INVALID_ARGUMENT", "Expects arg[0] to be uint8 but float is provided"]
        assert found["bad tensor"] == ["INVALID_ARGUMENT", "tensor parsing error: images"]
        assert found["classified"] == [found["classes"][0], pytest.approx(found["scores"][0], abs=1e-6)]
        assert found["signatures"]["serving_default"] == ["image_bytes"]
        assert (found["status"], found["health"]) == ([[1, 30, 0]], 1)
        assert found["unknown"] == ["NOT_FOUND", "Servable not found for request: Latest(none)"]
        assert found["regress"] == ["INVALID_ARGUMENT", "Expected one output Tensor."]
        assert found["several"] == "UNIMPLEMENTED"
        assert (found["reloaded"], found["of the other name"]) == (0, 1)
        why = "Request to assign label to version 2 of model again, which is not currently available for inference"
        assert found["wrong label"] == ["FAILED_PRECONDITION", f"{why}; 'canary' can be of 1."]
    assert file["classes"] == saved_model["classes"]
    assert file["scores"] == pytest.approx(saved_model["scores"], abs=1e-5)


@pytest.mark.slow
def test_requests_by_grpc_in_flight_are_answered_after_sigterm(exported: Path) -> None:
    port = free_port()
    asked = predicting({"image_bytes": texts(*[golden(exported).read_bytes()] * 40)}, name="pictures")

    async def ask(process: Any) -> list[int]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            calls = [asyncio.create_task(call(channel, "Predict", asked)) for _ in range(50)]
            await asyncio.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            return [len(found.outputs["errors"].string_val) for found in await asyncio.gather(*calls)]

    with serving(exported.parent, "--artefact", "tflite", "--grpc-port", str(port)) as (process, _):
        assert asyncio.run(ask(process)) == [40] * 50
        assert process.wait(60) == 0
