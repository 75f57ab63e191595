"""Does a module take inputs of any size, and its preprocessing leave their shape? Only shapes."""

from __future__ import annotations

from dataclasses import replace

import jax
from flax import linen

from cnnjax.core import trees
from cnnjax.core.checks import shape_text
from cnnjax.core.text import first_sentence
from cnnjax.models.modules import Static, abstract_variables
from cnnjax.models.spec import ModelSpec


def larger(spec: ModelSpec) -> ModelSpec:
    """A spec of inputs half as large again as the sample, along what may be of any size."""
    if spec.parts:
        shapes = {name: larger(part).input_shape for name, part in spec.parts.items()}
        return replace(spec, input_shape=shapes)
    shape = tuple(
        n if size is not None else n + n // 2
        for size, n in zip(spec.input_shape, spec.sample_shape, strict=True)
    )
    return replace(spec, input_shape=shape)


def check_any_size(module: linen.Module, spec: ModelSpec) -> None:
    """Refuse a module whose variables follow the size of its inputs, where that may be any.

    Raises:
        ValueError: naming the first of these variables.
    """
    static = Static(module, spec.train_arguments)
    text = shape_text(spec.input_shape)
    name, shape = type(module).__name__, f"input_shape={text if spec.parts else f'({text})'}"
    try:
        sizes = [
            {path: list(leaf.shape) for path, leaf in trees.leaves(tree).items()}
            for tree in (abstract_variables(static, one) for one in (spec, larger(spec)))
        ]
    except Exception as error:  # the code is another's, and may raise anything
        raise ValueError(f"{shape}: {name} {first_sentence(error)}") from error
    if different := trees.differences(*sizes):
        raise ValueError(
            f"{shape}: {name} does not take any size, since its variables follow it "
            f"({different[0]}): give its sizes, or pool globally before dense layers"
        )


def check_preprocessing(spec: ModelSpec) -> None:
    """Refuse a preprocessing that makes something of another shape, which no module expects.

    Raises:
        ValueError: naming both shapes.
    """
    for part in spec.parts.values():
        check_preprocessing(part)
    if spec.parts:
        return
    sample = spec.sample(2)
    made = jax.eval_shape(spec.inputs.preprocess, sample)
    got = getattr(made, "shape", None)
    if got != sample.shape:
        raise ValueError(
            f"preprocessing={spec.inputs.name!r} must return inputs of the shape that it gets, "
            f"{list(sample.shape)}, got {type(made).__name__ if got is None else list(got)}"
        )
