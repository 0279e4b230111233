"""The wheel: the networks under the name `inceptions`, beside anybody's own `models`."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import models
from tests import ROOT

SAVE = """
import sys, keras, models
keras.utils.set_random_seed(0)
models.BNInception(width=0.25, input_shape=(32, 32, 3), classes=3).save(sys.argv[1])
"""

LOAD = """
import sys
sys.path[:0] = sys.argv[2:]
import inceptions, keras, models
assert models.STRANGER and inceptions.__file__.startswith(sys.argv[2]), inceptions.__file__
network = keras.models.load_model(sys.argv[1])
assert type(network.get_layer("stem_1_bn")) is inceptions.BatchNormalization
import inceptions.imagenet, inceptions.weights
assert inceptions.imagenet.names()["n01440764"] == "tench"
assert inceptions.weights.SOURCES
print(inceptions.__version__, network.count_params())
"""


@pytest.mark.slow
def test_the_wheel_loads_a_saved_network_beside_a_strangers_models(
    tmp_path: Path, fresh_process: Callable[..., str]
) -> None:
    site, stranger, saved = tmp_path / "site", tmp_path / "stranger", tmp_path / "network.keras"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Without isolation and dependencies: nothing is fetched, the environment has all of it.
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT], check=True, cwd=tmp_path
    )
    (wheel,) = tmp_path.glob("inceptions-*.whl")
    packed = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in packed if not name.endswith(".dist-info")} == {"inceptions"}
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    (stranger / "models").mkdir(parents=True)
    (stranger / "models" / "__init__.py").write_text("STRANGER = True\n")
    fresh_process(SAVE, saved)

    # -I: the checkout is not on the path of this process.
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, saved, site, stranger], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    version, parameters = done.stdout.split()
    assert version == models.__version__
    assert int(parameters) > 100_000
