"""What a module of the caller's is recognised by, where a model is saved without its code."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen
from flax.errors import FlaxError

from cnnjax.core import trees
from cnnjax.core.changes import differences, kind_of
from cnnjax.core.describe import describe
from cnnjax.core.program import program
from cnnjax.core.runtime import quick_compilation
from cnnjax.models.modules import Static, Variables, forward
from cnnjax.models.spec import ModelSpec

FORM = {"described": dict, "program": str, "outputs?": [float], "tolerance?": float}

_EXAMPLES = 2
_MOST_OUTPUTS = 1000
_DIGITS = 7

# Of the largest output: what machines, engines and versions round otherwise, with 16 bits or 32.
_TOLERANCES = {True: 0.05, False: 2e-4}


class AnotherModule(ValueError):
    """A module that is not the one a model was saved with."""


def signature(module: linen.Module, spec: ModelSpec, variables: Variables) -> dict[str, Any]:
    """A module's class and settings, and its outputs for weights and inputs that are always alike.

    So they depend on the module alone, not on how it was trained.

    Args:
        module, spec: of the model.
        variables: whose shapes count.

    Returns:
        JSON: "described", the hash of the "program", and where there are finite ones some "outputs"
        with the "tolerance" within which others are the same.
    """
    known: dict[str, Any] = {"described": describe(module)}
    try:
        traced = _trace(module, spec, variables)
    except (FlaxError, ValueError, TypeError):  # it needs more than inputs, a random key, say
        return {**known, "program": ""}
    outputs = _outputs(module, spec, variables)
    known["program"] = program(traced)["hash"]
    if not outputs or not all(map(math.isfinite, outputs)):
        return known
    coarse = "f16[" in str(traced.jaxpr)  # as bf16 too
    tolerance = _TOLERANCES[coarse] * max(map(abs, outputs))
    return {**known, "outputs": outputs, "tolerance": _rounded(tolerance)}


def check_signature(
    known: Mapping[str, Any], module: linen.Module, spec: ModelSpec, variables: Variables
) -> None:
    """Check that a module is the one that a signature was made of.

    Args:
        known: what `signature` returned.
        module: that is given.
        spec, variables: of the saved model.

    Raises:
        AnotherModule: naming the class, the setting or the outputs that differ.
    """
    name = type(module).__name__
    check_described(known["described"], module)
    try:
        traced = _trace(module, spec, variables)
    except (FlaxError, ValueError, TypeError):
        return  # as when it was saved; `rebuild` says whether it can be applied at all
    if program(traced)["hash"] == known["program"] or not known.get("outputs"):
        return
    wanted = np.array(known["outputs"])
    outputs = np.array(_outputs(module, spec, variables))
    if outputs.shape != wanted.shape:
        raise AnotherModule(f"its {name} made {wanted.size} outputs, this one {outputs.size}")
    off = ~(np.abs(outputs - wanted) <= known["tolerance"])  # so that NaN counts
    if off.any():
        at = int(np.argmax(off))
        raise AnotherModule(
            f"this {name} computes something else: with the same weights and inputs output {at} is "
            f"{outputs[at]:g}, and was {wanted[at]:g}"
        )


def check_described(known: Mapping[str, Any], module: linen.Module) -> None:
    """Check the class and the settings of a module.

    Raises:
        AnotherModule: naming which differs.
    """
    now = describe(module)
    if kind_of(known) != kind_of(now):
        raise AnotherModule(f"it is of the class {kind_of(known)}, not {kind_of(now)}")
    if given := [d.text for d in differences(known, now) if d.given]:
        raise AnotherModule(f"the settings of {kind_of(now)} differ: {', '.join(given[:3])}")


def _trace(module: linen.Module, spec: ModelSpec, variables: Variables) -> Any:
    return _applied().trace(Static.of(module, spec), _weights(variables), _inputs(spec))


def _outputs(module: linen.Module, spec: ModelSpec, variables: Variables) -> list[float]:
    static = Static.of(module, spec)
    outputs = _applied()(static, _weights(variables), _inputs(spec))
    leaves = [np.asarray(leaf, np.float32).reshape(-1) for leaf in jax.tree.leaves(outputs)]
    flat = np.concatenate(leaves)[:_MOST_OUTPUTS]
    return [_rounded(value) for value in flat.tolist()]


@functools.cache
def _applied() -> Any:
    # Made late, since the options ask for the backend; one for all, so that it compiles once.
    def apply(static: Static, variables: Variables, inputs: Any) -> Any:
        return forward(static, variables, inputs)

    return jax.jit(apply, static_argnums=0, compiler_options=quick_compilation())


def _weights(variables: Variables) -> Variables:
    """Weights of the same shapes from a random number generator that is the same everywhere."""
    return trees.map_flat(_weight, variables)


def _weight(path: str, leaf: Any) -> np.ndarray:
    shape = tuple(leaf.shape)
    if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
        return np.zeros(shape, leaf.dtype)
    uniform = _generator(path).random(shape)
    if len(shape) > 1:
        fan_in = max(math.prod(shape[:-1]), 1)
        values = (2 * uniform - 1) * math.sqrt(3 / fan_in)
    elif path.endswith("var"):  # small, so that what is added to it shows
        values = 0.05 + 0.45 * uniform
    else:
        values = 0.5 + uniform
    return values.astype(leaf.dtype)


def _inputs(spec: ModelSpec) -> Any:
    if spec.parts:
        return {name: _inputs(part) for name, part in spec.parts.items()}
    sample = spec.sample(_EXAMPLES)
    uniform = _generator("inputs").random(sample.shape)
    if spec.inputs.tokens:
        return (uniform * (spec.vocabulary_size or 2)).astype(sample.dtype)
    return uniform.astype(sample.dtype)


def _generator(name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
