"""The files of an export as they are used: which version is meant, which file, what it answers and how fast. Imports
neither TensorFlow nor Keras, but for a SavedModel; imports `images` and below; exporting and evaluation come here.
"""
