"""The page to try a network on: its files, what it asks beside `:predict`, and who is answered."""

import base64
import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette

from app.artefacts import loading
from app.serving.application import application
from app.serving.models import Model, Models, Version
from app.serving.of_file import OfFile
from app.serving.page import resizing, shown
from app.serving.turns import Settings, Turns
from tests.serving.asking import Echo, ask

ONE = "/page/models/pictures/versions/3"
GOLDEN = "golden/golden.json"


def serve(exported: Path, **settings: Any) -> Starlette:
    """The export as version 3, and an older one of which nothing is shown."""
    network = OfFile(loading.load(exported / "model.tflite"))
    network.shown = shown.of_export(exported)
    return application(
        Models({"pictures": Model({2: Version(Echo()), 3: Version(network)}, {})}), Turns(Settings(**settings))
    )


@pytest.fixture(scope="module")
def app(exported: Path) -> Starlette:
    return serve(exported)


@pytest.mark.parametrize(
    ("target", "kind", "holds"),
    [
        ("/", "text/html; charset=utf-8", "<title>Try a network</title>"),
        ("/page/style.css", "text/css; charset=utf-8", "prefers-color-scheme: dark"),
        ("/page/page.js", "text/javascript; charset=utf-8", ":predict"),
        ("/page/icon.svg", "image/svg+xml", "<svg"),
    ],
)
def test_the_page_is_there_and_may_load_nothing_from_elsewhere(
    app: Starlette, target: str, kind: str, holds: str
) -> None:
    answer = ask(app, "GET", target)
    assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
    assert holds in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    # Nothing that the policy would keep from working, and no other address than an XML namespace.
    assert not re.search(r"<script>|<style>|\son\w+=|\sstyle=|eval\(|innerHTML", answer.text)
    assert set(re.findall(r"https?://[\w./]+", answer.text)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_is_told_what_can_be_asked(app: Starlette, exported: Path) -> None:
    told = ask(app, "GET", "/page/models").json()
    assert told["largest"] == 20_000_000
    newest, older = told["versions"]
    golden = json.loads((exported / GOLDEN).read_text())
    assert newest == {
        "name": "pictures",
        "version": "3",
        "examples": [one["label"] for one in golden],
        "sees": "32 x 32 RGB, bilinear with antialias, squashed, -1..1",
        "names": {},
        "inside": False,
    }
    assert older == {"name": "pictures", "version": "2", "examples": [], "sees": "", "names": {}, "inside": False}


def test_an_example_is_a_golden_picture_by_its_place(app: Starlette, exported: Path) -> None:
    golden = json.loads((exported / GOLDEN).read_text())
    for place, kind in ((0, None), (len(golden) - 1, "image/png")):
        answer = ask(app, "GET", f"{ONE}/examples/{place}")
        assert answer.content == (exported / "golden" / golden[place]["file"]).read_bytes()
        assert answer.headers["content-type"].startswith("image/")
        assert kind in (None, answer.headers["content-type"])
    answer = ask(app, "GET", f"{ONE}/examples/{len(golden)}")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": f"There are {len(golden)} examples, counted from 0."},
    )


@pytest.mark.parametrize(
    "target",
    [
        f"{ONE}/examples/-1",
        f"{ONE}/examples/golden.json",
        f"{ONE}/examples/..%2F..%2Fcertificate.json",
        f"{ONE}/examples/{'9' * 5000}",
        f"{ONE}/examples/%C2%B2",
        f"{ONE}/examples/0/..",
        "/page/models/pictures/versions/..%2F3/examples/0",
        f"/page/models/pictures/versions/{'1' * 5000}/examples/0",
        "/page/models/pictures/versions/1/examples/0",
        "/page/models/..%2Fpictures/versions/3/examples/0",
        "/page/models/pictures/versions/2/examples/0",
        "/page/../index.html",
        "/page/index.html",
        "/page/shown.py",
        "/page/",
        "/page/models%0A",
    ],
)
def test_no_path_of_a_request_is_one_of_a_file(app: Starlette, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    for opening in ("builtins.open", "io.open", "os.open", "os.stat"):
        monkeypatch.setattr(opening, lambda *given, **more: opened.append(given))
    answer = ask(app, "GET", target)
    monkeypatch.undo()
    assert (answer.status_code, opened) == (404, [])


def test_a_picture_is_shown_as_the_network_sees_it(app: Starlette, exported: Path) -> None:
    for golden in json.loads((exported / GOLDEN).read_text())[-6:]:
        answer = ask(app, "POST", f"{ONE}/seen", (exported / "golden" / golden["file"]).read_bytes())
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        seen = Image.open(io.BytesIO(answer.content))
        assert (seen.mode, seen.size) == ("RGB", (32, 32))
        # What it gets at its own size it takes as it is.
        scored = [predicted(app, content) for content in (answer.content, file(exported, golden))]
        assert scored[0]["classes"] == scored[1]["classes"]
        np.testing.assert_allclose(scored[0]["scores"], scored[1]["scores"], atol=0.02)


def file(exported: Path, golden: dict[str, Any]) -> bytes:
    return (exported / "golden" / golden["file"]).read_bytes()


def predicted(app: Starlette, content: bytes) -> Any:
    body = json.dumps({"instances": [{"b64": base64.b64encode(content).decode()}]})
    return ask(app, "POST", "/v1/models/pictures:predict", body).json()["predictions"][0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "This is no JPEG, PNG, GIF, WebP or BMP file."),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "This is no JPEG, PNG, GIF, WebP or BMP file."),
        (b"\x89PNG\r\n\x1a\n", "This file is damaged or cut short."),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(app: Starlette, content: bytes, said: str) -> None:
    answer = ask(app, "POST", f"{ONE}/seen", content)
    assert (answer.status_code, answer.json()) == (400, {"error": said})


def test_only_a_run_tells_what_goes_on_inside(app: Starlette) -> None:
    answer = ask(app, "POST", f"{ONE}/inside", b"")
    assert (answer.status_code, answer.json()) == (
        501,
        {"error": "Only of a run can this be told: an export is folded."},
    )


def test_with_a_token_the_page_may_be_fetched_and_nothing_else(exported: Path) -> None:
    app = serve(exported, token="secret")
    asked = [("GET", "/page/models"), ("GET", f"{ONE}/examples/0"), ("POST", f"{ONE}/seen"), ("POST", f"{ONE}/inside")]
    for method, target in asked:
        assert ask(app, method, target).status_code == 401, target
        assert ask(app, method, target, headers={"Authorization": "Bearer wrong"}).status_code == 401, target
    with_token = {"Authorization": "Bearer secret"}
    assert [ask(app, *one, headers=with_token).status_code for one in asked] == [200, 200, 400, 501]
    for target in ("/", "/page/style.css", "/page/page.js"):
        assert ask(app, "GET", target).status_code == 200


def test_a_picture_of_the_page_waits_and_is_bounded_as_others(exported: Path) -> None:
    app = serve(exported, waiting=0)
    answer = ask(app, "POST", f"{ONE}/seen", b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    too_large = {"Content-Length": str(64 * 2**20 + 1)}
    assert ask(serve(exported), "POST", f"{ONE}/seen", b"", headers=too_large).status_code == 413


def settings() -> list[dict[str, Any]]:
    kinds = [("bilinear", True), ("bilinear", False), ("bicubic", True)]
    return [
        {"height": 20, "width": 31, "resize": resize, "antialias": antialias, "aspect": aspect, "crop": crop}
        for (resize, antialias), (aspect, crop) in itertools.product(
            kinds, [("squash", 1.0), ("squash", 0.875), ("keep", 1.0), ("keep", 0.8), ("pad", 1.0), ("pad", 0.8)]
        )
    ]


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: "-".join(str(one) for one in setting.values()))
def test_what_the_page_shows_is_what_the_preprocessing_gives(setting: dict[str, Any]) -> None:
    import tensorflow as tf

    from app.images.preprocessing import Preprocessing

    preprocessing = Preprocessing(**setting, colour="BGR", mean=(10, 120, 230))
    rng = np.random.default_rng(0)
    for rows, columns in ((8, 8), (19, 47), (300, 41), (64, 513), (20, 31)):
        pixels = np.asarray(rng.integers(0, 256, (rows, columns, 3)), np.uint8)
        wanted = tf.saturate_cast(tf.round(preprocessing.resized(tf.constant(pixels))), tf.uint8).numpy()
        found = resizing.seen(pixels, preprocessing.model_dump())
        apart = np.abs(found.astype(int) - wanted)
        # A half may be rounded to either side.
        assert apart.max() <= 1, (rows, columns)
        assert np.mean(apart > 0) < 0.02, (rows, columns)


def test_what_the_page_asks_is_counted_and_logged(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    app = serve(exported)
    caplog.set_level("INFO", "app.serving")
    assert ask(app, "GET", "/page/models").status_code == 200
    assert ask(app, "POST", f"{ONE}/seen", b"no picture").status_code == 400
    said = [record.getMessage() for record in caplog.records if record.name == "app.serving"]
    assert ['"GET /page/models" 200' in said[0], f'"POST {ONE}/seen" 400' in said[1]] == [True, True]
    metrics = ask(app, "GET", "/metrics").text
    for status in ("OK", "INVALID_ARGUMENT"):
        assert f':tensorflow:serving:request_count{{model_name="",status="{status}"}} 1.0' in metrics
