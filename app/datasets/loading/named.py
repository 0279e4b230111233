"""The data sets that commands take: a folder `class/image` or `split/class/image`, a manifest `.csv`, `records:FOLDER`,
`tfds:NAME`, or `digits`. Folder and manifest may lie on `s3://` or `gs://` (see `remote`).
"""

from pathlib import Path

from app.datasets import changes
from app.datasets.dataset import Data, Listing
from app.datasets.files import folders, image_files, manifests
from app.program import remote
from app.program.errors import UserError
from app.program.paths import RECORDS, is_prepared
from app.program.progress import Watch, console, unwatched
from app.run_folder.folder import Run


def load(
    name: str,
    watch: Watch = unwatched,
    quarantine: Path | None = None,
    told: Path | None = None,
    converts: bool = False,
) -> Data:
    """The data set called `name`, read or prepared, with progress shown through `watch`. `quarantine` is a text file of
    images to leave out, a path a line, as `check` writes it. `told` is the split.csv of a run on the same data: files
    that are as it says are not read again, even where the user's cache does not know them. Whoever `converts` gets
    pictures of kinds that are not decoded, too, as PNGs (see `converting`).

    Raises:
        UserError: no such data set, folder or manifest, or one whose name is not UTF-8; fewer than two classes; a class
            without images; a split that stays empty; files that a manifest names and nobody has; more than 5 % of the
            images unreadable; a shard that is not as it was written; a quarantine of what is not in the data.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise UserError(f"The name {name!a} is not UTF-8, so no file about the data could hold it; give it another.")
    if is_prepared(name):
        if quarantine:
            raise UserError(f"{name} has no files to leave out: {quarantine} is for a folder or a manifest.")
        # Late, since TensorFlow Datasets takes long to be imported.
        if name.startswith(RECORDS):
            from app.datasets.prepared import records

            return records.load(name, watch)
        from app.datasets.prepared import published

        return published.load(name)
    known = manifests.read_known(told) if told else None
    return image_files.load(name, listing(name, watch, converts), watch, quarantine, known, converts)


def of_run(run: Run, watch: Watch = unwatched) -> Data:
    """What the run was trained on.

    Raises:
        UserError: it was imported, or its data is not there any more, or not what it was.
    """
    record = run.read_classifier().data
    if record is None:
        raise UserError(f"{run.folder} was imported, so its data is not known here.")
    data = load(record.found_at, watch, run.quarantine_of(record.found_at), run.split)
    if data.fingerprint != record.fingerprint:
        found = changed(run, data)
        raise UserError(
            f"{record.name} is not what {run.folder} was trained on any more{f': {found}' if found else ''}."
        )
    return data


def changed(run: Run, data: Data) -> str:
    """What became of the images of a run, the first ten of each kind; empty where nothing was, or nobody can tell."""
    before = manifests.read_pictures(run.split)
    return changes.changes(before, changes.pictures(data)) if before else ""


def listing(name: str, watch: Watch = unwatched, converts: bool = False) -> Listing:
    """The image files of a folder or of a manifest, which are fetched first where they are remote.

    Raises:
        UserError: it is neither, or its structure is not one of a data set.
    """
    path = remote.fetched(name, watch)
    if path.is_dir():
        return folders.listing(path, converts)
    if path.is_file() and path.suffix.lower() == ".csv":
        return manifests.listing(path)
    what = "is neither a folder nor a .csv file" if path.exists() else "does not exist"
    raise UserError(
        f"{name} {what}. DATA is a folder of class folders, a manifest .csv, 'records:FOLDER', 'tfds:NAME' or 'digits'."
    )


def report_data(data: Data) -> None:
    """Says what there is, and what was left out."""
    what = "labels, several a picture" if data.label_sets else "classes"
    console.print(
        f"{data.name}: {len(data.labels)} {what}, {data.train.count} training, {data.validation.count} validation, "
        f"{data.test.count} test images"
    )
    for file, reason in data.unreadable:
        console.print(f"left out: {file}: {reason}")
    for note in data.notes:
        console.print(note)
