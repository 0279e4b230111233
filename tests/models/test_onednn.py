"""Who imports the networks has TensorFlow's fast kernels, also where it leaves them off by itself."""

from collections.abc import Callable

import pytest

# What TensorFlow would find in its environment: the script ends where it is first looked for.
ASKED = """
import importlib.abc, os, sys

class Asked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
            sys.exit()

os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
os.environ.update(argument.split("=") for argument in sys.argv[1:])
sys.meta_path.insert(0, Asked())
import {package}
"""

LATE = """
import os
os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
import keras
import models
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
"""


@pytest.mark.slow
def test_tensorflow_is_asked_for_onednn_before_it_is_imported(fresh_process: Callable[..., str]) -> None:
    asked = ASKED.format(package="models")
    assert fresh_process(asked) == "1\n"
    assert fresh_process(asked, "TF_ENABLE_ONEDNN_OPTS=0") == "0\n", "what the user has set counts"
    assert fresh_process(ASKED.format(package="keras")) == "None\n", "it is not Keras that asks"


@pytest.mark.slow
def test_the_environment_is_left_alone_where_tensorflow_is_there_already(fresh_process: Callable[..., str]) -> None:
    """It would only reach processes that are started later."""
    assert fresh_process(LATE) == "None\n"
