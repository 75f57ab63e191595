"""Paths of parameters and layers: flatten, match patterns, merge, describe differences."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.core.text import suggest

# What stands in a path for "~" itself, for what parts two names, and for what ends a line.
_ESCAPES = {"~": "~0", "/": "~1", "\n": "~2"}


def join(names: Iterable[str]) -> str:
    """The path of nested names as one text, from which `split` gets the same names again.

    It is the names joined with "/". As in a JSON pointer (RFC 6901) a "/" in a name itself, which
    wrappers like Flax's SpectralNorm put there, is written "~1", and a "~" is "~0"; the end of a
    line is "~2". So no two variables ever have one path.

    Raises:
        ValueError: for a name that is no text.

    >>> join(("SpectralNorm_0", "Dense_0/kernel/u"))
    'SpectralNorm_0/Dense_0~1kernel~1u'
    """
    return "/".join(map(_escaped, names))


def split(path: str) -> tuple[str, ...]:
    """The inverse of `join`.

    >>> split("SpectralNorm_0/Dense_0~1kernel~1u")
    ('SpectralNorm_0', 'Dense_0/kernel/u')
    """
    names = path.split("/")
    if "~" in path:
        for plain, escape in reversed(_ESCAPES.items()):  # "~" last: "~01" is "~1"
            names = [name.replace(escape, plain) for name in names]
    return tuple(names)


def _escaped(name: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"names of layers and variables must be texts, got {name!r}")
    for plain, escape in _ESCAPES.items():
        name = name.replace(plain, escape)
    return name


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries to one, its keys the paths of `join`, in sorted order.

    An empty dictionary in it is kept, as a leaf; `leaves` leaves it out.

    >>> flatten({"conv1": {"kernel": 1, "bias": 2}, "norm": {}})
    {'conv1/bias': 2, 'conv1/kernel': 1, 'norm': {}}
    """
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value, path = tree[key], prefix + _escaped(key)
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{path}/"))
        else:
            flat[path] = value
    return flat


def leaves(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What `flatten` makes of a tree, without its empty dictionaries: of variables the arrays."""
    return {path: leaf for path, leaf in flatten(tree).items() if not isinstance(leaf, Mapping)}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    Raises:
        ValueError: if a path is a part of another one.

    >>> unflatten({"conv1/bias": 2, "conv1/kernel": 1})
    {'conv1': {'bias': 2, 'kernel': 1}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = split(path)
        node = tree
        for depth, parent in enumerate(parents):
            node = node.setdefault(parent, {})
            if join(parents[: depth + 1]) in flat or not isinstance(node, dict):
                raise ValueError(f"{path!r} lies below {parent!r}, which is a value itself")
        if leaf in node:
            raise ValueError(f"{path!r} is a value, and others lie below it")
        node[leaf] = {} if isinstance(value, Mapping) and not value else value
    return tree


def matches(path: str, pattern: str) -> bool:
    """Whether a shell-style pattern names this path or one of its parents.

    `block[1-4]_*` matches `block1_conv1`, `block1_conv1/kernel` and everything below. A "/" in a
    pattern stands for one between two names and for one in a name, "~1" for the latter alone.
    """
    plain = "/".join(split(path))
    return any(
        fnmatch.fnmatchcase("/".join(parts[: i + 1]), pattern)
        for parts in {tuple(text.split("/")) for text in (plain, path)}
        for i in range(len(parts))
    )


def select(
    paths: Iterable[str], patterns: Sequence[str], argument: str, what: str = "parameter"
) -> set[str]:
    """The paths that any of the patterns names.

    Args:
        paths: of parameters or layers, as `join` makes them.
        patterns: shell-style patterns of layers or parameters.
        argument: what to call the patterns in the error message.
        what: the paths are: "parameter", "trained parameter" or "layer".

    Raises:
        ValueError: if a pattern names nothing; offers the nearest layer names. For a string, whose
            letters would be the patterns.
    """
    if isinstance(patterns, str):
        raise ValueError(f"{argument} must be a tuple of patterns, got the string {patterns!r}")
    paths = list(paths)
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {p for p in paths if matches(p, pattern)}
        if not hits:
            parameters = what.endswith("parameter")
            layers = sorted({p.rsplit("/", 1)[0] for p in paths}) if parameters else paths
            raise ValueError(
                f"{argument}={pattern!r} names no {what}. {suggest(pattern, layers, 'layers')}"
            )
        chosen |= hits
    return chosen


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Differences of two flat dictionaries, line by line: - missing, + extra, ~ changed.

    >>> differences({"a": 1, "b": 2}, {"b": 3, "c": 4})
    ['- a', '~ b: expected 2, found 3', '+ c']
    """
    lines = [f"- {k}" for k in expected if k not in found]
    lines += [
        f"~ {k}: expected {expected[k]}, found {found[k]}"
        for k in expected
        if k in found and expected[k] != found[k]
    ]
    return lines + [f"+ {k}" for k in found if k not in expected]


def map_flat(function: Callable[[str, Any], Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of the same form with `function(path, leaf)` at every leaf."""
    mapped = {path: function(path, leaf) for path, leaf in leaves(tree).items()}
    return unflatten({**flatten(tree), **mapped})


def leaf_hash(leaf: Any) -> str:
    """SHA-256 of an array's dtype, shape and bytes (C order), as 64 hexadecimal digits."""
    array = np.asarray(leaf)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def tree_hash(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the sorted paths and hashes of all leaves: equal only if bitwise equal."""
    return flat_hash(leaves(tree))


def flat_hash(flat: Mapping[str, Any]) -> str:
    """What `tree_hash` is of a tree, of its leaves by path, in their order."""
    digest = hashlib.sha256()
    for path, leaf in flat.items():
        digest.update(f"{path} {leaf_hash(leaf)}\n".encode())
    return digest.hexdigest()
