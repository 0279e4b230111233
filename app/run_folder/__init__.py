"""A run folder: what a training or an import leaves behind, and what every later command takes. Imports `images`,
`networks`, `recipe` and `program`; data sets and all above read runs through it.
"""

from app.run_folder.classifier import Classifier
from app.run_folder.folder import Run
from app.run_folder.trained import Trained, load

__all__ = ["Classifier", "Run", "Trained", "load"]
