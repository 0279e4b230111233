"""Files that somebody else converted, held against a run: whether they answer as it does, and if not, which known
mistake explains it. Imports `datasets`, `run_folder` and below; the commands come here.
"""

from app.exporting.foreign.searching import compare

__all__ = ["compare"]
