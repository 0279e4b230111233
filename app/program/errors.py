"""The mistakes a user can make, as the command line reports them."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One sentence that names the file or the value and the way out. Ends a command with exit code 1."""


class WorkerLostError(UserError):
    """Another worker of a training is gone, or one has failed for the first time. Ends a command with exit code 75,
    `EX_TEMPFAIL`, so that whatever started it can tell that starting it again helps, or may."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The three names most like a misspelt one."""
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0))
