"""The proof that frozen layers did not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax.core import trees


class FrozenLayersMoved(RuntimeError):
    """Training changed a layer that was to stay as it is: an error of cnnjax or of an optimiser."""


def frozen_hash(variables: Mapping[str, Any], frozen: Sequence[str]) -> str:
    """SHA-256 over everything that the patterns freeze: parameters and moving statistics.

    Args:
        variables: {"params": ..., "batch_stats": ...} of a model.
        frozen: patterns of layers.

    Returns:
        64 hexadecimal digits, equal only if all of it is bitwise equal.
    """
    return trees.flat_hash(
        {
            path: leaf
            for path, leaf in sorted(trees.leaves(variables).items())
            # Within its collection.
            if any(trees.matches(path.partition("/")[2], pattern) for pattern in frozen)
        }
    )


class FrozenLayers:
    """What a training must leave as it is.

    Args:
        patterns: of the layers; none: nothing is hashed or checked.
        variables: with which the training begins.
    """

    def __init__(self, patterns: Sequence[str], variables: Mapping[str, Any]):
        self.patterns = tuple(patterns)
        self.hash = ""  # where nothing is frozen
        self.restore(variables)

    def restore(self, variables: Mapping[str, Any]) -> None:
        """Take the variables of a checkpoint in place of those that the training began with."""
        if self.patterns:
            self.hash = frozen_hash(variables, self.patterns)

    def check(self, variables: Mapping[str, Any]) -> None:
        """Whether the frozen layers are to the bit what they were.

        Raises:
            FrozenLayersMoved: if not.
        """
        if not self.patterns:
            return
        after = frozen_hash(variables, self.patterns)
        if after != self.hash:
            raise FrozenLayersMoved(
                f"training changed layers that frozen={self.patterns!r} was to keep: "
                f"their hash was {self.hash[:16]}... and is {after[:16]}..."
            )
