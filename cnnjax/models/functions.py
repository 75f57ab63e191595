"""A model as pure functions of its variables, some layers of which may be frozen."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from flax import linen
from jax import Array

from cnnjax.core import trees
from cnnjax.models.modules import LOSSES, Static, Variables, training_keys
from cnnjax.nn import BatchNormalization


class Functions(NamedTuple):
    """A model as pure functions of its variables: all that training needs to know of it.

    Args:
        apply: (params, state, inputs) -> outputs, in evaluation.
        apply_train: (params, state, inputs, key) -> (outputs, new state), in training. What the
            module sows into the collection "losses" stands in the new state under that name.
        preprocess: examples, as a data set has them, to inputs.
    """

    apply: Callable[[Variables, Variables, Array], Array]
    apply_train: Callable[[Variables, Variables, Array, Array], tuple[Array, Variables]]
    preprocess: Callable[[Array], Array]


def functions_of(
    static: Static, preprocess: Callable[[Array], Array], frozen: tuple[str, ...] = ()
) -> Functions:
    """The functions of a model.

    Args:
        static: its module and switches.
        preprocess: of its spec.
        frozen: patterns of layers; their BatchNorm runs on its running averages.
    """

    def apply(params: Variables, state: Variables, inputs: Array) -> Any:
        return static.evaluate({"params": params, **state}, inputs)

    def apply_train(
        params: Variables, state: Variables, inputs: Array, key: Array
    ) -> tuple[Array, Variables]:
        with linen.intercept_methods(functools.partial(_frozen_norm, frozen)):
            return static.train(
                {"params": params, **state}, inputs, training_keys(key), [*state, LOSSES]
            )

    return Functions(apply, apply_train, preprocess)


def _frozen_norm(
    frozen: tuple[str, ...], next_function: Callable, args: Any, kwargs: Any, context: Any
) -> Any:
    """Interceptor: frozen batch normalisation uses its running averages."""
    module = context.module
    is_norm = isinstance(module, BatchNormalization | linen.BatchNorm)
    if is_norm and context.method_name == "__call__":
        path = trees.join(module.path)
        if any(trees.matches(path, pattern) for pattern in frozen):
            if isinstance(module, BatchNormalization):
                return next_function(*args[:1], **{**kwargs, "train": False})
            # Flax refuses the switch given twice, so one set as an attribute is lifted first.
            object.__setattr__(module, "use_running_average", None)
            args, kwargs = args[:1], {**kwargs, "use_running_average": True}
    return next_function(*args, **kwargs)
