"""What is wrong with a data set, found before training does. Imports the other rooms of `datasets`; for the command
`check` and for notebooks.
"""

from app.datasets.checks.checking import check

__all__ = ["check"]
