"""The files of an export as they are used: which version is meant, and what each answers. Imports neither TensorFlow
nor Keras; imports `program`; exporting and evaluation come here.
"""
