"""What a data set is called: `digits`, `tfds:NAME`, `records:FOLDER`, or else the path of a folder or a manifest."""

import os

DIGITS, PUBLISHED, RECORDS = "digits", "tfds:", "records:"


def is_prepared(name: str) -> bool:
    """Whether its images are prepared beforehand and read in pieces; they have no files of their own then."""
    return name == DIGITS or name.startswith((PUBLISHED, RECORDS))


def real_name(name: str) -> str:
    """The name with the real path in it: a link, `..` or another working directory make no difference."""
    if name.startswith(RECORDS):
        return RECORDS + os.path.realpath(name.removeprefix(RECORDS))
    return name if is_prepared(name) else os.path.realpath(name)
