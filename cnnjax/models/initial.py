"""A model's first variables, compiled once for all models of a kind."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array

from cnnjax.core import trees
from cnnjax.core.runtime import quick_compilation
from cnnjax.models.modules import (
    Static,
    Variables,
)


# One for all models, so that a second one of a kind compiles nothing; made late, since the options
# ask for the backend, which importing must not start. A jit within another one may have no options.
@functools.cache
def initialiser(traced: bool) -> Callable[..., Variables]:
    """(static, sample, only, key) -> variables; traced: whether within another jit."""
    options = None if traced else quick_compilation()
    return jax.jit(_initialised, static_argnums=(0, 1, 2), compiler_options=options)


def hashable(sample: Any) -> Any:
    """A sample of several inputs as a tuple, as a static argument has to be."""
    return tuple(sample.items()) if isinstance(sample, Mapping) else sample


def _initialised(static: Static, sample: Any, only: frozenset[str] | None, key: Array) -> Variables:
    variables = static.initial(dict(sample) if isinstance(sample, tuple) else sample, key)
    if only is None:
        return variables
    return trees.unflatten({k: v for k, v in trees.flatten(variables).items() if k in only})
