"""Tests of the program as a user starts it."""
