"""What the tests share: a process of its own, a precision policy that does not outlive its test, and one small run.

Nothing of it imports TensorFlow before a test asks for it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import ROOT

if TYPE_CHECKING:
    from app.run_folder.folder import Run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: it reports what the CPU can do
# As the program does, whichever test imports TensorFlow first: kernels of two kinds differ in the last bits.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# TensorFlow Datasets asks for it at its import; without it data sets would be prepared in the home folder.
DATA_SETS = tempfile.TemporaryDirectory(prefix="data_sets_")
os.environ["TFDS_DATA_DIR"] = DATA_SETS.name
# What is known of image files is remembered there, too, and not in the home folder.
os.environ["XDG_CACHE_HOME"] = DATA_SETS.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`commands` run beside other tests: the test that starts them comes first, those that wait for an `outcome` last.

    Every command imports TensorFlow, which takes longer than most tests and keeps one core busy.
    """

    def place(item: pytest.Item) -> int:
        fixtures = getattr(item, "fixturenames", ())
        return 2 if "outcome" in fixtures else 0 if "commands" in fixtures else 1

    items.sort(key=place)


@pytest.fixture
def fresh_process() -> Callable[..., str]:
    """Runs a script in a new interpreter that finds this checkout; further arguments are its `sys.argv[1:]`."""

    def run(script: str, *arguments: object, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def set_policy() -> Iterator[Callable[[str], None]]:
    """Sets Keras' global precision policy until the end of the test."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder class/image of 99 real pictures, 20 to 200 pixels a side: a temple, a flower, digits. Read only."""
    import numpy as np
    import sklearn.datasets
    from PIL import Image

    formats: list[tuple[str, str, dict[str, Any]]] = [
        (".jpg", "RGB", {}),
        (".JPG", "RGB", {"progressive": True}),
        (".jpeg", "L", {}),
        (".jpg", "CMYK", {}),
        (".jpg", "RGB", {"subsampling": 2, "quality": 60}),
        (".png", "RGB", {}),
        (".png", "RGBA", {}),
        (".png", "P", {}),
        (".png", "I;16", {}),
        (".gif", "P", {}),
        (".bmp", "RGB", {}),
        (".webp", "RGB", {}),
    ]
    root = tmp_path_factory.mktemp("data") / "pictures"
    temple, flower = (Image.fromarray(photo) for photo in sklearn.datasets.load_sample_images().images)
    digits = [Image.fromarray(np.uint8(digit * 15)) for digit in sklearn.datasets.load_digits().images[:33]]
    rng = np.random.default_rng(0)
    for label in ("digit", "flower", "temple"):
        (root / label).mkdir(parents=True)
        for i in range(33):
            suffix, mode, options = formats[i % len(formats)]
            width, height = (int(side) for side in rng.integers(20, 201, 2))
            if label == "digit":
                picture = digits[i].resize((width, height), Image.Resampling.BICUBIC)
            else:
                photo = temple if label == "temple" else flower
                left, top = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
                picture = photo.crop((left, top, left + width, top + height))
            if mode == "I;16":
                picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
            else:
                picture = picture.convert("RGB").convert(mode)
            picture.save(root / label / f"{i:02}{suffix}", **options)
    return root


@pytest.fixture(scope="session")
def finished_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """`lenet_bn` after six epochs on `pictures` at 32 x 32. Read only."""
    from app import recipe, training
    from app.program.progress import unwatched

    settings = ("epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1")
    folder = tmp_path_factory.mktemp("runs") / "pictures"
    return training.train(str(pictures), "lenet_bn", folder, recipe.load("default", settings), unwatched)


@pytest.fixture(scope="session")
def exported(finished_run: "Run", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of `finished_run`'s export, both formats. Read only."""
    from app import exporting

    return exporting.export(finished_run.folder, tmp_path_factory.mktemp("exports"), exporting.FORMATS)[0]
