"""What is to be served: as the command line says it, or a ModelServerConfig of TensorFlow Serving, from its file,
models.config, or a request."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from app.artefacts import certified, version_folders
from app.program import paths
from app.program.errors import UserError
from app.serving.messages import message
from app.serving.refusals import RefusedError
from app.serving.routes import LARGEST

PLATFORM = "tensorflow"


class Policy(NamedTuple):
    """Which versions of those that are there: the `latest` so many, these `numbers`, or else all."""

    latest: int | None = None
    numbers: frozenset[int] | None = None

    def wanted(self, there: Iterable[int]) -> set[int]:
        if self.numbers is not None:
            return {*there} & self.numbers
        return {*sorted(there)[-self.latest :]} if self.latest else {*there}


LATEST, ALL = Policy(latest=1), Policy()  # the first is TensorFlow Serving's, where nothing is said


class Served(NamedTuple):
    """A network. `base` holds its version folders, or is one, with a certificate, or a run: that is version 1 then."""

    name: str
    base: Path
    policy: Policy = LATEST
    labels: Mapping[str, int] = {}

    def folders(self) -> dict[int, Path]:
        """The versions that are there.

        Raises:
            OSError: the folder cannot be read.
        """
        if (self.base / certified.CERTIFICATE).is_file() or paths.is_run(self.base):
            return {1: self.base}
        folders = (folder for folder in sorted(self.base.iterdir()) if folder.name.isdecimal() and folder.is_dir())
        return {int(folder.name): folder for folder in folders if int(folder.name) <= LARGEST}


def policy(said: str) -> Policy:
    """That of `--versions`.

    Raises:
        UserError: it is none.
    """
    known = {"latest": LATEST, "all": ALL}
    numbers = [each.strip() for each in said.split(",")]
    if said not in known and not all(number.isdecimal() for number in numbers):
        raise UserError(f"'{said}' says no versions: --versions latest, --versions all, or numbers, as in 3,4.")
    return known.get(said) or Policy(numbers=frozenset(map(int, numbers)))


def of_export(export: Path, versions: str | None = None, labels: Mapping[str, int] | None = None) -> list[Served]:
    """Of the root of exports every network, of the name of an export this, of a version folder that version; of a run
    the run.

    Raises:
        UserError: there is none; labels, or versions, that are not of one network.
    """
    wanted = LATEST if versions is None else policy(versions)
    if paths.runs_in(export):
        paths.check_run(export)  # says that one of them is to be named
    of_run = paths.is_run(export)
    if of_run or (export / certified.CERTIFICATE).is_file():
        if versions is not None:
            way = "" if of_run else ", or name the folder that it is in"
            raise UserError(f"{export} is one version; leave out --versions{way}.")
        folder = export.resolve()
        if folder.name.isdecimal() and not of_run:
            only = Policy(numbers=frozenset({int(folder.name)}))
            return [Served(folder.parent.name, folder.parent, only, labels or {})]
        return [Served(folder.name, folder, ALL, labels or {})]
    bases = [export]
    if export.is_dir() and not version_folders.numbers(export):
        bases = sorted(inner for inner in export.iterdir() if version_folders.numbers(inner))
    if len(bases) < 2:
        version_folders.newest(export)  # says it if there is none
    elif labels:
        raise UserError(f"{export} holds the exports of {len(bases)} networks, and --label is of one; name that one.")
    return [Served(base.name, base, wanted, labels or {}) for base in (base.resolve() for base in bases)]


def of_file(file: Path) -> list[Served]:
    """
    Raises:
        UserError: the file cannot be read, or TensorFlow Serving would not serve what it says; a folder is not there.
    """
    from google.protobuf import text_format

    config = message("tensorflow.serving.ModelServerConfig")()
    try:
        text_format.Parse(file.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{file} cannot be read as a model configuration: {why}.") from error
    if config.WhichOneof("config") != "model_config_list" or not config.model_config_list.config:
        raise UserError(f"{file} has no model_config_list with a model in it, and nothing else is served here.")
    try:
        found = of_message(config)
    except RefusedError as refusal:
        raise UserError(f"{file}: {refusal.message}") from refusal
    for served in found:
        if not served.base.is_dir():
            why = f"The base_path of model {served.name} in {file}, {served.base}, is no folder on this machine"
            if file.resolve().parent.name == served.base.name:  # `export` writes it so, for a container
                raise UserError(f"{why}; `serve {file.parent}` serves the export that the file is in.")
            raise UserError(f"{why}; say there where the export is.")
    return found


def of_message(config: Any) -> list[Served]:
    """The model_config_list of a ModelServerConfig (model_servers/server_core.cc).

    Raises:
        RefusedError: TensorFlow Serving would refuse it; a place that is none of a disk, or a platform of others.
    """
    found: dict[str, Served] = {}
    for each in config.model_config_list.config:
        if each.name in found:
            raise RefusedError(f"Illegal to list model {each.name} multiple times in config list")
        if not each.name:
            raise RefusedError("A model of the config list has no name.")
        _check_platform(each)
        if "://" in each.base_path:
            raise RefusedError(f"The base_path of model {each.name}, {each.base_path}, is no folder on this machine.")
        if not each.base_path.startswith("/"):
            said = f"to have an absolute path or URI; got base_path()={each.base_path}"
            raise RefusedError(f"Expected model {each.name} {said}")
        found[each.name] = Served(
            each.name, Path(each.base_path), _policy(each.model_version_policy), dict(each.version_labels)
        )
    return [*found.values()]


def _policy(said: Any) -> Policy:
    choice = said.WhichOneof("policy_choice")
    if choice == "all":
        return ALL
    if choice == "specific":
        return Policy(numbers=frozenset(said.specific.versions))
    return Policy(latest=max(said.latest.num_versions, 1))


def _check_platform(said: Any) -> None:
    both = "ModelServerConfig::model_type (deprecated) {} ModelServerConfig::model_platform."
    if said.model_type and said.model_platform:
        raise RefusedError(f"Illegal setting both {both.format('and')}")
    if not said.model_type and not said.model_platform:
        raise RefusedError(f"Illegal setting neither {both.format('nor')}")
    if said.model_type > 1:
        raise RefusedError(f"ModelServerConfig::model_type choice {said.model_type} not supported.")
    if said.model_platform not in ("", PLATFORM):
        raise RefusedError(f"Model {said.name} is of the platform {said.model_platform}; only {PLATFORM} is served.")
