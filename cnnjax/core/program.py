"""A traced computation as a hash that another process computes of an equal one."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import jax
import numpy as np

from cnnjax.core.describe import array_text, on_host

# Of an operation: what it is called, where it is to run, and which memory it may use again.
_NOT_COMPUTED = ("name", "debug_info", "ctx_mesh", "donated_invars", "inline", "keep_unused")

# Scalars that occur in a program, for telling two programs apart; more would say no more.
_MOST_KINDS = 400


def program(traced: Any) -> dict[str, Any]:
    """What a traced function computes, without the names, addresses and places of its parts.

    Args:
        traced: what `jax.jit(f).trace(...)` or `jax.make_jaxpr(f)(...)` returns.

    Returns:
        "hash", equal for equal computations whatever process traced them; and "counts", how often
        each operation and each scalar constant occurs, which shows where two programs differ.

    >>> double = program(jax.make_jaxpr(lambda x: 2.0 * x)(1.0))
    >>> double["counts"]
    {'2.0': 1, 'mul': 1}
    >>> double == program(jax.make_jaxpr(lambda y: y * 3.0)(1.0))
    False
    """
    reader = _Reader()
    closed = getattr(traced, "jaxpr", traced)
    closed = closed if hasattr(closed, "consts") else traced
    digest = reader.closed(closed)
    return {"hash": digest, "counts": dict(sorted(reader.counts.most_common(_MOST_KINDS)))}


class _Reader:
    """Reads jaxprs; one that is called in many places is read once."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._known: dict[int, tuple[Any, str]] = {}  # with the object, so that its id stays its

    def closed(self, closed: Any) -> str:
        constants = [_array(value) for value in closed.consts]
        return _hash([self.jaxpr(closed.jaxpr), *constants])

    def jaxpr(self, jaxpr: Any) -> str:
        if id(jaxpr) not in self._known:
            self._known[id(jaxpr)] = (jaxpr, _hash(self._lines(jaxpr)))
        return self._known[id(jaxpr)][1]

    def _lines(self, jaxpr: Any) -> list[str]:
        numbers: dict[Any, int] = {}

        def bound(variable: Any) -> str:
            numbers[variable] = len(numbers)
            return _type(variable.aval)

        def used(atom: Any) -> str:
            if not hasattr(atom, "val"):
                return str(numbers[atom])
            text = _array(atom.val)
            if np.ndim(atom.val) == 0:
                self.counts[text.partition(" ")[2]] += 1
            return f"{text}:{_type(atom.aval)}"

        lines = [f"{[bound(v) for v in (*jaxpr.constvars, *jaxpr.invars)]}"]
        for equation in jaxpr.eqns:
            self.counts[equation.primitive.name] += 1
            inputs = [used(atom) for atom in equation.invars]
            parameters = self._parameter(
                {k: v for k, v in equation.params.items() if k not in _NOT_COMPUTED}
            )
            outputs = [bound(variable) for variable in equation.outvars]
            lines.append(f"{equation.primitive.name} {inputs} {parameters} {outputs}")
        return [*lines, f"{[used(atom) for atom in jaxpr.outvars]}"]

    def _parameter(self, value: Any) -> str:
        if hasattr(value, "eqns"):
            return self.jaxpr(value)
        if hasattr(value, "consts") and hasattr(value, "jaxpr"):
            return self.closed(value)
        if isinstance(value, Mapping):
            return json.dumps(sorted((str(k), self._parameter(v)) for k, v in value.items()))
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return json.dumps([self._parameter(item) for item in value])
        if isinstance(value, set | frozenset):
            return json.dumps(sorted(self._parameter(item) for item in value))
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return _array(value)
        if isinstance(value, functools.partial):
            return self._parameter((value.func, value.args, value.keywords))
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            return str(value.__qualname__)
        if isinstance(value, Enum):
            return str(value)
        text = repr(value)
        # An object that shows its place in memory shows nothing else of use.
        return type(value).__qualname__ if re.search(r" at 0x[0-9a-f]+", text) else text


def _type(aval: Any) -> str:
    if not hasattr(aval, "dtype"):
        return str(aval)
    weak = "~" if getattr(aval, "weak_type", False) else ""
    return f"{aval.dtype}{list(getattr(aval, 'shape', ()))}{weak}"


def _array(value: Any) -> str:
    """The dtype and the value of a scalar or a small hash of an array."""
    array = on_host(value)
    return f"{array.dtype} {array.item()!r}" if array.ndim == 0 else array_text(array)


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
