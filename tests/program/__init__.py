"""Tests of what a program needs whatever it does."""
