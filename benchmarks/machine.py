"""What a figure was measured on."""

import os
import platform
from pathlib import Path

import keras
import tensorflow as tf


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        cpu = next(
            (
                line.split(":", 1)[1].strip()
                for line in listing.read_text().splitlines()
                if line.startswith("model name")
            ),
            cpu,
        )
    return f"{cpu}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}"
