"""Tests of looking inside a network."""
