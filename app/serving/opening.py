"""From a version folder of an export to the network that is served."""

from pathlib import Path

from app.artefacts import certified, choosing, loading
from app.program import paths, quiet
from app.program.errors import UserError
from app.serving import batching
from app.serving.batching import Batched, Parameters
from app.serving.of_file import OfFile
from app.serving.page import shown
from app.serving.signatures import Servable
from export import runtime_errors


def load(folder: Path, artefact: str | None = None) -> Servable:
    """The network of a version folder or a run, looked at and warmed up.

    Raises:
        UserError: the files are not those that were certified; there is no such artefact, or it does not load.
    """
    if paths.is_run(folder):
        choosing.meant(folder, artefact)  # it has none
        with quiet.tensorflow():
            from app.serving.of_run import OfRun

        return OfRun(folder)
    check(folder)
    found = artefact_of(choosing.meant(folder, artefact), batching.read(folder.parent))
    found.shown = shown.of_export(folder)
    return found


def artefact_of(path: Path, parameters: Parameters | None = None, warm: bool = True) -> Batched | OfFile:
    """An artefact, as `choosing.meant` finds it, whatever its certificate says; a SavedModel may come without its
    warm-up.

    Raises:
        UserError: it does not load.
    """
    try:
        if path.is_dir():
            from app.serving.saved_model import SavedModel

            return Batched(SavedModel(path, warm), parameters or Parameters())
        return OfFile(loading.load(path), lambda: loading.load(path), parameters, lambda: loading.load(path, 1))
    except UserError:
        raise
    except Exception as error:  # every runtime raises what it has
        raise UserError(f"{path} cannot be loaded: {runtime_errors.sentence(error)}. Export the run again.") from error


def check(folder: Path) -> None:
    """Whether the files are those that were certified, all of them and no others.

    Raises:
        UserError: one is another, gone or new; there is no certificate, one that was altered, or one that says that the
            artefacts disagree.
    """
    written, sealed = certified.read(folder)
    if not sealed:
        raise UserError(f"{folder / certified.CERTIFICATE} was altered since it was written. Export the run again.")
    found = certified.changes(folder, written.sha256.files)
    for name in written.sha256.files:
        if name in found.missing:
            raise UserError(f"{folder} has lost {name}, which its certificate names. Export the run again.")
        if name in found.changed:
            raise UserError(f"{folder / name} is not the file that was certified. Export the run again.")
    if found.added:
        raise UserError(f"{folder / found.added[0]} was never certified. Move it elsewhere, or export the run again.")
    if not written.ok:
        raise UserError(f"{folder} disagrees with its network, as its certificate says. Export the run again.")
