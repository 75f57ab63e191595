"""Augmentation of texts and series: functions (key, example) -> example of the same shape.

Each changes one example, as `TrainingConfig(augment=...)` asks for, with a key of its own from
(seed, epoch, index of the example). A batch is changed by `jax.vmap` over keys and examples. They
are frozen dataclasses: two with equal settings are equal, and a run's record says which it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.augment.config import AugmentConfig
from cnnjax.core import rng
from cnnjax.core.checks import is_number, whole_number

_LARGEST_TOKEN = 2**31 - 1  # of int32


@dataclass(frozen=True)
class WordDropout:
    """Words of a text replaced at random by "unknown word" (Iyyer et al. 2015).

    Every number of a word becomes `replacement` with probability `rate`, each for itself. The
    numbers below `reserved` stand for no word (padding, start) and stay as they are.

    Args:
        rate: in [0, 1).
        replacement: number that stands for an unknown word; 2 in `cj.data.Vocabulary`.
        reserved: the first number of a word; 4 in `cj.data.Vocabulary`.

    Raises:
        ValueError: for settings out of range.

    >>> import jax, jax.numpy as jnp
    >>> WordDropout(rate=0.5)(jax.random.key(1), jnp.array([0, 0, 1, 7, 8, 9, 10])).shape
    (7,)

    References:
        Iyyer et al., Deep unordered composition rivals syntactic methods for text classification,
        ACL 2015.
    """

    rate: float
    replacement: int = 2
    reserved: int = 4

    def __post_init__(self) -> None:
        if not (is_number(self.rate) and 0 <= self.rate < 1):
            raise ValueError(f"rate must be a number in [0, 1), got {self.rate!r}")
        whole_number("replacement", self.replacement, 0, _LARGEST_TOKEN)
        whole_number("reserved", self.reserved, 0, _LARGEST_TOKEN)

    def __call__(self, key: Array, tokens: Array) -> Array:
        """Whole numbers [T] -> the same shape and dtype."""
        if not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"WordDropout needs numbers of words, int [T], got {tokens.dtype}")
        chance = float(self.rate)  # JAX refuses 0 and NumPy's whole numbers
        dropped = jax.random.bernoulli(key, chance, tokens.shape) & (tokens >= self.reserved)
        return jnp.where(dropped, jnp.asarray(self.replacement, tokens.dtype), tokens)


@dataclass(frozen=True)
class Jitter:
    """Normal noise on every value of a series: `x + sigma n` (Um et al. 2017).

    Args:
        sigma: deviation of the noise, in the units of the inputs, >= 0; those of
            `cj.data.Series.splits` have a deviation of 1.

    Raises:
        ValueError: for a sigma below 0.

    >>> import jax, jax.numpy as jnp
    >>> round(float(Jitter(0.1)(jax.random.key(0), jnp.zeros((3360, 1))).std()), 2)
    0.1

    References:
        Um et al., Data augmentation of wearable sensor data for Parkinson's disease monitoring
        using convolutional neural networks, ICMI 2017.
    """

    sigma: float

    def __post_init__(self) -> None:
        if not (is_number(self.sigma) and self.sigma >= 0):
            raise ValueError(f"sigma must be a number >= 0, got {self.sigma!r}")

    def __call__(self, key: Array, series: Array) -> Array:
        """Floating [T, C] -> the same shape and dtype."""
        _check_series("Jitter", series)
        return series + self.sigma * jax.random.normal(key, series.shape, series.dtype)


@dataclass(frozen=True)
class WindowWarp:
    """A stretch of a series runs slower or faster (Le Guennec et al. 2016).

    A stretch of `share` of the series, anywhere in it, is made `factor` times as long, and the
    whole is brought back to its length: y[i] = x(t_i) with x linear between its steps, the t_i
    equally spaced on a clock that runs by `factor` within the stretch and by 1 elsewhere. The
    first and the last value stay.

    Args:
        share: of the steps, in (0, 1].
        factors: each > 0, of which one is drawn; below 1 is faster. All are equally likely.

    Raises:
        ValueError: for settings out of range.

    >>> import jax, jax.numpy as jnp
    >>> line = jnp.linspace(0.0, 1.0, 101)[:, None]
    >>> warped = WindowWarp(share=0.2)(jax.random.key(0), line)
    >>> warped.shape, float(warped[0, 0]), float(warped[-1, 0])
    ((101, 1), 0.0, 1.0)

    References:
        Le Guennec et al., Data augmentation for time series classification using convolutional
        neural networks, ECML/PKDD Workshop on Advanced Analytics and Learning on Temporal Data,
        2016.
    """

    share: float = 0.1
    factors: tuple[float, ...] = (0.5, 2.0)

    def __post_init__(self) -> None:
        if not (is_number(self.share) and 0 < self.share <= 1):
            raise ValueError(f"share must be a number in (0, 1], got {self.share!r}")
        factors = _as_tuple(self.factors)
        if not factors or not all(is_number(f) and f > 0 for f in factors):
            raise ValueError(f"factors must be numbers > 0, at least one, got {self.factors!r}")
        object.__setattr__(self, "factors", factors)

    def __call__(self, key: Array, series: Array) -> Array:
        """Floating [T, C] -> the same shape and dtype."""
        _check_series("WindowWarp", series)
        place, which = jax.random.split(key)
        factor = jax.random.choice(which, jnp.asarray(self.factors, jnp.float32))
        longest = series.shape[0] - 1.0
        start = jax.random.uniform(place) * (1 - self.share) * longest
        return warp(series, start, self.share * longest, factor)


@dataclass(frozen=True)
class Chain:
    """Several augmentations one after the other, each with a key of its own.

    Args:
        parts: functions (key, example) -> example.

    Raises:
        ValueError: if there are none, one is no function, or mixes examples.

    >>> import jax, jax.numpy as jnp
    >>> both = Chain((WindowWarp(0.2), Jitter(0.05)))
    >>> both(jax.random.key(0), jnp.ones((48, 1))).shape
    (48, 1)
    """

    parts: tuple[Callable[[Array, Array], Array], ...]

    def __post_init__(self) -> None:
        parts = _as_tuple(self.parts)
        if not parts or not all(map(callable, parts)):
            raise ValueError(
                f"parts must be functions (key, example) -> example, got {self.parts!r}"
            )
        for part in parts:
            check_alone(part, "Chain")
        object.__setattr__(self, "parts", parts)

    def __call__(self, key: Array, example: Array) -> Array:
        """Apply the parts in their order."""
        for number, part in enumerate(self.parts):
            example = part(rng.at(key, number), example)
        return example


def check_alone(part: Any, what: str) -> None:
    """Refuse a part that mixes examples, of which a part sees only one.

    Args:
        part: of several augmentations.
        what: they are, for the message.

    Raises:
        ValueError: for mixup and cutmix.
    """
    if isinstance(part, AugmentConfig) and part.mixes:
        raise ValueError(
            f"a part of {what} sees one example, which mixup={part.mixup:g} and "
            f"cutmix={part.cutmix:g} would mix with another: leave them out of it, or give the "
            "Augment alone"
        )


def warp(series: Array, start: Array | float, width: Array | float, factor: Array | float) -> Array:
    """A series of which one stretch lasts `factor` times as long, on as many steps as before.

    Args:
        series: floating [T, C].
        start: of the stretch, in steps, in [0, T - 1].
        width: of the stretch, in steps, >= 0; it ends at T - 1 at the latest.
        factor: > 0; 1 changes nothing.

    Returns:
        The same shape and dtype.

    >>> import jax.numpy as jnp
    >>> warp(jnp.arange(5.0)[:, None], 0.0, 2.0, 2.0).ravel().tolist()  # from 0 to 2 half as fast
    [0.0, 0.75, 1.5, 2.5, 4.0]
    """
    steps = jnp.arange(series.shape[0], dtype=jnp.float32)
    last = max(series.shape[0] - 1, 1)
    tick = 1.0 + (factor - 1.0) * width / last  # of the clock, at every step
    clock = steps * tick
    # Neither a tiny factor nor a huge one, at which floats are rough, leads out of the stretch.
    inside = jnp.clip(start + (clock - start) / factor, start, start + width)
    after = last - (last - steps) * tick
    place = jnp.where(clock < start, clock, jnp.where(after < start + width, inside, after))
    along = jax.vmap(lambda channel: jnp.interp(place, steps, channel), 1, 1)
    return along(series).astype(series.dtype)


def _as_tuple(values: Any) -> tuple[Any, ...]:
    """A list or an array too: equal settings are equal, and have a hash; () for one value."""
    return tuple(values) if isinstance(values, Iterable) else ()


def _check_series(name: str, series: Array) -> None:
    if series.ndim != 2 or not jnp.issubdtype(series.dtype, jnp.floating):
        raise ValueError(
            f"{name} needs a series, floating [T, C], got {series.dtype} {list(series.shape)}"
        )
