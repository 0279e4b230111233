"""The program: from a folder of labelled images to a served network. `python -m app --help` lists its commands."""

import os

# TensorFlow turns oneDNN on by itself for processors with AVX-512 VNNI only; with AVX2 it trains BN-Inception 1.5 times
# as fast, too. Read when TensorFlow is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
