"""The page in a real Chromium."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.serving import server, starting
from app.serving.models import Model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from app.run_folder.folder import Run

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    # Playwright's own, of its event loop.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" * 20
NO_PICTURE = "This is no JPEG, PNG, GIF, WebP or BMP file."
ANSWERED = "#shell:not([hidden])"
SCREENS = [(390, 844, "light"), (390, 844, "dark"), (1366, 900, "light"), (1366, 900, "dark")]
# Drops, or pastes, a file of these bytes.
GIVE = """([kind, name, type, bytes]) => {
  const file = new File([Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0))], name, { type });
  const data = new DataTransfer();
  data.items.add(file);
  document.body.dispatchEvent(kind === "drop"
    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""
# Contrast, as WCAG 2.2 defines it, of every text that is seen, with what lies behind it.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([red, green, blue]) => [red, green, blue].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = numbers(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim();
    if (!text || !element.checkVisibility()) continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    found[text] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(exported: Path) -> Iterator[str]:
    """Of the export's LiteRT file."""
    with starting.in_background(exported.parent, "tflite") as url:
        yield url.partition("/v1/")[0]


Opener = Callable[..., "Page"]


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Opener]:
    """Opens the page of a server; at the end of the test it has asked nobody else, and complained of nothing but of
    refusals."""
    asked: list[str] = []
    complaints: list[str] = []
    allowed: list[str] = []
    with ExitStack() as stack:

        def open_page(address: str, width: int = 1366, height: int = 900, scheme: Any = "light") -> "Page":
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            stack.callback(context.close)
            page = context.new_page()
            allowed.append(address)
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
            page.goto(f"{address}/")
            return page

        yield open_page
    assert [url for url in asked if not url.startswith((*allowed, "blob:"))] == []
    assert [said for said in complaints if not said.startswith("Failed to load resource")] == []


def wait_for_examples(page: "Page") -> None:
    page.wait_for_function(
        "() => document.querySelector('#examples img')"
        " && [...document.querySelectorAll('#examples img')].every((image) => image.naturalWidth)"
    )


def bars(page: "Page") -> list[tuple[str, float]]:
    page.wait_for_selector(ANSWERED)
    found = page.eval_on_selector_all(
        "#bars li", "items => items.map((item) => [item.dataset.label, item.dataset.score])"
    )
    return [(label, float(score)) for label, score in found]


def answer(page: "Page", address: str, content: bytes) -> list[tuple[str, float]]:
    """The best of what the API says of these bytes."""
    body = {"instances": [{"b64": base64.b64encode(content).decode()}]}
    found = page.request.post(f"{address}/v1/models/pictures:predict", data=body).json()["predictions"][0]
    return list(zip(found["classes"], found["scores"], strict=True))[:5]


def give(page: "Page", kind: str, name: str, content: bytes, type_: str = "image/png") -> None:
    page.evaluate(GIVE, [kind, name, type_, base64.b64encode(content).decode()])


@pytest.mark.parametrize("way", ["choose", "drop", "paste", "example"])
def test_a_picture_is_answered_as_the_api_answers_however_it_comes(
    opened: Opener, address: str, pictures: Path, exported: Path, way: str
) -> None:
    page = opened(address)
    file = pictures / "flower" / "00.jpg"
    content = file.read_bytes()
    wait_for_examples(page)
    if way == "choose":
        with page.expect_file_chooser() as choosing:
            page.get_by_role("button", name="Choose a file").click()
        choosing.value.set_files(file)
    elif way == "example":
        golden = json.loads((exported / "golden" / "golden.json").read_text())[2]
        content = (exported / "golden" / golden["file"]).read_bytes()
        page.get_by_role("button", name=f"Example 3: {golden['label']}").click()
    else:
        give(page, way, "00.jpg", content, "image/jpeg")
    assert bars(page) == answer(page, address, content)
    wide = page.eval_on_selector_all("#bars .bar", "bars => bars.map((bar) => bar.firstChild.style.width)")
    assert [float(share.removesuffix("%")) for share in wide] == pytest.approx(
        [100 * score for _, score in bars(page)], abs=0.01
    )
    said = page.get_by_role("status").text_content()
    assert said
    assert said.startswith(f"{bars(page)[0][0]}, ")
    assert re.search(r"Answered in [\d.]+ ms", said)
    # What the network sees, at its own size.
    page.wait_for_selector("#seen-part:not([hidden])")
    assert page.evaluate("[seen.naturalWidth, seen.naturalHeight]") == [32, 32]
    # What has no file yet can be saved, as it was sent.
    assert page.is_visible("#save-part") == (way in ("paste", "example"))
    if way in ("paste", "example"):
        with page.expect_download() as saving:
            page.click("#save")
        assert Path(saving.value.path()).read_bytes() == content


def test_the_line_for_a_shell_gives_the_same_answer(opened: Opener, address: str, tmp_path: Path) -> None:
    from PIL import Image

    name = "it's a $(flower).png"
    # Larger than an argument of a program may be.
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 2**17
    page = opened(address)
    page.set_input_files("#file", tmp_path / name)
    expected = bars(page)
    line = page.inner_text("#curl")
    for shell in filter(shutil.which, ("sh", "bash", "zsh")):
        done = subprocess.run([shell, "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.stderr == ""
        said = json.loads(done.stdout)["predictions"][0]
        assert list(zip(said["classes"], said["scores"], strict=True))[:5] == expected


def test_it_works_by_keyboard_alone(opened: Opener, address: str, pictures: Path) -> None:
    page = opened(address)
    wait_for_examples(page)
    reached: list[str] = []
    with page.expect_file_chooser() as choosing:
        for _ in range(5):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
            if reached[-1] == "choose":
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
                page.keyboard.press("Enter")
                break
    choosing.value.set_files(pictures / "temple" / "00.jpg")
    first = bars(page)
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#examples') !== null"):
            break
    page.keyboard.press("Space")
    page.wait_for_selector("#examples [aria-pressed=true]")
    assert bars(page) != first
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "copy":
            return
    pytest.fail("the line cannot be copied by keyboard")


def test_all_that_is_there_to_use_has_a_name(opened: Opener, address: str) -> None:
    page = opened(address)
    wait_for_examples(page)
    page.click("#examples button")
    bars(page)
    tree = page.locator("body").aria_snapshot()
    assert not re.search(r"- (button|textbox|combobox|link|img)(?: \[.*\])?:?$", tree, re.MULTILINE)
    for heading in ("A picture", "What the network says", "The same from a shell"):
        assert f'heading "{heading}"' in tree


@pytest.mark.parametrize(("width", "height", "scheme"), SCREENS)
def test_it_can_be_read_at_every_width_and_in_the_dark(
    opened: Opener, address: str, pictures: Path, width: int, height: int, scheme: str
) -> None:
    page = opened(address, width, height, scheme)
    wait_for_examples(page)
    page.set_input_files("#file", pictures / "flower" / "00.jpg")
    page.wait_for_selector("#seen-part:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    over = """[...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
      && !one.closest(".unseen") && one.getBoundingClientRect().right > innerWidth + 0.5).map((one) => one.outerHTML)"""
    assert page.evaluate(over) == []
    # The answer is on the screen, not somewhere below it.
    assert page.evaluate("bars.getBoundingClientRect().bottom < innerHeight")
    contrasts = page.evaluate(CONTRASTS)
    page.set_input_files("#file", {"name": "a.heic", "mimeType": "image/heic", "buffer": HEIC})
    page.wait_for_selector("#error:not([hidden])")
    contrasts |= page.evaluate(CONTRASTS)
    assert len(contrasts) > 15
    assert {text: ratio for text, ratio in contrasts.items() if ratio < 4.5} == {}
    lightness = sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))))
    assert (lightness > 600) == (scheme == "light")


def test_what_cannot_be_answered_is_said_in_a_sentence(opened: Opener, address: str, tmp_path: Path) -> None:
    from PIL import Image

    page = opened(address)
    huge = tmp_path / "huge.png"
    Image.new("1", (10_000, 10_000)).save(huge)
    cases: list[tuple[str, bytes, str]] = [
        ("IMG_1.HEIC", HEIC, f"IMG_1.HEIC: {NO_PICTURE}"),
        ("notes.txt", b"no picture", f"notes.txt: {NO_PICTURE}"),
        ("empty.png", b"", f"empty.png: {NO_PICTURE}"),
        ("huge.png", huge.read_bytes(), "huge.png: This PNG has "),
    ]
    for name, content, said in cases:
        give(page, "drop", name, content)
        page.wait_for_function("(said) => error.checkVisibility() && error.textContent.startsWith(said)", arg=said)
        assert not page.is_visible("#bars")
        assert page.get_by_role("alert").count() == 1
    large = tmp_path / "large.png"
    large.write_bytes(bytes(20_000_001))
    page.set_input_files("#file", large)
    said = "large.png has 20,000,001 bytes; at most 20,000,000 are decoded."
    page.wait_for_function("(said) => error.textContent === said", arg=said)
    page.evaluate(
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: new DataTransfer(), bubbles: true }))"
    )
    page.wait_for_function("() => error.textContent.startsWith('That is no file')")


def test_a_server_that_is_full_or_gone_is_said(opened: Opener, exported: Path, pictures: Path) -> None:
    prepared = starting.prepare(exported.parent, "tflite")
    address = next(iter(prepared.urls.values())).partition("/v1/")[0]
    with server.in_background(prepared.application, prepared.listening):
        page = opened(address)
        wait_for_examples(page)
        page.route(
            "**:predict", lambda route: route.fulfill(status=503, json={"error": "3 requests wait already; try again."})
        )
        page.set_input_files("#file", pictures / "flower" / "00.jpg")
        page.wait_for_selector("#error:not([hidden])")
        assert page.inner_text("#error") == "3 requests wait already; try again."
        page.unroute("**:predict")
        page.set_input_files("#file", pictures / "flower" / "00.jpg")
        bars(page)
    page.set_input_files("#file", pictures / "flower" / "00.jpg")
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == f"There is no answer from {address}: is the server still running?"


def test_where_a_token_is_wanted_the_page_asks_for_it(
    opened: Opener, exported: Path, pictures: Path, tmp_path: Path
) -> None:
    prepared = starting.prepare(exported.parent, "tflite", token="sé crét")
    address = next(iter(prepared.urls.values())).partition("/v1/")[0]
    with server.in_background(prepared.application, prepared.listening):
        page = opened(address)
        page.wait_for_selector("#token:focus")
        assert not page.is_visible("main")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#token-error:not([hidden])")
        page.keyboard.type("sé crét")
        page.keyboard.press("Enter")
        wait_for_examples(page)
        assert page.evaluate("document.activeElement.id") == "choose", "what had the focus is gone"
        shutil.copy(pictures / "flower" / "00.jpg", tmp_path / "a.jpg")
        page.set_input_files("#file", tmp_path / "a.jpg")
        expected = bars(page)
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        line = page.inner_text("#curl")
        assert "sé crét" not in line
        said = subprocess.run(
            ["sh", "-c", line],
            cwd=tmp_path,
            env={"SERVE_TOKEN": "sé crét", "PATH": "/usr/bin:/bin"},
            capture_output=True,
        )
        found = json.loads(said.stdout)["predictions"][0]
        assert list(zip(found["classes"], found["scores"], strict=True))[:5] == expected


def test_of_several_versions_one_can_be_chosen(opened: Opener, exported: Path, pictures: Path, tmp_path: Path) -> None:
    for number in ("4", "10"):
        shutil.copytree(exported, tmp_path / "net" / number)
    prepared = starting.prepare(tmp_path / "net", "tflite", versions="all")
    url = prepared.urls["net"]
    with server.in_background(prepared.application, prepared.listening):
        page = opened(url.partition("/v1/")[0])
        wait_for_examples(page)
        assert page.locator("#which option").all_inner_texts() == ["net, version 10", "net, version 4"]
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(url)))
        for place, path in (("0", ":predict"), ("1", "/versions/4:predict")):
            page.get_by_label("Network and version").select_option(place)
            page.set_input_files("#file", pictures / "flower" / "00.jpg")
            bars(page)
            assert path in asked
            assert f"{url}{path}'" in page.inner_text("#curl")


def test_a_version_that_is_not_served_any_more_is_said(opened: Opener, exported: Path, pictures: Path) -> None:
    prepared = starting.prepare(exported.parent, "tflite")
    (name, url), *_ = prepared.urls.items()
    with server.in_background(prepared.application, prepared.listening):
        page = opened(url.partition("/v1/")[0])
        wait_for_examples(page)
        (number, version), *_ = prepared.models.models[name].versions.items()
        prepared.models.models = {name: Model({number + 1: version}, {})}
        page.set_input_files("#file", pictures / "flower" / "00.jpg")
        page.wait_for_selector("#error:not([hidden])")
        said = f"Version {number} of {name} is not served any more; load this page again."
        assert page.inner_text("#error") == said


def test_what_a_browser_shows_late_of_a_picture_is_not_shown_beside_another(
    opened: Opener, address: str, pictures: Path
) -> None:
    page = opened(address)
    page.add_init_script("""
      const { get, set, ...rest } = Object.getOwnPropertyDescriptor(HTMLElement.prototype, "onload");
      const late = (work) => work && ((event) => setTimeout(work, 500, event));
      const setLate = function (work) { set.call(this, late(work)); };
      Object.defineProperty(HTMLElement.prototype, "onload", { ...rest, get, set: setLate });
    """)
    page.reload()
    wait_for_examples(page)
    page.set_input_files("#file", pictures / "flower" / "00.jpg")
    bars(page)
    give(page, "drop", "notes.txt", b"no picture")
    page.wait_for_selector("#error:not([hidden])")
    page.wait_for_timeout(1000)
    assert not page.is_visible("#given-part")
    assert not page.is_visible("#seen-part")


def test_english_names_stand_before_their_synsets_and_are_text(opened: Opener, address: str, pictures: Path) -> None:
    page = opened(address)
    wait_for_examples(page)
    told = page.request.get(f"{address}/page/models").json()
    told["versions"][0]["names"] = {label: f"a <b>{label}</b>" for label in ("digit", "flower", "temple")}
    told["versions"][0]["examples"][1] = "constructor"  # of which JavaScript has something everywhere
    page.route("**/page/models", lambda route: route.fulfill(json=told))
    page.reload()
    wait_for_examples(page)
    page.set_input_files("#file", pictures / "flower" / "00.jpg")
    for label, _ in bars(page):
        assert page.get_by_text(f"a <b>{label}</b> ({label})", exact=True).is_visible()
    assert page.locator("#bars b, #examples b").count() == 0
    assert page.get_by_role("button", name="Example 1: a <b>").is_visible()
    assert page.get_by_role("button", name="Example 2: constructor", exact=True).is_visible()


def test_the_camera_is_offered_only_where_a_browser_has_one_for_pages(opened: Opener, address: str) -> None:
    page = opened(address)
    wait_for_examples(page)
    # At a loopback address the page is secure.
    assert page.get_by_role("button", name="Use the camera").is_visible()
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page.reload()
    wait_for_examples(page)
    assert not page.get_by_role("button", name="Use the camera").is_visible()


# A camera of which no picture comes; what was opened is kept in `streams`.
BLIND = """self.streams = [];
navigator.mediaDevices.getUserMedia = async () => {
  await new Promise((go) => setTimeout(go, 200));
  streams.push(document.createElement("canvas").captureStream());
  return streams.at(-1);
};"""


def test_the_camera_is_opened_once_and_closed_and_gives_no_picture_before_it_has_one(
    opened: Opener, address: str
) -> None:
    page = opened(address)
    page.add_init_script(BLIND)
    page.reload()
    wait_for_examples(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("camera.click(); camera.click()")
    page.wait_for_selector("#camera-dialog[open]")
    page.wait_for_timeout(500)
    page.evaluate("Object.defineProperty(video, 'videoWidth', { value: 0 }); shoot.click()")
    page.wait_for_timeout(200)
    assert asked == []
    assert page.is_visible("#camera-dialog")
    page.keyboard.press("Escape")
    page.wait_for_selector("#camera-dialog", state="hidden")
    states = page.evaluate("streams.flatMap((one) => one.getTracks()).map((track) => track.readyState)")
    assert states == ["ended"]


def test_of_a_run_the_page_shows_where_it_looked_and_warns_of_the_unlike(
    opened: Opener, finished_run: "Run", tmp_path: Path
) -> None:
    from PIL import Image

    with starting.in_background(finished_run.folder) as url:
        page = opened(url.partition("/v1/")[0])
        wait_for_examples(page)
        page.click("#examples button")
        page.wait_for_selector("#heat-part:not([hidden])")
        assert page.evaluate("heat.naturalWidth") == 32
        assert page.inner_text("#like").startswith("To its first layers this picture is like")
        Image.new("RGB", (50, 40), "grey").save(tmp_path / "grey.png")
        page.set_input_files("#file", tmp_path / "grey.png")
        page.wait_for_selector("#like.unlike")
        said = page.inner_text("#like")
        assert said.startswith("This picture is unlike what the network was trained on: ")
        assert said in (page.get_by_role("status").text_content() or "")
