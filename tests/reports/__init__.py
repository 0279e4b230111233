"""Tests of pages: what they show, and that it is right."""
