"""Augmentation of examples of several inputs by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jax import Array

from cnnjax.augment.sequences import check_alone
from cnnjax.core import rng


@dataclass(frozen=True)
class Named:
    """An augmentation for some inputs of an example of several, each with a key of its own.

    Args:
        parts: {name of an input: function (key, input) -> input}, e.g. an `Augment` for images;
            inputs that are not named stay as they are.

    Raises:
        ValueError: if there are none, one is no function, or mixes examples.

    >>> import jax, jax.numpy as jnp
    >>> from cnnjax.augment import Augment, Jitter
    >>> both = Named({"photo": Augment(horizontal_flip=True), "pulse": Jitter(0.1)})
    >>> example = {"photo": jnp.ones((8, 8, 3)), "pulse": jnp.ones((20, 1)), "age": jnp.ones(1)}
    >>> sorted(both(jax.random.key(0), example))
    ['age', 'photo', 'pulse']
    """

    parts: Any  # as a tuple of pairs, which is hashable

    def __post_init__(self) -> None:
        given = dict(self.parts) if isinstance(self.parts, Mapping | tuple) else {}
        if not given or not all(map(callable, given.values())):
            raise ValueError(
                "parts must be functions (key, input) -> input by the name of the input, got "
                f"{self.parts!r}"
            )
        for part in given.values():
            check_alone(part, "Named")
        object.__setattr__(self, "parts", tuple(given.items()))

    def __call__(self, key: Array, example: Mapping[str, Array]) -> dict[str, Array]:
        """Change the inputs that are named."""
        changed = dict(example)
        for number, (name, part) in enumerate(self.parts):
            changed[name] = part(rng.at(key, number), example[name])
        return changed
