"""Tests of data sets: what is read, written and checked."""
