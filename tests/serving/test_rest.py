"""TensorFlow Serving's contract over HTTP, line by line: status, parsed JSON, and what an error names."""

import asyncio
import base64
import gzip
import json
import random
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette

from app.artefacts import loading
from app.serving import answering, examples, json_reading
from app.serving.application import application
from app.serving.models import Model, Models, Version, Wanted
from app.serving.of_file import OfFile
from app.serving.refusals import RefusedError
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo, ask

M = "/v1/models/m"
ECHO = Echo(3)


@pytest.fixture(scope="module")
def served() -> Starlette:
    """`m` in the versions 1 and 3, of which 2 is broken; with labels. And one whose name has a blank."""
    versions = {
        1: Version(Echo(1)),
        2: Version(None, "a file of it is not the one that was certified"),
        3: Version(ECHO),
    }
    models = {
        "m": Model(versions, {"stable": 1, "canary": 3, "broken": 2}),
        "my model": Model({1: Version(Echo())}, {}),
    }
    return application(Models(models), Turns(Settings()))


@pytest.fixture(scope="module")
def pictures_served(exported: Path) -> Starlette:
    """The session's export, answered by its LiteRT file."""
    network = OfFile(loading.load(exported / "model.tflite"))
    return application(Models({"pictures": Model({1: Version(network)}, {})}), Turns(Settings()))


def check(app: Starlette, method: str, target: str, body: Any, status: int, expected: Any) -> None:
    """`expected` is the JSON, or what the error says; a list of both, all the parts of it."""
    answer = ask(app, method, target, body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    found = answer.json()
    if isinstance(expected, str):
        assert list(found) == ["error"]
        assert expected in found["error"]
    else:
        assert found == expected


MALFORMED = "Malformed request: "
ROUTES: list[tuple[str, str, int, str]] = [
    ("GET", "/v1/foo", 400, f"{MALFORMED}GET /v1/foo"),
    ("GET", "/v1/", 400, f"{MALFORMED}GET /v1/"),
    ("GET", f"{M}:predict", 400, f"{MALFORMED}GET {M}:predict"),
    ("POST", M, 400, f"{MALFORMED}POST {M}"),
    ("POST", f"{M}/metadata", 400, MALFORMED),
    ("POST", f"{M}/version/50:predict", 400, MALFORMED),
    ("GET", f"{M}/label/x", 400, MALFORMED),
    ("GET", f"{M}/versions/HELLO", 400, MALFORMED),
    ("GET", f"{M}/versions/1/labels/stable", 400, MALFORMED),
    ("GET", f"{M}/", 400, MALFORMED),
    ("POST", f"{M}:explain", 400, MALFORMED),
    ("POST", f"{M}:PREDICT", 400, f"{MALFORMED}POST {M}:PREDICT"),
    ("PUT", f"{M}:predict", 400, f"{MALFORMED}PUT"),
    ("DELETE", M, 400, f"{MALFORMED}DELETE {M}"),
    ("PATCH", M, 400, f"{MALFORMED}PATCH"),
    ("POST", f"{M}:predict?x=1", 400, f"{MALFORMED}POST {M}:predict?x=1"),
    ("GET", f"{M}/metadata?x=1", 400, MALFORMED),
    ("GET", f"{M}?x=1", 404, "Could not find any versions of model m?x=1"),
    ("GET", "/v1/models", 400, "Missing model name in request."),
    ("GET", "/v1/models/metadata", 404, "Could not find any versions of model metadata"),
    ("GET", f"{M}/versions/9223372036854775808", 400, "Failed to convert version: 9223372036854775808 to numeric."),
    ("POST", f"{M}/versions/{'9' * 5000}:predict", 400, "Failed to convert version: 999"),
    ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
    ("GET", f"{M}/versions/50", 404, "Could not find version 50 of model m"),
    ("GET", "/v1/models/a%2Fb/metadata", 404, "Servable not found for request: Latest(a/b)"),
    ("GET", "/v1/models/other/metadata", 404, "Servable not found for request: Latest(other)"),
    ("GET", f"{M}/versions/50/metadata", 404, "Servable not found for request: Specific(m, 50)"),
    ("GET", f"{M}/versions/2/metadata", 404, "Servable not found for request: Specific(m, 2)"),
    ("GET", f"{M}/labels/x/metadata", 400, "Unrecognized servable version label: x"),
    ("GET", "/v1/models/%FF", 404, "Could not find any versions of model "),
]


@pytest.mark.parametrize(("method", "target", "status", "expected"), ROUTES, ids=lambda value: str(value)[:40])
def test_a_path_leads_where_tensorflow_serving_leads(
    served: Starlette, method: str, target: str, status: int, expected: str
) -> None:
    body = '{"instances": [1.0]}' if method in ("POST", "PUT", "PATCH") else None
    if target.endswith("%FF"):
        assert ask(served, method, target).status_code == status
        return
    check(served, method, target, body, status, expected)


def test_what_no_contract_has_is_not_there_and_head_is_malformed(served: Starlette) -> None:
    answer = ask(served, "GET", "/v3/models/m")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert ask(served, "HEAD", M).status_code == 400


def test_a_target_without_a_path_is_not_there_and_nobody_is_sent_elsewhere(served: Starlette) -> None:
    scope = {"type": "http", "method": "GET", "path": "", "raw_path": b"", "query_string": b"a", "headers": []}
    sent: list[Any] = []

    async def send(part: Any) -> None:
        sent.append(part)

    asyncio.run(served(scope | {"server": ("127.0.0.1", 1), "scheme": "http"}, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 404


AVAILABLE = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
BROKEN = "a file of it is not the one that was certified"
END = {"state": "END", "status": {"error_code": "UNKNOWN", "error_message": BROKEN}}
STATUSES = [{"version": "3", **AVAILABLE}, {"version": "2", **END}, {"version": "1", **AVAILABLE}]


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        (M, STATUSES),
        ("/V1/Models/m", STATUSES),
        (f"{M}/labels/stable", STATUSES),
        (f"{M}/METADATA", STATUSES),
        (f"{M}/versions/1", STATUSES[2:]),
        (f"{M}/versions/0001", STATUSES[2:]),
        (f"{M}/versions/2", STATUSES[1:2]),
        ("/v1/models/my%20model", STATUSES[2:]),
    ],
)
def test_the_status_names_every_version_and_why_one_is_not_served(
    served: Starlette, target: str, statuses: list[Any]
) -> None:
    check(served, "GET", target, None, 200, {"model_version_status": statuses})


def test_the_newest_version_that_is_served_answers_and_others_are_asked_by_number_or_label(served: Starlette) -> None:
    for path, number in (("", 3), ("/versions/1", 1), ("/labels/stable", 1), ("/labels/canary", 3)):
        body = '{"signature_name": "number", "instances": [1, 2]}'
        check(served, "POST", f"{M}{path}:predict", body, 200, {"predictions": [number, number]})
        metadata = ask(served, "GET", f"{M}{path}/metadata").json()
        assert metadata["model_spec"] == {"name": "m", "signature_name": "", "version": str(number)}
    for path, said, status in (
        ("/versions/50", "Servable not found for request: Specific(m, 50)", 404),
        ("/labels/broken", "Servable not found for request: Specific(m, 2)", 404),
        ("/labels/x", "Unrecognized servable version label: x", 400),
    ):
        check(served, "POST", f"{M}{path}:predict", '{"instances": [1]}', status, said)


def test_metadata_is_written_as_protobuf_prints_it(pictures_served: Starlette) -> None:
    found = ask(pictures_served, "GET", "/v1/models/pictures/metadata").json()
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert sorted(signatures) == ["classify", "predict_pixels", "serving_default"]
    side = {"size": "-1", "name": ""}
    assert signatures["serving_default"]["inputs"] == {
        "image_bytes": {
            "dtype": "DT_STRING",
            "tensor_shape": {"dim": [side], "unknown_rank": False},
            "name": "image_bytes",
        }
    }
    pixels = signatures["predict_pixels"]
    assert (pixels["method_name"], pixels["defaults"]) == ("tensorflow/serving/predict", {})
    assert pixels["inputs"]["images"]["tensor_shape"]["dim"] == [side, side, side, {"size": "3", "name": ""}]


def rows(signature: str, said: str) -> str:
    return f'{{"signature_name": "{signature}", "instances": {said}}}'


def columns(signature: str, said: str) -> str:
    return f'{{"signature_name": "{signature}", "inputs": {said}}}'


def element(place: int, key: str = "") -> str:
    return f"Failed to process element: {place}{key} of 'instances' list. Error: INVALID_ARGUMENT: "


B64 = base64.b64encode(b"\xfb\xff\xfe").decode()
NAN = float("nan")
PREDICTED: list[tuple[str, Any]] = [
    ('{"instances": [1, 2.5]}', {"predictions": [1.0, 2.5]}),
    ('\ufeff \n{"instances": [1], "instances": "second", "other": null} trailing', {"predictions": [1.0]}),
    ('{"signature_name": "", "instances": [[1, 2], [3, 4]]}', {"predictions": [[1, 2], [3, 4]]}),
    ('{"instances": [{"x": [[1], [2]]}, {"x": [[3], [4]]}]}', {"predictions": [[[1], [2]], [[3], [4]]]}),
    ('{"instances": [[], []]}', "The input x of serving_default is empty."),
    ('{"inputs": [[1, 2], [3, 4]]}', {"outputs": [[1, 2], [3, 4]]}),
    ('{"inputs": 3}', {"outputs": 3.0}),
    ('{"inputs": {"x": [1], "extra": "ignored"}}', {"outputs": [1]}),
    (
        rows("two", '[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]'),
        {"predictions": [{"a": 1, "b_bytes": {"b64": "eA=="}}, {"a": 2, "b_bytes": {"b64": "eQ=="}}]},
    ),
    (columns("two", '{"a": [1], "b": ["x"], "c": 0}'), {"outputs": {"a": [1], "b_bytes": [{"b64": "eA=="}]}}),
    # Types.
    (rows("double", "[0.1, 1e300]"), {"predictions": [0.1, 1e300]}),
    (rows("float", "[0.1, 1e39, 16777217]"), {"predictions": [0.1, float("inf"), 16777216.0]}),
    *((rows(kind, "[-128, 127]"), {"predictions": [-128, 127]}) for kind in ("int8", "int16", "int32", "int64")),
    (rows("uint8", "[255, 256, -1]"), {"predictions": [255, 0, 255]}),
    (rows("int64", "[9223372036854775807]"), {"predictions": [2**63 - 1]}),
    (rows("uint32", "[4294967295]"), {"predictions": [2**32 - 1]}),
    (rows("uint64", "[18446744073709551615]"), {"predictions": [2**64 - 1]}),
    (rows("bool", "[true, false]"), {"predictions": [True, False]}),
    (rows("string", '["é", "\\"\\n\\u0000"]'), {"predictions": ["é", '"\n\0']}),
    # Bytes.
    (
        rows("string", '[{"b64": "YQ=="}, {"b64": "YWI"}, {"b64": "Y W\\nJj"}, "raw"]'),
        {"predictions": ["a", "ab", "abc", "raw"]},
    ),
    (columns("string", '{"b64": "YQ=="}'), {"outputs": "a"}),
    (columns("string", '[{"b64": "YQ=="}]'), {"outputs": ["a"]}),
    (columns("two", f'{{"a": [0], "b": [{{"b64": "{B64}"}}]}}'), {"outputs": {"a": [0], "b_bytes": [{"b64": B64}]}}),
]
REFUSED: list[tuple[str, str]] = [
    ("", "JSON Parse error: The document is empty"),
    (" \n", "JSON Parse error: The document is empty"),
    ('{"instances": [1,]}', "JSON Parse error: "),
    ('{"instances": [1]', " at offset: 17"),
    ('{"instances": [1e999]}', "JSON Parse error: Number too big to be stored in double."),
    (f'{{"instances": [{"9" * 400}]}}', "Number too big to be stored in double."),
    (f'{{"instances": [{"9" * 299}e99]}}', "Number too big to be stored in double."),
    (f'{{"instances": [{"9" * 9000}]}}', "Number too big to be stored in double."),
    ('{"signature_name": "string", "instances": ["\\ud800"]}', "The surrogate pair in string is invalid."),
    (f'{{"instances": {"[" * 101}', "more than 100 deep"),
    (f'{{"instances": [{"[[], {}, " * 20000}', "more than 100 deep"),
    ('{/* c */ "instances": [1]}', "JSON Parse error: "),
    ("[1, 2]", "JSON Value: [1, 2] Is not object"),
    (
        '{"signature_name": 1, "instances": [1]}',
        "not formatted correctly. 'signature_name' key must be a string value.",
    ),
    (
        '{"instances": [1], "inputs": [1]}',
        "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    ('{"instances": 1}', "Expecting 'instances' to be an list/array"),
    ('{"instances": []}', "No values in 'instances' array"),
    ('{"instance": [1]}', "Missing 'inputs' or 'instances' key"),
    (rows("nothing", "[1]"), "Failed to get input map for signature: nothing"),
    (rows("x", "[1]"), 'Serving signature name: "x" not found in signature def'),
    # Rows.
    ('{"instances": [[1, 2], [1, 2, 3]]}', f"{element(1)}Expecting tensor size: 2 but got: 3"),
    ('{"instances": [[1, 2], [[1, 2]]]}', f"{element(1)}Expecting shape [2] but got: [1,2]"),
    (
        '{"instances": [[[1, 2], [3]]]}',
        f"{element(0)}Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    ('{"instances": [[1, [2]]]}', f"{element(0)}Encountered list at unexpected level: 1 expected < 1"),
    (f'{{"instances": [{"[" * 64}1{"]" * 64}]}}', "A tensor has 64 dimensions at most, and this one 65."),
    (f'{{"inputs": {"[" * 65}1{"]" * 65}}}', "A tensor has 64 dimensions at most, and this one 65."),
    (
        '{"instances": [[[1], 2]]}',
        f"{element(0)}JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    ('{"instances": [{"x": 1}, [1]]}', "Expecting object but got list at item 1 of input list"),
    ('{"instances": [1, {"x": 1}]}', "Expecting value/list but got object at item 1 of input list"),
    (
        rows("two", '[{"a": 1}]'),
        "Failed to process element: 0 of 'instances' list. JSON object: {\"a\": 1} keys must be equal to: a,b",
    ),
    (
        '{"instances": [{"x": 1, "z": 1}]}',
        f"{element(0, ' key: z')}JSON object: does not have named input: z",
    ),
    (
        '{"instances": [{"x": [1, 2]}, {"x": [1]}]}',
        f"{element(1, ' key: x')}Expecting tensor size: 2 but got: 1",
    ),
    (
        rows("two", "[1, 2]"),
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per",
    ),
    # Columns.
    (
        columns("two", "[1, 2]"),
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per",
    ),
    (columns("two", '{"a": [1]}'), "Missing named input: b in 'inputs' object."),
    ('{"inputs": [[1, 2], [3]]}', "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ('{"inputs": []}', "The input x of serving_default is empty."),
    # Types.
    ('{"instances": ["abc"]}', 'JSON Value: "abc" Type: String is not of expected type: float'),
    ('{"inputs": [1, 2, null]}', "JSON Value: null Type: Null is not of expected type: float"),
    ('{"inputs": [1, true]}', "Type: True is not of expected type: float"),
    ('{"inputs": [{"b64": "YQ=="}]}', "Type: Object is not of expected type: float"),
    (rows("int32", "[1, 1.5]"), "JSON Value: 1.5 Type: Number is not of expected type: int32"),
    (rows("int8", "[[1, 2147483648]]"), "JSON Value: 2147483648 Type: Number is not of expected type: int8"),
    (rows("int64", "[9223372036854775808]"), "is not of expected type: int64"),
    (rows("uint32", "[-1]"), "is not of expected type: uint32"),
    (rows("uint64", "[18446744073709551616]"), "is not of expected type: uint64"),
    (rows("bool", "[0]"), "JSON Value: 0 Type: Number is not of expected type: bool"),
    (rows("string", "[1]"), "is not of expected type: string"),
    (rows("half", "[1.5]"), "Error: UNIMPLEMENTED: Conversion of JSON Value: 1.5 to type: half"),
    # Bytes.
    (rows("string", '[{"b64": "Y*=="}]'), f"{element(0)}Unable to base64 decode"),
    (rows("string", '[{"b64": "-_-_"}]'), "Unable to base64 decode"),
    (rows("string", '[{"b64": "YQ="}]'), "Unable to base64 decode"),
    (rows("string", '[{"b64": "Y"}]'), "Unable to base64 decode"),
    (rows("string", '["a", {"b64": "YQ==", "c": 1}]'), "Expecting value/list but got object at item 1"),
    (columns("string", '[{"b64": 1}]'), "not formatted correctly for base64 data"),
    # Outputs.
    (rows("static", "[1]"), "Tensor name: z has inconsistent batch size: 7 expecting: 1"),
    ('{"instances": [1], "signature_name": "to_half"}', "Failed to write JSON value for tensor type: half"),
]


@pytest.mark.parametrize(("body", "expected"), PREDICTED, ids=lambda value: str(value)[:60])
def test_predict_answers(served: Starlette, body: str, expected: Any) -> None:
    check(served, "POST", f"{M}:predict", body, 400 if isinstance(expected, str) else 200, expected)


@pytest.mark.parametrize(("body", "expected"), REFUSED, ids=lambda value: str(value)[:60])
def test_predict_refuses_with_tensorflow_servings_words(served: Starlette, body: str, expected: str) -> None:
    check(served, "POST", f"{M}:predict", body, 400, expected)


@pytest.mark.parametrize("before", [300, 150, 1])
def test_a_number_too_big_is_found_wherever_it_lies(served: Starlette, before: int) -> None:
    start = '{"instances": ['
    body = f"{start}{' ' * (2**20 - len(start) - before)}{'9' * 299}e99]}}"
    check(served, "POST", f"{M}:predict", body, 400, "Number too big to be stored in double.")


@pytest.mark.parametrize("piece", ["[],", "{},", '"",', "0,", '"\\n",'])
def test_more_values_than_a_request_may_have_are_refused_before_they_are_read(
    served: Starlette, piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_reading, "VALUES", 500)
    monkeypatch.setattr("json.JSONDecoder", None)
    body = f'{{"inputs": [{piece * 501}0]}}'
    check(served, "POST", f"{M}:predict", body, 413, "has more than 500 values; send pictures as files.")


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("[" * 100 + "]" * 100, 0),  # no need to look
        ("[" * 101 + "]" * 101, 101),
        ("[]" * 101, 1),
        ('["' + "[" * 101 + '"]', 1),
        ('["\\"' + "[" * 101 + '"]', 1),
        ('["\\\\", ' + "[" * 101, 102),
        ('["\\\\\\"' + "{" * 101 + '"]', 1),
        ('["\\n", ' + "{" * 101, 102),
        ('["' + "[" * 101, 1),
        ("]" * 50 + "[" * 101, 51),
    ],
)
def test_brackets_count_where_they_are_none_of_a_string(text: str, depth: int) -> None:
    assert json_reading._depth(text.encode()) == depth


@pytest.mark.parametrize("said", [columns("bfloat16", "[]"), rows("bfloat16", "[[], []]")])
def test_a_type_that_no_array_has_is_refused_even_without_values(served: Starlette, said: str) -> None:
    check(served, "POST", f"{M}:predict", said, 501, "Conversion of JSON Value: [] to type: bfloat16")


def test_not_a_number_goes_in_and_out(served: Starlette) -> None:
    answer = ask(served, "POST", f"{M}:predict", '{"instances": [NaN, Infinity, -Infinity]}')
    assert "NaN,\n        Infinity,\n        -Infinity" in answer.text
    assert np.isnan(answer.json()["predictions"][0])


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [
        ("float", "3", "3.0"),
        ("float", "0.2", "0.2"),
        ("float", "9000000", "9e+06"),
        ("float", "0.00003", "3e-05"),
        ("float", "16777215", "16777215.0"),
        ("float", "0.333333343", "0.333333343"),
        ("float", "-0.0", "-0.0"),
        ("double", "0.1234567890123", "0.12345678901230001"),
        ("double", "0.333333333333333314", "0.33333333333333331"),
    ],
)
def test_numbers_have_six_digits_where_they_are_enough(served: Starlette, kind: str, given: str, written: str) -> None:
    answer = ask(served, "POST", f"{M}:predict", columns(kind, f"[{given}]"))
    assert answer.text.split("[")[1].split("]")[0] == written


@pytest.mark.parametrize(
    ("target", "body", "status", "expected"),
    [
        ("/v1/models/other:predict", '{"instances": [1]}', 404, "Servable not found for request: Latest(other)"),
        ("/v1/models/other:predict", '{"instances": [1', 400, "JSON Parse error: "),
        ("/v1/models/other:predict", '{"instances": 1}', 404, "Servable not found"),
        ("/v1/models/other:classify", '{"examples": []}', 400, "'examples' value is an empty array"),
        (f"{M}:predict", columns("half", "[1.5]"), 501, "Conversion of JSON Value: 1.5 to type: half"),
        (f"{M}:predict", columns("bfloat16", "[1]"), 501, "to type: bfloat16"),
        (f"{M}:predict", columns("uint16", "[1]"), 501, "to type: uint16"),
        (f"{M}:predict", rows("fails", "[1]"), 429, "it ran out"),
        (f"{M}:predict", rows("breaks", "[1]"), 500, "The server failed at this request; its log says how."),
    ],
)
def test_what_is_looked_at_first_decides_the_code(
    served: Starlette, target: str, body: str, status: int, expected: str
) -> None:
    check(served, "POST", target, body, status, expected)


def test_the_log_has_a_line_for_every_request(served: Starlette, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "app.serving")
    ask(served, "POST", f"{M}:predict?x=%0A1", "{}")
    assert re.fullmatch(rf'127.0.0.1 "POST {M}:predict\?x=%0A1" 400 \d+\.\d ms', caplog.messages[0])


def test_a_bug_is_answered_without_its_stack_and_written_to_the_log(
    served: Starlette, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(served, "POST", f"{M}:predict", rows("breaks", "[1]"))
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "a secret of the program" in caplog.text


RESULT = [["cat", 0.75], ["dog", 0.25]]
CLASSIFIED: list[tuple[str, int, Any]] = [
    ('{"signature_name": "both", "examples": [{"f": 1}, {}]}', 200, {"results": [RESULT, RESULT]}),
    ('{"signature_name": "only_classes", "examples": [{}]}', 200, {"results": [[["cat", 0.0], ["dog", 0.0]]]}),
    ('{"signature_name": "only_scores", "examples": [{}]}', 200, {"results": [[["", 0.75], ["", 0.25]]]}),
    ('{"examples": [{"f": 1}]}', 400, "No classification inputs found in SignatureDef: "),
    ('{"signature_name": "nothing", "examples": [{}]}', 400, "Expected one input Tensor."),
    ('{"signature_name": "regress", "examples": [{}]}', 400, "Expected classification signature outputs to contain at"),
    ('{"signature_name": "wide", "examples": [{}]}', 400, "Expected scores Tensor of DT_FLOAT. Got: "),
    ('{"signature_name": "uneven", "examples": [{}]}', 400, "should match in dim_size(1). Got 2 vs. 1"),
    ('{"signature_name": "x", "examples": [{}]}', 400, "No signature was found with the name: x"),
    ("{}", 400, "When method is classify, key 'examples' is expected and was not found"),
    ('{"examples": 1}', 400, "Expecting 'examples' value to be an list/array"),
    ('{"examples": []}', 400, "'examples' value is an empty array"),
    ('{"examples": [[]]}', 400, "Example must be JSON object but got JSON Array"),
    ('{"examples": [{}], "context": true}', 400, "Example must be JSON object but got JSON True"),
    ('{"examples": [{"f": null}]}', 400, "Feature: f has element with unexpected JSON type: Null"),
    ('{"examples": [{"f": [[1]]}]}', 400, "Feature: f has element with unexpected JSON type: Array"),
    ('{"examples": [{"f": {"b65": ""}}]}', 400, "Feature: f has element with unexpected JSON type: Object"),
    ('{"examples": [{"f": [1, 1.5]}]}', 400, "Unexpected element type in feature: f expecting type: int64"),
    ('{"examples": [{"f": ["a", true]}]}', 400, "Unexpected element type in feature: f expecting type: bytes"),
    ('{"examples": [{"f": 9223372036854775808}]}', 400, "Feature: f has uint64_t element. Only int64_t is supported."),
    (f'{{"examples": [{{"f": {"9" * 400}}}]}}', 400, "Number too big to be stored in double."),
    ('{"examples": [{"f": {"b64": "*"}}]}', 400, "Unable to base64 decode"),
]


@pytest.mark.parametrize(("body", "status", "expected"), CLASSIFIED, ids=lambda value: str(value)[:60])
def test_classify_answers_or_refuses(served: Starlette, body: str, status: int, expected: Any) -> None:
    check(served, "POST", f"{M}:classify", body, status, expected)


def test_regress_is_refused_with_the_reason(served: Starlette) -> None:
    for name, said in (
        ("both", "Expected one output Tensor."),
        ("regress", "No regression outputs found"),
        ("float", "No regression inputs found"),
        ("x", "No signature was found with the name: x"),
    ):
        check(served, "POST", f"{M}:regress", f'{{"signature_name": "{name}", "examples": [{{}}]}}', 400, said)
    check(served, "POST", f"{M}:regress", "{}", 400, "key 'examples' is expected and was not found")


def test_examples_are_tensorflows_and_overrule_their_context(served: Starlette) -> None:
    import tensorflow as tf

    body = {
        "signature_name": "both",
        "context": {"a": "context", "b": [1.5, 2.5]},
        "examples": [{"a": {"b64": "/w=="}, "c": [True, -5]}, {}],
    }
    assert ask(served, "POST", f"{M}:classify", json.dumps(body)).status_code == 200
    first, second = (tf.train.Example.FromString(serialised).features.feature for serialised in ECHO.seen)
    assert list(first["a"].bytes_list.value) == [b"\xff"]
    assert list(first["b"].float_list.value) == [1.5, 2.5]
    assert list(first["c"].int64_list.value) == [1, -5]
    assert list(second["a"].bytes_list.value) == [b"context"]
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(b"picture")
    assert examples.picture(example.SerializeToString()) == b"picture"


PIECES = (
    b"NaN",
    b"null",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b",",
    b"1e400",
    b"-1",
    b'"b64"',
    b'"\\ud800"',
    b"\xff",
    b"9" * 20,
)


def test_no_mutation_of_a_valid_request_is_more_than_refused() -> None:
    chance = random.Random(0)
    models = Models({"m": Model({1: Version(Echo())}, {})})
    seeds = [body.encode() for body, _ in (*PREDICTED, *REFUSED[:3])] + [body.encode() for body, *_ in CLASSIFIED]
    refused = Counter[int]()
    for _ in range(3000):
        body = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 8))):
            low = chance.randrange(len(body) + 1)
            high = min(len(body), low + chance.choice((0, 1, 8)))
            body[low:high] = chance.choice((chance.choice(PIECES), b"", bytes(body[low:high]) * 2))
        ask_for = answering.classify if b"examples" in body else answering.predict
        try:
            ask_for(models, Wanted("m"), bytes(body))
        except RefusedError as refusal:
            refused[refusal.status] += 1
    assert {*refused} <= {400, 429, 501}  # of these 429 is an answer of a test
    assert 1000 < refused.total() < 3000  # some are still valid


def b64(file: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(file.read_bytes()).decode()}


def asked(app: Starlette, method: str, body: dict[str, Any]) -> Any:
    answer = ask(app, "POST", f"/v1/models/pictures:{method}", json.dumps(body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_file_answers_the_signatures_of_the_saved_model(pictures_served: Starlette, exported: Path) -> None:
    golden = json.loads((exported / "golden" / "golden.json").read_text())
    labels = json.loads((exported / "certificate.json").read_text())["labels"]
    images = [exported / "golden" / image["file"] for image in golden]
    rows = asked(pictures_served, "predict", {"instances": [b64(image) for image in images]})["predictions"]
    examples = [{"image/encoded": b64(image)} for image in images]
    results = asked(pictures_served, "classify", {"signature_name": "classify", "examples": examples})["results"]
    for image, row, result in zip(golden, rows, results, strict=True):
        expected = dict(zip(labels, image["probabilities"], strict=True))
        assert row["errors"] == ""
        assert row["scores"] == sorted(expected.values(), reverse=True) or np.allclose(
            row["scores"], [expected[label] for label in row["classes"]], atol=1e-4
        )
        assert max(expected, key=expected.__getitem__) == row["classes"][0]
        assert result == [[label, score] for label, score in zip(row["classes"], row["scores"], strict=True)]


def test_pixels_are_answered_as_the_files_of_them(pictures_served: Starlette, tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (row,) = asked(pictures_served, "predict", {"instances": [b64(tmp_path / "a.png")]})["predictions"]
    body = {"signature_name": "predict_pixels", "inputs": [pixels.tolist()] * 2}
    found = asked(pictures_served, "predict", body)["outputs"]
    assert found[0] == found[1]
    assert sorted(found[0], reverse=True) == row["scores"]
    assert sum(found[0]) == pytest.approx(1)


def test_a_bad_picture_spoils_its_own_row_alone_and_alone_is_an_error(
    pictures_served: Starlette, exported: Path
) -> None:
    picture = exported / "golden" / json.loads((exported / "golden" / "golden.json").read_text())[0]["file"]
    good, bad = b64(picture), {"b64": base64.b64encode(b"no picture").decode()}
    (alone,) = asked(pictures_served, "predict", {"instances": [good]})["predictions"]
    first, second = asked(pictures_served, "predict", {"instances": [bad, good]})["predictions"]
    assert second == alone
    assert first["errors"] == "This is no JPEG, PNG, GIF, WebP or BMP file."
    assert {*first["classes"]} == {""}
    assert {*first["scores"]} == {0.0}
    app, target = pictures_served, "/v1/models/pictures:predict"
    check(app, "POST", target, json.dumps({"instances": [bad]}), 400, first["errors"])
    cut = {"b64": base64.b64encode(picture.read_bytes()[:100]).decode()}
    check(app, "POST", target, json.dumps({"inputs": [cut]}), 400, "This file is damaged or cut short.")
    said = json.dumps({"signature_name": "classify", "examples": [{"image/encoded": bad}]})
    check(app, "POST", "/v1/models/pictures:classify", said, 400, "The picture cannot be decoded")
    assert asked(pictures_served, "predict", {"instances": [good]})["predictions"] == [alone]


def test_a_picture_as_phones_take_it_is_refused_in_a_sentence(pictures_served: Starlette) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(2000)
    body = json.dumps({"instances": [{"b64": base64.b64encode(heic).decode()}]})
    answer = ask(pictures_served, "POST", "/v1/models/pictures:predict", body)
    assert (answer.status_code, answer.json()) == (400, {"error": "This is no JPEG, PNG, GIF, WebP or BMP file."})


def test_pixels_are_bounded_by_the_header_before_they_are_decoded(pictures_served: Starlette) -> None:
    header = b"IHDR" + (10_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + header + zlib.crc32(header).to_bytes(4, "big")
    bomb += b"\x00\x00\x00\x00IEND\xae\x42\x60\x82"
    body = json.dumps({"instances": [{"b64": base64.b64encode(bomb).decode()}]})
    answer = ask(pictures_served, "POST", "/v1/models/pictures:predict", body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"This PNG has {len(bomb)} bytes and claims 10000 x 10000 pixels; at most")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"signature_name": "features", "instances": [{"b64": ""}]}, '"features" not found in signature def'),
        ({"signature_name": "predict_pixels", "inputs": [[[1]]]}, "has the shape [-1, -1, -1, 3], and not [1, 1, 1]."),
        ({"inputs": {"b64": ""}}, "The input image_bytes of serving_default has the shape [-1], and not []."),
        ({"signature_name": "predict_pixels", "inputs": [[[[0, 0, 0]] * 8193]]}, "1 x 8193 pixels"),
        ({"signature_name": "classify", "instances": ["\u0003"]}, "Could not parse example input"),
    ],
)
def test_a_file_refuses_what_it_has_not(pictures_served: Starlette, body: Any, said: str) -> None:
    check(pictures_served, "POST", "/v1/models/pictures:predict", json.dumps(body), 400, said)


def test_bodies_are_unpacked_whatever_type_they_say(served: Starlette) -> None:
    packed = gzip.compress(b'{"instances": [1]}')
    for headers in ({"Content-Encoding": "gzip"}, {"Content-Encoding": "x-gzip", "Content-Type": "text/plain"}):
        answer = ask(served, "POST", f"{M}:predict", packed, headers=headers)
        assert answer.json() == {"predictions": [1.0]}
        assert "content-encoding" not in answer.headers
    for broken in (packed[:-9], b"{}", b""):
        answer = ask(served, "POST", f"{M}:predict", broken, headers={"Content-Encoding": "gzip"})
        assert answer.json() == {"error": "JSON Parse error: The document is empty"}
        assert answer.status_code == 400


def test_options_are_answered_to_those_who_say_their_origin(served: Starlette) -> None:
    for origin, status in (("https://example.org", 200), ("http://a", 200), ("", 400), ("file", 400)):
        answer = ask(served, "OPTIONS", f"{M}:predict", headers={"Origin": origin} if origin else {})
        assert (answer.status_code, answer.content) == (status, b"")
        assert "access-control-allow-origin" not in answer.headers


def test_pages_of_other_addresses_may_ask_where_that_is_wanted() -> None:
    app = application(Models({"m": Model({1: Version(Echo())}, {})}), Turns(Settings(cors=True)))
    for method, target in (("OPTIONS", M), ("GET", M), ("GET", "/v1/models/other")):
        headers = ask(app, method, target, headers={"Origin": "http://a"}).headers
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-methods"] == "POST, GET"
        assert headers["access-control-allow-headers"] == "Content-Type"
    with_token = application(Models({"m": Model({1: Version(Echo())}, {})}), Turns(Settings("secret", cors=True)))
    answer = ask(with_token, "OPTIONS", M, headers={"Origin": "http://a"})
    assert answer.headers["access-control-allow-headers"] == "Content-Type, Authorization"
