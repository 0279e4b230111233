"""The Open Inference Protocol over HTTP: its paths, its JSON, and the bytes behind it."""

import asyncio
import base64
import gzip
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from app.artefacts import loading
from app.serving import binary_tensors, examples, inference_answering
from app.serving.application import application
from app.serving.bodies import Bodies
from app.serving.inference_tensors import HEADER
from app.serving.models import Model, Models, Version, Wanted
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo, ask, asking
from tests.serving.test_limits import Waits

M = "/v2/models/m"
IN_BYTES = {"binary_data_output": True}
MODELS = Models({"m": Model({1: Version(Echo(1)), 2: Version(None, "broken"), 3: Version(Echo(3))}, {"stable": 1})})


@pytest.fixture(scope="module")
def served() -> Starlette:
    return application(MODELS, Turns(Settings()))


@pytest.fixture(scope="module")
def pictures_served(exported: Path) -> Starlette:
    network = OfFile(loading.load(exported / "model.tflite"))
    return application(Models({"pictures": Model({1: Version(network)}, {})}), Turns(Settings()))


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """An input; `size=4` says that four bytes of it are behind the JSON."""
    if "size" in parameters:
        parameters["binary_data_size"] = parameters.pop("size")
    said = {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}
    return said if data is None else {**said, "data": data}


def request(*inputs: Any, signature: str | None = None, **more: Any) -> dict[str, Any]:
    parameters = more.pop("parameters", {}) | ({"signature_name": signature} if signature else {})
    return {"inputs": list(inputs), "parameters": parameters, **more}


def infer(
    app: Starlette, said: Any, behind: bytes = b"", path: str = M, header: str | None = None, **headers: str
) -> httpx.Response:
    written = said if isinstance(said, bytes) else json.dumps(said).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if behind or header is not None:
        headers[HEADER] = str(len(written)) if header is None else header
    return ask(app, "POST", f"{path}/infer", written + behind, headers=headers)


def refused(answer: httpx.Response, status: int, said: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


def outputs(answer: httpx.Response) -> dict[str, Any]:
    """The values of an answer by their names: of JSON, or as the bytes behind it."""
    assert answer.status_code == 200, answer.text
    header = int(answer.headers.get(HEADER, len(answer.content)))
    assert answer.headers["content-type"] == f"application/{'octet-stream' if HEADER in answer.headers else 'json'}"
    found, at = {}, header
    for said in json.loads(answer.content[:header])["outputs"]:
        size = said.get("parameters", {}).get("binary_data_size", 0)
        found[said["name"]] = said["data"] if "data" in said else answer.content[at : at + size]
        at += size
    assert at == len(answer.content)
    return found


def elements(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def split(content: bytes) -> list[bytes]:
    found = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        found.append(content[4 : 4 + length])
        content = content[4 + length :]
    return found


def test_the_server_says_that_it_lives_what_it_is_and_what_it_serves(served: Starlette) -> None:
    for path in ("/v2", "/v2/"):
        assert ask(served, "GET", path).json().keys() == {"name", "version", "extensions"}
    assert ask(served, "GET", "/v2").json()["extensions"] == ["binary_tensor_data"]
    assert ask(served, "GET", "/v2/health/live").json() == {"live": True}
    assert ask(served, "GET", "/v2/health/ready").json() == {"ready": True}
    broken = application(Models({"m": Model({1: Version(None, "broken")}, {})}), Turns(Settings()))
    answer = ask(broken, "GET", "/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})
    assert ask(broken, "GET", f"{M}/ready").status_code == 404
    for path in ("", "/versions/3", "/versions/0003", "/versions/stable"):
        assert ask(served, "GET", f"{M}{path}/ready").json() == {"name": "m", "ready": True}


def test_metadata_is_that_of_the_default_signature_or_of_one_that_is_named(pictures_served: Starlette) -> None:
    found = ask(pictures_served, "GET", "/v2/models/pictures").json()
    assert found == {
        "name": "pictures",
        "versions": ["1"],
        "platform": "litert_tflite",
        "inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "classes", "datatype": "BYTES", "shape": [-1, 3]},
            {"name": "errors", "datatype": "BYTES", "shape": [-1]},
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
        ],
        "parameters": {
            "signature_name": "serving_default",
            "signature_names": ["classify", "predict_pixels", "serving_default"],
        },
    }
    other = ask(pictures_served, "GET", "/v2/models/pictures/versions/1?signature_name=predict_pixels").json()
    assert other["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    refused(ask(pictures_served, "GET", "/v2/models/pictures?signature_name=x"), 400, 'no signature "x"; there are')


def test_versions_are_those_that_answer(served: Starlette) -> None:
    assert ask(served, "GET", M).json()["versions"] == ["1", "3"]


@pytest.mark.parametrize(
    ("method", "target", "status", "said"),
    [
        ("GET", "/v2/models/other", 404, "Servable not found for request: Latest(other)"),
        ("GET", "/v2/models/a%2Fb", 404, "Latest(a/b)"),
        ("GET", f"{M}/versions/2", 404, "Servable not found for request: Specific(m, 2)"),
        ("GET", f"{M}/versions/2/ready", 404, "Specific(m, 2)"),
        ("POST", f"{M}/versions/2/infer", 404, "Specific(m, 2)"),
        ("POST", f"{M}/versions/{'9' * 5000}/infer", 404, "Specific(m, 9999"),
        ("POST", f"{M}/versions/x/infer", 404, "Unrecognized servable version label: x"),
        ("GET", f"{M}/config", 404, "The Open Inference Protocol has no GET /v2/models/m/config."),
        ("GET", "/v2/models", 404, "has no GET /v2/models."),
        ("GET", "/v2/models/..%2f..%2fetc", 404, "Latest(../../etc)"),
        ("POST", "/v2/repository/index", 404, "has no POST /v2/repository/index."),
        ("GET", f"{M}/infer", 405, "/v2/models/m/infer is asked by POST, and not by GET."),
        ("POST", M, 405, "is asked by GET, and not by POST."),
        ("DELETE", "/v2", 405, "is asked by GET, and not by DELETE."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_not_there_is_said(served: Starlette, method: str, target: str, status: int, said: str) -> None:
    body = json.dumps(request(tensor("x", "FP32", [1], [1]))) if method == "POST" else None
    answer = ask(served, method, target, body)
    refused(answer, status, said)
    assert answer.headers.get("allow") == (None if status == 404 else said.split("by ")[1].split(",")[0])


ARRAYS = [
    ("float", "FP32", np.array([[0.1, -1e30], [np.inf, 3]], np.float32)),
    ("double", "FP64", np.array([0.1, 1e300])),
    *((f"int{bits}", f"INT{bits}", np.array([-5, 2 ** (bits - 1) - 1], f"int{bits}")) for bits in (8, 16, 32, 64)),
    *((f"uint{bits}", f"UINT{bits}", np.array([[2**bits - 1], [0]], f"uint{bits}")) for bits in (8, 16, 32, 64)),
    ("bool", "BOOL", np.array([True, False, True])),
]


@pytest.mark.parametrize(("signature", "datatype", "array"), ARRAYS, ids=lambda value: str(value)[:8])
def test_a_tensor_of_every_type_comes_back_as_it_went_as_json_and_as_bytes(
    served: Starlette, signature: str, datatype: str, array: np.ndarray[Any, Any]
) -> None:
    shape, data = list(array.shape), array.tobytes()
    flat, nested = (tensor("x", datatype, shape, values) for values in (array.ravel().tolist(), array.tolist()))
    behind = tensor("x", datatype, shape, size=len(data))
    for said, more in ((flat, b""), (nested, b""), (behind, data)):
        answer = infer(served, request(said, signature=signature), more)
        (values,) = outputs(answer).values()
        np.testing.assert_array_equal(np.array(values, array.dtype), array.ravel())
        (output,) = answer.json()["outputs"]
        assert (output["datatype"], output["shape"]) == (datatype, shape)
        in_bytes = request(said, signature=signature, parameters=IN_BYTES)
        assert outputs(infer(served, in_bytes, more)) == {"y": data}


def test_half_numbers_are_bytes_alone_and_texts_are_text_or_bytes(served: Starlette) -> None:
    half = np.array([1.5, -2], np.float16).tobytes()
    said = request(tensor("x", "FP16", [2], size=4), signature="half")
    refused(infer(served, said, half), 400, "JSON has no FP16, which the output y is; ask for it with `binary_data`.")
    assert outputs(infer(served, {**said, "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}, half)) == {
        "y": half
    }
    in_json = request(tensor("x", "FP16", [2], [1.5, -2]), signature="half")
    refused(infer(served, in_json), 400, "The input x is FP16, which JSON has not; send it as bytes")
    texts = request(tensor("x", "BYTES", [2], ["é", 'a"\n\0']), signature="string")
    assert outputs(infer(served, texts)) == {"y": ["é", 'a"\n\0']}
    odd = elements(b"\xff\xfe", b"")
    behind = request(tensor("x", "BYTES", [2, 1], size=len(odd)), signature="string")
    refused(infer(served, behind, odd), 400, "The output y is no text; ask for it with `binary_data`.")
    assert outputs(
        infer(served, behind | {"parameters": behind["parameters"] | {"binary_data_output": True}}, odd)
    ) == {"y": odd}


def test_numbers_are_read_wherever_they_lie_behind_the_json(served: Starlette) -> None:
    """At an odd address, which not every network takes."""
    values = np.array([1.5, 2.5], np.float32).tobytes()
    inputs = (tensor("b", "BYTES", [1], size=5), tensor("a", "FP32", [2], size=8))
    more = {"outputs": [{"name": "a"}, {"name": "b_bytes", "parameters": {"binary_data": True}}], "id": "é 42"}
    answer = infer(served, request(*inputs, signature="two", **more), elements(b"q") + values)
    assert outputs(answer) == {"a": [1.5, 2.5], "b_bytes": elements(b"q")}
    said = json.loads(answer.content[: int(answer.headers[HEADER])])
    assert (said["model_name"], said["model_version"], said["id"]) == ("m", "3", "é 42")
    assert [each["name"] for each in said["outputs"]] == ["a", "b_bytes"]
    alone = request(*inputs, signature="two", outputs=[{"name": "a"}])
    answer = infer(served, alone, elements(b"q") + values)
    assert outputs(answer) == {"a": [1.5, 2.5]}
    assert "id" not in answer.json()


def test_behind_the_json_a_number_is_where_a_processor_wants_it_and_a_flag_is_one_or_zero() -> None:
    at_odd_addresses = memoryview(b".." + np.array([1.5, 2.5]).tobytes())[1:17], memoryview(b"" + bytes(17))[1:]
    for content in at_odd_addresses:
        assert binary_tensors.read(content, np.dtype(np.float64), [2], "x").flags.aligned
    assert binary_tensors.read(memoryview(b"\2\0\1"), np.dtype(np.bool_), [3], "x").view(np.uint8).tolist() == [1, 0, 1]


def test_a_version_is_asked_by_its_number_or_its_label(served: Starlette) -> None:
    said = request(tensor("x", "FP32", [1], [1]), signature="number")
    for path, number in (("", 3), ("/versions/1", 1), ("/versions/stable", 1)):
        answer = infer(served, said, path=M + path)
        assert (outputs(answer), answer.json()["model_version"]) == ({"version": [number]}, str(number))


ONE = tensor("x", "FP32", [1], [1])
BAD: list[tuple[Any, bytes, str]] = [
    (b"", b"", "JSON Parse error: The document is empty"),
    (b"[1]", b"", "JSON Value: [1] Is not object"),
    ({}, b"", "The request has no list of `inputs`."),
    ({"inputs": {"x": 1}}, b"", "The request has no list of `inputs`."),
    (request(), b"", "The request has no list of `inputs`."),
    (request(7), b"", "There is no input 7: this signature has x;"),
    (request({"shape": [1]}), b"", "There is no input null: this signature has x;"),
    (request(ONE | {"name": "z"}), b"", 'There is no input "z": this signature has x;'),
    (request(ONE, ONE), b"", "The input x is there twice."),
    (request(ONE | {"name": "a"}, signature="two"), b"", "The request lacks the input b."),
    (request(ONE, signature="q"), b"", 'There is no signature "q"; there are bfloat16, bool, '),
    (request(ONE, signature="nothing"), b"", "There is no input "),
    (request(ONE, parameters={"signature_name": 1}), b"", "The parameter `signature_name` is a text, and not 1."),
    (request(ONE) | {"parameters": [1]}, b"", "The `parameters` of a request are an object, and not [1]."),
    (request(ONE, id=7), b"", "The `id` of a request is a text, and not 7."),
    (request(ONE | {"datatype": "INT8"}), b"", 'The input x is of the datatype FP32, and not "INT8".'),
    (request({"name": "x", "shape": [1], "data": [1]}), b"", "The input x is of the datatype FP32, and not null."),
    (request(tensor("x", "BF16", [1], [1]), signature="bfloat16"), b"", "The datatype BF16 of the input x is not read"),
    *(
        (request(tensor("x", "FP32", shape, [1])), b"", "The input x has a `shape` of whole numbers from 0")  # type: ignore[arg-type]
        for shape in ([-1], [1.0], [True], ["1"], None, 1, [1] * 33, [2**63], [1, 10**4000, 10**4000])
    ),
    (request(tensor("x", "FP32", [2], [1])), b"", "The input x has 1 values, and not those of the shape [2]."),
    (request(tensor("x", "FP32", [2, 2], [[1, 2], [3]])), b"", "is not nested as its shape [2, 2]."),
    (request(tensor("x", "FP32", [2, 2], [[1, 2, 3, 4]])), b"", "is not nested as its shape [2, 2]."),
    (request(tensor("x", "FP32", [2, 2], [[1, 2], 3])), b"", "is not nested as its shape [2, 2]."),
    (request(tensor("x", "FP32", [2], [[1], 2])), b"", "has a value that is not of its datatype: [1]."),
    (request(tensor("x", "FP32", [1], [[1]])), b"", "The input x has a value that is not of its datatype: [1]."),
    (request(tensor("x", "FP32", [], [[1]])), b"", "The input x has a value that is not of its datatype: [1]."),
    (request(tensor("x", "FP32", [1], 1)), b"", "The `data` of the input x is no list."),
    (request(tensor("x", "FP32", [1], ["1"])), b"", 'has a value that is not of its datatype: "1".'),
    (request(tensor("x", "FP32", [1], [True])), b"", "has a value that is not of its datatype: true."),
    (request(tensor("x", "FP32", [1], [10**400])), b"", "Number too big to be stored in double."),
    (request(tensor("x", "INT32", [1], [1.5]), signature="int32"), b"", "not of its datatype: 1.5."),
    (request(tensor("x", "UINT8", [2], [0, 256]), signature="uint8"), b"", "The input x has values from 0 to 255."),
    (request(tensor("x", "BOOL", [1], [1]), signature="bool"), b"", "not of its datatype: 1."),
    (request(tensor("x", "FP32", [0], [])), b"", "The input x of serving_default is empty."),
    (request(tensor("x", "FP32", [1025], [0] * 1025)), b"", "A request has 1024 rows at most, and this one 1025"),
    (
        request(
            tensor("x", "FP32", [0, 2**62, 2**62], size=0),
        ),
        b"",
        "The input x has a shape that no array has",
    ),
    # Bytes behind the JSON.
    (request(tensor("x", "FP32", [1], [1], size=4)), b"1234", "has either `data` or the parameter `binary_data_size`."),
    (request(tensor("x", "FP32", [1])), b"1234", "has either `data` or the parameter `binary_data_size`."),
    *(
        (request(tensor("x", "FP32", [1], size=size)), b"1234", "is a whole number from 0, and not ")
        for size in (-4, 4.0, "4", True, 2**63)
    ),
    (
        request(tensor("x", "FP32", [1], size=5)),
        b"1234",
        "has 5 bytes by its `binary_data_size`, and 4 are left behind",
    ),
    (
        request(tensor("x", "FP32", [1], size=2**62)),
        b"1234",
        "and 4 are left behind the JSON, whose length the header",
    ),
    (request(tensor("x", "FP32", [1], size=3)), b"1234", "has 3 bytes, and not the 4 bytes of the shape [1]."),
    (request(tensor("x", "FP32", [1], size=4)), b"12345", "Behind the inputs of the request are 1 bytes"),
    (request(ONE), b"1234", "Behind the inputs of the request are 4 bytes that none of them says."),
    (request(tensor("x", "FP32", [2**40, 2**40], size=4)), b"1234", "A request has 1024 rows at most"),
    (request(tensor("x", "FP32", [1, 2**62, 2**62], size=4)), b"1234", "has 4 bytes, and not the "),
    (request(tensor("x", "FP32", [1], shared_memory_region="r")), b"", "cannot be read from shared memory here."),
    *(
        (request(tensor("x", "BYTES", [2], size=len(behind)), signature="string"), behind, said)
        for behind, said in (
            (b"\0\0\0\0", "has 4 bytes, too few for 2 elements."),
            (elements(b"abcdefgh"), "The input x ends before the length of its element 1."),
            (elements(b"", b"abc")[:-1], "The element 1 of the input x is 3 bytes long, and 2 are left."),
            (struct.pack("<II", 2**32 - 1, 0), "The element 0 of the input x is 4294967295 bytes long"),
            (elements(b"", b"") + b"a", "The input x has 1 bytes behind its 2 elements."),
        )
    ),
    # Outputs.
    (request(ONE, outputs={"name": "y"}), b"", "The `outputs` of the request are no list."),
    (request(ONE, outputs=[{"name": "z"}]), b"", 'There is no output "z": this signature has y;'),
    (request(ONE, outputs=[{"name": "y"}, {"name": "y"}]), b"", "The output y is there twice."),
    (request(ONE, outputs=[{"name": "y", "parameters": {"classification": 2}}]), b"", "had by `classification` here."),
    (request(ONE, outputs=[{"name": "y", "parameters": {"binary_data": 1}}]), b"", "is true or false, and not 1."),
    (
        request(ONE, parameters={"binary_data_output": "yes"}),
        b"",
        '`binary_data_output` is true or false, and not "yes".',
    ),
]


@pytest.mark.parametrize(("said", "behind", "expected"), BAD, ids=lambda value: str(value)[:60])
def test_a_bad_request_is_refused_with_its_reason(served: Starlette, said: Any, behind: bytes, expected: str) -> None:
    refused(infer(served, said, behind), 400, expected)


def test_the_header_says_how_long_the_json_is(served: Starlette) -> None:
    said = request(tensor("x", "FP32", [1], size=4))
    for value in ("-1", "x", "1e3", "", "9" * 19, "4 4"):
        refused(infer(served, said, b"1234", header=value), 400, f"The header {HEADER} is a number of bytes")
    size = len(json.dumps(said)) + 4
    whole = infer(served, said, b"1234", header=str(size + 1))
    refused(whole, 400, f"says {size + 1} bytes, and the request has {size}.")
    refused(infer(served, said, b"1234", header="20"), 400, "JSON Parse error")
    # Without it, all is JSON; what follows it is none of it.
    answer = ask(served, "POST", f"{M}/infer", json.dumps(said).encode() + b"1234")
    refused(answer, 400, f"and 0 are left behind the JSON, whose length the header {HEADER} says.")


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "a data URL"])
def test_who_tries_base64_is_told_how_bytes_are_sent(served: Starlette, kind: str) -> None:
    marks = {"jpeg": b"\xff\xd8\xff\xe0", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF89a", "bmp": b"BM"}
    text = base64.b64encode(marks.get(kind, b"\xff\xd8\xff\xe0") + bytes(50)).decode()
    text = f"data:image/jpeg;base64,{text}" if kind == "a data URL" else text
    how = f"send them as they are behind the JSON, with `binary_data_size` and the header {HEADER}."
    answer = infer(served, request(tensor("x", "BYTES", [2], ["a", text]), signature="string"))
    refused(answer, 400, "The input x has a picture in base64. JSON of this protocol has text")
    assert how in answer.json()["error"]
    refused(infer(served, request(tensor("x", "BYTES", [1], [{"b64": text}]), signature="string")), 400, how)
    said = tensor("x", "BYTES", [1], [text], content_type="base64")
    refused(infer(served, request(said, signature="string")), 400, "The input x is base64. JSON of this protocol")


def test_bodies_may_be_packed(served: Starlette) -> None:
    said = json.dumps(request(tensor("x", "FP32", [1], size=4))).encode()
    body = said + np.float32(2.5).tobytes()
    headers = {HEADER: str(len(said))}
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        answer = ask(served, "POST", f"{M}/infer", packed, headers={**headers, "Content-Encoding": encoding})
        assert outputs(answer) == {"y": [2.5]}
        answer = ask(served, "POST", f"{M}/infer", packed[:-5], headers={**headers, "Content-Encoding": encoding})
        assert answer.status_code == 400
    answer = ask(served, "POST", f"{M}/infer", body, headers={**headers, "Content-Encoding": "gzip"})
    refused(answer, 400, "The request is not packed by gzip, as its header says.")
    answer = ask(served, "POST", f"{M}/infer", body, headers={**headers, "Content-Encoding": "br"})
    refused(answer, 415, "A request is packed by gzip or deflate here.")


def test_what_is_packed_is_bounded_and_given_back(served: Starlette) -> None:
    bodies = Bodies(most=1000)
    app = application(MODELS, Turns(Settings(), bodies))
    for pack in (gzip.compress, zlib.compress):
        encoding = "gzip" if pack is gzip.compress else "deflate"
        answer = infer(app, pack(b" " * 10_000), Content_Encoding=encoding)
        refused(answer, 413, "The request is larger than 1000 bytes.")
        assert infer(app, pack(json.dumps(request(ONE)).encode()), Content_Encoding=encoding).status_code == 200
    assert bodies.held == 0


def test_a_request_without_json_is_the_one_value_of_the_one_input(
    served: Starlette, pictures_served: Starlette, exported: Path
) -> None:
    picture = golden(exported)[0]
    said = request(tensor("image_bytes", "BYTES", [1], size=4 + len(picture)), parameters=IN_BYTES)
    expected = outputs(infer(pictures_served, said, elements(picture), "/v2/models/pictures"))
    answer = infer(pictures_served, picture, path="/v2/models/pictures", header="0")
    assert outputs(answer) == expected
    assert split(expected["errors"]) == [b""]
    refused(infer(served, b"1234", header="0"), 400, "only a signature of one input of BYTES is asked.")


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def golden(exported: Path) -> list[bytes]:
    images = json.loads((exported / "golden" / "golden.json").read_text())
    return [(exported / "golden" / image["file"]).read_bytes() for image in images]


def rest(app: Starlette, **said: Any) -> Any:
    answer = ask(app, "POST", "/v1/models/pictures:predict", json.dumps(said))
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"]


def test_it_answers_all_signatures_as_predict_does(pictures_served: Starlette, exported: Path) -> None:
    files = golden(exported)
    examples_ = examples.of_request({"examples": [{"image/encoded": b64(file)} for file in files]})
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    for signature, name, given, behind, said in (
        ("serving_default", "image_bytes", [len(files)], elements(*files), [b64(file) for file in files]),
        ("classify", "inputs", [len(files)], elements(*examples_), [b64(example) for example in examples_]),
        ("predict_pixels", "images", [*pixels.shape], pixels.tobytes(), pixels.tolist()),
    ):
        expected = rest(pictures_served, signature_name=signature, inputs=said)
        expected = expected if isinstance(expected, dict) else {"probabilities": expected}
        datatype = "UINT8" if signature == "predict_pixels" else "BYTES"
        asked = request(tensor(name, datatype, given, size=len(behind)), signature=signature)
        found = infer(pictures_served, asked, behind, "/v2/models/pictures")
        assert outputs(found) == {key: np.array(values, object).ravel().tolist() for key, values in expected.items()}
        assert {tuple(output["shape"]) for output in found.json()["outputs"]} == {
            np.shape(values) for values in expected.values()
        }
        asked["parameters"]["binary_data_output"] = True
        for key, content in outputs(infer(pictures_served, asked, behind, "/v2/models/pictures")).items():
            if key in ("scores", "probabilities"):
                assert content == np.array(expected[key], np.float32).tobytes()
            else:
                assert [value.decode() for value in split(content)] == np.ravel(expected[key]).tolist()


def test_a_bad_picture_spoils_its_own_row_alone_and_alone_is_an_error(
    pictures_served: Starlette, exported: Path
) -> None:
    good = golden(exported)[0]
    behind = elements(b"no picture", good)
    said = request(tensor("image_bytes", "BYTES", [2], size=len(behind)))
    found = outputs(infer(pictures_served, said, behind, "/v2/models/pictures"))
    assert found["errors"] == ["This is no JPEG, PNG, GIF, WebP or BMP file.", ""]
    assert (found["classes"][:3], found["scores"][:3]) == ([""] * 3, [0.0] * 3)
    alone = request(tensor("image_bytes", "BYTES", [1], size=14))
    answer = infer(pictures_served, alone, elements(b"no picture"), "/v2/models/pictures")
    refused(answer, 400, "This is no JPEG, PNG, GIF, WebP or BMP file.")
    big = request(tensor("images", "UINT8", [1, 1, 8193, 3], size=3 * 8193), signature="predict_pixels")
    refused(infer(pictures_served, big, bytes(3 * 8193), "/v2/models/pictures"), 400, "1 x 8193 pixels")
    flat = request(tensor("images", "UINT8", [2, 3], size=6), signature="predict_pixels")
    said_of_shape = "The input images has the shape [-1, -1, -1, 3], and not [2, 3]."
    refused(infer(pictures_served, flat, bytes(6), "/v2/models/pictures"), 400, said_of_shape)


def test_it_has_the_token_the_queue_the_count_and_the_log_of_the_other_contract(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "app.serving")
    turns = Turns(Settings("secret", cors=True, waiting=1, deadline=0.05))
    app = application(MODELS, turns)
    said = json.dumps(request(ONE))
    for method, target in (("POST", f"{M}/infer"), ("GET", M), ("GET", "/v2"), ("GET", f"{M}/ready")):
        answer = ask(app, method, target, said if method == "POST" else None)
        refused(answer, 401, "The header Authorization has not this server's token.")
    assert ask(app, "GET", "/v2/health/ready").status_code == 200
    headers = {"Authorization": "Bearer secret"}
    answer = ask(app, "POST", f"{M}/infer?a=b", said, headers=headers)
    assert outputs(answer) == {"y": [1.0]}
    assert answer.headers["access-control-expose-headers"] == HEADER
    asked = ask(app, "OPTIONS", f"{M}/infer", headers={"Origin": "http://a"})
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["access-control-allow-headers"] == f"Content-Type, {HEADER}, Authorization"
    assert f'"POST {M}/infer?a=b" 200 ' in caplog.text
    page = turns.metrics.page().decode()
    assert 'request_count{model_name="m",status="OK"} 1.0' in page
    assert 'request_count{model_name="",status="UNAUTHENTICATED"} 4.0' in page
    assert 'request_latency_count{API="infer",entrypoint="REST",model_name="m"} 1.0' in page
    assert 'serving_latency_seconds_count{model="m",signature="serving_default",version="3"} 1.0' in page

    async def two() -> list[httpx.Response]:
        return await asyncio.gather(*(asking(slow, "POST", f"{M}/infer", said) for _ in range(2)))

    waits = Waits()
    slow = application(Models({"m": Model({1: Version(waits)}, {})}), Turns(Settings(waiting=1, deadline=0.05)))
    first, second = asyncio.run(two())
    waits.go.set()
    refused(first, 504, "There was no answer in 0.05 seconds.")
    refused(second, 503, "1 requests wait already; try again.")
    assert second.headers["retry-after"] == "1"


def test_a_body_is_bounded_and_given_back_and_a_bug_has_no_stack(served: Starlette) -> None:
    bodies = Bodies(most=300)
    app = application(MODELS, Turns(Settings(), bodies))
    refused(infer(app, b" " * 301), 413, "The request is larger than 300 bytes.")
    refused(infer(app, request(ONE, signature="fails")), 429, "it ran out")
    answer = infer(app, request(ONE, signature="breaks"))
    refused(answer, 500, "The server failed at this request; its log says how.")
    assert infer(app, request(ONE)).status_code == 200
    assert bodies.held == 0


PIECES = (
    b"null",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"-1",
    b"9" * 20,
    b"1e400",
    b"true",
    b'"\\ud800"',
    b"\xff",
    b"\0",
)
TWO = (tensor("a", "FP32", [2], size=8), tensor("b", "BYTES", [2], size=11))
SEEDS: list[tuple[dict[str, Any], bytes]] = [
    (request(*TWO, signature="two"), b"\0\0\x80\x3f" * 2 + elements(b"abc", b"")),
    (request(tensor("x", "INT64", [2, 1], size=16), signature="int64", parameters=IN_BYTES), bytes(16)),
    (request(tensor("x", "BYTES", [1], ["a"]), signature="string", outputs=[{"name": "y"}], id="7"), b""),
    (request(tensor("x", "BOOL", [3], size=3), signature="bool"), b"\1\0\1"),
]
VALID = [(json.dumps(said).encode(), behind) for said, behind in SEEDS]


def test_the_requests_that_are_mutated_are_valid() -> None:
    for said, behind in VALID:
        inference_answering.infer(MODELS, Wanted("m"), said + behind, len(said))


def mutations(count: int) -> Iterator[tuple[bytes, int | None]]:
    """Bodies, and how many bytes of them are said to be JSON."""
    chance = random.Random(0)
    for _ in range(count):
        said, behind = chance.choice(VALID)
        body, header = bytearray(said + behind), len(said)
        for _ in range(chance.choice((1, 1, 2, 8))):
            low = chance.randrange(len(body) + 1)
            high = min(len(body), low + chance.choice((0, 1, 8)))
            piece = chance.choice((chance.choice(PIECES), b"", bytes(body[low:high]) * 2))
            body[low:high] = piece
            if low < header and chance.random() < 0.8:
                header += len(piece) - (high - low)
        if chance.random() < 0.2:
            header = chance.choice((0, header + 1, header - 1, len(body), 10**17))
        yield bytes(body), chance.choice((header, header, header, None))


def test_no_mutation_of_a_valid_request_is_more_than_refused(served: Starlette) -> None:
    codes, by_http = Counter[int](), Counter[int]()
    for body, header in mutations(5000):
        try:
            inference_answering.infer(MODELS, Wanted("m"), body, header)
            codes[200] += 1
        except RefusedError as refusal:
            codes[refusal.status] += 1
    assert {*codes} == {200, 400}
    assert 200 < codes[200] < 2500
    for body, header in mutations(200):
        by_http[infer(served, body, header=None if header is None else str(header)).status_code] += 1
    assert {*by_http} == {200, 400}
