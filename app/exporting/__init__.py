"""An export of runs: artefacts for TensorFlow Serving and LiteRT, with their proof. Decides what and where, and leaves
the work to the package `export`. Imports `datasets` and below; evaluation and commands come here.
"""

from app.exporting.exporting import FORMATS, export
from app.exporting.tuning import tune
from app.exporting.verifying import differences, verify

__all__ = ["FORMATS", "differences", "export", "tune", "verify"]
