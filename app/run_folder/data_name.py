"""What a data set is called: `digits`, `tfds:NAME`, `records:FOLDER`, or else the path of a folder or a manifest,
or its address on s3:// or gs://."""

import os

from app.program import remote
from app.program.paths import RECORDS, is_prepared


def real_name(name: str) -> str:
    """The name with the real path in it: a link, `..` or another working directory make no difference."""
    if name.startswith(RECORDS):
        return RECORDS + os.path.realpath(name.removeprefix(RECORDS))
    if remote.is_remote(name):
        return remote.named(name)
    return name if is_prepared(name) else os.path.realpath(name)
