"""Users' own modules, small, with everything that a training has to keep up to date."""

from __future__ import annotations

import jax
from flax import linen, nnx


class Convnet(linen.Module):
    """Convolution, BatchNorm, dropout and logits for 12x12 squares."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.relu(linen.Conv(4, (3, 3), name="conv")(x))
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = linen.Dropout(0.2, deterministic=not train)(x)
        return linen.Dense(3, name="logits")(x.reshape(x.shape[0], 12 * 12 * 4))


class NnxBlock(nnx.Module):
    """Convolution, BatchNorm and dropout."""

    def __init__(self, inputs: int, outputs: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.drop(nnx.relu(self.norm(self.conv(x))))


class NnxConvnet(nnx.Module):
    """Two blocks in a list and logits, for 12x12 squares."""

    def __init__(self, classes: int = 3, channels: int = 1, *, rngs: nnx.Rngs):
        self.blocks = nnx.List([NnxBlock(channels, 4, rngs), NnxBlock(4, 5, rngs)])
        self.logits = nnx.Linear(5, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.logits(x.max(axis=(1, 2)))
