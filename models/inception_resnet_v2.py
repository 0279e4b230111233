"""Inception-ResNet-v2 under the module's name in `keras.applications`; the network itself is in `inception_resnet`."""

from .inception_resnet import InceptionResNetV2, decode_predictions, preprocess_input

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]
