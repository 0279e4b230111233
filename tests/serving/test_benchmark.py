"""The benchmark of the server: its load, its arithmetic, and once the whole of it."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import serving
from benchmarks.serving import Figure
from benchmarks.serving_load import Asked, Load, at_rate
from benchmarks.serving_trials import Served
from tests import ROOT
from tests.serving.asking import Echo
from tests.serving.test_client import serving as serve
from tests.serving.test_limits import Waits


def asked(url: str, expected: str = "1.0") -> Asked:
    return Asked(int(url.split(":")[2].split("/")[0]), "/v1/models/m:predict", b'{"instances": [1]}', expected)


def test_requests_come_at_their_rate_and_their_answers_are_looked_at() -> None:
    with serve(Echo()) as url:
        load = at_rate(asked(url), 200, 0.5)
        assert 60 < load.right < 150  # 100 are expected, of a spread of 10
        assert (load.refused, load.wrong, load.lost) == (0, 0, 0)
        assert 0 < load.p50 <= load.p90 <= load.p99
        assert at_rate(asked(url, "2.0"), 100, 0.1).right == 0


def test_what_waits_counts_from_when_it_was_due() -> None:
    class Slow(Waits):
        def run(self, signature: str, inputs: Any) -> Any:
            self.go.wait(0.02)
            return Echo.run(self, signature, inputs)

    with serve(Slow()) as url:  # 20 ms each, and at most one by each processor at once
        load = at_rate(asked(url), 100 * (os.cpu_count() or 1), 0.3)
    assert load.p50 > 60


def test_figures_are_held_against_what_is_wanted() -> None:
    assert str(Figure("a", 0.8, least=0.85)) == "a = 0.800, wanted: at least 0.850: missed"
    assert str(Figure("a", 0.85, least=0.85)) == "a = 0.850, wanted: at least 0.850: reached"
    assert str(Figure("a", 3.1, most=3.0)) == "a = 3.100, wanted: at most 3.000: missed"
    assert str(Figure("a", 1.0)) == "a = 1.000"


def test_the_batches_that_answer_most_within_the_bound_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # Requests right in a second and milliseconds, by the largest batch; beyond 8 more are answered, and too late.
    found = {1: (100, 10), 2: (150, 12), 4: (180, 20), 8: (175, 30), 16: (300, 51), 32: (310, 60)}
    said: list[str] = []

    class Fake(Served):
        @contextlib.contextmanager
        def running(self, parameters: str | None = None) -> Iterator[Any]:
            said.append(parameters or "")
            yield self

        def asked(self, batch: int) -> Any:
            return None

    def load(_: Any, connections: int, seconds: float) -> Load:
        right, late = found[int(re.findall(r"allowed_batch_sizes: (\d+)", said[-1])[-1])]
        return Load(right, 0, 0, 0, 1.0, late / 2, late / 2, late)

    monkeypatch.setattr(serving, "by_wrk", load)
    fake = Fake(Path(), "tflite", Path(), "artefact", {}, {}, "")
    rows, sizes = serving.sweep(fake, 50, 1, 2)
    assert sizes == (1, 2, 4)
    assert [row["within"] for row in rows] == [True] * 4 + [False] * 2
    assert "max_batch_size { value: 4 }\n" in said[2]
    assert said[2].endswith("allowed_batch_sizes: 1\nallowed_batch_sizes: 2\nallowed_batch_sizes: 4\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_the_whole_of_it_ends_with_its_figures(exported: Path) -> None:
    options = ["--export", str(exported), "--side", "32", "--seconds", "1", "--rounds", "2", "--times", "1", "--json"]
    command = [sys.executable, "-m", "benchmarks.serving", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    figures = {figure["name"]: figure["value"] for figure in found["figures"]}
    assert figures["MB after one request"] < 150 + 3e-6 * (exported / "model.tflite").stat().st_size
    assert figures["requests lost in 1 ends with 50 in flight"] == 0
    assert figures["requests that failed or were lost in swaps"] == 0
    assert figures["MB more after overload"] < 50
    assert all(row["per_second"] > 0 for row in found["rows"])


def test_without_wrk_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["serving"])
    with pytest.raises(SystemExit):
        serving.main()
    assert "wrk is not installed; `apt-get install wrk`" in capsys.readouterr().err
