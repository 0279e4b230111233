"""Verifying an export: its artefacts are asked again, and its files compared with those that were certified."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.artefacts import certified
from app.artefacts.certified import CERTIFICATE, Certified
from app.artefacts.processor import processor
from app.artefacts.version_folders import newest
from app.exporting import carrying, certifying, in_browser, runtimes, served
from app.exporting.page_file import PAGE
from app.program.errors import UserError
from app.program.progress import Watch, unwatched
from app.run_folder import ensembles
from app.run_folder.folder import Run
from export import certificate


def verify(path: Path, watch: Watch = unwatched) -> tuple[Path, dict[str, Any]]:
    """Runs the certificate of an export again, in fresh processes; returns the version folder and the result: `ok`,
    `rows`, the files that are `changed`, `missing` or `added` since the certificate was written, `says`, a sentence
    for everything that a file says otherwise than the certificate, or the certificate than what was found;
    `not_repeated`, why there is no row of the trained network or of test images, or None; `not_served`, why there is
    none of REST and gRPC, which the certificate has, or None; and `elsewhere`, how this processor is another than the
    certificate's, or None. Golden images that are not those certified are not asked about.

    Raises:
        UserError: not an export, or one that does not load, or whose runtime is not installed.
    """
    version = newest(path)
    written, sealed = certified.read(version)
    golden = _golden(version, written.labels)
    files = written.sha256.files
    changed, missing, added = certified.changes(version, files)
    right = {str((version / name).resolve()) for name in files.keys() - {*changed, *missing}}
    changed = ([] if sealed else [CERTIFICATE]) + changed
    golden, there = [image for image in golden if image["file"] in right], len(golden)
    if not golden:
        raise UserError(f"{version} has no golden image left that was certified. Export the run again.")
    runtimes.check_files(version)
    runs = [Run(Path(member.run)) for member in written.networks]
    milliseconds = written.rows[0].milliseconds
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as elsewhere:
        held_out: list[dict[str, Any]] = []
        gone = [run for run, member in zip(runs, written.networks, strict=True) if not _holds(run, member)]
        if gone or list(runs[0].read_classifier().labels) != written.labels:
            not_repeated: str | None = f"{[*gone, runs[0]][0].folder} does not hold the network any more"
        else:
            networks = ensembles.load([run.folder for run in runs])
            data, not_repeated = certifying.data_of(runs, watch)
            if data:
                held_out = certifying.test_images(data, networks, Path(elsewhere), written.held_out, watch)
            reply = certifying.ask(networks, [Path(image["file"]).read_bytes() for image in golden])
            rows.append(certifying.reference_row(runs, written.labels, golden, held_out, reply))
            milliseconds = reply["milliseconds"]
        of_page = {in_browser.ROW} & {row.artefact for row in written.rows}
        try:
            if of_page and str((version / PAGE).resolve()) in right:
                in_page = in_browser.row(version, golden, written.labels, written.quantization or ())
                rows += [in_page] if in_page else []
            asked = (version, golden, written.labels, milliseconds, written.precision, held_out)
            rows += certificate.rows(*asked, certified.allowed(written.quantization), watch)
            was_served = served.of_rows(version, written.rows)
            not_served = served.missing() if was_served else None
            if was_served and not not_served:
                rows += served.rows(version, was_served, golden, written.labels, written.precision, watch)
        except certificate.ArtefactError as error:
            raise UserError(f"{error}{differences(changed, missing, added)}.") from error
    # Of a certificate whose list of files was shortened, too, every artefact has to answer, and none that has no row.
    answered = {row["artefact"] for row in rows} | {certifying.reference_name(len(runs))}
    answered |= of_page if (version / PAGE).is_file() else set()
    named = {row.artefact for row in written.rows if not (not_served and served.is_served(row.artefact))}
    missing, added = missing or sorted(named - answered), added or sorted(answered - named)
    says = _contradictions(written, rows, there)
    says += carrying.disagreements(
        version, written.name, written.labels, written.labels_en, written.networks, written.thresholds
    )
    return version, {
        "ok": all(certificate.passes(row) for row in rows) and not (changed or missing or added or says),
        "rows": rows,
        "changed": changed,
        "missing": missing,
        "added": added,
        "says": says,
        "not_repeated": not_repeated,
        "not_served": not_served,
        "elsewhere": _elsewhere(written.processor),
    }


def _golden(version: Path, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The golden images, as `certificate.golden` gives them.

    Raises:
        UserError: there are none, or some without an answer for every label.
    """
    try:
        images = certificate.golden(version)
        for image in images:
            numbers = [one for one in image["probabilities"] if isinstance(one, int | float)]
            if not len(numbers) == len(image["probabilities"]) == len(labels) or "label" not in image:
                raise ValueError(f"{Path(image['file']).name} has no label or not one probability for each")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{version / 'golden'} cannot be read: {error}. Export the run again.") from error
    return images


def _contradictions(written: Certified, rows: Sequence[dict[str, Any]], golden: int) -> list[str]:
    """What the certificate says otherwise than itself or than was found: the rows, and how many golden images."""
    found = []
    if not written.ok:
        found.append("the certificate says itself that an artefact disagrees")
    if certified.hash_of(written.labels) != written.sha256.labels:
        found.append("the labels of the certificate are not those of its hash")
    if any(certified.hash_of(member.preprocessing) != member.sha256.preprocessing for member in written.networks):
        found.append("the preprocessing of the certificate is not that of its hash")
    if golden != written.rows[0].images:
        found.append(f"there are {golden} golden images, and the certificate has {written.rows[0].images}")
    by_name = {row["artefact"]: row for row in rows}
    for row in written.rows:
        now = by_name.get(row.artefact)
        if now and (row.precision, row.tolerance) != (now["precision"], now["tolerance"]):
            found.append(
                f"the certificate takes {row.artefact} for {row.precision}, allowed {row.tolerance}, and it is "
                f"{now['precision']}, allowed {now['tolerance']}"
            )
    return found


def _elsewhere(there: certified.Processor) -> str | None:
    """How this processor is another than that of the certificate."""
    here = certified.Processor.model_validate(processor())
    if here == there:
        return None

    def told(one: certified.Processor) -> str:
        known = "not known" if one.integers is None else ", ".join(one.integers) or "nothing"
        return f"{one.name} ({known} for integers)"

    return f"The certificate is of {told(there)}, this processor is {told(here)}"


def differences(changed: Sequence[str], missing: Sequence[str], added: Sequence[str]) -> str:
    """The end of a sentence about an export, which names the files that are not as they were certified."""
    said = {"not the files that were certified": changed, "not there any more": missing, "never certified": added}
    return "".join(f"; {what}: {', '.join(files)}" for what, files in said.items() if files)


def _holds(run: Run, member: certified.Network) -> bool:
    """Whether the run still has this network with this preprocessing."""
    try:
        return run.model.is_file() and run.classifier.is_file() and certifying.member(run).sha256 == member.sha256
    except (UserError, OSError, ValueError):  # nothing of a run is in it, or nothing that may be read
        return False
