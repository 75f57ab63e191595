"""Optimisers of the caller's: made for a number of steps, and checked before the first."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array
from optax import contrib

from cnnjax.core.text import first_sentence, plain, without_address
from cnnjax.training.freezing import frozen_by, partition
from cnnjax.training.optim import updated
from cnnjax.training.schedules import nodes_of
from cnnjax.training.state import TrainState, given_parameters

# What `fit` takes as one: a transformation, or a function of total_steps that makes one.
Optimizer: TypeAlias = optax.GradientTransformation | Callable[..., optax.GradientTransformation]


def made(optimizer: Optimizer, total_steps: int) -> optax.GradientTransformation:
    """The optimiser that `fit` was given: itself, or what its function makes of total_steps.

    Raises:
        ValueError: if it is neither, or the function fails.
    """
    if _is_transformation(optimizer):
        return optimizer
    if not takes_total_steps(optimizer):
        raise ValueError(
            "optimizer must be an optax transformation, e.g. optax.adam(1e-3), or a function of "
            f"total_steps that makes one, got {plain(without_address(str(optimizer)))}"
        )
    try:
        result = optimizer(total_steps=total_steps)
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(
            f"optimizer cannot be made with total_steps={total_steps}: {first_sentence(error)}"
        ) from error
    if not _is_transformation(result):
        raise ValueError(
            f"optimizer must make an optax transformation of total_steps={total_steps}, and makes "
            f"{plain(without_address(str(result)))}"
        )
    return result


def takes_total_steps(optimizer: object) -> bool:
    """Whether it is a function that makes an optimiser: one with an argument total_steps."""
    if not callable(optimizer) or _is_transformation(optimizer):
        return False
    try:
        return "total_steps" in inspect.signature(optimizer).parameters
    except (TypeError, ValueError):  # one of C, which has no signature
        return False


def _is_transformation(value: object) -> bool:
    return hasattr(value, "init") and hasattr(value, "update")


def check_optimizer(
    optimizer: optax.GradientTransformation, state: TrainState, frozen: Sequence[str] = ()
) -> None:
    """Whether `fit` can use an optimiser of the caller's; only shapes are computed.

    Args:
        optimizer: the one that the state was created with.
        state: before the first step.
        frozen: the patterns of frozen layers.

    Raises:
        ValueError: if its update fails, makes something else of parameters and state than it got,
            or is one after whose steps the parameters are not those to evaluate.
    """

    def step(state: TrainState) -> Any:
        def value_fn(params: Any, grad_fn: Any = None) -> Array:
            del grad_fn
            return optax.tree.sum(params)

        stand_ins = {"value": jnp.zeros(()), "value_fn": value_fn}
        stand_ins |= {"grad": state.trained, "grad_fn": lambda params, *_: params}
        return updated(partitioned, state.trained, state, frozen, **stand_ins)

    partitioned = partition(optimizer, frozen_by(state.opt_state), state.params)
    _check_parameters_stay(state.opt_state)
    program, after = jax.make_jaxpr(step, return_shape=True)(state)
    if _form(after) != _form((state.trained, state.opt_state)):
        raise ValueError(
            "optimizer must return updates and a state of the form, shapes and dtypes that it "
            f"got, and does not: it gets {given_parameters(state.params, frozen)}"
        )
    if not _depends_on_inputs(program.jaxpr, len(jax.tree.leaves(state.trained))):
        raise ValueError(
            f"optimizer trains nothing of {given_parameters(state.params, frozen)}: what it "
            f"freezes itself and frozen={tuple(frozen)!r} are all parameters; freeze them at one "
            "place"
        )


def _check_parameters_stay(opt_state: optax.OptState) -> None:
    """Refuse optimisers that leave the parameters where they are not to be evaluated."""
    if any(node.cache is not None for node in nodes_of(opt_state, contrib.SAMState)):
        raise ValueError(
            "optimizer is optax.contrib.sam with opaque_mode=False, which leaves the "
            "parameters away from their place after every other step: give opaque_mode=True"
        )


def _depends_on_inputs(program: Any, outputs: int) -> bool:
    """Whether any of the first outputs of a jaxpr is more than a constant."""
    known = set(program.invars)
    for equation in program.eqns:
        if any(v in known for v in equation.invars if not hasattr(v, "val")):
            known.update(equation.outvars)
    return any(v in known for v in program.outvars[:outputs] if not hasattr(v, "val"))


def _form(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
