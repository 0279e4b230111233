"""Labelled images. Here is what a data set is and what is known of its files; the rooms inside find, read, load and
check them. Imports `images` and `program`.
"""

from app.datasets.dataset import Data, Split

__all__ = ["Data", "Split"]
