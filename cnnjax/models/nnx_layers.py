"""Layers of an NNX module as the Linen ones by which the rest of the package knows them."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flax import linen, nnx
from flax.core import Scope

# For a kind of NNX's layers Linen's, and for each of its settings NNX's name.
_TWINS: tuple[tuple[type[nnx.Module], type[linen.Module], dict[str, str]], ...] = (
    (
        nnx.Conv,
        linen.Conv,
        {
            "features": "out_features",
            "kernel_size": "kernel_size",
            "strides": "strides",
            "padding": "padding",
            "input_dilation": "input_dilation",
            "kernel_dilation": "kernel_dilation",
            "feature_group_count": "feature_group_count",
        },
    ),
    (
        nnx.ConvTranspose,
        linen.ConvTranspose,
        {"features": "out_features", "kernel_size": "kernel_size"},
    ),
    (nnx.Linear, linen.Dense, {"features": "out_features"}),
    (nnx.LinearGeneral, linen.DenseGeneral, {"features": "out_features", "axis": "axis"}),
    (nnx.BatchNorm, linen.BatchNorm, {"use_running_average": "use_running_average"}),
    (nnx.Dropout, linen.Dropout, {"rate": "rate", "deterministic": "deterministic"}),
    (
        nnx.MultiHeadAttention,
        linen.MultiHeadDotProductAttention,
        {
            "num_heads": "num_heads",
            "dropout_rate": "dropout_rate",
            "deterministic": "deterministic",
            "attention_fn": "attention_fn",
        },
    ),
)

# The attribute of a layer in which its place stands.
_PLACE = "cnnjax_place"


class Place:
    """Where a layer lies in its net.

    Each is equal to itself alone. NNX's transformations keep what they traced for modules with
    equal attributes, and must not take a layer that was called elsewhere for this one.

    Args:
        names: of the attributes that lead to it.
    """

    def __init__(self, names: tuple[str, ...]):
        self.names = names


class _Layer:
    """What a twin has beside Linen's settings: the call and the attributes of NNX's layer."""

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("nnx_settings", {})
        if name in settings:
            return settings[name]
        return super().__getattr__(name)  # type: ignore[misc]  # of linen.Module


def names_of(path: tuple[Any, ...]) -> tuple[str, ...]:
    """The names of a path of NNX, whose lists are numbered.

    >>> names_of(("layers", 0, "kernel"))
    ('layers', '0', 'kernel')
    """
    return tuple(map(str, path))


def let_through(net: nnx.Module) -> None:
    """Let the call of every layer in a net go through Linen's interceptors, as a Linen layer's.

    Args:
        net: that belongs to nobody else; its layers get a class of the same name and an attribute.
    """
    for path, layer in list(nnx.iter_modules(net)):
        if path and callable(layer):
            object.__setattr__(layer, "__class__", _watched(type(layer)))
            setattr(layer, _PLACE, Place(names_of(path)))


@functools.cache
def _watched(kind: type[nnx.Module]) -> type[nnx.Module]:
    """The class of layers of a kind that say when they are called."""

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        twin, fields = _twin(kind, self)

        def call(*args: Any, **kwargs: Any) -> Any:
            """With what was set on the twin meanwhile, e.g. a function that watches attention."""
            with _set(self, {name: getattr(twin, field) for field, name in fields.items()}):
                return kind.__call__(self, *args, **kwargs)

        object.__setattr__(twin, "nnx_call", call)
        return twin(*args, **kwargs)

    functools.update_wrapper(__call__, kind.__call__)
    members = {"__call__": __call__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    make: Any = type(kind)
    return make(kind.__name__, (kind,), members, pytree=kind._pytree__is_pytree)


@contextlib.contextmanager
def _set(layer: nnx.Module, settings: Mapping[str, Any]) -> Iterator[None]:
    """Settings of a layer that are other ones than its own, for the time of a call."""
    own = vars(layer)
    before = {name: own[name] for name, value in settings.items() if own[name] is not value}
    for name in before:
        setattr(layer, name, settings[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(layer, name, value)


def _twin(kind: type[nnx.Module], layer: nnx.Module) -> tuple[linen.Module, dict[str, str]]:
    names = getattr(layer, _PLACE).names
    twin, fields = _twin_class(kind)
    settings = {field: getattr(layer, name) for field, name in fields.items()}
    made = twin(parent=Scope({}, name=names[-1], path=names), **settings)
    own = {k: v for k, v in vars(layer).items() if not k.startswith("_") and k != _PLACE}
    object.__setattr__(made, "nnx_settings", own)
    return made, fields


@functools.cache
def _twin_class(kind: type[nnx.Module]) -> tuple[Callable[..., linen.Module], dict[str, str]]:
    base, fields = next(
        ((base, fields) for known, base, fields in _TWINS if issubclass(kind, known)),
        (linen.Module, {}),
    )

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.nnx_call(*args, **kwargs)

    __call__.__signature__ = inspect.signature(kind.__call__)  # type: ignore[attr-defined]
    members = {"__call__": __call__, "__module__": __name__}
    return type(kind.__name__, (_Layer, base), members), fields
