"""The page of an export: what it is made of, and that it answers as the network in a real browser."""

import base64
import gzip
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from PIL import Image
from playwright.sync_api import Page, Request, sync_playwright

from app import exporting
from app.artefacts.certified import Quantised
from app.exporting import in_browser, litert_js, page_file
from app.exporting.page_file import PAGE
from app.images.preprocessing import Preprocessing
from app.program.errors import UserError
from app.run_folder.folder import Run
from app.run_folder.trained import Trained
from export import certificate, fixed_size, picture_files, quantization, run_artefact, tflite
from export.on_pixels import ConversionError
from models import NETWORKS
from tests import ROOT
from tests.makers.exports import SAVED_MODEL, change, forget_the_run, without
from tests.makers.image_files import FILES, PHOTO, encoded
from tests.makers.networks import disturb

Array = np.ndarray[Any, Any]
SCRIPTS = ROOT / "app" / "exporting" / "page"
CHROMIUM = shutil.which("chromium")
NODE = shutil.which("node")

needs_node = pytest.mark.skipif(NODE is None, reason="there is no node here")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder: where the packages of LiteRT.js belong."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return platformdirs.user_cache_path("inceptions") / "litert.js"


def of_one_size(source: Path, to: Path) -> run_artefact.Network:
    fixed_size.write(source, to)
    return run_artefact.tflite(str(to))


# ---- the network without its resizing


def test_the_network_of_one_size_answers_as_the_device_file(exported: Path, trained: Trained, tmp_path: Path) -> None:
    whole = run_artefact.tflite(str(exported / "model.tflite"))
    cut = of_one_size(exported / "model.tflite", tmp_path / "cut.tflite")
    for file in sorted((exported / "golden").glob("*.*g"))[::5]:
        pixels = picture_files.decode(file.read_bytes())
        small = trained.preprocessing.resized(pixels).numpy()
        assert np.abs(cut(small[None]) - whole(pixels[None])).max() <= 1e-5


def test_the_network_of_one_size_has_one(exported: Path, tmp_path: Path) -> None:
    fixed_size.write(exported / "model.tflite", tmp_path / "cut.tflite")
    graph = flatbuffer_utils.read_model(str(tmp_path / "cut.tflite")).subgraphs[0]
    assert [list(graph.tensors[index].shape) for index in graph.inputs] == [[1, 32, 32, 3]]
    assert [graph.tensors[index].type for index in graph.inputs] == [0], "float32"
    assert not [tensor.name for tensor in graph.tensors if tensor.shapeSignature is not None]


def test_what_does_not_resize_cannot_be_cut(exported: Path, tmp_path: Path) -> None:
    fixed_size.write(exported / "model.tflite", tmp_path / "cut.tflite")
    with pytest.raises(ConversionError, match=r"cut\.tflite does not resize as it should"):
        fixed_size.write(tmp_path / "cut.tflite", tmp_path / "again.tflite")


@pytest.mark.slow
@pytest.mark.parametrize(
    "prepared",
    [
        {"colour": "BGR", "mean": (103.9, 116.8, 123.7), "deviation": (1, 1, 1)},
        {"aspect": "keep", "crop": 0.875, "resize": "bicubic", "mean": (124, 116, 104), "deviation": (58, 57, 57)},
        {"antialias": False, "mean": (0, 0, 0), "deviation": (1, 1, 1)},
        {"aspect": "pad", "crop": 0.9, "colour": "BGR", "mean": (124, 116, 104), "deviation": (58, 57, 57)},
        {"colour": "grey"},
        {"aspect": "pad", "crop": 0.9, "colour": "grey", "mean": (30, 30, 30), "deviation": (57, 57, 57)},
    ],
)
def test_whatever_prepares_a_picture_stays_in_the_network_of_one_size(
    prepared: dict[str, Any], trained: Trained, tmp_path: Path
) -> None:
    preprocessing = Preprocessing(height=32, width=32, **prepared)
    model = trained.model
    if preprocessing.channels == 1:
        model = disturb(NETWORKS["lenet_bn"](input_shape=(32, 32, 1), classes=len(trained.labels)))
    tflite.write(model, preprocessing, trained.labels, tmp_path / "model.tflite")
    whole = run_artefact.tflite(str(tmp_path / "model.tflite"))
    cut = of_one_size(tmp_path / "model.tflite", tmp_path / "cut.tflite")
    pixels = np.asarray(PHOTO)
    answers = cut(preprocessing.resized(pixels).numpy()[None]), whole(pixels[None])
    assert np.abs(answers[0] - answers[1]).max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", quantization.KINDS)
def test_a_quantised_network_is_cut_as_well(
    kind: quantization.Kind, exported: Path, trained: Trained, samples: list[Array], tmp_path: Path
) -> None:
    source, file = exported / "model.tflite", tmp_path / f"model.{kind}.tflite"
    ranges = quantization.ranges(source, trained.model.name, samples[:8]) if kind == "int8" else None
    quantization.write(source, kind, file, trained.model.name, ranges)
    whole, cut = run_artefact.tflite(str(file)), of_one_size(file, tmp_path / "cut.tflite")
    assert (tmp_path / "cut.tflite").stat().st_size <= file.stat().st_size
    for pixels in samples:
        answers = cut(trained.preprocessing.resized(pixels).numpy()[None])[0], whole(pixels[None])[0]
        # Where a value lies between two integers, the last bit of the resizing decides.
        assert np.abs(answers[0] - answers[1]).max() <= (1e-5 if kind == "float16" else 0.1)


# ---- its scripts


def by_node(script: str, given: Any) -> Any:
    """What a script says, that finds `given` and those of the page before it."""
    sources = [(SCRIPTS / name).read_text() for name in ("resizing.js", "decoding.js")]
    read = "const given = JSON.parse(require('fs').readFileSync(0));"
    done = subprocess.run(
        [str(NODE), "-e", "\n".join([*sources, read, script])],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PREPARED = [
    Preprocessing(height=32, width=24),
    Preprocessing(height=24, width=24, antialias=False),
    Preprocessing(height=24, width=32, resize="bicubic"),
    Preprocessing(height=24, width=24, crop=0.875),
    Preprocessing(height=24, width=24, crop=0.875, resize="bicubic"),
    Preprocessing(height=32, width=24, aspect="keep", crop=0.875),
    Preprocessing(height=24, width=24, aspect="keep", crop=0.7, resize="bicubic"),
    Preprocessing(height=25, width=25, aspect="keep"),
    Preprocessing(height=25, width=30, aspect="pad"),
    Preprocessing(height=25, width=30, aspect="pad", colour="BGR", mean=(1, 2, 3), crop=0.8, resize="bicubic"),
]


@needs_node
def test_a_page_resizes_as_the_program() -> None:
    rng = np.random.default_rng(4)
    sizes = [(24, 24), (61, 43), (43, 97), (7, 90), (11, 13)]
    cases = [
        {"how": how.model_dump(mode="json"), "pixels": rng.integers(0, 256, (*size, 3)).tolist()}
        for how in PREPARED
        for size in sizes
    ]
    script = """console.log(JSON.stringify(given.map(({ how, pixels }) => {
        const rgba = Uint8ClampedArray.from(pixels.flat().flatMap((pixel) => [...pixel, 255]));
        return Array.from(resized(rgba, pixels.length, pixels[0].length, how));
    })));"""
    for case, found in zip(cases, by_node(script, cases), strict=True):
        how = Preprocessing.model_validate(case["how"])
        right = how.resized(np.array(case["pixels"], np.uint8)).numpy()
        apart = np.abs(np.reshape(found, right.shape) - right).max()
        assert apart <= 5e-3, f"{how.described()}: {apart} grey levels"


@needs_node
def test_a_page_reads_kind_and_size_from_the_header_of_every_kind_of_file() -> None:
    files = {name: list(content[: 2**20]) for name, content in FILES.items()}
    script = """console.log(JSON.stringify(Object.values(given).map((file) => headerOf(Uint8Array.from(file)))));"""
    kinds = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "WebP": "WebP", "BMP": "BMP"}
    for (name, content), found in zip(FILES.items(), by_node(script, files), strict=True):
        with Image.open(io.BytesIO(content)) as image:
            assert (kinds[found["kind"]], found["width"], found["height"]) == (re.split("[ ,]", name)[0], *image.size)


@needs_node
def test_a_page_refuses_what_it_does_not_decode_in_a_sentence() -> None:
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    claims = encoded(PHOTO, "PNG")[:16] + (12_000).to_bytes(4, "big") * 2 + bytes(100)
    files = {"heic": heic, "text": b"a text and no picture", "huge": claims, "short": encoded(PHOTO, "JPEG")[:8]}
    script = """(async () => {
        const limits = { pixels: 40000000, side: 8192, bytes: 20000000 }, said = {};
        for (const [name, file] of Object.entries(given)) {
          await decoded(new Blob([Uint8Array.from(file)]), limits).catch((error) => (said[name] = error.message));
        }
        console.log(JSON.stringify(said));
    })();"""
    assert by_node(script, {name: list(content) for name, content in files.items()}) == {
        "heic": "This is a HEIC file, which is not decoded here; save it as JPEG.",
        "text": "This is no JPEG, PNG, GIF, WebP or BMP file.",
        "huge": "This PNG has 124 bytes and claims 12000 x 12000 pixels; at most 20000000 bytes, 8192 pixels a side "
        "and 40000000 in all are decoded.",
        "short": "This file is damaged or cut short.",
    }


# ---- where the runtime comes from


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name, the only one that is found."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda wanted: str(folder / name) if wanted == name else None)


def test_without_npm_the_file_is_named_and_where_it_belongs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError) as caught:
        litert_js.fetch()
    assert str(caught.value) == (
        "--page needs LiteRT.js, and npm, which would fetch it, is not installed: put litertjs-core-2.5.3.tgz, what "
        f"`npm pack @litertjs/core@2.5.3` gives, into {cache}."
    )


def test_an_npm_that_fails_is_quoted(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "npm", "echo 'npm error code ENOTFOUND' >&2; exit 1", monkeypatch)
    with pytest.raises(UserError, match=r"npm could not fetch @litertjs/core@2\.5\.3 \(code ENOTFOUND\): put lite"):
        litert_js.fetch()
    assert not list(cache.glob("*"))


def test_a_package_that_is_another_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "npm", "echo another > litertjs-core-2.5.3.tgz", monkeypatch)
    with pytest.raises(UserError, match=r"litertjs-core-2\.5\.3\.tgz is not version 2\.5\.3 of npm's @litertjs/core"):
        litert_js.fetch()


@pytest.mark.parametrize(
    ("formats", "others", "words"),
    [
        (["saved_model"], 0, "--page runs the LiteRT file; add tflite to --formats."),
        (None, 1, "2 runs are an ensemble, which no page runs; leave --page out, or export one of them."),
    ],
)
def test_what_has_no_page_is_said_before_anything_is_written(
    formats: list[str] | None, others: int, words: str, finished_run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        exporting.export(
            finished_run.folder, tmp_path / "exports", formats, others=[finished_run.folder] * others, page=True
        )
    assert str(caught.value) == words
    assert not (tmp_path / "exports").exists()


# ---- what it is made of


@pytest.fixture
def written(exported: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version folder with a page, whose runtime is none."""
    version = tmp_path / "version"
    shutil.copytree(exported, version)
    monkeypatch.setattr(litert_js, "files", lambda: dict.fromkeys(litert_js.FILES, b"of the runtime"))
    page_file.write(version, "<b>", trained, "lenet_bn", ())
    return version


def facts_of(page: str) -> Any:
    (found,) = re.findall(r'id="facts">(.*?)</script>', page)
    return json.loads(found)


def test_a_page_refers_to_nothing_outside_of_it(written: Path) -> None:
    page = (written / PAGE).read_text()
    (licence,) = re.findall("<pre.*?</pre>", page, re.DOTALL)
    assert "http://www.apache.org/licenses/" in licence
    assert unescape(licence.split(">", 1)[1]).startswith((ROOT / "LICENSE").read_text()[:2000])
    rest = page.replace(licence, "")
    assert not re.findall(r"https?:|//[a-z]+\.[a-z]+", rest)
    assert not re.findall(r"(?:src|href|srcset|action|poster)=(?!\"(?:data:|\"))", rest)
    assert "default-src 'none'" in rest, "the browser refuses what is overlooked"
    assert "<b>" not in page, "a name is no markup"


def test_a_page_carries_the_golden_pictures_as_the_artefacts_get_them(written: Path) -> None:
    carried = facts_of((written / PAGE).read_text())["golden"]
    golden = {Path(image["file"]).name: image for image in certificate.golden(written)}
    assert {one["file"] for one in carried} == {*golden}
    for one in carried:
        original = (written / "golden" / one["file"]).read_bytes()
        assert base64.b64decode(one["original"]) == original
        with Image.open(io.BytesIO(base64.b64decode(one["pixels"]))) as png:
            assert png.mode == "RGB", "what is transparent would be another colour after a browser's multiplying"
            np.testing.assert_array_equal(np.asarray(png), picture_files.decode(original))
        assert one["probabilities"] == golden[one["file"]]["probabilities"]


def test_of_large_golden_pictures_a_page_carries_what_fits(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = page_file.embedded(written)
    monkeypatch.setattr(page_file, "GOLDEN", 1)
    some = [one["file"] for one in page_file.embedded(written)]
    assert sorted(some) == sorted(one["file"] for one in every if not one["file"][:2].isdecimal())
    assert "fine.png" in some, "the one that shows another resize"


def test_a_page_that_is_large_says_so(
    written: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    page_file.write(written, "small", trained, "lenet_bn", ())
    assert re.fullmatch(r"The page has \d\.\d MB\.", capsys.readouterr().err.strip())
    monkeypatch.setattr(page_file, "LARGE", 1_000)
    page_file.write(written, "large", trained, "lenet_bn", ())
    said = " ".join(capsys.readouterr().err.split())
    assert "That is more than 0 MB: browsers of telephones may not open it; --quantize int8 makes it smaller." in said


def test_a_page_runs_the_quantised_file_where_one_was_kept() -> None:
    version = Path("version")
    kept = [Quantised(file="model.int8.onnx", max_drop=0.5, drop=0.0), Quantised(file=None, max_drop=0.5, drop=None)]
    assert page_file.source_of(version, kept).name == "model.tflite"
    kept.append(Quantised(file="model.int8.tflite", max_drop=0.5, drop=4.0))
    source = page_file.source_of(version, kept)
    assert (source.name, page_file.precision_of(source)) == ("model.int8.tflite", "int8")
    assert [page_file.tolerance_of(kind) for kind in ("float32", "float16", "int8")] == [1e-3, 1e-2, None]
    # Four points were lost: of 38 pictures four may differ by chance, and of one one.
    assert page_file.may_differ(38, "int8", source.name, kept) == 4
    assert page_file.may_differ(38, "float32", "model.tflite", kept) == 0


# ---- the row of the certificate


def row_of(version: Path, labels: Any) -> Any:
    return in_browser.row(version, certificate.golden(version), labels, ())


def saying(found: Any) -> str:
    line = f'[1:INFO:CONSOLE:1] "found {json.dumps(found)}", source: file:///page.html (1)'
    return f"cat >&2 <<'END'\n[1:WARNING] of a browser\n{line}\nEND\nsleep 60"


def test_a_page_has_the_row_of_what_it_told(
    exported: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(exported, tmp_path / "version")
    (tmp_path / "version" / PAGE).write_text("a page")
    golden = certificate.golden(tmp_path / "version")[:3]
    told: Any = {
        "files": [Path(image["file"]).name for image in golden],
        "answers": [np.add(image["probabilities"], [0, 2e-4, -2e-4]).tolist() for image in golden],
        "milliseconds": 4.5,
    }
    program(tmp_path / "bin", "chromium", saying(told), monkeypatch)
    row = row_of(tmp_path / "version", trained.labels)
    assert row["artefact"] == "Chromium page.html"
    assert (row["images"], row["tolerance"], row["milliseconds"], row["bytes"]) == (3, 1e-3, 4.5, 6)
    assert row["max_difference"] == pytest.approx(2e-4)
    assert certificate.passes(row)
    told["answers"][1][0] += 2e-3
    program(tmp_path / "bin", "chromium", saying(told), monkeypatch)
    assert not certificate.passes(row_of(tmp_path / "version", trained.labels))


def test_a_network_that_does_not_run_in_the_browser_is_an_error(
    exported: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "chromium", saying({"error": "no SIMD"}), monkeypatch)
    with pytest.raises(certificate.ArtefactError, match=r"page\.html does not run in .*chromium: no SIMD"):
        row_of(exported, trained.labels)


@pytest.mark.parametrize(("name", "why"), [("chromium", "did not open it"), ("other", "there is no Chromium here")])
def test_without_a_browser_there_is_no_row_and_that_is_said(
    name: str,
    why: str,
    exported: Path,
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / "bin", name, "echo no display >&2; exit 1", monkeypatch)
    assert row_of(exported, trained.labels) is None
    said = " ".join(capsys.readouterr().err.split())
    assert "page.html has no row in the certificate" in said
    assert why in said.replace(f"{tmp_path}/bin/", "")


def test_a_browser_that_does_not_begin_with_the_page_is_not_waited_for_as_long_as_one_that_did(
    exported: Path, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_browser, "BEGINNING", 0.5)
    program(tmp_path / "bin", "chromium", "exec sleep 60", monkeypatch)
    assert row_of(exported, trained.labels) is None
    line = '[1:INFO:CONSOLE:1] "begun", source: file:///page.html (1)'
    program(tmp_path / "bin", "chromium", f"echo '{line}' >&2; sleep 1\n{saying({'error': 'no SIMD'})}", monkeypatch)
    with pytest.raises(certificate.ArtefactError, match=r"chromium: no SIMD"):
        row_of(exported, trained.labels)


# ---- in a real browser


@pytest.fixture(scope="module")
def with_page(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of an export with a page."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    try:
        litert_js.fetch()
    except UserError as error:
        pytest.skip(str(error))
    return exporting.export(finished_run.folder, tmp_path_factory.mktemp("pages"), page=True)[0]


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[tuple[Page, list[str]]]:
    """A tab without a network, what it asks for, and its errors among that; a parameter is a list of options."""
    with sync_playwright() as started:
        options = ["--no-sandbox", *getattr(request, "param", ())]
        opened = started.chromium.launch(executable_path=CHROMIUM, args=options)
        context = opened.new_context(offline=True, viewport={"width": 390, "height": 844})
        tab, requests = context.new_page(), list[str]()

        def note(asked: Request) -> None:
            requests.append(asked.url)

        tab.on("request", note)
        tab.on("pageerror", lambda error: requests.append(f"page error: {error}"))
        yield tab, requests
        opened.close()


def answer_of(tab: Page, picture: Path) -> dict[str, float]:
    """What the page says to a picture, by label."""
    tab.set_input_files("#file", picture)
    tab.wait_for_selector(f"#status:has-text('{picture.name}: ')")
    rows = tab.locator("#scores li").all()
    return {
        str(row.locator("span").first.text_content()): float(
            re.findall(r"width: ([\d.e-]+)%", str(row.locator(".bar").get_attribute("style")))[0]
        )
        / 100
        for row in rows
    }


@pytest.mark.slow
def test_a_page_checks_itself_and_answers_as_the_device_file_without_a_network(
    with_page: Path, browser: tuple[Page, list[str]], trained: Trained, pictures: Path
) -> None:
    written = json.loads((with_page / "certificate.json").read_text())
    assert written["versions"]["@litertjs/core"] == "2.5.3"
    row = {row["artefact"]: row for row in written["rows"]}
    count = len(certificate.golden(with_page))
    assert row["Chromium page.html"]["images"] == count
    assert row["Chromium page.html"]["max_difference"] <= 1e-4
    tab, requests = browser
    tab.goto((with_page / PAGE).as_uri())
    tab.wait_for_selector("#check:not(.waiting)", timeout=60_000)
    said = tab.locator("#check").text_content() or ""
    assert said.startswith(f"Checked: {count} of {count} golden pictures are answered as by the trained network;")
    assert (tab.locator("#own").text_content() or "").startswith("Decoded by this browser, the golden pictures' files ")
    network = run_artefact.tflite(str(with_page / "model.tflite"))
    for picture in sorted(pictures.rglob("*.*"))[4::9]:
        right = network(picture_files.decode(picture.read_bytes())[None])[0]
        found = answer_of(tab, picture)
        expected = dict(zip(trained.labels, right.tolist(), strict=True))
        assert found == pytest.approx(expected, abs=1e-3), picture.name
    assert [url for url in requests if not url.startswith(("file:", "blob:", "data:"))] == []
    assert not tab.locator("#camera").is_visible(), "there is no camera here"
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_a_picture_may_be_dropped_or_pasted_and_what_is_none_is_refused(
    with_page: Path, browser: tuple[Page, list[str]], tmp_path: Path
) -> None:
    tab, _ = browser
    tab.goto((with_page / PAGE).as_uri())
    made = "const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(bytes)], name));"
    drop, paste = (
        f"([name, bytes]) => {{ {made} document.body.dispatchEvent(new {event}); }}"
        for event in (
            'DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })',
            'ClipboardEvent("paste", { clipboardData: data, bubbles: true })',
        )
    )
    tab.evaluate(drop, ["photo.jpeg", list(encoded(PHOTO, "JPEG"))])
    tab.wait_for_selector("#status:has-text('photo.jpeg: ')", timeout=60_000)
    assert tab.locator("#scores li").count() == 3
    tab.evaluate(paste, ["pasted.png", list(encoded(PHOTO.crop((0, 0, 90, 60)), "PNG"))])
    tab.wait_for_selector("#status:has-text('pasted.png: ')")
    assert tab.locator("#picture").evaluate("one => one.decode().then(() => one.naturalWidth)") == 90
    tab.evaluate(drop, ["photo.heic", list(b"\0\0\0\x18ftypheic" + bytes(40))])
    tab.wait_for_selector("#status.bad")
    assert tab.locator("#status").text_content() == (
        "photo.heic: This is a HEIC file, which is not decoded here; save it as JPEG."
    )
    assert not tab.locator("#answer").is_visible()


@pytest.mark.slow
def test_a_page_with_another_networks_weights_says_so(
    with_page: Path, browser: tuple[Page, list[str]], tmp_path: Path
) -> None:
    page = (with_page / PAGE).read_text()
    (packed,) = re.findall(r'id="network">(.*?)</script>', page)
    network = bytearray(gzip.decompress(base64.b64decode(packed)))
    middle = len(network) // 8
    np.frombuffer(network, "<f4", count=len(network) // 4)[middle : middle + 2000] *= -1
    other = base64.b64encode(gzip.compress(bytes(network))).decode()
    (tmp_path / PAGE).write_text(page.replace(packed, other))
    tab, _ = browser
    tab.goto((tmp_path / PAGE).as_uri())
    tab.wait_for_selector("#check:not(.waiting)", timeout=60_000)
    assert (tab.locator("#check").text_content() or "").startswith("NOT as certified: only ")
    assert tab.locator("#check.bad").evaluate("one => getComputedStyle(one).color") == "rgb(164, 14, 38)"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_decodes_every_kind_of_file_as_the_artefacts(browser: tuple[Page, list[str]], tmp_path: Path) -> None:
    """But for a level of what is transparent in a WebP, and a WebP that Exif turns, which Chromium does not."""
    tab, _ = browser
    (tmp_path / "decoding.html").write_text(f"<script>{(SCRIPTS / 'decoding.js').read_text()}</script>")
    tab.goto((tmp_path / "decoding.html").as_uri())
    decode = """async (base64) => {
        const limits = { pixels: 1e6, side: 1e3, bytes: 1e6 };
        const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
        const { data, width, height } = await decoded(new Blob([bytes]), limits);
        return [height, width, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
    }"""
    for name, content in FILES.items():
        if re.match("WebP, orientation [2-8]", name):
            continue
        height, width, data = tab.evaluate(decode, base64.b64encode(content).decode())
        found = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3]
        right = picture_files.decode(content)
        assert found.shape == right.shape, name
        assert np.abs(found - right.astype(int)).max() <= (1 if name.startswith("WebP") else 0), name


# As a browser says it that has no such instructions: the question is a module of a few bytes.
NOT_RELAXED = """const instantiate = WebAssembly.instantiate;
WebAssembly.instantiate = (code, ...rest) =>
  code.byteLength < 100 ? Promise.reject(new Error("no such instruction")) : instantiate(code, ...rest);"""


@pytest.mark.slow
def test_a_browser_without_relaxed_simd_takes_the_other_build(
    with_page: Path, browser: tuple[Page, list[str]], tmp_path: Path
) -> None:
    tab, _ = browser
    for script, build in ("", "the fast build"), (NOT_RELAXED, "the build for older browsers"):
        tab.add_init_script(script)
        tab.goto((with_page / PAGE).as_uri())
        tab.wait_for_selector("#check:has-text('Checked: ')", timeout=60_000)
        assert build in (tab.locator("#runtime").text_content() or "")


@pytest.mark.slow
def test_a_browser_in_which_the_page_does_not_even_begin_is_told(
    with_page: Path, browser: tuple[Page, list[str]], tmp_path: Path
) -> None:
    tab, _ = browser
    page = (with_page / PAGE).read_text()
    (tmp_path / PAGE).write_text(page.replace('type="importmap"', 'type="unknown"'))
    tab.goto((tmp_path / PAGE).as_uri())
    tab.wait_for_selector("#check.bad")
    assert tab.locator("#check").text_content() == "This page needs a newer browser."


# Keeps what is opened, a moment after it was asked for.
STREAMS = """self.streams = [];
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  await new Promise((go) => setTimeout(go, 300));
  streams.push(await open(wanted));
  return streams.at(-1);
};"""
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.mark.slow
@pytest.mark.parametrize("browser", [CAMERA], indirect=True)
def test_a_camera_takes_a_picture_by_the_keyboard_alone(with_page: Path, browser: tuple[Page, list[str]]) -> None:
    tab, _ = browser
    tab.add_init_script(STREAMS)
    tab.goto((with_page / PAGE).as_uri())
    tab.wait_for_selector("#camera:visible")
    for key in "Tab", "Tab", "Enter", "Enter":
        tab.keyboard.press(key)
    tab.wait_for_selector("#take:focus")
    tab.wait_for_function("() => document.getElementById('video').videoWidth > 0")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#status:has-text('picture: ')", timeout=60_000)
    assert tab.locator("#scores li").count() == 3
    assert not tab.locator("#live").is_visible()
    assert tab.evaluate("document.activeElement.id") == "camera", "what had the focus is gone"
    # Once, however often it was asked for, and closed.
    states = tab.evaluate("streams.flatMap((one) => one.getTracks()).map((track) => track.readyState)")
    assert states == ["ended"]


@pytest.mark.slow
def test_a_page_that_is_gone_is_missed_whatever_files_the_certificate_names(exported: Path, tmp_path: Path) -> None:
    version = without(exported, tmp_path / "version", *SAVED_MODEL)
    forget_the_run(version)
    of_page = {"artefact": in_browser.ROW, "tolerance": 1e-3}
    change(version, lambda content: content["rows"].append(content["rows"][-1] | of_page))
    _, found = exporting.verify(version)
    assert (found["ok"], found["missing"]) == (False, [in_browser.ROW])


@pytest.mark.slow
def test_an_export_with_a_page_verifies_with_and_without_a_browser(
    with_page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_the_run(without(with_page, tmp_path / "version", *SAVED_MODEL))
    _, found = exporting.verify(tmp_path / "version")
    assert found["ok"]
    assert "Chromium page.html" in [row["artefact"] for row in found["rows"]]
    monkeypatch.setattr(in_browser, "browser", lambda: None)
    _, found = exporting.verify(tmp_path / "version")
    assert found["ok"]
    assert "Chromium page.html" not in [row["artefact"] for row in found["rows"]]
    (tmp_path / "version" / PAGE).write_text("another")
    _, found = exporting.verify(tmp_path / "version")
    assert (found["ok"], found["changed"], found["missing"]) == (False, [PAGE], [])
