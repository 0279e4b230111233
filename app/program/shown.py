"""What sentences and pages show: commands, quoted for a shell, so that pasted into one they do what is meant; and what
was counted.
"""

import shlex

PROGRAM = "python -m app"


def command(*parts: object) -> str:
    return f"{PROGRAM} {shlex.join(map(str, parts))}"


def brief(number: float) -> str:
    """In three digits that count, never as 1.23e+04."""
    short = float(f"{number:.3g}")
    return f"{short:,.0f}" if short >= 1000 else f"{short:g}"


def counted(number: int, one: str, several: str) -> str:
    """As in "1 class" and "2 classes"."""
    return f"{number:,} {one if number == 1 else several}"
