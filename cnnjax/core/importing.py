"""Functions by the path that they can be imported from, for records."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import sys
from typing import Any

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def import_path(part: Any) -> str | None:
    """The "module:name" of a function, class or object; None where no import would find it again.

    That is so of what stands in another function, in a notebook, at a prompt or in a script that is
    no module; a script that was started by `python -m` is one. An object, such as a partial or a
    `Metric`, is looked for where the functions in it come from.

    Args:
        part: a function, a class, or an object of functions.

    >>> import json
    >>> import_path(json.dumps), import_path(lambda: 0)
    ('json:dumps', None)
    """
    module, name = getattr(part, "__module__", None), getattr(part, "__qualname__", None)
    if not isinstance(name, str):
        module, name = _place(part)
    there = sys.modules.get(module) if isinstance(module, str) else None
    if there is None or not isinstance(name, str) or "<" in name:
        return None
    if _attribute(there, name) is not part:
        return None
    if module == "__main__":
        spec = getattr(there, "__spec__", None)
        return f"{spec.name}:{name}" if spec else None
    return f"{module}:{name}"


def _place(part: Any) -> tuple[str | None, str | None]:
    """The module at whose top an object has a name, and that; (None, None) of others."""
    inner = [part.func] if isinstance(part, functools.partial) else []
    if dataclasses.is_dataclass(part):
        inner = [getattr(part, field.name) for field in dataclasses.fields(part)]
    modules = dict.fromkeys(getattr(one, "__module__", None) for one in inner if callable(one))
    for module in modules:
        for name, value in vars(sys.modules[module]).items() if module in sys.modules else ():
            if value is part:
                return module, name
    return None, None


def imported(path: Any) -> Any:
    """What `import_path` gave a path of; None where there is no such path, module or name.

    Args:
        path: from a record, which may hold anything.
    """
    if not (isinstance(path, str) and _PATH.fullmatch(path)):
        return None
    module, _, name = path.partition(":")
    try:
        return _attribute(importlib.import_module(module), name)
    except ImportError:
        return None


def _attribute(module: Any, name: str) -> Any:
    return functools.reduce(lambda part, each: getattr(part, each, None), name.split("."), module)
