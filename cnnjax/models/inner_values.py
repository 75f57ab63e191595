"""Values from within the loops and other programs that a traced function is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun

_MARK = "cnnjax:"

Marked = dict[str, list[Any]]


def marked(value: Array, name: str) -> Array:
    """The value itself, to be had by this name of `with_marked`."""
    named: Array = checkpoint_name(value, _MARK + name)
    return named


class Traced(NamedTuple):
    """A function of trees of arrays as a program.

    Args:
        program: of the leaves.
        form: structure of what the function returns.
        rounds: of each mark, how often the program runs through it.
    """

    program: ClosedJaxpr
    form: Any
    rounds: dict[str, int]

    def evaluate(self, args: Any, added: Mapping[str, Array] | None = None) -> tuple[Any, Marked]:
        """What `with_marked` returns.

        Args:
            args: of the function.
            added: name of a mark -> [rounds, ...], what is added to its values.
        """
        values: Marked = {}
        results = _evaluate(self.program, jax.tree.leaves(args), values, dict(added or {}))
        return jax.tree.unflatten(self.form, results), values


def traced(function: Callable[..., Any], *args: Any) -> Traced:
    """A function as a program, whose marks can be read and added to; may itself be traced."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    return Traced(program, jax.tree.structure(shapes), _rounds(program))


def with_marked(function: Callable[..., Any], *args: Any) -> tuple[Any, Marked]:
    """What a function returns, and the values that it marked, wherever it did so.

    Args:
        function: of trees of arrays; may be traced, differentiated and compiled.
        args: of the function.

    Returns:
        Its result; name -> the values, one for each round of the loops in which it was marked.

    Raises:
        ValueError: for a mark within a branch or in a loop of unknown length.

    >>> def doubled(x):
    ...     return jax.lax.scan(lambda c, _: (2 * marked(c, "c"), None), x, length=3)[0]
    >>> result, values = with_marked(doubled, 1.0)
    >>> float(result), [float(value) for value in values["c"]]
    (8.0, [1.0, 2.0, 4.0])
    """
    return traced(function, *args).evaluate(args)


def programs_of(equation: Any) -> list[ClosedJaxpr]:
    """The programs within an equation: of a function that is compiled, looped or differentiated."""
    items = [
        item
        for value in equation.params.values()
        for item in (value if isinstance(value, tuple | list) else (value,))
    ]
    return [
        item if isinstance(item, ClosedJaxpr) else ClosedJaxpr(item, [])
        for item in items
        if isinstance(item, ClosedJaxpr | Jaxpr)
    ]


def _evaluate(
    program: ClosedJaxpr, inputs: Sequence[Any], values: Marked, added: dict[str, Array]
) -> list[Any]:
    """Run a program operation by operation; what is marked goes into `values`."""
    jaxpr = program.jaxpr
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *inputs], strict=True))

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [value_of(atom) for atom in equation.invars]
        results = _results(jaxpr, equation, given, values, added)
        known.update(zip(equation.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _results(
    jaxpr: Jaxpr, equation: Any, given: list[Any], values: Marked, added: dict[str, Array]
) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if _is_mark(equation):
        mark = params["name"].removeprefix(_MARK)
        values[mark] = [given[0] + added[mark][0]] if mark in added else given
        return values[mark]
    programs = programs_of(equation)
    marks = {mark for program in programs for mark in _rounds(program)}
    if not marks:
        return _unchanged(jaxpr, equation, given)
    if name.startswith("custom_") and marks & set(added):
        raise ValueError(
            "a layer that is to be explained lies within a function that has a gradient of its "
            f"own ({name!r}), so there is none at the layer: take a layer outside of it"
        )
    if name == "scan":
        return _scanned(params, given, values, added)
    if name in ("cond", "while") or len(programs[0].jaxpr.invars) != len(given):
        raise ValueError(
            f"a layer whose output is wanted lies within a {name!r}, which runs an unknown number "
            "of times: take a layer outside of it"
        )
    return _evaluate(programs[0], given, values, added)


def _unchanged(jaxpr: Jaxpr, equation: Any, given: list[Any]) -> list[Any]:
    """The results of one operation of a program."""
    pairs = zip(equation.invars, given, strict=True)
    known = {atom: value for atom, value in pairs if not isinstance(atom, Literal)}
    alone = jaxpr.replace(
        constvars=[], invars=list(known), outvars=equation.outvars, eqns=[equation]
    )
    results: list[Any] = jaxpr_as_fun(ClosedJaxpr(alone, []))(*known.values())
    return results


def _scanned(
    params: dict[str, Any], given: list[Any], values: Marked, added: dict[str, Array]
) -> list[Any]:
    """A loop that hands out what is marked in it, unstacked into its rounds."""
    first, count, length = params["num_consts"], params["num_carry"], params["length"]
    constants, start, stacked = given[:first], given[first : first + count], given[first + count :]
    order = -1 if params["reverse"] else 1
    # Of each mark's values those of a round, in the order in which the loop takes its slices.
    by_round = {
        name: added[name].reshape(length, inner, *added[name].shape[1:])[::order]
        for name, inner in _rounds(params["jaxpr"]).items()
        if name in added
    }

    def body(carry: list[Any], sliced: Any) -> tuple[list[Any], tuple[list[Any], Marked]]:
        inner: Marked = {}
        results = _evaluate(params["jaxpr"], [*constants, *carry, *sliced[0]], inner, sliced[1])
        return results[:count], (results[count:], inner)

    loop = {"length": length, "reverse": params["reverse"], "unroll": params["unroll"]}
    carry, (outputs, inner) = jax.lax.scan(body, start, (stacked, by_round), **loop)
    for name, stacks in inner.items():
        values[name] = [stack[i] for i in range(length)[::order] for stack in stacks]
    return [*carry, *outputs]


def _is_mark(equation: Any) -> bool:
    return equation.primitive.name == "name" and equation.params["name"].startswith(_MARK)


def _rounds(program: ClosedJaxpr) -> dict[str, int]:
    """Of each mark in a program, how often it is run through."""
    rounds: dict[str, int] = {}
    for equation in program.jaxpr.eqns:
        if _is_mark(equation):
            rounds[equation.params["name"].removeprefix(_MARK)] = 1
        length = equation.params["length"] if equation.primitive.name == "scan" else 1
        for inner in programs_of(equation):
            rounds |= {name: length * count for name, count in _rounds(inner).items()}
    return rounds
