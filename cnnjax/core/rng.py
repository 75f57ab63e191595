"""Named random streams, indexed by epoch, step and example: never by timing or threads."""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def stream(seed: int, name: str) -> Array:
    """The random key of a named stream, e.g. `stream(0, "dropout")`.

    Args:
        seed: whole number in [0, 2^32).
        name: of the stream; different names give independent streams.

    Returns:
        A scalar typed key.

    Raises:
        ValueError: if the seed is no whole number, or out of range.
    """
    check_seed(seed)
    return named(jax.random.key(seed), name)


def check_seed(seed: Any) -> None:
    """Refuse what is no seed.

    Raises:
        ValueError: if it is no whole number, or out of range.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
        raise ValueError(f"seed must be a whole number, got {seed!r}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in [0, 2^32), got {seed}")


def named(key: Array, name: str) -> Array:
    """The named stream of a key; `stream(seed, name)` is that of `jax.random.key(seed)`."""
    return jax.random.fold_in(key, _name_to_int(name))


def at(key: Array, *indices: int | Array) -> Array:
    """The key at (epoch, step, ...) of a stream, by folding the indices in, one after the other."""
    for index in indices:
        key = jax.random.fold_in(key, index)
    return key


def of_device(key: Array) -> Array:
    """The key of a generator that the device has, made of one of threefry.

    Its numbers take a fraction of the time and are others on every kind of device; of a vector of
    keys under `vmap` they are not those of each key alone.

    Args:
        key: scalar typed key of threefry.

    Returns:
        A scalar typed key of "rbg".
    """
    halves = [jax.random.key_data(one) for one in (key, jax.random.fold_in(key, 1))]
    return jax.random.wrap_key_data(jnp.concatenate(halves), impl="rbg")


def permutation(length: int, seed: int, name: str, *indices: int) -> np.ndarray:
    """A random order of `range(length)` on the host, a pure function of its arguments.

    It sorts the raw 64-bit output of Philox, which NumPy guarantees never to change, where
    `Generator.permutation` may.

    Args:
        length: number of items, >= 0.
        seed: whole number in [0, 2^32).
        name: of the stream.
        indices: e.g. the epoch; whole numbers >= 0.

    Returns:
        int64 [length].

    >>> permutation(4, 0, "order", 1).tolist() == permutation(4, 0, "order", 1).tolist()
    True
    """
    return np.argsort(_bits(length, seed, name, *indices), kind="stable")


def uniform(length: int, seed: int, name: str, *indices: int) -> np.ndarray:
    """Random numbers on the host, a pure function of the arguments, those of `permutation`.

    Returns:
        float64 [length], multiples of 2^-53 in [0, 1).
    """
    return (_bits(length, seed, name, *indices) >> np.uint64(11)) * 2.0**-53


def _bits(length: int, seed: int, name: str, *indices: int) -> np.ndarray:
    entropy = [seed, _name_to_int(name), *indices]
    return np.random.Philox(np.random.SeedSequence(entropy)).random_raw(length)


def _name_to_int(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
