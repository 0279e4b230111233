"""Turns a trained Keras network, its preprocessing and its labels into files that run without Keras."""
