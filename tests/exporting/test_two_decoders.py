"""From training to a verified export with test images that a second decoder refuses, or reads in its own way."""

import json
import re
from pathlib import Path

import pytest

from app import evaluation, exporting, recipe, training
from app.datasets.checks import check
from app.program.progress import unwatched
from app.run_folder.folder import Run
from tests.makers.image_files import PHOTO, encoded
from tests.makers.odd_files import COMPARED, NOT_COMPARED


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, whose test images are all odd. Read only."""
    folder = tmp_path_factory.mktemp("odd")
    for split, label in ((split, label) for split in ("train", "val", "test") for label in ("one", "other")):
        (folder / split / label).mkdir(parents=True)
    for i in range(16):
        window = PHOTO.crop((20 * i, 10 * i, 20 * i + 90, 10 * i + 70))
        for label in ("one", "other"):
            made = window if label == "one" else window.rotate(180)
            place = folder / ("train" if i < 12 else "val") / label
            (place / f"{i}.png").write_bytes(encoded(made, "PNG"))
    contents = {**COMPARED, **{kind: content for kind, (content, _) in NOT_COMPARED.items()}}
    for i, (kind, content) in enumerate(contents.items()):
        suffix = kind[:3].lower().replace("jpe", "jpg").replace("lar", "jpg")
        (folder / "test" / ("one", "other")[i % 2] / f"{kind}.{suffix}").write_bytes(content)
    return folder


@pytest.mark.slow
def test_what_the_scan_accepts_ends_neither_a_training_nor_an_export(odd: Path, tmp_path: Path) -> None:
    assert not {finding.kind for finding in check(str(odd)).findings} & {"undecodable", "truncated", "huge"}
    wanted = recipe.load("default", ("epochs=1", "image_size=32", "batch_size=8", "optimizer.rate=0.01"))
    run = training.train(str(odd), "lenet_bn", tmp_path / "run", wanted, unwatched)
    count = len(COMPARED) + len(NOT_COMPARED)
    figures = json.loads(Run(run.folder).metrics.read_text())
    assert figures["count"] == count
    assert len(json.loads((run.golden / "golden.json").read_text())) == count
    assert evaluation.evaluate(run.folder, None)["count"] == count

    version, found = exporting.export(run.folder, tmp_path / "exports")
    again = exporting.verify(version)[1]
    for rows in (found["rows"], again["rows"]):
        for row in rows:
            by_pixels = not any(way in row["artefact"] for way in ("serving_default", "classify", "network"))
            missing = len(NOT_COMPARED) if by_pixels else 0
            assert row["held_out"]["images"] == count - missing
            assert row["max_difference"] < 1e-5
            named = {name: why for name, why in row["not_compared"].items() if name.startswith(str(odd))}
            assert len(named) == missing
            for name, why in named.items():
                assert NOT_COMPARED[Path(name).stem][1] in why
            # The golden images are the same pictures, under names of their own.
            assert len(row["not_compared"]) == 2 * missing
    assert found["ok"]
    assert again["ok"]
    written = json.loads((version / "certificate.json").read_text())
    assert written["rows"] == found["rows"]
    example = re.search(r"Image\.open\(\"golden/(.*?)\"\)", (version / "README.md").read_text())
    assert example
    assert example[1] not in found["rows"][-1]["not_compared"]
    assert f"From their pixels {2 * len(NOT_COMPARED)} of these images were not compared" in (
        (version / "README.md").read_text()
    )
