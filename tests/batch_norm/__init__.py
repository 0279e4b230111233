"""Tests of what is done to the batch normalisation of a run."""
