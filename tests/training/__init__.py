"""Tests of training: its steps, its checkpoints, its devices."""
