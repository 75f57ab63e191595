"""Whether an NNX module changes what a training would not keep; only shapes are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from jax import Array
from jax.extend.core import Literal

from cnnjax.core import trees
from cnnjax.models.inner_values import programs_of
from cnnjax.models.modules import train_kwargs
from cnnjax.models.nnx import Net
from cnnjax.models.nnx_graph import Graph
from cnnjax.models.spec import ModelSpec


def check_changes(module: Net, spec: ModelSpec) -> None:
    """Check that a module changes nothing in evaluation, and no parameter in training.

    Raises:
        ValueError: naming what it changes.
    """
    graph, names = module.graph, {v: trees.join(v) for v in module.graph.variables.values()}
    for train in (False, True):
        kwargs = module.own_switches(train_kwargs(module, spec.train_arguments, train=train))
        changed = [
            names[n] for n in _changed(graph, spec, kwargs, train) if not train or n[0] == "params"
        ]
        if changed:
            when = "in training itself" if train else "in evaluation too"
            raise ValueError(
                f"{graph.kind.__name__} would change {', '.join(changed[:3])} {when}, where "
                "nothing keeps it: what a module keeps is an nnx.BatchStat or another nnx.Variable "
                "that is no nnx.Param, and is kept where module.train() says so"
            )


def _changed(
    graph: Graph, spec: ModelSpec, kwargs: Mapping[str, Any], train: bool
) -> list[tuple[str, ...]]:
    """The variables that a call sets to something else."""
    paths = list(graph.variables)

    def after(leaves: list[Array], key: Array, inputs: Array) -> list[Array]:
        values = dict(zip(paths, leaves, strict=True))
        _, later = graph.run(values, inputs, key if train else None, kwargs, train)
        return [later[path][1] for path in paths]

    leaves = [graph.shapes[path] for path in paths]
    key = jax.eval_shape(lambda: jax.random.key(0))
    program = jax.make_jaxpr(after)(leaves, key, spec.sample(2))
    kept = enumerate(_passed_on(program.jaxpr))
    return [graph.variables[paths[number]] for number, origin in kept if origin != number]


def _passed_on(jaxpr: Any) -> list[int | None]:
    """For each output of a program the number of the input that it is; None where it is new."""
    known: dict[Any, int] = {variable: i for i, variable in enumerate(jaxpr.invars)}
    for equation in jaxpr.eqns:
        programs = programs_of(equation)
        if len(programs) != 1 or len(programs[0].jaxpr.invars) != len(equation.invars):
            continue
        inner = _passed_on(programs[0].jaxpr)
        loop, params = equation.primitive.name == "scan", equation.params
        for number, (variable, origin) in enumerate(zip(equation.outvars, inner, strict=True)):
            if origin is None or isinstance(equation.invars[origin], Literal):
                continue
            if loop and number < params["num_carry"] and origin != number + params["num_consts"]:
                continue  # what the first round gets is not what the last one leaves
            if loop and number >= params["num_carry"] > origin - params["num_consts"]:
                continue  # one value a round
            if (outer := known.get(equation.invars[origin])) is not None:
                known[variable] = outer
    return [None if isinstance(v, Literal) else known.get(v) for v in jaxpr.outvars]
