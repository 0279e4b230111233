"""What the errors of runtimes and converters say, in one sentence."""

import re

# Where in a runtime's source the error arose; what is wrong comes behind it.
PLACES = re.compile(r"Exception from \S+:\d+:?|Check '.*' failed at \S+:\d+:?")


def sentence(error: Exception) -> str:
    """The first line of an error that says something, without its full stop; the error's name where none does."""
    lines = (line.strip() for line in str(error).splitlines())
    said = next((line for line in lines if line and not PLACES.fullmatch(line)), type(error).__name__)
    return said.rstrip(".!")
