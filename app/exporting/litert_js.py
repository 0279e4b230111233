"""LiteRT.js, which runs a LiteRT file in a browser: two packages of npm, fetched once and kept in the cache folder.

They are kept as npm packs them, and what is in them is used unchanged.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import platformdirs

from app.program.errors import UserError
from app.program.files import whole

VERSION = "2.5.3"
# What npm calls the integrity of a package: its SHA-512 in base64.
INTEGRITY = {
    "@litertjs/core": "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "@litertjs/wasm-utils": "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
}
CORE, UTILS = INTEGRITY
# Of the builds without threads: that of browsers with relaxed SIMD, and that of all others.
FILES = {
    "core": (CORE, "dist/index.js"),
    "wasm_utils": (UTILS, "dist/index.js"),
    "relaxed-js": (CORE, "wasm/litert_wasm_internal.js"),
    "relaxed-wasm": (CORE, "wasm/litert_wasm_internal.wasm"),
    "compat-js": (CORE, "wasm/litert_wasm_compat_internal.js"),
    "compat-wasm": (CORE, "wasm/litert_wasm_compat_internal.wasm"),
}
MINUTES = 10  # that npm may take for a package


def files() -> dict[str, bytes]:
    """The files of `FILES`, by the same names.

    Raises:
        UserError: see `fetch`.
    """
    fetch()
    found = {}
    for name, (package, inside) in FILES.items():
        with tarfile.open(_place(package)) as archive:
            content = archive.extractfile(f"package/{inside}")
            assert content is not None  # the integrity is that of an archive that has it
            found[name] = content.read()
    return found


def fetch() -> None:
    """Fetches the packages that are not in the cache folder yet.

    Raises:
        UserError: npm is not installed, or fails; a package is another than the one meant.
    """
    for package in INTEGRITY:
        place = _place(package)
        if not place.is_file():
            _pack(package, place)
        if _integrity(place) != INTEGRITY[package]:
            raise UserError(f"{place} is not version {VERSION} of npm's {package}, as its hash tells; delete it.")


def _place(package: str) -> Path:
    name = f"{package.removeprefix('@').replace('/', '-')}-{VERSION}.tgz"
    return platformdirs.user_cache_path("inceptions") / "litert.js" / name


def _integrity(file: Path) -> str:
    return base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()


def _pack(package: str, place: Path) -> None:
    npm = shutil.which("npm")
    wanted = f"{package}@{VERSION}"
    by_hand = f"put {place.name}, what `npm pack {wanted}` gives, into {place.parent}"
    if npm is None:
        raise UserError(f"--page needs LiteRT.js, and npm, which would fetch it, is not installed: {by_hand}.")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [npm, "pack", wanted, "--ignore-scripts"],
                cwd=folder,  # where the archive goes
                capture_output=True,
                text=True,
                timeout=60 * MINUTES,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"npm did not fetch {wanted} within {MINUTES} minutes: {by_hand}.") from error
        packed = Path(folder) / place.name
        if done.returncode or not packed.is_file():
            lines = [line for line in done.stderr.splitlines() if line.startswith("npm error") and "log" not in line]
            why = "; ".join(line.removeprefix("npm error ") for line in lines[:2]) or f"exit code {done.returncode}"
            raise UserError(f"npm could not fetch {wanted} ({why}): {by_hand}.")
        with whole(place) as beside:
            shutil.copyfile(packed, beside)
