"""`certificate.json`: written with a hash of itself, read as what it has to hold."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.program.errors import UserError
from app.program.files import digest, write_json
from export import certificate

CERTIFICATE = "certificate.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class NetworkHashes(_Part):
    model: str
    preprocessing: str


class Network(_Part):
    """One of the trained networks: its run folder, and what prepares its pictures, in words and for programs."""

    network: str
    run: str
    preprocessing: dict[str, Any]
    described: str
    sha256: NetworkHashes


class Hashes(_Part):
    """`files` by their place in the version folder; `certificate` is of all else that the certificate says."""

    labels: str
    files: dict[str, str]
    certificate: str


class Row(_Part):
    """What a later look at an artefact is compared with; the rest is for people."""

    artefact: str
    precision: Literal["float32", "bfloat16", "float16", "dynamic", "int8"]
    tolerance: float | None
    images: int
    milliseconds: float


class Processor(_Part):
    """See `artefacts.processor`."""

    name: str
    integers: list[str] | None


class Quantised(_Part):
    """What the gate has found (see `quantizing.quantize`); `file` and `drop` are None where none was kept."""

    file: str | None
    max_drop: float
    drop: float | None


class Certified(_Part):
    """What `verify` needs of a certificate. Everything has to be there: what is left out would be compared with
    nothing."""

    name: str
    ok: bool
    rows: list[Row] = Field(min_length=2)
    networks: list[Network] = Field(min_length=1)
    labels: list[str]
    labels_en: list[str]
    # Of the labels, where a picture may have several; exports of before have none. What its files say is compared.
    thresholds: list[float] = []
    precision: Literal["float32", "bfloat16"]
    held_out: int = Field(ge=0)
    processor: Processor
    quantization: list[Quantised] | None
    sha256: Hashes


def allowed(quantised: Sequence[Quantised] | None) -> dict[str, float]:
    """The share of images, by the name of a quantised file, of which it may name another class: as many points as it
    was allowed to lose, or as chance took."""
    return {one.file: certificate.allowed_of(max(one.max_drop, one.drop or 0.0)) for one in quantised or () if one.file}


def write(version: Path, content: dict[str, Any]) -> None:
    """Writes the certificate with the hash of what it says as `sha256.certificate`. Whoever changes a certificate on
    purpose writes it by this."""
    hashes = content["sha256"] | {"certificate": _seal(content)}
    write_json(version / CERTIFICATE, content | {"sha256": hashes})


def read(version: Path) -> tuple[Certified, bool]:
    """The certificate of a version folder, and whether it still says what was written.

    Raises:
        UserError: there is none, or it lacks something.
    """
    try:
        content = json.loads((version / CERTIFICATE).read_text())
        certified = Certified.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _unreadable(version, f"{where}: {first['msg']}" if where else first["msg"]) from error
    except (OSError, ValueError) as error:
        raise _unreadable(version, error) from error
    if "golden/golden.json" not in certified.sha256.files:
        raise UserError(f"The certificate of {version} does not name all of its files. Export the run again.")
    return certified, certified.sha256.certificate == _seal(content)


def _unreadable(version: Path, why: object) -> UserError:
    return UserError(f"{version} has no readable certificate: {why}. Export the run again.")


def hashes(version: Path) -> dict[str, str]:
    """SHA-256 of all files of a version folder but the certificate, by their place in it."""
    files = (file for file in sorted(version.rglob("*")) if file.is_file() and file != version / CERTIFICATE)
    return {file.relative_to(version).as_posix(): digest(file) for file in files}


class Changes(NamedTuple):
    """The files of a version folder that are `changed`, `missing` or `added` since they were certified, by their place
    in it."""

    changed: list[str]
    missing: list[str]
    added: list[str]


def changes(version: Path, files: Mapping[str, str]) -> Changes:
    """Against the hashes that the certificate names.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        found = hashes(version)
    except OSError as error:
        raise UserError(f"{error.filename} of this export cannot be read: {error.strerror}.") from error
    changed = [name for name, value in files.items() if name in found and found[name] != value]
    return Changes(changed, sorted(files.keys() - found.keys()), sorted(found.keys() - files.keys()))


def hash_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _seal(content: dict[str, Any]) -> str:
    others = {name: value for name, value in content["sha256"].items() if name != "certificate"}
    return hash_of(json.loads(json.dumps(content | {"sha256": others})))
