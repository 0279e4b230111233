"""Tests of the networks, of their layers and of the weights that they take."""
