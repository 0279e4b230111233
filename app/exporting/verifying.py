"""Verifying an export: its artefacts are asked again, and its files compared with those that were certified."""

import json
import tempfile
from pathlib import Path
from typing import Any

from app.exporting import certifying
from app.exporting.version_folders import newest
from app.program.errors import UserError
from app.program.files import digest
from app.program.progress import Watch, unwatched
from app.run_folder import ensembles
from app.run_folder.folder import Run
from export import certificate


def verify(path: Path, watch: Watch = unwatched) -> tuple[Path, dict[str, Any]]:
    """Runs the certificate of an export again, in fresh processes; returns the version folder and the result: `ok`,
    `rows`, `changed` (files that are not those the certificate was written for) and `not_repeated`, why there is no
    row of the trained network or of held-out images, or None.

    Raises:
        UserError: not an export, or one that does not load.
    """
    version = newest(path)
    try:
        written = json.loads((version / "certificate.json").read_text())
        golden = certificate.golden(version)
        hashes, labels, precision, members = (written[key] for key in ("sha256", "labels", "precision", "networks"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{version} has no readable certificate: {error}. Export the run again.") from error
    runs = [Run(Path(member["run"])) for member in members]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as elsewhere:
        held_out: list[dict[str, Any]] = []
        gone = [run for run, member in zip(runs, members, strict=True) if not _holds(run, member["sha256"]["model"])]
        if gone:
            not_repeated: str | None = f"{gone[0].folder} does not hold the network any more"
        else:
            networks = ensembles.load([run.folder for run in runs])
            held_out, not_repeated = certifying.held_out(runs, networks, Path(elsewhere), written["held_out"], watch)
            reply = certifying.ask(networks, [Path(image["file"]).read_bytes() for image in golden])
            rows.append(certifying.reference_row(runs, labels, golden, held_out, reply))
        try:
            rows += certificate.rows(version, labels, precision, held_out, watch)
        except certificate.ArtefactError as error:
            raise UserError(f"{error}.") from error
    found = certifying.hashes(version)
    changed = [name for name, value in hashes["files"].items() if found.get(name, value) != value]
    ok = all(certificate.passes(row) for row in rows) and not changed
    return version, {"ok": ok, "rows": rows, "changed": changed, "not_repeated": not_repeated}


def _holds(run: Run, hash_of_model: str) -> bool:
    return run.model.is_file() and digest(run.model) == hash_of_model
