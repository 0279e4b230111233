"""Commands as sentences and pages show them, quoted for a shell: pasted into one they do what is meant."""

import shlex

PROGRAM = "python -m app"


def command(*parts: object) -> str:
    return f"{PROGRAM} {shlex.join(map(str, parts))}"
