"""What an artefact needs to know of the way from a file's bytes to the network."""

from typing import Any, Protocol

import tensorflow as tf


class Preprocessing(Protocol):
    """Functions in TensorFlow operations, and what they do in a line for people."""

    def decode(self, encoded: Any) -> tf.Tensor:
        """Scalar string -> uint8 (height, width, 3)."""

    def refusal(self, encoded: Any) -> tf.Tensor:
        """Scalar string -> scalar string: why `decode` refuses this one, as its header tells; empty where that says
        nothing. May fail."""

    def __call__(self, pixels: tf.Tensor) -> tf.Tensor:
        """uint8 (height, width, 3), any size -> float32 network input (H, W, 3); several pictures of one size alike."""

    def on_device(self, pixels: tf.Tensor) -> tf.Tensor:
        """As `__call__` for a batch of images of one size, in operations that LiteRT, ONNX and OpenVINO have."""

    def described(self) -> str: ...

    def model_dump_json(self) -> str:
        """All of it, for programs."""
