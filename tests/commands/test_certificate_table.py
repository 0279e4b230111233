"""The table of a certificate, which people read in a terminal."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.commands import exporting

ARTEFACTS = ("Keras inception_resnet_v2", "SavedModel serving_default", "LiteRT model.dynamic.tflite")


def row(artefact: str) -> dict[str, Any]:
    figures = {"images": 37, "top_1_agreement": 1.0, "max_difference": 6e-7, "accuracy": 0.75}
    held_out = figures | {"images": 1532, "accuracy": 0.9}
    size = {"tolerance": 1e-5, "bytes": 223_600_000, "milliseconds": 1210.04}
    return {"artefact": artefact, **figures, **size, "not_compared": {}, "held_out": held_out}


def test_a_certificate_is_read_in_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "output", Console(width=80, soft_wrap=False))
    monkeypatch.setattr(exporting, "print_preprocessing", lambda folder: None)
    exporting._print_certificate("Exported x", Path("x"), {"rows": [row(name) for name in ARTEFACTS]}, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines[1:-1] if not line.startswith(" ")] == [*ARTEFACTS], "each in a line, and whole"
    assert lines[2].split() == ["37", "golden", "100.0%", "6.0e-07", "1e-05", "75.0%", "223.6", "1210.0"]
    assert lines[3].split()[:3] == ["1532", "held", "out"]
    assert max(map(len, lines)) <= 80
