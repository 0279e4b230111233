"""Tests of what is told about networks."""
