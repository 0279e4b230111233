"""Training: a data set, a network and a recipe in; a run folder out. Imports `batch_norm`, `reports` and all below;
studies, commands and notebooks come here.
"""

from app.training.training import train

__all__ = ["train"]
