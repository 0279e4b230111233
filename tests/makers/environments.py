"""Environments with packages that the project's own has not, or has of another version."""

import re
import subprocess
import venv
from pathlib import Path

import pytest


def interpreter_with(requirement: str, request: pytest.FixtureRequest, module: str = "") -> Path:
    """The interpreter of an environment that has it (`package==version`, or `package[extra]==version`), made once, in
    pytest's cache; where that cannot be made, the test is skipped. `module` is what it is imported as, if it has not
    the package's name."""
    folder = request.config.cache.mkdir(requirement.replace("==", "-"))
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        try:
            venv.create(folder, clear=True, with_pip=True)
            pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", requirement]
            subprocess.run(pip, check=True, capture_output=True, text=True, timeout=600)
            (package,) = re.findall(r"^\w+", requirement)
            imported = [str(python), "-c", f"import {module or package}"]
            subprocess.run(imported, check=True, capture_output=True, text=True)
        except (subprocess.SubprocessError, OSError) as error:
            said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            pytest.skip(f"{requirement} cannot be set up here: {said[-1]}")
        (folder / "complete").touch()
    return python
