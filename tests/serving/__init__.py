"""Tests of the server that speaks the contract of TensorFlow Serving."""
