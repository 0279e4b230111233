"""Tests of what is exported, and of what runs it."""
