"""Every notebook runs from top to bottom, and is committed without outputs."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the folder `notebooks` of a checkout: what one notebook leaves beside it the next one finds."""
    folder = tmp_path_factory.mktemp("checkout") / "notebooks"
    folder.mkdir()
    for house in ("app", "models", "export"):
        (folder.parent / house).symlink_to(ROOT / house)
    return folder


def test_a_notebook_finds_the_checkout_wherever_jupyter_was_started(here: Path) -> None:
    """Its first code alone, in a process that knows nothing of where it lies."""
    for path in NOTEBOOKS:
        first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        assert 'sys.path.insert(0, os.path.abspath(".."))' in first.source, path
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = "[importlib.util.find_spec(name) is not None for name in ('app', 'models')]"
    script = f"{first.source}\nimport importlib.util\nprint({found})"
    done = subprocess.run([sys.executable, "-c", script], cwd=here, env=environment, capture_output=True, text=True)
    assert done.stdout == "[True, True]\n", done.stderr


def test_make_notebook_starts_jupyterlab_where_everything_is_found() -> None:
    """What it would do: JupyterLab itself is not among what the tests install."""
    options = ("--dry-run", "--always-make", "--no-print-directory", "-o", ".venv/ready", "notebook")
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # `make test` is one, too
    done = subprocess.run(["make", *options], cwd=ROOT, capture_output=True, text=True, env=alone)
    install, _, start = done.stdout.splitlines()[-3:]
    assert install.endswith('-c constraints.txt -e ".[app,test,notebook]"'), done.stderr
    assert start == f'PYTHONPATH="{ROOT}" .venv/bin/python -m jupyterlab --notebook-dir=notebooks '


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(here)}}).execute()
    pictures = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    shown = [cell for cell in notebook.cells if "plt.show()" in cell.source]
    assert len(pictures) == len(shown)
    if folder := os.environ.get("EXECUTED_NOTEBOOKS"):  # to look at what it shows
        nbformat.write(notebook, Path(folder) / path.name)
