"""The row of a page in the certificate: what it found when a Chromium of this machine opened it."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

from app.artefacts.certified import Quantised
from app.exporting import page_file
from app.exporting.page_file import PAGE
from app.program.progress import console
from export import certificate

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
ROW = f"Chromium {PAGE}"
# In a headless browser the page says on the console that it begins, and what it found, if it is opened with this behind
# its address.
TOLD = "#told"
BEGUN = re.compile(r'CONSOLE.*?"begun", source: ')
FOUND = re.compile(r'CONSOLE.*?"found (\{.*\})", source: ')
# Seconds until a page has to have begun, which it never does in a browser that is too old or may not read the file, and
# that its check may take.
BEGINNING, LIMIT = 120.0, 600.0


def browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def row(
    version: Path,
    golden: Sequence[dict[str, Any]],
    labels: Sequence[str],
    quantized: Sequence[Quantised],
) -> dict[str, Any] | None:
    """As `certificate.rows` has one for each artefact, of the page of the version folder; None, and says why, where no
    browser is that opens it. It is of those of the `golden` images that are in the page.

    Raises:
        ArtefactError: the network does not run in the browser.
    """
    program = browser()
    if program is None:
        console.print(f"{PAGE} has no row in the certificate: there is no Chromium here. It checks itself when opened.")
        return None
    found = _opened(program, version / PAGE)
    if found is None:
        console.print(f"{PAGE} has no row in the certificate: {program} did not open it. It checks itself when opened.")
        return None
    if "error" in found:
        raise certificate.ArtefactError(f"{version / PAGE} does not run in {program}: {found['error']}")
    source = page_file.source_of(version, quantized)
    given = dict(zip(found["files"], found["answers"], strict=True))
    inside = [image for image in golden if Path(image["file"]).name in given]
    # JSON has no number for what is none.
    answers = [[nan if one is None else one for one in given[Path(image["file"]).name]] for image in inside]
    reply = {"answers": answers, "milliseconds": found["milliseconds"]}
    precision = page_file.precision_of(source)
    allowed = page_file.allowed_of(source.name, quantized)
    size = (version / PAGE).stat().st_size
    made = certificate.compare(ROW, inside, labels, reply, size, precision, differing=allowed)
    return made | {"tolerance": page_file.tolerance_of(precision)}


def _opened(program: str, page: Path) -> dict[str, Any] | None:
    """What the page found: see `leave` in page.js; None where it said nothing."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # what is being stopped writes into it
        command = [program, "--headless", "--enable-logging=stderr", f"--user-data-dir={profile}"]
        command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has none
        process = subprocess.Popen(
            [*command, f"{page.resolve().as_uri()}{TOLD}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stderr is not None
        late, stopping = (threading.Timer(seconds, _stop, [process]) for seconds in (BEGINNING, LIMIT))
        late.start()
        stopping.start()
        try:
            for line in process.stderr:
                if BEGUN.search(line):
                    late.cancel()
                elif found := FOUND.search(line):
                    return dict(json.loads(found[1]))
            return None
        finally:
            late.cancel()
            stopping.cancel()
            _stop(process)
            process.wait()
            process.stderr.close()


def _stop(process: "subprocess.Popen[str]") -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
