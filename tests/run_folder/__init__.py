"""Tests of run folders: several as one, and those that are imported."""
