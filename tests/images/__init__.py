"""Tests of decoding and preprocessing images."""
