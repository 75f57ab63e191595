"""Recipes of gradient ascent in input space: where to begin, how to step, how to show the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from cnnjax.augment.affine import resample
from cnnjax.core import rng

# The square root of the covariance of colours in ImageNet (Olah et al. 2017, in lucid's
# `optvis/param/color.py`), rows R, G, B, divided by the longest column.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], np.float32)
_COLOURS /= np.linalg.norm(_COLOURS, axis=0).max()

_DEVIATION = 0.01  # of the spectrum at the beginning
# Of Adam, for gradients of mean square 1: coefficients whose gradient is small beside the others'
# hardly move, where plain Adam would move all by the same amount, most of it noise.
_RATE, _EPSILON = 0.5, 50.0
# Shares of the size and of the scale, and degrees. What the padding of the convolutions does at the
# borders is smeared over as many pixels.
_JITTER, _SCALE, _ANGLE = 4 / 64, 0.1, 5.0

Objective = Callable[[Array], Array]


class Recipe(NamedTuple):
    """How patterns that maximise an objective are found, all of a batch at once.

    Args:
        before_activation: whether of the layer the value before its activation is maximised.
        excitement: the function of it whose mean over space is maximised.
        begin: (keys [F], size, channels) -> state.
        step: (objective of preprocessed inputs [F, S, S, C] -> [F], preprocess, keys [F], number
            of the step, state) -> (state, whose gradient was zero: bool [F]).
        image: state -> [F, S, S, C] in [0, 1].
    """

    before_activation: bool
    excitement: Callable[[Array], Array]
    begin: Callable[[Array, int, int], Any]
    step: Callable[[Objective, Objective, Array, Array, Any], tuple[Any, Array]]
    image: Callable[[Any], Array]


def identity(values: Array) -> Array:
    """The values themselves."""
    return values


def leaky(values: Array) -> Array:
    """`max(v, 0) + 0.1 min(v, 0)`.

    The mean of the values themselves would not do: where a filter finds edges, its answers to the
    two sides of any texture cancel out, and all that is left to gain is at the borders.
    """
    return jnp.where(values > 0, values, 0.1 * values)


def classic_begin(keys: Array, size: int, channels: int) -> Array:
    """Grey noise, `20 u + 128` with u uniform in [0, 1), one draw a key."""
    return jax.vmap(lambda key: jax.random.uniform(key, (size, size, channels)))(keys) * 20 + 128


def classic_step(
    objective: Objective, preprocess: Objective, keys: Array, number: Array, inputs: Array
) -> tuple[Array, Array]:
    """`x + g / (sqrt(mean(g^2)) + 1e-5)` with the objective's gradient g, an image at a time."""
    gradient = jax.grad(lambda x: jnp.sum(objective(x)))(inputs)
    size = jnp.sqrt(jnp.mean(gradient**2, axis=(1, 2, 3), keepdims=True))
    return inputs + gradient / (size + 1e-5), size.reshape(-1) == 0


def classic_image(inputs: Array) -> Array:
    """`(x - mean) / (std + 1e-5) * 0.1 + 0.5`, clipped to [0, 1], an image at a time."""
    mean = jnp.mean(inputs, axis=(1, 2, 3), keepdims=True)
    deviation = jnp.std(inputs, axis=(1, 2, 3), keepdims=True)
    return jnp.clip((inputs - mean) / (deviation + 1e-5) * 0.1 + 0.5, 0, 1)


class Spectrum(NamedTuple):
    """Images as their Fourier coefficients, and what Adam keeps of them.

    Args:
        values: real and imaginary parts [F, 2, S, S // 2 + 1, C].
        adam: optimiser state.
    """

    values: Array
    adam: Any


def fourier_begin(keys: Array, size: int, channels: int) -> Spectrum:
    """Coefficients from N(0, 0.01^2), one draw a key."""
    shape = (2, size, size // 2 + 1, channels)
    values = jax.vmap(lambda key: jax.random.normal(key, shape))(keys) * _DEVIATION
    return Spectrum(values, _adam().init(values))


def fourier_step(
    objective: Objective, preprocess: Objective, keys: Array, number: Array, state: Spectrum
) -> tuple[Spectrum, Array]:
    """A step of Adam on the coefficients, for images moved, scaled and turned at random."""
    moved = jax.vmap(lambda key, image: _transformed(rng.at(key, number), image))

    def loss(values: Array) -> Array:
        images = moved(keys, _images(values))
        return -jnp.sum(objective(preprocess(255 * images)))

    gradient = jax.grad(loss)(state.values)
    size = jnp.sqrt(jnp.mean(gradient**2, axis=(1, 2, 3, 4), keepdims=True))
    updates, adam = _adam().update(gradient / jnp.where(size == 0, 1, size), state.adam)
    return Spectrum(state.values + updates, adam), size.reshape(-1) == 0


def _adam() -> optax.GradientTransformation:
    return optax.adam(_RATE, eps=_EPSILON)


def fourier_image(state: Spectrum) -> Array:
    """The images themselves, neither moved nor normalised."""
    return _images(state.values)


def _images(values: Array) -> Array:
    """Coefficients to images in (0, 1), neighbouring pixels and colours decorrelated.

    `sigmoid(colours irfft2(values S / max(f, 1 / S)) / 4)`: natural images have spectra of 1 / f,
    so that every frequency is as easy to reach as any other (Olah et al. 2017).
    """
    size, channels = values.shape[2], values.shape[4]
    down, right = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    scale = size / np.maximum(np.hypot(down, right), 1 / size)
    weight = jnp.asarray(scale, values.dtype)[None, :, :, None]
    spectrum = jax.lax.complex(values[:, 0] * weight, values[:, 1] * weight)
    images = jnp.fft.irfft2(spectrum, s=(size, size), axes=(1, 2)) / 4
    if channels == 3:
        images = images @ jnp.asarray(_COLOURS.T)
    return jax.nn.sigmoid(images)


def _transformed(key: Array, image: Array) -> Array:
    """An image [S, S, C] moved, scaled and turned a little, about which no filter should care."""
    down, right, scale, angle = jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    reach, zoom = _JITTER * image.shape[0], 1 + _SCALE * scale
    return resample(
        image, theta=_ANGLE * angle, tx=reach * right, ty=reach * down, zx=zoom, zy=zoom,
        fill_mode="wrap",
    )  # fmt: skip


RECIPES = {
    "classic": Recipe(False, identity, classic_begin, classic_step, classic_image),
    "fourier": Recipe(True, leaky, fourier_begin, fourier_step, fourier_image),
}
