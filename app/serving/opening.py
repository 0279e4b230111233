"""From the folder of an export to the network that is served, with all of its versions."""

from collections.abc import Callable, Mapping
from pathlib import Path

from app.artefacts import certified, choosing, loading, version_folders
from app.program.errors import UserError
from app.serving.models import Model, Version
from app.serving.of_file import OfFile
from app.serving.signatures import Servable
from export import runtime_errors


def versions_of(export: Path) -> tuple[str, dict[int, Path]]:
    """What the network is called, and its version folders by number: of the root or the name of an export all, of a
    version folder that one.

    Raises:
        UserError: there is none, or several networks have some; it does not exist.
    """
    newest = version_folders.newest(export).resolve()
    if newest == export.resolve():
        if newest.name.isdecimal():
            return newest.parent.name, {int(newest.name): newest}
        return newest.name, {1: newest}
    folders = (folder for folder in newest.parent.iterdir() if folder.is_dir() and folder.name.isdecimal())
    return newest.parent.name, {int(folder.name): folder for folder in folders}


def model(
    folders: Mapping[int, Path],
    artefact: str | None,
    labels: Mapping[str, int],
    tell: Callable[[str], None] = lambda sentence: None,
) -> Model:
    """Loads the versions. One that does not load is none that answers, and its status says why; `tell` is told, too.

    Raises:
        UserError: none of them loads; a label of a version that is not served.
    """
    loaded: dict[int, Version] = {}
    errors: list[UserError] = []
    for number, folder in sorted(folders.items(), reverse=True):
        try:
            loaded[number] = Version(_load(folder, artefact))
        except UserError as error:
            loaded[number] = Version(None, str(error))
            errors.append(error)
    if len(errors) == len(loaded):
        raise errors[0]
    for broken in errors:
        tell(f"Not served: {broken}")
    for label, number in labels.items():
        if number not in loaded or loaded[number].servable is None:
            served = ", ".join(str(each) for each, version in sorted(loaded.items()) if version.servable)
            raise UserError(f"The label '{label}' is of version {number}, which is not served; these are: {served}.")
    return Model(loaded, labels)


def _load(folder: Path, artefact: str | None) -> Servable:
    check(folder)
    path = choosing.meant(folder, artefact)
    try:
        if path.is_dir():
            from app.serving.saved_model import SavedModel

            return SavedModel(path)
        return OfFile(loading.load(path), lambda: loading.load(path))
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
