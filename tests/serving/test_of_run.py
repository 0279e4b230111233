"""A run served as it is."""

import base64
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from starlette.applications import Starlette

from app.evaluation import prediction
from app.program.errors import UserError
from app.program.progress import unwatched
from app.serving import configuration, opening, starting
from app.serving.application import application
from app.serving.models import Model, Models, Version
from app.serving.turns import Settings, Turns
from tests.serving.asking import ask
from tests.serving.test_process import WAIT, serving

if TYPE_CHECKING:
    from pathlib import Path

    from app.run_folder.folder import Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def app(finished_run: "Run") -> Starlette:
    (served,) = configuration.of_export(finished_run.folder)
    versions = {number: Version(opening.load(folder)) for number, folder in served.folders().items()}
    return application(Models({served.name: Model(versions, {})}), Turns(Settings()))


def test_a_run_answers_as_predict_does(app: Starlette, finished_run: "Run", pictures: "Path") -> None:
    files = sorted(pictures.glob("*/0*"))
    body = {"instances": [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]}
    name = finished_run.folder.name
    found = ask(app, "POST", f"/v1/models/{name}:predict", json.dumps(body)).json()["predictions"]
    for row, told in zip(found, prediction.predict(finished_run.folder, files, 3, unwatched), strict=True):
        assert (row["classes"], row["errors"]) == (told["classes"], "")
        np.testing.assert_allclose(row["scores"], told["scores"], atol=1e-6)
    metadata = ask(app, "GET", f"/v1/models/{name}/metadata").json()["metadata"]
    assert set(metadata["signature_def"]["signature_def"]) == {"serving_default", "classify", "predict_pixels"}


def test_a_run_shows_what_goes_on_inside(app: Starlette, finished_run: "Run") -> None:
    one = f"/page/models/{finished_run.folder.name}/versions/1"
    (told,) = ask(app, "GET", "/page/models").json()["versions"]
    golden = json.loads((finished_run.golden / "golden.json").read_text())
    assert (told["inside"], told["examples"]) == (True, [each["label"] for each in golden])
    content = (finished_run.golden / golden[0]["file"]).read_bytes()
    assert ask(app, "GET", f"{one}/examples/0").content == content
    look: dict[str, Any] = ask(app, "POST", f"{one}/inside", content).json()
    assert base64.b64decode(look["heat"]).startswith(b"\x89PNG")
    assert look["label"] in told["examples"]
    assert (look["is_like"], look["like"].split(" is ")[0]) == (True, "To its first layers this picture")
    answer = ask(app, "POST", f"{one}/inside", b"\0\0\0\x18ftypheic")
    assert (answer.status_code, answer.json()) == (400, {"error": "This is no JPEG, PNG, GIF, WebP or BMP file."})


def test_the_command_serves_a_run_and_says_where_its_page_is(finished_run: "Run") -> None:
    with serving(finished_run.folder) as (process, port):
        assert process.stdout is not None
        assert process.stdout.readline() == f"Try it on the page http://127.0.0.1:{port}/\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=WAIT) as page:
            assert b"<title>Try a network</title>" in page.read()


def test_an_artefact_of_a_run_is_refused(finished_run: "Run") -> None:
    with pytest.raises(UserError, match="is no export, of which 'tflite' could be taken"):
        opening.load(finished_run.folder, "tflite")


def test_a_run_is_served_in_a_notebook_as_well(finished_run: "Run") -> None:
    with starting.in_background(finished_run.folder) as url, urllib.request.urlopen(url, timeout=WAIT) as status:
        assert json.loads(status.read())["model_version_status"][0]["state"] == "AVAILABLE"
