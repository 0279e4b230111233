"""Tests of what happens to pictures between a data set and a network."""
