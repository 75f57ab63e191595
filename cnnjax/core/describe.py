"""Functions, classes and values in words, equal for equal ones in every process."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import math
import sys
import sysconfig
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Whoever describes a whole library by mistake gets this much of it.
_MOST_PARTS = 3000
_MOST_CHARACTERS = 500
_MOST_BYTES = 256 << 20

# The folders of packages, also of those of one user or of the system.
_OF_PACKAGES = frozenset(("site-packages", "dist-packages"))

# CPython's Py_TPFLAGS_HEAPTYPE: a class that is not of C.
_MADE_IN_PYTHON = 1 << 9

# The methods that a dataclass gets, which nobody wrote.
_OF_DATACLASSES = frozenset(vars(dataclasses.make_dataclass("Empty", (), frozen=True)))


def describe(value: Any) -> Any:
    """A value as JSON: what it is and what it holds, without its place in memory.

    Functions and classes of one's own stand there with a hash of their compiled code, which neither
    comments nor the place in the file change, and with what they use: defaults, variables of the
    functions around them, and the functions, classes and constants that their code names. Those of
    installed packages, whose versions are recorded, stand there by name and variables alone.

    Args:
        value: a function, a class, an object or a plain value.

    >>> describe({"rate": 0.5, "shape": (2, 3)})
    {'rate': 0.5, 'shape': [2, 3]}
    >>> describe(functools.partial(math.pow, 2.0))["arguments"]
    [2.0]
    """
    return _Describer().of(value)


class _Describer:
    def __init__(self) -> None:
        self._parts = 0
        self._open: list[Any] = []  # what is being described, for what refers to itself
        self._classes: set[type] = set()  # whose code stands there already

    def of(self, value: Any) -> Any:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            return "..."
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return _scalar(value)
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, Path):
            return str(value)
        if (dtype := _dtype(value)) is not None:
            return str(dtype)
        if isinstance(value, jax.core.Tracer):
            return f"traced {value.aval}"
        if isinstance(value, np.ndarray | np.generic | jax.Array):
            return _array(value)
        if any(value is outer for outer in self._open):
            return f"{_name(value)} itself"
        self._open.append(value)
        try:
            return self._object(value)
        finally:
            self._open.pop()

    def _object(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {_name(k) if callable(k) else str(k): self.of(v) for k, v in value.items()}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return self._instance(value, dict(zip(value._fields, value, strict=True)))
        if isinstance(value, list | tuple):
            return [self.of(item) for item in value]
        if isinstance(value, set | frozenset):
            return sorted((self.of(item) for item in value), key=json.dumps)
        if isinstance(value, functools.partial):
            return {
                "partial": self.of(value.func),
                "arguments": self.of(value.args),
                "keywords": self.of(value.keywords),
            }
        if isinstance(value, types.MethodType):
            return {"partial": self.of(value.__func__), "self": self.of(value.__self__)}
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if callable(value) and hasattr(value, "__wrapped__"):  # of jax.jit, functools.cache
            return self.of(value.__wrapped__)
        if dataclasses.is_dataclass(value):
            # Of a Linen module the parent is where it hangs, not what it is.
            names = [f.name for f in dataclasses.fields(value) if f.name != "parent"]
            return self._instance(value, {n: getattr(value, n, None) for n in names})
        if hasattr(value, "__name__"):  # a function in C
            return {"function": _name(value)}
        own = not _is_library(type(value))
        return self._instance(value, getattr(value, "__dict__", {}) if own else {})

    def _instance(self, value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        described = {name: self.of(item) for name, item in fields.items()}
        return {**self._class(type(value)), "fields": described}

    def _function(self, function: types.FunctionType) -> dict[str, Any]:
        closure = self._closure(function)
        if _is_library(function):
            return {"function": _name(function), "library": True, "closure": closure}
        code, given = function.__code__, function.__defaults__ or ()
        named = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
        defaults = dict(zip(named, given, strict=True))
        return {
            "function": _name(function),
            "module": function.__module__,
            "code": code_hash(code),
            "defaults": self.of({**defaults, **(function.__kwdefaults__ or {})}),
            "closure": closure,
            "uses": self._uses(function),
        }

    def _closure(self, function: types.FunctionType) -> dict[str, Any]:
        found = {}
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not bound yet
                continue
        return {k: self.of(v) for k, v in found.items() if k != "__class__"}

    def _uses(self, function: types.FunctionType) -> dict[str, Any]:
        """What a function of one's own takes from its module, and from others of the caller's."""
        known, names = function.__globals__, _names(function.__code__)
        named = {name: known[name] for name in names if name in known}
        for module in [value for value in named.values() if _is_own_module(value)]:
            inside = {name: getattr(module, name) for name in names if hasattr(module, name)}
            named |= {f"{module.__name__}.{name}": value for name, value in inside.items()}
        return {name: self.of(value) for name, value in named.items() if _is_part(value)}

    def _class(self, kind: type) -> dict[str, Any]:
        if _is_library(kind):
            return {"class": _name(kind), "library": True}
        name = {"class": _name(kind), "module": kind.__module__}
        if kind in self._classes:
            return name
        self._classes.add(kind)
        code: dict[str, Any] = {}
        uses: dict[str, Any] = {}
        closure: dict[str, Any] = {}
        for member, value in _members(kind).items():
            function = _written(value)
            if function is not None:
                code[member] = code_hash(function.__code__)
                closure |= self._closure(function)
                uses |= self._uses(function)
            elif not member.startswith("__"):
                code[member] = self.of(value)
        digest = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:16]
        return {**name, "code": digest, "closure": closure, "uses": uses}


def code_hash(code: types.CodeType) -> str:
    """Of what compiled code does: the same for the same Python, whatever its comments and place."""
    digest = hashlib.sha256()

    def add(code: types.CodeType) -> None:
        digest.update(code.co_code)
        digest.update(repr(code.co_names).encode())
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                add(constant)
            elif isinstance(constant, frozenset):
                digest.update(repr(sorted(map(repr, constant))).encode())
            else:
                digest.update(repr(constant).encode())

    add(code)
    return digest.hexdigest()[:16]


@functools.cache
def is_installed(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to cnnjax.

    Their versions are recorded and say what they do.
    """
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "scripts")]
    folders = [Path(__file__).parents[1], *map(Path, places)]
    path = Path(file)
    return (
        file.startswith("<frozen")
        or any(folder in path.parents for folder in folders)
        or not _OF_PACKAGES.isdisjoint(path.parts)
    )


def _is_library(part: Any) -> bool:
    """Whether a function or class is no code of the caller's."""
    if isinstance(part, types.FunctionType):
        return is_installed(part.__code__.co_filename)
    if not (isinstance(part, type) and part.__flags__ & _MADE_IN_PYTHON):
        return True
    if file := getattr(sys.modules.get(part.__module__), "__file__", None):
        return is_installed(file)
    # Of a notebook, a prompt or `exec`.
    functions = [f for f in map(_written, vars(part).values()) if f is not None]
    return all(is_installed(f.__code__.co_filename) for f in functions)


def _members(kind: type) -> dict[str, Any]:
    """What is written in a class and in those of the caller's that it inherits from."""
    skipped = _OF_DATACLASSES if dataclasses.is_dataclass(kind) else ()
    bases = [base for base in reversed(kind.__mro__) if not _is_library(base)]
    return {k: v for base in bases for k, v in vars(base).items() if k not in skipped}


def _written(member: Any) -> types.FunctionType | None:
    """The function that stands in a class's text for one of its members."""
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, staticmethod | classmethod):
        member = member.__func__
    elif isinstance(member, functools.cached_property):
        member = member.func
    member = inspect.unwrap(member) if callable(member) else member
    return member if isinstance(member, types.FunctionType) else None


def _names(code: types.CodeType) -> list[str]:
    """The names that code looks up, with those of the functions inside it, in their order."""
    inner = [_names(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    return list(dict.fromkeys([*code.co_names, *(name for names in inner for name in names)]))


def _is_own_module(value: Any) -> bool:
    file = getattr(value, "__file__", None) if isinstance(value, types.ModuleType) else None
    return file is not None and not is_installed(file)


def _is_part(value: Any) -> bool:
    """Whether what a function finds in its module decides what it does, and is the caller's."""
    if isinstance(value, types.FunctionType | type) or hasattr(value, "__wrapped__"):
        return not _is_library(inspect.unwrap(value) if callable(value) else value)
    if isinstance(value, list | tuple):
        return all(map(_is_part, value))
    if isinstance(value, dict):
        return all(map(_is_part, value.values()))
    if dataclasses.is_dataclass(value):
        return not _is_library(type(value))
    plain = bool | int | float | complex | str | np.ndarray | np.generic | jax.Array
    return isinstance(value, plain | functools.partial)


def _name(value: Any) -> str:
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return str(name or type(value).__qualname__).rpartition(".")[2]


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = value if isinstance(value, str) else repr(value)
    if len(text) > _MOST_CHARACTERS:
        return f"{text[:40]}... {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text


def _dtype(value: Any) -> np.dtype | None:
    """What np.float32, jnp.float32 or np.dtype("float32") names; None for all else."""
    if isinstance(value, np.dtype):
        return value
    if not isinstance(value, type):
        return None
    if issubclass(value, np.generic):
        return np.dtype(value)
    named = getattr(value, "dtype", None)  # of jnp.float32
    return named if isinstance(named, np.dtype) else None


def _array(value: Any) -> Any:
    array = on_host(value)
    if array.ndim == 0 and isinstance(array.item(), bool | int | float):
        return _scalar(array.item())
    if array.nbytes > _MOST_BYTES or array.dtype.hasobject:
        return f"{array.dtype}{list(array.shape)}"
    return array_text(array)


def on_host(value: Any) -> np.ndarray:
    """An array as NumPy's; of a typed random key, its data."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)


def array_text(array: np.ndarray) -> str:
    """The dtype, the shape and a hash of the content of an array."""
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    return f"{array.dtype}{list(array.shape)} {hashlib.sha256(content).hexdigest()[:16]}"
