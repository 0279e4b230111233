"""Verifying an export: its artefacts are asked again, and its files compared with those that were certified."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.artefacts.version_folders import newest
from app.exporting import certifying, runtimes
from app.program.errors import UserError
from app.program.files import digest
from app.program.progress import Watch, unwatched
from app.run_folder import ensembles
from app.run_folder.folder import Run
from export import certificate


def verify(path: Path, watch: Watch = unwatched) -> tuple[Path, dict[str, Any]]:
    """Runs the certificate of an export again, in fresh processes; returns the version folder and the result: `ok`,
    `rows`, the files that are `changed`, `missing` or `added` since the certificate was written, and `not_repeated`,
    why there is no row of the trained network or of test images, or None. Golden images that are not those certified
    are not asked about.

    Raises:
        UserError: not an export, or one that does not load, or whose runtime is not installed.
    """
    version = newest(path)
    try:
        written = json.loads((version / certifying.CERTIFICATE).read_text())
        golden = certificate.golden(version)
        hashes, labels, precision, members = (written[key] for key in ("sha256", "labels", "precision", "networks"))
        certified, (network, *artefacts) = hashes["files"], written["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{version} has no readable certificate: {error}. Export the run again.") from error
    try:
        found = certifying.hashes(version)
    except OSError as error:
        raise UserError(f"{error.filename} of this export cannot be read: {error.strerror}.") from error
    if "golden/golden.json" not in certified:
        raise UserError(f"The certificate of {version} does not name all of its files. Export the run again.")
    changed = [name for name, value in certified.items() if found.get(name, value) != value]
    missing, added = sorted(certified.keys() - found.keys()), sorted(found.keys() - certified.keys())
    others = {version / name for name in (*changed, *missing, *added)}
    golden = [image for image in golden if version / "golden" / Path(image["file"]).name not in others]
    if not golden:
        raise UserError(f"{version} has no golden image left that was certified. Export the run again.")
    runtimes.check_files(version)
    runs = [Run(Path(member["run"])) for member in members]
    milliseconds = network["milliseconds"]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as elsewhere:
        held_out: list[dict[str, Any]] = []
        gone = [run for run, member in zip(runs, members, strict=True) if not _holds(run, member["sha256"]["model"])]
        if gone:
            not_repeated: str | None = f"{gone[0].folder} does not hold the network any more"
        else:
            networks = ensembles.load([run.folder for run in runs])
            data, not_repeated = certifying.data_of(runs, watch)
            if data:
                held_out = certifying.test_images(data, networks, Path(elsewhere), written["held_out"], watch)
            reply = certifying.ask(networks, [Path(image["file"]).read_bytes() for image in golden])
            rows.append(certifying.reference_row(runs, labels, golden, held_out, reply))
            milliseconds = reply["milliseconds"]
        try:
            rows += certificate.rows(version, golden, labels, milliseconds, precision, held_out, watch)
        except certificate.ArtefactError as error:
            raise UserError(f"{error}{differences(changed, missing, added)}.") from error
    # Of a certificate whose list of files was shortened, too, every artefact has to answer.
    missing = missing or sorted({row["artefact"] for row in artefacts} - {row["artefact"] for row in rows})
    ok = all(certificate.passes(row) for row in rows) and not (changed or missing or added)
    files = {"changed": changed, "missing": missing, "added": added}
    return version, {"ok": ok, "rows": rows, **files, "not_repeated": not_repeated}


def differences(changed: Sequence[str], missing: Sequence[str], added: Sequence[str]) -> str:
    """The end of a sentence about an export, which names the files that are not as they were certified."""
    said = {"not the files that were certified": changed, "not there any more": missing, "never certified": added}
    return "".join(f"; {what}: {', '.join(files)}" for what, files in said.items() if files)


def _holds(run: Run, hash_of_model: str) -> bool:
    return run.model.is_file() and digest(run.model) == hash_of_model
