"""A net small enough for dense matrices, a convex one, and their losses written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.flatten_util import ravel_pytree

import cnnjax as cj
from cnnjax import nn


class Tiny(linen.Module):
    """Each of the engines' convolutions, pooling and BatchNorm; 46 parameters."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv2D(2, 3, name="conv")(x)
        x = nn.BatchNormalization(name="norm")(x, train)
        x = nn.DepthwiseConv2D(2, activation=jnp.tanh, name="depthwise")(x)
        x = nn.MaxPooling2D(2)(x)
        return nn.Dense(3, name="logits")(nn.Flatten()(x))


class Linear(linen.Module):
    """Logistic regression."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(3, name="logits")(nn.Flatten()(x))


def tiny() -> cj.Model:
    return cj.Model.from_module(Tiny(), (5, 5, 1), train_argument="train")


def batch_of(count: int, seed: int = 0, size: int = 5) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "inputs": rng.integers(0, 256, (count, size, size, 1), dtype=np.uint8),
        "labels": rng.integers(0, 3, count),
    }


def losses_of(model: cj.Model, batch: dict):
    """(flat parameters) -> [N] cross-entropies, through XLA's own convolution; and them."""
    flat, unravel = ravel_pytree(model.params)
    inputs = jnp.asarray(batch["inputs"], jnp.float32) / 255

    def losses(flat):
        with nn.conv_engine("lax"):
            logits = model.module.apply({"params": unravel(flat), **model.state}, inputs)
        logs = jax.nn.log_softmax(logits)
        return -logs[np.arange(len(inputs)), batch["labels"]]

    return losses, flat


def flat_of(tree) -> np.ndarray:
    return np.asarray(ravel_pytree(tree)[0])


def direction(model: cj.Model, seed: int = 1):
    """A random tree like the parameters, and it as a vector."""
    flat, unravel = ravel_pytree(model.params)
    vector = jnp.asarray(np.random.default_rng(seed).standard_normal(flat.size), jnp.float32)
    return unravel(vector), np.asarray(vector)
