"""The mistakes a user can make, as the command line reports them."""


class UserError(Exception):
    """One sentence that names the file or the value and the way out. Ends a command with exit code 1."""
