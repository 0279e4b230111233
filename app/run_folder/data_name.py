"""What a data set is called: `digits`, `tfds:NAME`, `records:FOLDER`, or else the path of a folder or a manifest."""

import os

from app.program.paths import RECORDS, is_prepared


def real_name(name: str) -> str:
    """The name with the real path in it: a link, `..` or another working directory make no difference."""
    if name.startswith(RECORDS):
        return RECORDS + os.path.realpath(name.removeprefix(RECORDS))
    return name if is_prepared(name) else os.path.realpath(name)
