"""The figures of a trained network, whether its probabilities mean what they say, and what it says about pictures.
Imports `pipeline`, `artefacts` and below; exporting, batch norm, training and commands come here.
"""

from app.evaluation.evaluating import evaluate, metrics

__all__ = ["evaluate", "metrics"]
