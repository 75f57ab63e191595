"""Proof that what is frozen did not move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnjax import paths


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
    return paths.flat_hash(
        {
            path: leaf
            for path, leaf in sorted(paths.leaves(variables).items())
            # Within its collection.
            if any(paths.matches(path.partition("/")[2], pattern) for pattern in frozen)
        }
    )
