"""Tests of studies, and of what compares runs."""
