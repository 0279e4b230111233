"""Networks whose weights are those of no fresh one."""

import keras
import numpy as np


def disturb(model: keras.Model) -> keras.Model:
    """Statistics, gamma, beta and biases that are not those of a fresh layer; returns the model."""
    rng = np.random.default_rng(4)
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("beta", "moving_mean", "bias"):
                weight.assign(rng.normal(0, 0.5, weight.shape))
            elif weight.name in ("gamma", "moving_variance"):
                weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model
