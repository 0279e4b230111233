"""Requests written by hand, which somebody might send by mistake or on purpose, and what they are answered.

Each is sent as it is over a connection of its own to a server of two networks: `m` of `asking.Echo`, and `pictures`,
which tells dark from light. A case is its name, the bytes, the status of each answer (none if nothing comes, as of a
request that has not ended), and a part of what is said.
"""

import base64
import gzip
import io
import json
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

M, PICTURES = "/v1/models/m", "/v1/models/pictures"


class Case(NamedTuple):
    name: str
    request: bytes
    statuses: tuple[int, ...]
    said: str = ""


def http(method: str, target: str, body: bytes | str = b"", headers: str = "", close: bool = True) -> bytes:
    content = body if isinstance(body, bytes) else body.encode()
    length = f"Content-Length: {len(content)}\r\n" if content or method == "POST" else ""
    connection = "Connection: close\r\n" if close else ""
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\n{connection}{length}{headers}\r\n".encode("latin-1") + content


def bare(text: str) -> bytes:
    """Of a request whose lines are written as they stand here."""
    return text.encode("latin-1").replace(b"\n", b"\r\n")


def predict(body: bytes | str, model: str = M, headers: str = "") -> bytes:
    return http("POST", f"{model}:predict", body, headers)


def classify(examples: str, signature: str = "both", more: str = "") -> bytes:
    return http("POST", f"{M}:classify", f'{{"signature_name": "{signature}"{more}, "examples": {examples}}}')


def rows(signature: str, instances: str) -> bytes:
    return predict(f'{{"signature_name": "{signature}", "instances": {instances}}}')


def columns(signature: str, inputs: str) -> bytes:
    return predict(f'{{"signature_name": "{signature}", "inputs": {inputs}}}')


def b64(content: bytes) -> str:
    return json.dumps({"b64": base64.b64encode(content).decode()})


def show(*files: bytes) -> bytes:
    return predict(f'{{"instances": [{", ".join(map(b64, files))}]}}', PICTURES)


def drawn(kind: str, mode: str = "RGB", size: tuple[int, int] = (6, 4), **options: Any) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, depth: int = 8, colours: int = 2, rest: bytes = b"") -> bytes:
    """Of the header that says so, and no more than a line of pixels unless `rest` brings some."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    pixels = rest or chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + pixels + chunk(b"IEND", b"")


JSON: list[Case] = [
    Case("an empty body", predict(""), (400,), "JSON Parse error: The document is empty"),
    Case("blanks", predict(" \r\n\t"), (400,), "The document is empty"),
    Case("a mark of UTF-8", predict(b'\xef\xbb\xbf{"instances": [1]}'), (200,), '"predictions"'),
    Case("a mark alone", predict(b"\xef\xbb\xbf"), (400,), "The document is empty"),
    Case("two marks", predict(b'\xef\xbb\xbf\xef\xbb\xbf{"instances": [1]}'), (400,), "JSON Parse error: "),
    Case("UTF-16", predict('{"instances": [1]}'.encode("utf-16")), (400,), "JSON Parse error: "),
    Case("UTF-16 without a mark", predict('{"instances": [1]}'.encode("utf-16-be")), (400,), "JSON Parse error: "),
    Case("UTF-32", predict('{"instances": [1]}'.encode("utf-32")), (400,), "JSON Parse error: "),
    Case("Latin-1", predict(b'{"signature_name": "string", "instances": ["\xe4"]}'), (200,), "\udce4"),
    Case("an overlong null", predict(b'{"signature_name": "string", "instances": ["\xc0\x80"]}'), (200,)),
    Case("a surrogate as bytes", predict(b'{"signature_name": "string", "instances": ["\xed\xa0\x80"]}'), (200,)),
    Case("half of a pair", rows("string", '["\\ud800"]'), (400,), "The surrogate pair in string is invalid."),
    Case("a pair the wrong way", rows("string", '["\\udc00\\ud800"]'), (400,), "The surrogate pair in string"),
    Case("a pair", rows("string", '["\\ud83d\\ude00"]'), (200,), "\U0001f600"),
    Case("half of a pair as key", predict('{"\\ud800": 1, "instances": [1]}'), (200,)),
    Case("half of a pair as name of an input", predict('{"instances": [{"\\ud800": 1}]}'), (400,), "named input: "),
    Case(
        "half of a pair as signature", predict('{"signature_name": "\\udfff", "instances": [1]}'), (400,), "not found"
    ),
    Case("a null in a string", rows("string", '["a\\u0000b"]'), (200,), "\\u0000"),
    Case("a bare null in a string", rows("string", '["a\0b"]'), (400,), "JSON Parse error: "),
    Case("a bare end of a line in a string", rows("string", '["a\nb"]'), (400,), "JSON Parse error: "),
    Case("a separator of lines", rows("string", '["\u2028"]'), (200,), "\u2028"),
    Case("an escape that is none", rows("string", '["\\x41"]'), (400,), "JSON Parse error: "),
    Case("an escape that is cut short", rows("string", '["\\u12"]'), (400,), "JSON Parse error: "),
    *(
        Case(f"not an object: {value}", predict(value), (400,), "Is not object")
        for value in ("null", "true", "1", '"a"', "[1, 2]", "NaN")
    ),
    Case("cut short", predict('{"instances": [1'), (400,), "JSON Parse error: "),
    Case("a comma at the end", predict('{"instances": [1],}'), (400,), "JSON Parse error: "),
    Case("a comma in a list", predict('{"instances": [1,]}'), (400,), "JSON Parse error: "),
    Case("single quotes", predict("{'instances': [1]}"), (400,), "JSON Parse error: "),
    Case("no quotes", predict("{instances: [1]}"), (400,), "JSON Parse error: "),
    Case("a comment", predict('{"instances": [1] /* one */}'), (400,), "JSON Parse error: "),
    Case("a form feed", predict('\f{"instances": [1]}'), (400,), "JSON Parse error: "),
    Case("XML", predict("<?xml version='1.0'?><a/>"), (400,), "JSON Parse error: "),
    Case("a form", predict("instances=1&a=b"), (400,), "JSON Parse error: "),
    Case("an object behind it", predict('{"instances": [1]}{"instances": [2]}'), (200,), "1.0"),
    Case("a word behind it", predict('{"instances": [1]} and more'), (200,), "1.0"),
    Case("the first of equal keys counts", predict('{"instances": [1], "instances": [2]}'), (200,), "1.0"),
    Case("of equal inputs, too", predict('{"instances": [{"x": 1, "x": "a"}]}'), (200,), "1.0"),
    Case("of equal bytes, too", rows("string", '[{"b64": "YQ==", "b64": "Yg=="}]'), (200,), '"a"'),
    Case("NaN", predict('{"instances": [NaN]}'), (200,), "NaN"),
    Case("minus infinity", predict('{"instances": [-Infinity]}'), (200,), "-Infinity"),
    Case("nan", predict('{"instances": [nan]}'), (400,), "JSON Parse error: "),
    Case("minus NaN", predict('{"instances": [-NaN]}'), (400,), "JSON Parse error: "),
    Case("larger than a double", predict('{"instances": [1e999]}'), (400,), "Number too big to be stored in double."),
    Case("smaller than a double", predict('{"instances": [1e-999]}'), (200,), "0.0"),
    Case("larger than a float", predict('{"instances": [1e39]}'), (200,), "Infinity"),
    Case("minus zero", predict('{"instances": [-0.0]}'), (200,), "-0.0"),
    Case("an exponent with zeros", predict('{"instances": [1E+00000000000001]}'), (200,), "10.0"),
    Case("309 digits", predict(f'{{"instances": [1{"0" * 308}]}}'), (200,), "Infinity"),
    Case("401 digits", predict(f'{{"instances": [1{"0" * 400}]}}'), (400,), "Number too big"),
    Case("9,000 digits", predict(f'{{"instances": [{"9" * 9000}]}}'), (400,), "Number too big"),
    Case("9,000 digits of a whole number", rows("int64", f"[{'9' * 9000}]"), (400,), "Number too big"),
    Case("9,000 digits behind the point", predict(f'{{"instances": [0.{"1" * 9000}]}}'), (200,), "0.111111"),
    *(
        Case(f"no number: {value}", predict(f'{{"instances": [{value}]}}'), (400,), "JSON Parse error: ")
        for value in ("01", "1.", ".5", "+1", "0x10", "1e", "--1", "1_000", "\u0661", "Inf", "1,5,")
    ),
    Case("a tensor of 64 dimensions", columns("float", "[" * 64 + "1" + "]" * 64), (200,), "1.0"),
    Case("a tensor of 65", columns("float", "[" * 65 + "1" + "]" * 65), (400,), "64 dimensions at most"),
    Case("a list 100 deep", predict('{"a": ' + "[" * 99 + "]" * 99 + ', "instances": [1]}'), (200,)),
    Case("a list 101 deep", predict('{"a": ' + "[" * 100 + "]" * 100 + ', "instances": [1]}'), (400,), "100 deep"),
    Case("objects 100 deep", predict('{"a": ' * 99 + "{}" + "}" * 99), (400,), "Missing 'inputs' or 'instances' key"),
    Case("objects 101 deep", predict('{"a": ' * 100 + "{}" + "}" * 100), (400,), "more than 100 deep"),
    Case("a million brackets", predict("[" * 1_000_000), (400,), "more than 100 deep"),
    Case("a million braces", predict('{"a":' * 200_000), (400,), "more than 100 deep"),
    Case("brackets in a string", rows("string", f'["{"[" * 1000}"]'), (200,), "[[["),
    Case("brackets behind an escaped quote", rows("string", f'["\\"{"[" * 1000}"]'), (200,), "[[["),
    Case("brackets behind an escaped backslash", rows("string", f'["\\\\", {"[" * 101}'), (400,), "100 deep"),
    Case("four million values", predict('{"instances": [' + "0," * 4_000_000 + "0]}"), (413,), "4000000 values"),
    Case("a long key", predict(f'{{"{"a" * 1_000_000}": 1, "instances": [1]}}'), (200,)),
    Case("a long name of an input", predict(f'{{"instances": [{{"{"a" * 1000}": 1}}]}}'), (400,), "named input: aaa"),
]

NUMBERS = ("float", "double", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
WRONG: dict[str, str] = {
    "null": "Type: Null",
    '"1"': "Type: String",
    "true": "Type: True",
    "{}": "Expecting value/list but got object",
    '{"b64": "YQ=="}': "Type: Object",
}
TYPES: list[Case] = [
    *(
        Case(f"{value} for {kind}", rows(kind, f"[1, {value}]"), (400,), said)
        for kind in NUMBERS
        for value, said in WRONG.items()
    ),
    *(
        Case(f"{value} for {kind}", rows(kind, f"[{value}]"), (400,), f"is not of expected type: {kind}")
        for kind, value in (
            ("int8", "1.0"),
            ("int16", "2147483648"),
            ("int32", "-2147483649"),
            ("int64", "9223372036854775808"),
            ("int64", "1e2"),
            ("int64", "NaN"),
            ("uint8", "0.5"),
            ("uint32", "-1"),
            ("uint32", "4294967296"),
            ("uint64", "-1"),
            ("uint64", "18446744073709551616"),
            ("bool", "0"),
            ("bool", '"true"'),
            ("bool", "null"),
            ("string", "1"),
            ("string", "null"),
            ("string", "false"),
        )
    ),
    *(
        Case(f"a column of {kind}", columns(kind, "[1]"), (501,), f"Conversion of JSON Value: 1 to type: {kind}")
        for kind in ("half", "bfloat16")
    ),
    Case("the largest of 64 bits", rows("uint64", "[18446744073709551615]"), (200,), "18446744073709551615"),
    Case("the least of 64 bits", rows("int64", "[-9223372036854775808]"), (200,), "-9223372036854775808"),
    Case("a small integer that wraps around", rows("int8", "[300]"), (200,), "44"),
]

ROWS: list[Case] = [
    Case("neither rows nor columns", predict("{}"), (400,), "Missing 'inputs' or 'instances' key"),
    Case("both", predict('{"instances": [1], "inputs": [1]}'), (400,), "expecting only one of"),
    Case("a key in capitals", predict('{"Instances": [1]}'), (400,), "Missing 'inputs' or 'instances' key"),
    *(
        Case(f"rows that are {value}", predict(f'{{"instances": {value}}}'), (400,), "to be an list/array")
        for value in ("1", "null", '"a"', '{"0": 1}', '{"b64": "YQ=="}')
    ),
    Case("no rows", predict('{"instances": []}'), (400,), "No values in 'instances' array"),
    Case("an empty row", predict('{"instances": [[]]}'), (400,), "is empty"),
    Case("1,025 rows", predict(f'{{"instances": [{"1, " * 1024}1]}}'), (400,), "1024 rows at most, and this one 1025"),
    Case("columns of 1,025", predict(f'{{"inputs": [{"1, " * 1024}1]}}'), (400,), "1024 rows at most"),
    Case("rows of two lengths", predict('{"instances": [[1, 2], [3]]}'), (400,), "Expecting tensor size: 2 but got: 1"),
    Case("rows of two depths", predict('{"instances": [[1], [[1]]]}'), (400,), "Expecting shape [1] but got: [1,1]"),
    Case("a row of two depths", predict('{"instances": [[[1], 2]]}'), (400,), "found at incorrect level: 2"),
    Case(
        "a row that goes deeper", predict('{"instances": [[1, [2]]]}'), (400,), "Encountered list at unexpected level"
    ),
    Case("objects and lists", predict('{"instances": [{"x": 1}, 1]}'), (400,), "Expecting object but got list"),
    Case("lists and objects", predict('{"instances": [1, {"x": 1}]}'), (400,), "Expecting value/list but got object"),
    Case("an input that is none", predict('{"instances": [{"y": 1}]}'), (400,), "does not have named input: y"),
    Case("an input too many", predict('{"instances": [{"x": 1, "y": 1}]}'), (400,), "does not have named input: y"),
    Case("an input too few", rows("two", '[{"a": 1}]'), (400,), "keys must be equal to: a,b"),
    Case("an input too few later", rows("two", '[{"a": 1, "b": ""}, {"b": ""}]'), (400,), "element: 1 of 'instances'"),
    Case("an empty object", predict('{"instances": [{}]}'), (400,), "keys must be equal to: x"),
    Case("a plain row for two inputs", rows("two", "[1]"), (400,), "instances is a plain list"),
    Case("a plain column for two inputs", columns("two", "[1]"), (400,), "inputs is a plain value/list"),
    Case("a column too few", columns("two", '{"a": [1]}'), (400,), "Missing named input: b in 'inputs' object."),
    Case("a column too many", columns("two", '{"a": [1], "b": ["x"], "c": [null]}'), (200,), "b_bytes"),
    Case("no column", columns("float", "{}"), (400,), "Missing named input: x in 'inputs' object."),
    Case("columns that are null", columns("float", "null"), (400,), "Type: Null is not of expected type: float"),
    Case("an empty column", columns("float", "[]"), (400,), "is empty"),
    Case("an empty column of lists", columns("float", "[[], []]"), (400,), "is empty"),
    Case("a scalar column", columns("float", "3"), (200,), "3.0"),
    *(
        Case(
            f"a signature that is {value}",
            predict(f'{{"signature_name": {value}, "instances": [1]}}'),
            (400,),
            "'signature_name' key must be a string value.",
        )
        for value in ("1", "null", "[]", "{}", "true")
    ),
    Case("an empty signature", predict('{"signature_name": "", "instances": [1]}'), (200,), "1.0"),
    Case("a signature that is none", rows("x", "[1]"), (400,), "not found in signature def"),
    Case("a signature in capitals", rows("FLOAT", "[1]"), (400,), "not found in signature def"),
    Case("a long signature", rows("x" * 100_000, "[1]"), (400,), "not found in signature def"),
    Case("a signature without inputs", rows("nothing", "[1]"), (400,), "Failed to get input map for signature"),
    Case("an output without rows", rows("static", "[1]"), (400,), "has inconsistent batch size"),
    Case("an output that is not written", rows("to_half", "[1]"), (400,), "Failed to write JSON value"),
    Case("a network that fails", rows("fails", "[1]"), (429,), "it ran out"),
    Case(
        "the JSON counts before the name", http("POST", "/v1/models/other:predict", "{"), (400,), "JSON Parse error: "
    ),
]

BYTES: list[Case] = [
    *(
        Case(f"base64 {value!r}", rows("string", f'[{{"b64": {json.dumps(value)}}}]'), (200,), said)
        for value, said in (("YQ==", '"a"'), ("YQ", '"a"'), (" Y\nQ = = ", '"a"'), ("", '""'), ("YWI", '"ab"'))
    ),
    *(
        Case(
            f"no base64: {value!r}",
            rows("string", f'[{{"b64": {json.dumps(value)}}}]'),
            (400,),
            "Unable to base64 decode",
        )
        for value in (
            "Y",
            "YQ=",
            "YQ===",
            "Y=Q=",
            "-_-_",
            "YQ==YQ==",
            "Y*==",
            "ä",
            "=",
            "data:image/png;base64,YQ==",
            "\0",
            "\ud800",
        )
    ),
    *(
        Case(f"no object of bytes: {value}", rows("string", f"[{value}]"), (400,), said)
        for value, said in (
            ('{"b64": 1}', "does not have named input: b64"),
            ('{"b64": null}', "does not have named input: b64"),
            ('{"b64": "YQ==", "x": 1}', "does not have named input: b64"),
            ('{"B64": "YQ=="}', "does not have named input: B64"),
            ('{"x": {"b64": ["YQ=="]}}', "not formatted correctly for base64 data"),
            ('{"x": {"b64": "YQ==", "c": 1}}', "not formatted correctly for base64 data"),
            ('{"x": {"x": "a"}}', "not formatted correctly for base64 data"),
        )
    ),
    Case(
        "bytes for a signature",
        predict('{"signature_name": {"b64": "YQ=="}, "instances": [1]}'),
        (400,),
        "must be a string",
    ),
]

UNKNOWN = "This is no JPEG, PNG, GIF, WebP or BMP file."
DAMAGED = "This file is damaged or cut short."
JPEG, PNG, GIF = drawn("JPEG"), drawn("PNG"), drawn("GIF")
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (6, 4), "white")]}
DEEP = io.BytesIO()
Image.fromarray(np.full((4, 6), 1000, np.uint16)).save(DEEP, "PNG")
TOO_LARGE = "at most 20000000 bytes, 8192 pixels a side and 40000000 in all are decoded."
FILES: list[Case] = [
    *(
        Case(name, show(content), (200,), "dark")
        for name, content in (
            ("a JPEG", JPEG),
            ("a JPEG of inks", drawn("JPEG", "CMYK")),
            ("a JPEG of grey", drawn("JPEG", "L")),
            ("a PNG", PNG),
            ("a PNG of 16 bits", DEEP.getvalue()),
            ("a PNG of one bit", drawn("PNG", "1")),
            ("a PNG that moves", drawn("PNG", **FRAMES)),
            ("a GIF that moves", drawn("GIF", **FRAMES)),
            ("a WebP", drawn("WEBP", lossless=True)),
            ("a WebP that moves", drawn("WEBP", lossless=True, **FRAMES)),
            ("a BMP", drawn("BMP")),
            ("a PNG of one pixel", drawn("PNG", size=(1, 1))),
            ("a PNG of 8,192 x 1", drawn("PNG", size=(8192, 1))),
            ("a PNG with a word behind it", PNG + b"more"),
            ("a JPEG with another behind it", JPEG + JPEG),
            (
                "a PNG with a text bomb",
                PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10_000_000))) + PNG[33:],
            ),
            (
                "a PNG with a bomb of colours",
                PNG[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10_000_000))) + PNG[33:],
            ),
        )
    ),
    *(
        Case(name, show(content), (400,), UNKNOWN)
        for name, content in (
            ("an empty file", b""),
            ("one byte", b"a"),
            ("a text", b"a picture of a cat"),
            ("a HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)),
            ("an AVIF", b"\0\0\0\x1cftypavif\0\0\0\0mif1avif" + bytes(100)),
            ("an SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
            ("a TIFF", drawn("TIFF")),
            ("an icon", drawn("ICO", size=(16, 16))),
            ("a JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)),
            ("a PDF", b"%PDF-1.7\n"),
            ("an archive", b"PK\x03\x04" + bytes(100)),
            ("a PNG twice in base64", base64.b64encode(PNG)),
            ("a PostScript file", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
            ("a path", b"/etc/passwd"),
            ("an address", b"http://127.0.0.1:1/picture.png"),
        )
    ),
    *(
        Case(name, show(content), (400,), DAMAGED)
        for name, content in (
            ("a JPEG cut short", JPEG[: len(JPEG) // 2]),
            ("a JPEG's first mark", b"\xff\xd8\xff"),
            ("a PNG's first mark", PNG[:8]),
            ("a PNG without pixels", PNG[:33] + PNG[-12:]),
            ("a PNG cut short", PNG[: PNG.index(b"IDAT") + 6]),
            ("a PNG with a wrong sum", PNG[:30] + b"\0\0" + PNG[32:]),
            ("a PNG of a line of its pixels", png(1000, 1000)),
            ("a PNG of a bad depth", png(4, 4, depth=7)),
            ("a PNG of a bad sort", png(4, 4, colours=5)),
            ("a PNG with 300 opacities", png(2, 2, chunk(b"PLTE", bytes(9)), chunk(b"tRNS", bytes(300)), colours=3)),
            ("a GIF's first mark", b"GIF89a"),
            ("a BMP's first mark", b"BM"),
            ("a WebP's first mark", b"RIFF\0\0\0\0WEBP"),
            ("a WebP of nothing", b"RIFF\xff\xff\xff\xffWEBPVP8 " + bytes(50)),
        )
    ),
    *(
        Case(name, show(content), (400,), TOO_LARGE)
        for name, content in (
            ("100 megapixels", png(10_000, 10_000)),
            ("40 megapixels and some", png(8192, 4883)),
            ("8,193 pixels a side", png(8193, 1)),
            ("two thousand million pixels a side", png(2**31 - 1, 2**31 - 1)),
            ("a GIF of 65,535 a side", GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:]),
        )
    ),
    Case("no pixels a side", show(png(0, 5)), (400,)),
    Case("a good and a bad one", show(PNG, b"bad"), (200,), UNKNOWN),
    Case("two bad ones", show(b"bad", b""), (200,), UNKNOWN),
    Case("a picture as text", predict('{"instances": ["picture.png"]}', PICTURES), (400,), UNKNOWN),
    Case(
        "a picture as numbers",
        predict('{"instances": [[[1, 2, 3]]]}', PICTURES),
        (400,),
        "is not of expected type: string",
    ),
    Case("pictures two deep", predict(f'{{"instances": [[{b64(PNG)}]]}}', PICTURES), (400,), "has the shape"),
    Case("a picture without its batch", predict(f'{{"inputs": {b64(PNG)}}}', PICTURES), (400,), "has the shape"),
    *(
        Case(
            f"pixels {value}",
            predict(f'{{"signature_name": "predict_pixels", "instances": {value}}}', PICTURES),
            (status,),
            said,
        )
        for value, status, said in (
            ("[[[[1, 2, 3]]]]", 200, "predictions"),
            ("[[[[1, 2, 3, 4]]]]", 400, "has the shape"),
            ("[[[1, 2, 3]]]", 400, "has the shape"),
            ("[[[]]]", 400, "has the shape"),
            ("[[[[0.5, 1, 1]]]]", 400, "is not of expected type: uint8"),
            ("[" + "[[[1,2,3]]]," * 1024 + "[[[1,2,3]]]]", 400, "1024 rows at most"),
            ("[[" + "[[1,2,3]]," * 8192 + "[[1,2,3]]]]", 400, "8192 a side are the most"),
        )
    ),
]

EXAMPLES: list[Case] = [
    Case(
        "no examples", http("POST", f"{M}:classify", '{"signature_name": "both"}'), (400,), "key 'examples' is expected"
    ),
    Case("examples that are an object", classify("{}"), (400,), "Expecting 'examples' value to be an list/array"),
    Case("examples that are none", classify("[]"), (400,), "'examples' value is an empty array"),
    Case("an example that is a list", classify("[[1]]"), (400,), "Example must be JSON object but got JSON Array"),
    Case("an example that is null", classify("[null]"), (400,), "Example must be JSON object but got JSON Null"),
    Case("an empty example", classify("[{}]"), (200,), "cat"),
    Case(
        "a feature of null", classify('[{"a": null}]'), (400,), "Feature: a has element with unexpected JSON type: Null"
    ),
    Case("a feature of lists", classify('[{"a": [[1]]}]'), (400,), "unexpected JSON type: Array"),
    Case("a feature of an object", classify('[{"a": {"x": 1}}]'), (400,), "unexpected JSON type: Object"),
    Case("a feature of two types", classify('[{"a": [1, "x"]}]'), (400,), "expecting type: int64"),
    Case(
        "a feature of 64 bits and no sign",
        classify('[{"a": 9223372036854775808}]'),
        (400,),
        "Only int64_t is supported.",
    ),
    Case("a feature larger than those", classify('[{"a": 18446744073709551616}]'), (200,), "cat"),
    Case("a feature that is too large", classify('[{"a": 1e999}]'), (400,), "Number too big"),
    Case("a feature of half a pair", classify('[{"a": "\\ud800"}]'), (400,), "surrogate pair"),
    Case("a feature called half a pair", classify('[{"\\ud800": 1}]'), (400,), "surrogate pair"),
    Case("a feature of bad bytes", classify('[{"a": {"b64": "*"}}]'), (400,), "Unable to base64 decode"),
    Case("a feature without a name", classify('[{"": 1}]'), (200,), "cat"),
    Case(
        "a context that is a list",
        classify('[{"a": 1}]', more=', "context": []'),
        (400,),
        "Example must be JSON object",
    ),
    Case("a context", classify('[{"a": 1}]', more=', "context": {"b": [1.5]}'), (200,), "cat"),
    Case("1,025 examples", classify(f"[{'{}, ' * 1024}{{}}]"), (400,), "1024 rows at most"),
    Case("a signature of another method", classify("[{}]", "float"), (400,), "No classification inputs found"),
    Case("a signature of two inputs", classify("[{}]", "two"), (400,), "Expected one input Tensor."),
    Case("no such signature", classify("[{}]", "x"), (400,), "No signature was found with the name: x"),
    Case(
        "scores of a wrong type", classify("[{}]", "wide"), (400,), "Expected scores Tensor of DT_FLOAT. Got: float64"
    ),
    Case("regression", http("POST", f"{M}:regress", '{"examples": [{"a": 1}]}'), (400,), "No regression inputs found"),
    *(
        Case(
            f"an example of {value}",
            http("POST", f"{PICTURES}:classify", f'{{"signature_name": "classify", "examples": [{value}]}}'),
            (400,),
            said,
        )
        for value, said in (
            ('{"image/encoded": 1}', "Data types don't match. Expected type: string"),
            ('{"image/encoded": [{"b64": "YQ=="}, {"b64": "YQ=="}]}', "Number of bytes values != expected."),
            ('{"image": {"b64": "YQ=="}}', "The picture cannot be decoded"),
            ("{}", "The picture cannot be decoded"),
        )
    ),
]


def get(target: str, method: str = "GET", headers: str = "") -> bytes:
    return http(method, target, headers=headers)


PATHS: list[Case] = [
    *(
        Case(f"nothing is at {target[:40]}", get(target), (404,), "Not Found")
        for target in (
            "/page",
            "/v1",
            "/v1models/m",
            "/favicon.ico",
            "/../../etc/passwd",
            "//v1/models/m",
            "/V2/models/m",
            "*",
            "?",
            "?a=b",
        )
    ),
    *(
        Case(f"malformed: {target[:40]}", get(target), (400,), "Malformed request: GET ")
        for target in (
            "/v1/",
            "/v1/../../../etc/passwd",
            "/v1/models/m/",
            "/v1/models//m",
            "/v1/models/",
            "/v1/models/m/versions",
            "/v1/models/m/versions/",
            "/v1/models/m/versions/-1",
            "/v1/models/m/versions/1.0",
            "/v1/models/m/versions/%31",
            "/v1/models/m/versions/1/labels/stable",
            "/v1/models/m/labels/",
            "/v1/models/m:predict",
            "/v1/models/m/metadata/",
            "/v1/models/m/metadata?a=b",
            "/v1/models/m/../m/versions/1/../../x",
            "/v1/health/ready/",
            "/v1/models/m%0d%0aX:%20y",
            "/v1/models/m?x=/etc",
        )
    ),
    *(
        Case(f"no such model: {target[:40]}", get(target), (404,), said)
        for target, said in (
            ("/v1/models/M", "Could not find any versions of model M"),
            ("/v1/models/..", "Could not find any versions of model .."),
            ("/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "Could not find any versions of model ../../etc/passwd"),
            ("/v1/models/m%00", "Could not find any versions of model m\\u0000"),
            ("/v1/models/m%0d%0aX", "Could not find any versions of model m\\r\\nX"),
            ("/v1/models/%ff", "Could not find any versions of model "),
            ("/v1/models/%ed%a0%80", "Could not find any versions of model "),
            ("/v1/models/%zz", "Could not find any versions of model %zz"),
            ("/v1/models/%", "Could not find any versions of model %"),
            ("/v1/models/%25", "Could not find any versions of model %"),
            ("/v1/models/%C3%A4", "Could not find any versions of model ä"),
            ("/v1/models/%E2%80%AE", "Could not find any versions of model "),
            ("/v1/models/m;x", "Could not find any versions of model m;x"),
            ("/v1/models/m\\x", "Could not find any versions of model m\\\\x"),
            ("/v1/models/m?x", "Could not find any versions of model m?x"),
            ("/v1/models/m#x", "Could not find any versions of model m#x"),
            ("/v1/models/<script>", "Could not find any versions of model <script>"),
            ("/v1/models/%22%7D", 'Could not find any versions of model \\"}'),
            ("/v1/models/$(id)", "Could not find any versions of model $(id)"),
            ("/v1/models/" + "a" * 10_000, "Could not find any versions of model aaa"),
            ("/v1/models/m/versions/7", "Could not find version 7 of model m"),
            ("/v1/models/m/versions/7/metadata", "Servable not found for request: Specific(m, 7)"),
        )
    ),
    Case("a version beyond all", get(f"{M}/versions/9223372036854775808"), (400,), "Failed to convert version: "),
    Case("a version of 9,000 digits", get(f"{M}/versions/{'9' * 9000}"), (400,), "Failed to convert version: "),
    Case("a version with zeros", get(f"{M}/versions/{'0' * 300}1"), (200,), "AVAILABLE"),
    Case(
        "a label that is none", http("POST", f"{M}/labels/x:predict", '{"instances": [1]}'), (400,), "version label: x"
    ),
    Case(
        "a label with a null", http("POST", f"{M}/labels/%00:predict", '{"instances": [1]}'), (400,), "version label: "
    ),
    Case("a model's name in percents", get("/v1/models/%6d"), (200,), "AVAILABLE"),
    Case("in capitals", get("/V1/MODELS/m"), (200,), "AVAILABLE"),
    Case("the method in capitals", http("POST", f"{M}:PREDICT", "{}"), (400,), "Malformed request: POST "),
    Case("a query", http("POST", f"{M}:predict?a=b", "{}"), (400,), "Malformed request: POST "),
    Case("a fragment", http("POST", f"{M}:predict#a", "{}"), (400,), "Malformed request: POST "),
    Case("two methods", http("POST", f"{M}:predict:predict", "{}"), (400,), "Malformed request: POST "),
    *(
        Case(f"the method {method}", get(M, method), (400,), f"Malformed request: {method} ")
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get", "LONG" * 100)
    ),
    Case("the method HEAD", get(M, "HEAD"), (400,)),
    Case("the method CONNECT", bare("CONNECT a:443 HTTP/1.1\nHost: a\nConnection: close\n\n"), (404,)),
    Case("the method OPTIONS of no page", get(M, "OPTIONS"), (400,)),
    Case("the method OPTIONS of a page", get(M, "OPTIONS", "Origin: http://a\r\n"), (200,)),
    Case("OPTIONS for the whole server", get("*", "OPTIONS"), (404,)),
    Case("a method with a blank", bare("GE T / HTTP/1.1\nHost: a\n\n"), (400,)),
    Case("an address of another server", get("http://b/v1/models/m"), (404,)),
    Case("an address of another kind", get("file:///etc/passwd"), (404,)),
    Case("metrics", get("/metrics"), (200,), ":tensorflow:serving:request_count"),
    Case("metrics with a query", get("/metrics?a"), (400,), "Should be /metrics"),
    Case("the health", get("/v1/health/live"), (200,)),
]

ONE = '{"instances": [1]}'
PACKING = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
MEGABYTES = [PACKING.compress(bytes(2**20)) + PACKING.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
BOMB = MEGABYTES[0] + 64 * MEGABYTES[1]
ENCODINGS: list[Case] = [
    Case("gzip", predict(gzip.compress(ONE.encode()), headers="Content-Encoding: gzip\r\n"), (200,), "1.0"),
    Case(
        "gzip of two parts",
        predict(gzip.compress(ONE.encode()) * 2, headers="Content-Encoding: gzip\r\n"),
        (200,),
        "1.0",
    ),
    Case(
        "gzip of gzip",
        predict(gzip.compress(gzip.compress(ONE.encode())), headers="Content-Encoding: gzip\r\n"),
        (400,),
    ),
    Case("a bomb", predict(BOMB, headers="Content-Encoding: gzip\r\n"), (413,), "larger than 67108864 bytes"),
    *(
        Case(
            f"broken gzip: {name}",
            predict(content, headers="Content-Encoding: gzip\r\n"),
            (400,),
            "The document is empty",
        )
        for name, content in (
            ("cut short", gzip.compress(ONE.encode())[:-1]),
            ("nothing", b""),
            ("its first mark", b"\x1f\x8b"),
            ("none", ONE.encode()),
            ("zlib", zlib.compress(ONE.encode())),
            ("a wrong sum", gzip.compress(ONE.encode())[:-8] + bytes(8)),
        )
    ),
    Case(
        "deflate",
        predict(zlib.compress(ONE.encode()), headers="Content-Encoding: deflate\r\n"),
        (400,),
        "JSON Parse error",
    ),
    Case("an encoding nobody knows", predict(ONE, headers="Content-Encoding: br\r\n"), (200,), "1.0"),
    Case("a type of content", predict(ONE, headers="Content-Type: image/png\r\n"), (200,), "1.0"),
    Case("a token nobody asked for", predict(ONE, headers="Authorization: Bearer \xff\r\n"), (200,), "1.0"),
    Case("an answer in another form", predict(ONE, headers="Accept: text/html\r\nRange: bytes=0-1\r\n"), (200,), "1.0"),
]


def lengths(said: str, body: str = ONE) -> bytes:
    """A prediction whose headers say of its length what is given."""
    return bare(f"POST {M}:predict HTTP/1.1\nHost: a\nConnection: close\n{said}\n") + body.encode("latin-1")


def chunks(*parts: str, end: str = "0\r\n\r\n") -> str:
    return "".join(f"{len(part):x}\r\n{part}\r\n" for part in parts) + end


CHUNKED = "Transfer-Encoding: chunked\n"
STATUS = f"GET {M} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
HTTP: list[Case] = [
    Case("chunks", lengths(CHUNKED, chunks(ONE[:5], ONE[5:])), (200,), "1.0"),
    Case("a chunk a byte", lengths(CHUNKED, chunks(*ONE)), (200,), "1.0"),
    Case("chunks with more behind a semicolon", lengths(CHUNKED, f"12;a=b\r\n{ONE}\r\n0\r\n\r\n"), (200,), "1.0"),
    Case("chunks with headers behind", lengths(CHUNKED, chunks(ONE, end="0\r\nA: b\r\n\r\n")), (200,), "1.0"),
    Case("a chunk of a size that is none", lengths(CHUNKED, f"zz\r\n{ONE}\r\n0\r\n\r\n"), (400,)),
    Case("a chunk of a size below nothing", lengths(CHUNKED, f"-1\r\n{ONE}\r\n0\r\n\r\n"), (400,)),
    Case("a chunk of a size beyond all", lengths(CHUNKED, f"{'f' * 30}\r\n{ONE}\r\n0\r\n\r\n"), (400,)),
    Case("a chunk longer than it says", lengths(CHUNKED, f"2\r\n{ONE}\r\n0\r\n\r\n"), (400,)),
    Case("chunks without an end", lengths(CHUNKED, chunks(ONE, end="")), ()),
    Case("a coding besides", lengths("Transfer-Encoding: gzip, chunked\n", chunks(ONE)), (400,)),
    Case("a coding that is none", lengths("Transfer-Encoding: identity\n"), (400,)),
    Case("a coding spelled otherwise", lengths("Transfer-Encoding: xchunked\n", chunks(ONE)), (400,)),
    Case("a coding twice", lengths(CHUNKED * 2, chunks(ONE)), (400,)),
    Case("a blank before the colon", lengths("Transfer-Encoding : chunked\n", chunks(ONE)), (400,)),
    Case("a bad chunk where none is read", bare(f"GET {M} HTTP/1.1\nHost: a\n{CHUNKED}\nzz\n"), (400,)),
    Case("no length", lengths("", ONE), (400,), "The document is empty"),
    Case("a length below nothing", lengths("Content-Length: -1\n"), (400,)),
    Case("a length with a sign", lengths("Content-Length: +18\n"), (400,)),
    Case("a length that is none", lengths("Content-Length: a\n"), (400,)),
    Case("a length in hexadecimals", lengths("Content-Length: 0x12\n"), (400,)),
    Case("a length with a blank", lengths("Content-Length: 1 8\n"), (400,)),
    Case("two lengths in one", lengths("Content-Length: 18, 19\n"), (400,)),
    Case("two lengths", lengths("Content-Length: 18\nContent-Length: 19\n"), (400,)),
    Case("one length twice", lengths("Content-Length: 18\nContent-Length: 18\n"), (200,), "1.0"),
    Case("a length beyond all", lengths(f"Content-Length: {'9' * 19}\n"), (413,), "larger than 67108864 bytes"),
    Case("a length of 300 digits", lengths(f"Content-Length: {'9' * 300}\n"), (400,)),
    Case("a length that is too short", lengths("Content-Length: 10\n"), (400,), "JSON Parse error"),
    Case("a length that is too long", lengths("Content-Length: 19\n"), ()),
    Case("two requests at once", STATUS * 2, (200, 200)),
    Case("three and a half", STATUS * 3 + STATUS[:-4], (200, 200, 200)),
    Case("one behind one that ends", http("GET", M) + STATUS, (200,)),
    Case("one behind one that is malformed", b"GET\r\n\r\n" + STATUS, (400,)),
    Case("one behind a body that is too large", lengths("Content-Length: 99999999\n", STATUS.decode()), (413,)),
    Case("one in a body", http("GET", M, STATUS), (200,)),
    Case("a length and chunks", lengths(f"Content-Length: 5\n{CHUNKED}", chunks(ONE)), (400,)),
    Case(
        "one hidden behind chunks and a length",
        bare(f"POST {M}:predict HTTP/1.1\nHost: a\nContent-Length: {18 + 5 + len(STATUS)}\n{CHUNKED}\n")
        + b"0\r\n\r\n"
        + STATUS,
        (400,),
    ),
    Case("no host", bare(f"GET {M} HTTP/1.1\n\n"), (400,)),
    Case("two hosts", bare(f"GET {M} HTTP/1.1\nHost: a\nHost: b\n\n"), (400,)),
    Case("an odd host", bare(f"GET {M} HTTP/1.1\nHost: <a>\nConnection: close\n\n"), (200,)),
    Case("HTTP 1.0", bare(f"GET {M} HTTP/1.0\n\n"), (200,), "AVAILABLE"),
    Case("HTTP 1.0 and chunks", bare(f"POST {M}:predict HTTP/1.0\n{CHUNKED}\n") + chunks(ONE).encode(), (200,)),
    Case("HTTP 0.9", bare(f"GET {M}\n\n"), (400,)),
    Case("HTTP 0.9 as a version", bare(f"GET {M} HTTP/0.9\n\n"), (200,)),
    Case("HTTP 2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (404, 400)),
    Case("HTTP 3.5", bare(f"GET {M} HTTP/3.5\nHost: a\nConnection: close\n\n"), (200,)),
    Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)) + b"\r\n\r\n", (400,)),
    Case("zeros", bytes(1000) + b"\r\n\r\n", (400,)),
    Case("a word", b"hello\r\n\r\n", (400,)),
    Case("ends of lines first", b"\r\n\r\n" + http("GET", M), (400,)),
    Case("bare ends of lines", f"GET {M} HTTP/1.1\nHost: a\nConnection: close\n\n".encode(), (200,)),
    Case("an end of a line within a header", http("GET", M, headers="A: a\rb\r\n"), (400,)),
    Case("a null within a header", http("GET", M, headers="A: a\0b\r\n"), (400,)),
    Case("a null within a path", b"GET /v1/models/m\0 HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("bytes within a path", b"GET /v1/models/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", (400,)),
    Case("a header over two lines", http("GET", M, headers="A: a\r\n b\r\n"), (200,)),
    Case("a header without a name", http("GET", M, headers=": a\r\n"), (400,)),
    Case("a header without a colon", http("GET", M, headers="a\r\n"), (400,)),
    Case("a header without an end", http("GET", M)[:-2], ()),
    Case("1,000 headers", http("GET", M, headers="A: b\r\n" * 1000), (200,)),
    Case("10,000 headers", http("GET", M, headers="A: b\r\n" * 10_000), (400,)),
    Case("a long header", http("GET", M, headers=f"A: {'a' * 40_000}\r\n"), (400,)),
    Case("a long path", get("/v1/models/" + "a" * 40_000), (400,)),
    Case("a beginning without an end", b"A" * 40_000, (400,)),
    Case("a body for a look", http("GET", M, "body"), (200,), "AVAILABLE"),
    Case("what is expected to be told first", predict(ONE, headers="Expect: 100-continue\r\n"), (100, 200)),
    Case("what is expected otherwise", predict(ONE, headers="Expect: 200-ok\r\n"), (200,)),
    Case("another protocol", get(M, headers="Connection: Upgrade\r\nUpgrade: websocket\r\n"), (200,)),
    Case(
        "another protocol in the clear",
        get(M, headers="Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"),
        (200,),
    ),
]
ALL = [*JSON, *TYPES, *ROWS, *BYTES, *FILES, *EXAMPLES, *PATHS, *ENCODINGS, *HTTP]
