"""A network in bfloat16, for processors that multiply it: half the memory of float32 and its range, 8 bits of it."""

from pathlib import Path

import keras

FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # in /proc/cpuinfo, of x86 and Arm


def in_bfloat16(model: keras.Model) -> keras.Model:
    """The same network with weights and activations in bfloat16, up to the last dense layer: that one and the softmax
    behind it stay in float32, since 8 bits cannot tell probabilities apart."""
    last = max(i for i, layer in enumerate(model.layers) if isinstance(layer, keras.layers.Dense))
    in_float = {layer.name for layer in model.layers[last:]}

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        kept = layer.name in in_float or isinstance(layer, keras.layers.InputLayer)
        return layer.__class__.from_config(layer.get_config() | ({} if kept else {"dtype": "bfloat16"}))

    result = keras.models.clone_model(model, clone_function=clone)
    result.set_weights(model.get_weights())
    return result


def machine_has_it() -> bool | None:
    """Whether this machine multiplies bfloat16; None where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    return bool(flags & FLAGS) if flags else None
