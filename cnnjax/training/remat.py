"""A training pass that keeps less for its gradient, and computes the rest a second time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core

from cnnjax.models import Functions

# A net is divided into so many blocks at most; more would keep as much as they save.
_MOST_BLOCKS = 64

_Values = dict[core.Var, Any]


def rematerialised(functions: Functions, remat: str) -> Functions:
    """A model's functions, whose training pass keeps for its gradient what `remat` names.

    Args:
        functions: of the model.
        remat: as in `TrainingConfig`.

    >>> import cnnjax as cj
    >>> functions = cj.create_model("lenet").functions()
    >>> rematerialised(functions, "none") is functions
    True
    """
    if remat == "none":
        return functions
    # In one block all would be recomputed at once, and take as much memory as if it were kept.
    policy = jax.checkpoint_policies.dots_saveable if remat == "dots" else None
    return functions._replace(apply_train=_in_blocks(functions.apply_train, policy))


def _in_blocks(function: Callable, policy: Callable[..., bool] | None) -> Callable:
    """A function whose operations run block by block, each under `jax.checkpoint`.

    Args:
        function: of pytrees of arrays.
        policy: what is kept within a block; None keeps nothing.
    """

    def divided(*arguments: Any) -> Any:
        def inlined(*arguments: Any) -> Any:
            closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
            structures.append(jax.tree.structure(shapes))
            return _evaluated(closed.jaxpr, closed.consts, jax.tree.leaves(arguments))

        structures: list[Any] = []
        closed = jax.make_jaxpr(inlined)(*arguments)
        jaxpr = closed.jaxpr
        values: _Values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        values |= zip(jaxpr.invars, jax.tree.leaves(arguments), strict=True)
        for equations, needed, made in _blocks(jaxpr):
            run = jax.checkpoint(_program(jaxpr, equations, needed, made), policy=policy)
            values |= zip(made, run(*(values[v] for v in needed)), strict=True)
        leaves = [_read(values, atom) for atom in jaxpr.outvars]
        return jax.tree.unflatten(structures[0], leaves)

    return divided


def _evaluated(jaxpr: core.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """What a jaxpr computes, in which calls of jitted functions become their operations."""
    values: _Values = dict(zip(jaxpr.constvars, constants, strict=True))
    values |= zip(jaxpr.invars, arguments, strict=True)
    for equation in jaxpr.eqns:
        if equation.primitive.name == "jit":
            inner = equation.params["jaxpr"]
            given = [_read(values, atom) for atom in equation.invars]
            results = _evaluated(inner.jaxpr, inner.consts, given)
        else:
            needed = [a for a in equation.invars if not isinstance(a, core.Literal)]
            run = _program(jaxpr, [equation], needed, equation.outvars)
            results = run(*(values[v] for v in needed))
        values |= zip(equation.outvars, results, strict=True)
    return [_read(values, atom) for atom in jaxpr.outvars]


def _program(
    jaxpr: core.Jaxpr,
    equations: Sequence[core.JaxprEqn],
    needed: Sequence[core.Var],
    made: Sequence[core.Var],
) -> Callable:
    """A function of the values that equations of a jaxpr need to those of what they make."""
    part = jaxpr.replace(
        constvars=[], invars=list(needed), outvars=list(made), eqns=list(equations)
    )
    return core.jaxpr_as_fun(core.ClosedJaxpr(part, ()))


def _read(values: _Values, atom: Any) -> Any:
    return atom.val if isinstance(atom, core.Literal) else values[atom]


def _blocks(
    jaxpr: core.Jaxpr,
) -> Iterator[tuple[Sequence[core.JaxprEqn], list[core.Var], list[core.Var]]]:
    """The equations of each block, with the variables that it needs and those it makes for others.

    Args:
        jaxpr: of the training pass.
    """
    last = _last_uses(jaxpr)
    cuts = _cuts(jaxpr, last)
    for start, end in zip((0, *cuts), (*cuts, len(jaxpr.eqns)), strict=True):
        equations = jaxpr.eqns[start:end]
        own = [v for equation in equations for v in equation.outvars]
        used = (a for e in equations for a in e.invars if not isinstance(a, core.Literal))
        needed = list(dict.fromkeys(v for v in used if v not in set(own)))
        yield equations, needed, [v for v in own if last.get(v, -1) >= end]


def _last_uses(jaxpr: core.Jaxpr) -> dict[core.Var, int]:
    """The number of the last equation that needs a variable; that of none for results."""
    last: dict[core.Var, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        last |= {a: number for a in equation.invars if not isinstance(a, core.Literal)}
    last |= {a: len(jaxpr.eqns) for a in jaxpr.outvars if not isinstance(a, core.Literal)}
    return last


def _cuts(jaxpr: core.Jaxpr, last: dict[core.Var, int]) -> list[int]:
    """Before which equations a block begins: where little goes from one to the next.

    A net in n blocks keeps what goes over their borders and, for a block at a time, all that it
    makes. Of all n up to 64, with the narrowest border near each n-th part, the one that keeps
    least is taken (Chen et al. 2016, Training deep nets with sublinear memory cost).

    Args:
        jaxpr: of the training pass.
        last: the last use of each variable.
    """
    count = len(jaxpr.eqns)
    made, alive = np.zeros(count + 1), np.zeros(count + 2)
    for number, equation in enumerate(jaxpr.eqns):
        for variable in equation.outvars:
            size = _size(variable)
            made[number + 1] += size
            if last.get(variable, -1) > number:  # alive at the borders in between
                alive[number + 1] += size
                alive[last[variable] + 1] -= size
    made, alive = np.cumsum(made), np.cumsum(alive)

    def kept(cuts: list[int]) -> float:
        borders = [0, *cuts, count]
        return float(alive[cuts].sum() + np.diff(made[borders]).max())

    ways = [_divided(made, alive, number) for number in range(1, _MOST_BLOCKS + 1)]
    return min(ways, key=kept)


def _divided(made: np.ndarray, alive: np.ndarray, number: int) -> list[int]:
    """The borders of so many blocks that make about as much each."""
    half = made[-1] / number / 2
    cuts = []
    for i in range(1, number):
        middle = 2 * half * i
        low, high = np.searchsorted(made, (middle - half, middle + half))
        low, high = max(int(low), 1), min(int(high), len(made) - 1)
        if low < high:
            cuts.append(low + int(np.argmin(alive[low:high])))
    return sorted(set(cuts))


def _size(variable: core.Var) -> int:
    """Bytes of a variable; of a random key none worth counting."""
    aval: Any = variable.aval
    return math.prod(getattr(aval, "shape", ())) * getattr(aval.dtype, "itemsize", 0)
