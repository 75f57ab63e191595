"""For which kind of device a program is traced: the one at hand, or another one that is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import jax

from cnnjax.core.text import suggest

# How JAX calls them when it lowers for them.
LOWERED_FOR = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}

# How it calls the precisions of matrix products: without a name accelerators multiply as it is
# fastest, in TF32 or bfloat16.
PRODUCTS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "default"}

# A user context takes part in jit's cache key, so that what was traced for one kind is never run
# for another.
_context = jax.make_user_context(default_value="")


@contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Trace everything inside the `with` block as for that kind of device.

    What is traced runs on any device; it is lowered for another one by
    `jax.jit(f).trace(...).lower(lowering_platforms=("cuda",))`, without having it.

    Args:
        platform: "cpu", "gpu" or "tpu".

    Raises:
        ValueError: for another one.

    >>> with compiling_for("tpu"):
    ...     platform()
    'tpu'
    """
    if platform not in LOWERED_FOR:
        hint = suggest(platform, LOWERED_FOR, "platforms")
        raise ValueError(f"platform={platform!r} is unknown. {hint}")
    with _context(platform):
        yield


def platform() -> str:
    """The kind of device that is traced for: `compiling_for`'s, else JAX's default backend."""
    return str(_context.value) or jax.default_backend()
