"""Convolutions with fast formulas of their own, and derivatives of every order and direction.

With a cotangent g of its outputs a convolution is a trilinear form,

    t(x, k, g) = sum(g * y(x, k)),

and the outputs y, the gradient of the inputs and that of the kernel are its derivatives by g, x and
k: functions of the other two arrays, and linear in each of them. To differentiate one of the three,
forward or backward, is to take it, or another of the three, of other arrays. So the three formulas
serve `jax.grad`, `jvp`, `linearize`, `hessian` and whatever they are nested to, each at its own
speed; autodiff never sees how they are computed.

They are one JAX primitive, since `jax.custom_vjp` has no forward mode, the rule of
`jax.custom_jvp` is transposed as it is written, and `jax.custom_derivatives.linear_call` can
neither be mapped over nor be differentiated by what it is not linear in.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Shape = tuple[int, ...]

_ARRAYS = ("inputs", "kernel", "outputs")


class _Map(NamedTuple):
    """One `vmap` over a primitive's two arguments.

    Args:
        length: of the axis.
        axes: 0 for an argument that is mapped over, None for one that is not.
    """

    length: int
    axes: tuple[int | None, int | None]


Maps = tuple[_Map, ...]  # the innermost first


@dataclass(frozen=True)
class Trilinear(ABC):
    """Three formulas, each the derivative of one trilinear form by one of its arrays.

    A subclass holds the geometry as hashable values: they tell apart what is compiled.

    Args:
        shapes: of inputs, kernel and outputs.
    """

    shapes: tuple[Shape, Shape, Shape]

    @abstractmethod
    def outputs(self, inputs: Array, kernel: Array) -> Array:
        """The operation itself."""

    @abstractmethod
    def inputs(self, kernel: Array, outputs: Array) -> Array:
        """The gradient of the inputs, of a cotangent of the outputs."""

    @abstractmethod
    def kernel(self, inputs: Array, outputs: Array) -> Array:
        """The gradient of the kernel, of a cotangent of the outputs."""

    def __call__(self, inputs: Array, kernel: Array) -> Array:
        """The outputs, differentiable as often as wanted."""
        arrays = varying_alike(inputs, kernel)
        result: Array = _derivative.bind(*arrays, form=self, by="outputs", maps=())
        return result


def varying_alike(*arrays: Array) -> list[Array]:
    """The same arrays; within `shard_map` all varying over the same devices.

    The gradient of one that is the same on several devices is then the sum of theirs.
    """
    own = [_varying(array) for array in arrays]
    everywhere = frozenset().union(*own)
    return [
        lax.pcast(array, tuple(sorted(everywhere - axes, key=str)), to="varying")
        for array, axes in zip(arrays, own, strict=True)
    ]


def _varying(array: Array) -> frozenset[Any]:
    """Along which axes of the mesh an array differs; versions of JAX name it anew."""
    kind = jax.typeof(array)
    has_type = hasattr(kind, "manual_axis_type")
    axes: frozenset[Any] = kind.manual_axis_type.varying if has_type else kind.vma
    return axes


def _evaluate(first: Array, second: Array, *, form: Trilinear, by: str, maps: Maps) -> Array:
    function = getattr(form, by)
    for level in maps:
        function = jax.vmap(function, in_axes=level.axes)
    result: Array = function(first, second)
    return result


def _shape(first: Any, second: Any, *, form: Trilinear, by: str, maps: Maps) -> ShapedArray:
    if not first.sharding.mesh.empty:  # where the result lies then, the operations know
        evaluate = functools.partial(_evaluate, form=form, by=by, maps=maps)
        result: ShapedArray = jax.make_jaxpr(evaluate)(first, second).out_avals[0]
        return result
    lengths = [level.length for level in reversed(maps)]
    return ShapedArray((*lengths, *form.shapes[_ARRAYS.index(by)]), first.dtype)


def _mapped(
    arrays: tuple[Array, Array], axes: tuple[int | None, int | None], *, maps: Maps, **params: Any
) -> tuple[Array, int]:
    pairs = list(zip(arrays, axes, strict=True))
    first, second = (a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in pairs)
    length = next(a.shape[axis] for a, axis in pairs if axis is not None)
    in_front = [None if axis is None else 0 for axis in axes]
    level = _Map(length, (in_front[0], in_front[1]))
    return _derivative.bind(first, second, maps=(*maps, level), **params), 0


def _transposed(
    place: int, cotangent: Array, *arguments: Any, form: Trilinear, by: str, maps: Maps
) -> Array:
    """The gradient of the argument at a place: another derivative, by that argument."""
    names = [name for name in _ARRAYS if name != by]
    wanted, other = names[place], names[1 - place]
    values = {by: cotangent, other: arguments[1 - place]}
    axes = [{by: 0, other: level.axes[1 - place]} for level in maps]
    first, second = (name for name in _ARRAYS if name != wanted)
    levels = tuple(
        _Map(level.length, (axis[first], axis[second]))
        for level, axis in zip(maps, axes, strict=True)
    )
    gradient = _derivative.bind(values[first], values[second], form=form, by=wanted, maps=levels)
    # What was not mapped over served all of the map: its gradient is the sum.
    shared = [level.axes[place] is None for level in reversed(maps)]
    return jnp.sum(gradient, [i for i, is_shared in enumerate(shared) if is_shared])


_derivative = Primitive("trilinear")
_derivative.def_impl(_evaluate)
_derivative.def_abstract_eval(_shape)
mlir.register_lowering(_derivative, mlir.lower_fun(_evaluate, multiple_results=False))
batching.primitive_batchers[_derivative] = _mapped
ad.defbilinear(_derivative, functools.partial(_transposed, 0), functools.partial(_transposed, 1))
