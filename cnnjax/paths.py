"""Paths of parameters and layers: flatten, match patterns, merge, describe differences."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries to one, its keys joined with "/", in sorted order.

    >>> flatten({"conv1": {"kernel": 1, "bias": 2}})
    {'conv1/bias': 2, 'conv1/kernel': 1}
    """
    flat: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    Raises:
        ValueError: if a path is a part of another one.

    >>> unflatten({"conv1/bias": 2, "conv1/kernel": 1})
    {'conv1': {'bias': 2, 'kernel': 1}}
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path!r} lies below {parent!r}, which is a value itself")
        if leaf in node:
            raise ValueError(f"{path!r} is a value, and others lie below it")
        node[leaf] = value
    return tree


def matches(path: str, pattern: str) -> bool:
    """Whether a shell-style pattern names this path or one of its parents.

    `block[1-4]_*` matches `block1_conv1`, `block1_conv1/kernel` and everything below.
    """
    parts = path.split("/")
    return any(fnmatch.fnmatchcase("/".join(parts[: i + 1]), pattern) for i in range(len(parts)))


def select(
    paths: Iterable[str], patterns: Sequence[str], argument: str, what: str = "parameter"
) -> set[str]:
    """The paths that any of the patterns names.

    Args:
        paths: slash-joined paths of parameters or layers.
        patterns: shell-style patterns of layers or parameters.
        argument: what to call the patterns in the error message.
        what: the paths are: "parameter", "trained parameter" or "layer".

    Raises:
        ValueError: if a pattern names nothing; offers the nearest layer names.
    """
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


def suggest(name: str, known: Iterable[str], what: str = "names") -> str:
    """A sentence that offers the nearest known names, or all of them if none is near.

    >>> suggest("resnet05", ["resnet50", "vgg16"])
    "Did you mean 'resnet50'?"
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(repr(n) for n in near) + "?"
    return f"Known {what}: {', '.join(known)}." if known else f"There are no known {what}."


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
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def leaf_hash(leaf: Any) -> str:
    """SHA-256 of an array's dtype, shape and bytes (C order), as 64 hexadecimal digits."""
    array = np.asarray(leaf)
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def tree_hash(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the sorted paths and hashes of all leaves: equal only if bitwise equal."""
    digest = hashlib.sha256()
    for path, leaf in flatten(tree).items():
        digest.update(f"{path} {leaf_hash(leaf)}\n".encode())
    return digest.hexdigest()
