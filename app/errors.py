"""The mistakes a user can make, as the command line reports them."""


class UserError(Exception):
    """One sentence that names the file or the value and the way out. Ends a command with exit code 1."""


class WorkerLostError(UserError):
    """Another worker of a training is gone; nothing is wrong here. Ends a command with exit code 75, `EX_TEMPFAIL`, so
    that whatever started it can tell that starting it again helps."""
