"""How pages look: on a telephone as on a desk, with long names and few values."""

import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from app import evaluation
from app.datasets.files.image_files import FileSplit
from app.images.preprocessing import Preprocessing
from app.program.shown import brief
from app.recipe import Recipe
from app.reports import page, run_report
from app.run_folder.classifier import Classifier, DataRecord
from app.run_folder.folder import Run
from tests.makers.image_files import FILES

LABELS = ("Lasius_niger_the_black_garden_ant_of_all_Europe", "Apis mellifera carnica, the Carniolan honey bee")
HISTORY = "epoch,loss,val_loss,accuracy,val_accuracy,seconds,images_per_second\n1,2,1.5,0.5,0.5,3,9\n2,1,1.1,1,1,3,9\n"


def written(run: Run, labels: tuple[str, ...]) -> Path:
    """The page of a run with these classes, and one picture of the second to test it on."""
    run.folder.mkdir(exist_ok=True)
    run.history.write_text(HISTORY)
    (run.folder / "one.jpg").write_bytes(FILES["JPEG, orientation 6"])
    classifier = Classifier(
        network="lenet_bn",
        arguments={},
        labels=labels,
        preprocessing=Preprocessing(height=32, width=32),
        recipe=Recipe(),
        versions={},
        seed=0,
        data=DataRecord(name="data/" + "a" * 60, fingerprint="", train=5, validation=2, test=1, unreadable=1),
    )
    probabilities, truth = np.eye(len(labels))[[1]] * 0.8 + 0.1, np.array([1])
    figures = evaluation.metrics(probabilities, truth, labels, 1.074)
    split = FileSplit((str(run.folder / "one.jpg"),), (1,))
    run_report.write(run, classifier, figures, probabilities, truth, split)
    return run.report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two classes of long names. Read only."""
    return written(Run(tmp_path_factory.mktemp("page") / "run"), LABELS)


def read(page: Path) -> str:
    """What a reader sees of it, but for what scripts draw."""
    text = re.sub(r"<(script|style)>?.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def test_a_card_says_what_its_figure_is_of(report: Path) -> None:
    said = read(report)
    assert "% calibration error at temperature 1.074, with loss " in said
    assert "1 test image;" not in said
    assert "1 test image, 1 unreadable file left out" in said
    assert " 1 test image " in said


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top_5_is_shown_where_it_can_be_wrong(classes: int, tmp_path: Path) -> None:
    assert ("top-5" in read(written(Run(tmp_path), tuple("abcdef"[:classes])))) == (classes > 5)


def test_a_synset_is_shown_with_its_english_name(tmp_path: Path) -> None:
    page = written(Run(tmp_path), ("n01440764", "n02012849"))
    said = read(page)
    assert "✓ crane (n02012849)" in said
    assert said.count("tench (n01440764)") == 2  # what the picture might be, and the table of classes
    assert "tench (n0…1440764)" not in page.read_text()


def test_a_title_stands_above_its_plot_where_no_tool_bar_covers_it() -> None:
    drawn = page.plot(go.Figure(go.Scatter(x=[1], y=[2]), layout={"title": "Loss & <more>"}))
    assert drawn.startswith("<figure><figcaption>Loss &amp; &lt;more&gt;</figcaption>")
    assert "more" not in drawn[drawn.index("</figcaption>") + 1 :]


@pytest.mark.parametrize(
    "values", [(0.4, 0.6), (1.1, 2.6), (19, 23), (0.02, 0.5), (25, 150), (1.3, 2400), (7.0, 7.0), (3e-7, 8e5)], ids=str
)
def test_a_logarithmic_axis_has_ticks_enough_and_not_too_many(values: tuple[float, float]) -> None:
    found = page.logarithmic(values)
    low, high = min(values) / 1.05, max(values) * 1.05
    seen = [tick for tick in found["tickvals"] if low <= tick <= high]
    assert 3 - (values[0] == values[1]) <= len(seen) <= 15
    assert len(found["tickvals"]) <= 30


def test_what_has_no_logarithm_leaves_the_axis_as_it_is() -> None:
    assert page.logarithmic([0.0, math.nan, math.inf]) == {"type": "log"}
    assert page.logarithmic([math.nan, 1.0, 100.0, 0.0]) == page.logarithmic([1.0, 100.0])


def test_epochs_are_whole() -> None:
    for last in (1, 2, 8, 9, 100):
        step = page.whole_numbers(last)["dtick"]
        assert step == int(step)
        assert last / step <= 8


def test_a_long_name_is_shortened_in_plots_and_told_from_others(report: Path) -> None:
    assert page.short("ants") == "ants"
    assert page.short("Canis lupus familiaris, the poodle") == "Canis lup…e poodle"
    (shown,) = {*re.findall(r'"ticktext":(\[[^]]*\])', report.read_text())}
    assert json.loads(shown) == ["Lasius_ni…l_Europe", "Apis mell…oney bee"]


@pytest.mark.parametrize(
    ("number", "text"),
    [(12253.9, "12,300"), (999.9, "1,000"), (998.7, "999"), (0.0629, "0.0629"), (1.5e7, "15,000,000")],
)
def test_a_large_number_has_no_exponent(number: float, text: str) -> None:
    assert brief(number) == text


def test_of_a_thousand_classes_some_are_named() -> None:
    assert page.some([str(i) for i in range(1000)], 40) == [str(i) for i in range(0, 1000, 25)]
    assert page.some(["a", "b"], 2) == ["a", "b"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1366])
def test_nothing_runs_off_the_edge(report: Path, tmp_path: Path, width: int) -> None:
    """A real browser, in a frame of the width of a telephone: Chromium makes no window that narrow."""
    outer = tmp_path / "outer.html"
    outer.write_text(
        f'<iframe id="f" style="width:{width}px;height:900px;border:0" src="{report.as_uri()}"></iframe>'
        '<script>const f = document.getElementById("f"); f.onload = () => setTimeout(() => {'
        "const page = f.contentDocument.documentElement;"
        "document.title = `${page.scrollWidth - page.clientWidth} too wide`}, 1500)</script>"
    )
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        "--window-size=1600,1000",
    )
    done = subprocess.run(
        ["chromium", *options, "--virtual-time-budget=10000", "--dump-dom", outer.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "<title>0 too wide</title>" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
