"""The files of an export as they are used: which version is meant, which file, and what it answers. Imports neither
TensorFlow nor Keras, but for a SavedModel; imports `program`; exporting and evaluation come here.
"""
