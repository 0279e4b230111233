"""Requests that a server answers, and what becomes of them when they are changed at random, but the same for the same
seed."""

import base64
import gzip
import io
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from app.serving import examples, tensor_protos
from app.serving.grpc_answering import METHODS, PACKAGE
from app.serving.messages import message
from app.serving.signatures import TYPES


class Request(NamedTuple):
    """One by HTTP. `path` has the query, as it is sent."""

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def raw(self) -> bytes:
        """As it is sent over a connection that ends with its answer."""
        head = f"{self.method} {self.path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(self.body)}"
        said = b"".join(b"\r\n%b: %b" % pair for pair in self.headers)
        return head.encode("latin-1") + said + b"\r\n\r\n" + self.body


def pictures() -> list[bytes]:
    """Small ones of all kinds that are decoded, and of some that are not."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
    other = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colours, "PNG", {}),
        (colours.convert("RGBA"), "PNG", {}),
        (colours.convert("P"), "PNG", {"transparency": 3}),
        (colours.convert("LA"), "PNG", {}),
        (Image.fromarray(rng.integers(0, 2**16, (5, 4), np.uint16)), "PNG", {}),
        (colours, "PNG", {"save_all": True, "append_images": [other]}),
        (colours, "JPEG", {"quality": 90}),
        (colours.convert("L"), "JPEG", {}),
        (colours.convert("CMYK"), "JPEG", {}),
        (colours, "JPEG", {"progressive": True, "exif": exif}),
        (colours, "GIF", {}),
        (colours, "GIF", {"save_all": True, "append_images": [other]}),
        (colours, "BMP", {}),
        (colours.convert("1"), "BMP", {}),
        (colours, "WEBP", {}),
        (colours, "WEBP", {"lossless": True, "save_all": True, "append_images": [other]}),
        (colours, "TIFF", {}),
    ]
    found = []
    for picture, kind, options in kinds:
        content = io.BytesIO()
        picture.save(content, kind, **options)
        found.append(content.getvalue())
    masks = struct.pack("<2sIHHI", b"BM", 0, 0, 0, 66) + struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 16, 3, 8, 0, 0, 0, 0)
    found.append(masks + struct.pack("<III", 0xF800, 0x7E0, 0x1F) + bytes(range(8)))
    return found


PICTURES = pictures()


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


ECHO: list[tuple[str, Any]] = [  # the method, and the body
    ("predict", {"instances": [[1.0, 2], [3e-3, -4]]}),
    ("predict", {"inputs": [[1.0, 2], [3, 4]]}),
    ("predict", {"signature_name": "two", "instances": [{"a": 1, "b": b64(b"abc")}, {"a": 2.5, "b": "text"}]}),
    ("predict", {"signature_name": "two", "inputs": {"a": [1, 2], "b": ["x", b64(b"\xff")]}}),
    ("predict", {"signature_name": "int8", "instances": [1, -1]}),
    ("predict", {"signature_name": "int64", "inputs": {"x": [[2**63 - 1], [-(2**63)]]}}),
    ("predict", {"signature_name": "uint64", "instances": [2**64 - 1]}),
    ("predict", {"signature_name": "bool", "instances": [[True], [False]]}),
    ("predict", {"signature_name": "string", "instances": ["ä\u2028", b64(b"\0")]}),
    ("predict", {"signature_name": "double", "instances": [1e308, 5e-324]}),
    ("classify", {"signature_name": "both", "examples": [{"a": 1, "b": [1.5, 2.5], "c": "x"}, {"d": b64(b"y")}]}),
    ("classify", {"signature_name": "only_scores", "context": {"a": [True]}, "examples": [{"b": [1, 2]}]}),
    ("regress", {"signature_name": "regress", "examples": [{"a": 1}]}),
]
LOOKS = ["/v1/models/m", "/v1/models/m/versions/1", "/v1/models/m/metadata", "/v1/models/m/labels/stable/metadata"]
LOOKS += ["/v1/models", "/v1/health/ready", "/v1/health/live", "/metrics", "/monitoring/prometheus/metrics"]
LOOKS += ["/v2", "/v2/models/m", "/v2/models/m/versions/stable/ready", "/v2/health/ready"]


def of_pictures(rng: random.Random, model: str) -> tuple[str, Any]:
    """Path and body of a request about pictures."""
    some = [rng.choice(PICTURES) for _ in range(rng.choice((1, 1, 2, 3)))]
    forms: list[tuple[str, Any]] = [
        ("predict", {"instances": [b64(one) for one in some]}),
        ("predict", {"instances": [{"image_bytes": b64(one)} for one in some]}),
        ("predict", {"inputs": [b64(one) for one in some], "signature_name": "serving_default"}),
        ("classify", {"signature_name": "classify", "examples": [{"image/encoded": b64(one)} for one in some]}),
        ("predict", {"signature_name": "predict_pixels", "instances": [[[[9, 8, 7], [1, 2, 3]]] * 2] * len(some)}),
    ]
    method, body = rng.choice(forms)
    return f"/v1/models/{model}:{method}", body


def of_inference(rng: random.Random, model: str) -> tuple[Request, Any]:
    """A request of the Open Inference Protocol, and its body, unless bytes follow that."""
    some = [rng.choice(PICTURES) for _ in range(rng.choice((1, 1, 2)))]
    draw = rng.random()
    if draw < 0.4:
        behind = b"".join(struct.pack("<I", len(one)) + one for one in some)
        size = {"parameters": {"binary_data_size": len(behind)}}
        head = json.dumps(
            {"inputs": [{"name": "image_bytes", "datatype": "BYTES", "shape": [len(some)], **size}]}
        ).encode()
        headers = ((b"inference-header-content-length", str(len(head)).encode()),)
        return Request("POST", f"/v2/models/{model}/infer", headers, head + behind), None
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2.5], [3, 4]]}
    body: dict[str, Any] = {"id": "a", "inputs": [tensor], "outputs": [{"name": "y"}], "parameters": {}}
    if draw < 0.7:
        kind, value = rng.choice(
            (("BYTES", "a"), ("INT64", 2**63 - 1), ("UINT8", 255), ("BOOL", True), ("FP64", 1e300))
        )
        tensor |= {"datatype": kind, "shape": [1], "data": [value]}
        name = {"BYTES": "string", "FP64": "double"}.get(kind, kind.lower())
        body["parameters"] = {"signature_name": name, "binary_data_output": rng.random() < 0.5}
        model = "m"
    elif draw < 0.85:
        tensor |= {"name": "images", "datatype": "UINT8", "shape": [1, 2, 1, 3], "data": [1, 2, 3, 4, 5, 6]}
        body = {"inputs": [tensor], "parameters": {"signature_name": "predict_pixels"}}
    else:
        model = "m"
    return Request("POST", f"/v2/models/{model}/infer", (), json.dumps(body).encode()), body


def valid(rng: random.Random, model: str) -> tuple[Request, Any]:
    """A request, and its body before it was written, if it is JSON; of pictures it asks `model`, or a network `m`."""
    draw = rng.random()
    if draw < 0.1:
        return Request("GET", rng.choice(LOOKS)), None
    if draw < 0.25:
        return of_inference(rng, model)
    if draw < 0.5:
        method, body = rng.choice(ECHO)
        path = f"/v1/models/m{rng.choice(('', '', '/versions/1', '/labels/stable'))}:{method}"
    else:
        path, body = of_pictures(rng, model)
    headers = ((b"content-type", b"application/json"),)
    return Request("POST", path, headers, json.dumps(body).encode()), body


# What bytes are changed to, or have put between them.
PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\x80",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\n",
    b" ",
    b"\t",
    b'"',
    b"\\",
    b"\\u",
]
PIECES += [
    b"\\ud800",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"null",
    b"NaN",
    b"-",
    b"1e999",
    b"0" * 400,
    b"9" * 5000,
    b"%",
]
PIECES += [b"[" * 101, b"\x7f", b"\xc3\x28", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"A" * 1000]


def bytes_of(rng: random.Random, content: bytes) -> bytes:
    """Some of them changed, taken away, doubled, or put between."""
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice((1, 1, 2, 4, 30)))
        kind = rng.randrange(6)
        if kind == 0:
            content = content[:at] + bytes(one ^ (1 << rng.randrange(8)) for one in content[at:end]) + content[end:]
        elif kind == 1:
            content = content[:at] + content[end:]
        elif kind == 2:
            content = content[:at] + rng.choice(PIECES) + content[rng.choice((at, end)) :]
        elif kind == 3:
            content = content[:at] + content[at:end] * rng.choice((2, 3, 50)) + content[end:]
        elif kind == 4:
            content = content[:at] if rng.random() < 0.3 else content[:at] + rng.randbytes(end - at) + content[end:]
        else:
            content = content[:at] + rng.randbytes(rng.choice((1, 2, 8))) + content[at:]
    return content


# Values that are put anywhere into a body, as they are written.
TOKENS = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "NaN",
    "-Infinity",
    "Infinity",
    "1e999",
    "-1e999",
    "1e-999",
]
TOKENS += ["9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "2147483648"]
TOKENS += [
    "1" + "0" * 308,
    "1" + "0" * 400,
    "9" * 5000,
    "0." + "1" * 500,
    "1E+00000000000001",
    "01",
    "1.",
    ".5",
    "+1",
    "0x10",
]
TOKENS += [
    '""',
    '"text"',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83d\\ude00"',
    '"\\x"',
    "'a'",
    '"a',
    "nul",
]
TOKENS += ["[]", "[[]]", "[[], [1]]", "[1, [1]]", "[null]", "{}", '{"b64": "YQ=="}', '{"b64": "YQ"}', '{"b64": "Y"}']
TOKENS += [
    '{"b64": 1}',
    '{"b64": null}',
    '{"b64": ["YQ=="]}',
    '{"b64": "YQ==", "x": 1}',
    '{"b64": "YQ==", "b64": "YR=="}',
]
TOKENS += ['{"a": 1, "a": 2}', '{"": ""}', "[" * 99 + "]" * 99, "[" * 101 + "]" * 101, '{"a":' * 60 + "1" + "}" * 60]
TOKENS += ["[" + "0," * 2000 + "0]", "[" + "[1]," * 1100 + "[1]]", "// no", "/**/ 1", "1 1", "\ufeff1", "\u2028"]
MARK = "token {} is here"  # stands for a token while a body is written


def json_of(rng: random.Random, body: Any) -> bytes:
    """Its values exchanged, taken away, put elsewhere, and its keys as well."""
    body = json.loads(json.dumps(body))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(body))
        if not places:
            break
        holder, key = rng.choice(places)
        value = holder[key]
        kind = rng.randrange(8)
        if kind <= 2:
            holder[key] = MARK.format(rng.randrange(len(TOKENS)))
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            many = [value] * (1100 if len(json.dumps(value)) < 100 else 2)
            holder[key] = rng.choice(([value], [value, value], {"b64": value}, {"x": value}, [[value]], many))
        elif kind == 5 and isinstance(holder, dict):
            del holder[key]
            names = [
                "b64",
                "instances",
                "inputs",
                "signature_name",
                "examples",
                "context",
                "image/encoded",
                "",
                "x",
                "\ud800",
            ]
            holder[rng.choice([*names, key * 300])] = value
        elif kind == 6:
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key] = json.loads(json.dumps(other[place]))
        elif isinstance(holder, list):
            holder.extend([value] * rng.choice((1, 2, 20)))
    text = json.dumps(body)
    text = re.sub(json.dumps(MARK).format(r"(\d+)"), lambda found: TOKENS[int(found[1])], text)
    if rng.random() < 0.1:
        key = rng.choice(("instances", "inputs", "signature_name", "examples"))
        text = f'{{"{key}": {rng.choice(TOKENS)}, {text[1:]}'
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterable[tuple[Any, Any]]:
    """Each list or object, and each key of it."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def picture_of(rng: random.Random, content: bytes) -> bytes:
    """A file with other bytes; of a PNG also such that its checksums are right."""
    if not content.startswith(b"\x89PNG") or rng.random() < 0.3:
        return bytes_of(rng, content)
    chunks, at = [], 8
    while at < len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    place = rng.randrange(len(chunks))
    kind, data = chunks[place]
    if kind == b"IHDR" and rng.random() < 0.5:
        sides = [rng.choice((0, 1, 7, 200, 8192, 8193, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
        data = struct.pack(">II", *sides) + data[8:]
    elif kind == b"IDAT" and rng.random() < 0.7:
        data = zlib.compress(bytes_of(rng, zlib.decompress(data)))
    else:
        data = bytes_of(rng, data)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
    chunks[place] = [kind, data]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return content[:8] + body


def texts_of(body: Any, change: Callable[[str], str]) -> Any:
    """With the base64 in it changed."""
    if isinstance(body, dict):
        return {key: change(each) if key == "b64" else texts_of(each, change) for key, each in body.items()}
    return [texts_of(each, change) for each in body] if isinstance(body, list) else body


def _of_body(rng: random.Random, request: Request, body: Any) -> Request:
    return request._replace(body=bytes_of(rng, request.body))


def _of_json(rng: random.Random, request: Request, body: Any) -> Request:
    return request._replace(body=json_of(rng, body))


def _of_picture(rng: random.Random, request: Request, body: Any) -> Request:
    def change(text: str) -> str:
        return base64.b64encode(picture_of(rng, base64.b64decode(text))).decode() if rng.random() < 0.8 else text

    return request._replace(body=json.dumps(texts_of(body, change)).encode())


def _of_base64(rng: random.Random, request: Request, body: Any) -> Request:
    def change(text: str) -> str:
        other = bytes_of(rng, text.encode()).decode("utf-8", "surrogateescape")
        return rng.choice((other, text.rstrip("="), text + "=", text.replace("+", "-").replace("/", "_"), f" {text}\n"))

    written = json.dumps(texts_of(body, change), ensure_ascii=rng.random() < 0.5)
    return request._replace(body=written.encode("utf-8", "surrogatepass"))


def _of_gzip(rng: random.Random, request: Request, body: Any) -> Request:
    packed = gzip.compress(request.body, rng.randrange(10), mtime=0)
    kinds = (packed, packed[:-1], packed * 2, packed + b"x", zlib.compress(request.body), bytes_of(rng, packed), b"")
    said = rng.choice((b"gzip", b"gzip", b"gzip", b"GZIP", b"x-gzip", b"gzip, gzip", b"deflate", b"identity"))
    return request._replace(body=rng.choice(kinds), headers=(*request.headers, (b"content-encoding", said)))


NAMES = [
    b"content-type",
    b"content-length",
    b"content-encoding",
    b"authorization",
    b"origin",
    b"accept-encoding",
    b"host",
]
NAMES += [b"transfer-encoding", b"expect", b"cookie", b"connection", b"range", b"inference-header-content-length", b"x"]
VALUES = [
    b"",
    b"gzip",
    b"-1",
    b"0",
    b"1",
    b"99999999999999999999999",
    b"1e3",
    b"\xff\xfe",
    b"Bearer ",
    b"http://a",
    b"*",
]
VALUES += [b"a" * 5000, b"0x10", b"100-continue", b"chunked", b"close", b"bytes=0-", b"text/plain; charset=\xe4", b"+5"]


def _of_headers(rng: random.Random, request: Request, body: Any) -> Request:
    some = [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.choice((1, 1, 2, 3, 40)))]
    return request._replace(headers=(*request.headers, *some))


VERBS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "BREW")
PARTS = [
    "/",
    "//",
    ":",
    "%2F",
    "%00",
    "%",
    "%zz",
    "%FF",
    "%0A",
    "..",
    ".",
    "?",
    "?a=b",
    "#",
    "versions",
    "labels",
    "metadata",
]
PARTS += [
    "/versions/0",
    "/versions/9223372036854775808",
    "/versions/" + "9" * 300,
    "/labels/x",
    "a" * 2000,
    ":predict",
    "*",
]
PARTS += [
    "%c3%28",
    "%ed%a0%80",
    "%E2%80%AE",
    ";",
    "@",
    "\\",
    "~",
    "'",
    '"',
    "<script>",
    "V1",
    "/v2/models/m/infer",
    "/v2",
    "/v1",
]


def _of_path(rng: random.Random, request: Request, body: Any) -> Request:
    path = request.path
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(path) + 1)
        path = path[:at] + rng.choice(PARTS) + path[rng.choice((at, at + 1, at + rng.randrange(12))) :]
    path = quote(path, safe="".join(map(chr, range(0x21, 0x7F))))
    method = rng.choice(VERBS) if rng.random() < 0.3 else request.method
    return request._replace(method=method, path=path if rng.random() < 0.1 else f"/{path.lstrip('/')}")


SORTS: dict[str, Callable[[random.Random, Request, Any], Request]] = {
    "body": _of_body,
    "json": _of_json,
    "picture": _of_picture,
    "base64": _of_base64,
    "gzip": _of_gzip,
    "headers": _of_headers,
    "path": _of_path,
}
OFTEN = {"body": 20, "json": 35, "picture": 25, "base64": 8, "gzip": 8, "headers": 4, "path": 8}


def mutated(rng: random.Random, model: str) -> tuple[str, Request]:
    """What sort of change was made, and what came of it."""
    request, body = valid(rng, model)
    (sort,) = rng.choices(list(OFTEN), list(OFTEN.values()))
    if body is None and sort not in ("headers", "gzip"):
        sort = "path" if request.method == "GET" else "body"
    return sort, SORTS[sort](rng, request, body)


RAW = [
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Expect: 100-continue\r\n",
]
RAW += [
    b"Host:\r\n",
    b" folded\r\n",
    b"A\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"HTTP/9.9",
    b"HTTP/1.0",
]
RAW += [
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"5\r\n",
]


def raw(rng: random.Random, model: str) -> bytes:
    """The bytes of a request by HTTP, with some changed, mostly of the headers."""
    request, _ = valid(rng, model)
    content = request.raw()
    head, mark, body = content.partition(b"\r\n\r\n")
    draw = rng.random()
    if draw < 0.5:
        return bytes_of(rng, head) + mark + body
    if draw < 0.9:
        lines = head.split(b"\r\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(RAW))
        return b"\r\n".join(lines).replace(b"\r\n\r\n", rng.choice((b"\r\n", b"\r\n\r\n"))) + mark + body
    return bytes_of(rng, content)


def a_message(rng: random.Random, model: str) -> tuple[str, Any]:
    """The method, and what it is asked by gRPC."""
    draw = rng.random()
    if draw < 0.2:
        method = rng.choice(("GetModelStatus", "GetModelMetadata", "Regress", "MultiInference"))
        asked = message(f"{PACKAGE}.{METHODS[method].request}")()
        if method == "GetModelMetadata":
            asked.metadata_field.append("signature_def")
        if method != "MultiInference":
            asked.model_spec.name = "m"
        return method, asked
    some = [rng.choice(PICTURES) for _ in range(rng.choice((1, 1, 2)))]
    if draw < 0.4:
        asked = message(f"{PACKAGE}.ClassificationRequest")()
        asked.input.example_list.examples.extend(
            examples.of_request({"examples": [{"image/encoded": b64(one)} for one in some]})
        )
        asked.model_spec.name, asked.model_spec.signature_name = model, "classify"
        return "Classify", asked
    asked = message(f"{PACKAGE}.PredictRequest")()
    asked.model_spec.name = model if draw < 0.7 else "m"
    pixels = np.zeros((len(some), 3, 2, 3), np.uint8)
    if draw < 0.6:
        tensor_protos.write(np.array(some, np.object_), "DT_STRING", asked.inputs["image_bytes"])
    elif draw < 0.7:
        asked.model_spec.signature_name = "predict_pixels"
        tensor_protos.write(pixels, "DT_UINT8", asked.inputs["images"])
    else:
        dtype = rng.choice(list(TYPES))
        asked.model_spec.signature_name, kind = TYPES[dtype]
        given = np.array([b"a", b"\xff"], np.object_) if kind is np.object_ else np.ones((2, 2), kind)
        tensor_protos.write(given, dtype, asked.inputs["x"])
        if kind is not np.object_ and rng.random() < 0.5:
            asked.inputs["x"].ClearField(tensor_protos.FIELDS[dtype])
            asked.inputs["x"].tensor_content = given.tobytes()
    return "Predict", asked


SIDES = (0, 1, 2, 3, -1, 8193, 2**31, 2**62, 2**63 - 1, -(2**63))


def mutated_message(rng: random.Random, model: str) -> tuple[str, bytes]:
    """The method, and the bytes of a message with some changed, or with another shape, type, version or name."""
    method, asked = a_message(rng, model)
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(list(METHODS)), asked.SerializeToString()
    if method == "Predict" and kind <= 4:
        key, *_ = asked.inputs
        tensor = asked.inputs[key]
        if kind == 1:
            tensor.tensor_shape.dim[rng.randrange(len(tensor.tensor_shape.dim))].size = rng.choice(SIDES)
        elif kind == 2:
            for _ in range(rng.choice((1, 2, 70, 300))):
                tensor.tensor_shape.dim.add(size=rng.choice(SIDES) if rng.random() < 0.1 else 1)
        elif kind == 3:
            tensor.dtype = rng.choice((0, 1, 3, 4, 7, 8, 19, 20, 100, 121))
        else:
            tensor.string_val[:] = [picture_of(rng, one) for one in tensor.string_val]
    elif kind == 5 and method != "MultiInference":
        asked.model_spec.signature_name = rng.choice(("", "x", "two", "both", "classify", "nothing", "fails"))
        asked.model_spec.version.value = rng.choice(SIDES)
    else:
        return method, bytes_of(rng, asked.SerializeToString())
    return method, asked.SerializeToString()
