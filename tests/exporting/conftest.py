"""What the tests of exports have in common: the session's run as it is in memory, its data and some of its pictures."""

from pathlib import Path
from typing import Any

import pytest

from app import run_folder
from app.datasets import loading
from app.datasets.dataset import Data
from app.images.decoding import decode
from app.run_folder.folder import Run
from app.run_folder.trained import Trained


@pytest.fixture(scope="module")
def trained(finished_run: Run) -> Trained:
    return run_folder.load(finished_run.folder)


@pytest.fixture(scope="module")
def data(finished_run: Run) -> Data:
    return loading.of_run(finished_run)


@pytest.fixture(scope="module")
def samples(pictures: Path) -> list[Any]:
    return [decode(path.read_bytes()).numpy() for path in sorted(pictures.rglob("*.*"))[::3]]
