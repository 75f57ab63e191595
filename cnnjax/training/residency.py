"""Whether data may stay on the devices."""

from __future__ import annotations

import jax
from jax import local_devices

from cnnjax.data import Loader, StreamLoader

# Of the memory that is free on a device the data may take so much: the steps need the rest.
_SHARE_OF_DATA = 0.5

# What is taken to be free where a device does not say.
_USUAL_BYTES = 16 * 2**30


def fits(loader: Loader | StreamLoader) -> bool:
    """Whether the data of a loader may stay on every device, beside what a step needs.

    Several processes have to agree on the answer: it goes by the memory of this one.

    Args:
        loader: of the data; those that are read from files batch by batch stay where they are.
    """
    if isinstance(loader, StreamLoader) or loader.decodes:
        return False
    size = sum(array.nbytes for array in jax.tree.leaves(loader.data.arrays))
    return size <= _SHARE_OF_DATA * _free_bytes()


def _free_bytes() -> int:
    """Memory that is free on that device of this process which has the least."""
    known = [device.memory_stats() for device in local_devices()]
    free = [one["bytes_limit"] - one.get("bytes_in_use", 0) for one in known if one]
    return min(free, default=_USUAL_BYTES)
