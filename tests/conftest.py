"""What the tests share: their order, a process of its own, a precision policy that does not outlive its test, and
one small run.

Nothing of it imports TensorFlow before a test asks for it.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

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


# The modules that take longest, longest first: what begins last is short, and the workers end together.
LONGEST = (
    "test_notebooks",
    "test_export",
    "test_networks",
    "test_training",
    "test_checkpoints",
    "test_weights",
    "test_batch_norm",
    "test_family",
    "test_devices",
    "test_dreaming",
    "test_evaluation",
    "test_command_line",
    "test_quantization",
    "test_fine_tuning",
    "test_weight_average",
    "test_datasets",
    "test_augmentation",
    "test_optimizers",
    "test_slim_networks",
    "test_comparing",
    "test_importing",
    "test_ensembles",
    "test_records",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules in the order of LONGEST; a module's tests go to one worker, so that what they share is made once.

    `--dist loadfile --no-loadscope-reorder` keeps this order. (`loadgroup` could divide modules, but pytest-xdist 3.8
    loses its groups under pytest 9.2: its issue 1386.)
    """

    def place(item: pytest.Item) -> tuple[int, Any]:
        module = item.path.stem
        # The networks of the battery one after the other: what is built for one is needed no longer then.
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        network = parameters.get("name", "") if module == "test_networks" else ""
        return places.get(module, len(places)), network

    places = {module: place for place, module in enumerate(LONGEST)}
    items.sort(key=place)


def pytest_collection_finish() -> None:
    """TensorFlow, Keras and the tests themselves are here to stay: no garbage collection looks at them again."""
    gc.collect()
    gc.freeze()


def once(name: str, make: Callable[[Path], Path], factory: pytest.TempPathFactory) -> Path:
    """What `make` returns, given the folder `name` to write into: called by one worker, for all of them."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker left that failed
            folder.mkdir()
            made.write_text(str(make(folder)))
        return Path(made.read_text())


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
    return once("data", draw_pictures, tmp_path_factory)


def draw_pictures(folder: Path) -> Path:
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
    root = folder / "pictures"
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
    from app.run_folder.folder import Run

    def make(folder: Path) -> Path:
        settings = ("epochs=6", "image_size=32", "batch_size=8", "optimizer.rate=0.1", "seed=1")
        wanted = recipe.load("default", settings)
        return training.train(str(pictures), "lenet_bn", folder / "pictures", wanted, unwatched).folder

    return Run(once("runs", make, tmp_path_factory))


@pytest.fixture(scope="session")
def exported(finished_run: "Run", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of `finished_run`'s export, SavedModel and LiteRT file. Read only."""
    from app import exporting

    def make(folder: Path) -> Path:
        return exporting.export(finished_run.folder, folder)[0]

    return once("exports", make, tmp_path_factory)


@pytest.fixture(autouse=True)
def _unserved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of an export goes to its rows of REST and gRPC, which one module is about."""
    if not request.module.__name__.endswith("test_served"):
        monkeypatch.setattr("app.exporting.served.missing", lambda: "a test leaves them out")
