"""A model that computes in bfloat16, but for the few numbers whose digits count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from cnnjax.core import trees
from cnnjax.models import taps
from cnnjax.models.functions import Functions
from cnnjax.models.model import Model
from cnnjax.models.modules import Variables


def in_bfloat16(model: Model, frozen: Sequence[str] = ()) -> Functions:
    """A model's functions that round parameters and inputs to bfloat16; their outputs are float32.

    What costs nothing stays in float32: of the layers of `cnnjax.nn` the parameters of one axis
    (biases, gamma and beta), and the whole layer that makes the logits, whose differences are what
    a loss is made of. Modules of others see bfloat16 alone, since theirs would compute in float32
    throughout with a single parameter of it.

    Args:
        model: whose spec's last layer of `head` makes the logits.
        frozen: as in `Model.functions`.
    """
    functions, ours = model.functions(frozen), _layers_of_ours(model)
    head = model.spec.head[-1] if model.spec.head else None

    def rounded(path: str, leaf: Array) -> Array:
        layer = path.rpartition("/")[0]
        return leaf if layer == head or (layer in ours and leaf.ndim <= 1) else _half(leaf)

    def single_head(next_function: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and trees.join(context.module.path) == head:
            args = jax.tree.map(_single, args)
        return next_function(*args, **kwargs)

    def apply(params: Variables, state: Variables, inputs: Any) -> Any:
        with linen.intercept_methods(single_head):
            outputs = functions.apply(trees.map_flat(rounded, params), state, _halves(inputs))
        return _as_float32(outputs)

    def apply_train(params: Variables, state: Variables, inputs: Any, key: Array) -> Any:
        params = trees.map_flat(rounded, params)
        with linen.intercept_methods(single_head):
            outputs, new_state = functions.apply_train(params, state, _halves(inputs), key)
        return _as_float32(outputs), new_state

    return Functions(apply, apply_train, functions.preprocess)


def _layers_of_ours(model: Model) -> frozenset[str]:
    """Paths of the layers that round their parameters themselves, where they multiply."""
    paths = set()

    def watch(visit: taps.Visit) -> Any:
        if type(visit.module).__module__.startswith("cnnjax.nn."):
            paths.add(visit.path)
        return visit.proceed()

    def run(variables: Variables, inputs: Any) -> Any:
        with taps.watched(watch):
            return model.static.evaluate(jax.tree.map(_half, variables), _halves(inputs))

    jax.eval_shape(run, model.variables, model.spec.sample())
    return frozenset(paths)


def _half(leaf: Array) -> Array:
    return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _halves(inputs: Any) -> Any:
    return jax.tree.map(_half, inputs)


def _single(value: Any) -> Any:
    """An argument of a layer, which may be a switch, in float32."""
    halved = isinstance(value, Array) and jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(jnp.float32) if halved else value


def _as_float32(outputs: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), outputs)
