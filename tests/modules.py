"""A user's own Linen module, small, with everything that a training has to keep up to date."""

from __future__ import annotations

import jax
from flax import linen


class Convnet(linen.Module):
    """Convolution, BatchNorm, dropout and logits for 12x12 squares."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.relu(linen.Conv(4, (3, 3), name="conv")(x))
        x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = linen.Dropout(0.2, deterministic=not train)(x)
        return linen.Dense(3, name="logits")(x.reshape(x.shape[0], 12 * 12 * 4))
