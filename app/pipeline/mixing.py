"""Batches whose images are mixed in pairs, and their labels with them: MixUp (Zhang, Cisse, Dauphin, Lopez-Paz 2017,
https://arxiv.org/abs/1710.09412) and CutMix (Yun, Han, Oh, Chun, Choe, Yoo 2019, https://arxiv.org/abs/1905.04899)."""

import functools

import tensorflow as tf

from app.recipe import Augmentation


def mixed(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, options: Augmentation) -> tuple[tf.Tensor, tf.Tensor]:
    """Images (batch, height, width, 3) and labels as probabilities (batch, classes), each mixed with the next of its
    batch, the last with the first. `key` is two integers that decide how; with both kinds wanted also which."""
    kind_key, mixing_key = tf.unstack(tf.random.split(key, 2))
    kinds = [
        functools.partial(mix, images, labels, mixing_key, alpha)
        for mix, alpha in ((mixup, options.mixup), (cutmix, options.cutmix))
        if alpha
    ]
    return tf.switch_case(tf.random.stateless_uniform((), kind_key, maxval=len(kinds), dtype=tf.int32), kinds)


def mixup(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """kept x + (1 - kept) (the next x), for images and labels, with kept ~ Beta(alpha, alpha)."""
    kept = _beta(key, alpha)
    return _blended(images, kept), _blended(labels, kept)


def cutmix(images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """The next image in a window of the picture's shape, of 1 - Beta(alpha, alpha) of its area, around a point that may
    be anywhere; labels by the share of pixels of what of the window lies inside (section 3.1)."""
    beta_key, centre_key = tf.unstack(tf.random.split(key, 2))
    sides = tf.cast(tf.shape(images)[1:3], tf.float32)
    half = tf.floor(sides * tf.sqrt(1 - _beta(beta_key, alpha)) / 2)
    centre = tf.floor(sides * tf.random.stateless_uniform((2,), centre_key))
    low, high = tf.maximum(centre - half, 0), tf.minimum(centre + half, sides)
    inside = [
        tf.logical_and(places >= low[axis], places < high[axis])
        for axis, places in enumerate((tf.range(sides[0]), tf.range(sides[1])))
    ]
    window = tf.logical_and(inside[0][:, tf.newaxis], inside[1])[:, :, tf.newaxis]
    kept = 1 - tf.reduce_prod(high - low) / tf.reduce_prod(sides)
    return tf.where(window, _next(images), images), _blended(labels, kept)


def _next(batch: tf.Tensor) -> tf.Tensor:
    """The batch is in random order already: its neighbour is a random partner of each."""
    return tf.roll(batch, -1, axis=0)


def _blended(batch: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    return kept * batch + (1 - kept) * _next(batch)


def _beta(key: tf.Tensor, alpha: float) -> tf.Tensor:
    """A draw of Beta(alpha, alpha): x / (x + y) of two of Gamma(alpha).

    By their logarithms, log Gamma(alpha) = log Gamma(alpha + 1) + log(u) / alpha, since draws for a small alpha are
    too small for a float.
    """
    gamma_key, uniform_key = tf.unstack(tf.random.split(key, 2))
    gammas = tf.math.log(tf.random.stateless_gamma((2,), gamma_key, alpha + 1))
    x, y = tf.unstack(gammas + tf.math.log1p(-tf.random.stateless_uniform((2,), uniform_key)) / alpha)
    return tf.sigmoid(x - y)
