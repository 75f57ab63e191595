"""Settings that know themselves: dataclass fields that carry their check and what they act on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from cnnjax.core.checks import Check
from cnnjax.core.text import suggest

Config = TypeVar("Config")


def setting(default: Any, check: Check, of: str = "") -> Any:
    """A field of a dataclass of settings.

    Args:
        default: its value where none is given.
        check: of a value; what it returns is the value.
        of: what the setting belongs to, for `names`.
    """
    return dataclasses.field(default=default, metadata={"check": check, "of": of})


def check_fields(config: Any) -> None:
    """Check every field, for `__post_init__`; NumPy scalars become Python's: records are JSON.

    Raises:
        ValueError: for the first value that its check refuses.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        plain = value.item() if isinstance(value, np.generic) else value
        if check := field.metadata.get("check"):  # none in a subclass of the caller's
            plain = check(field.name, plain)
        object.__setattr__(config, field.name, plain)


def names(config: Any, *of: str) -> tuple[str, ...]:
    """The settings that belong to any of these.

    Args:
        config: a dataclass of settings, or its class.
        of: as in `setting`.
    """
    return tuple(f.name for f in dataclasses.fields(config) if f.metadata.get("of") in of)


def values(config: Any, *of: str) -> dict[str, Any]:
    """`names` with their values; of a class, the defaults."""
    return {name: getattr(config, name) for name in names(config, *of)}


def only(config: Config, *of: str) -> Config:
    """Settings of which all that belong to nothing of these have their defaults."""
    kind: Any = type(config)
    return kind(**values(config, *of))


def changed(config: Any) -> dict[str, Any]:
    """The settings that have other values than their defaults."""
    pairs = ((field, getattr(config, field.name)) for field in dataclasses.fields(config))
    return {field.name: value for field, value in pairs if value != field.default}


def from_dict(kind: type[Config], given: Mapping[str, Any]) -> Config:
    """Settings by name, as JSON holds them; a list becomes a tuple.

    Raises:
        ValueError: for an unknown name, with the nearest ones, or a value out of range.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{kind.__name__} must be settings by name, got {given!r}")
    known: Any = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            hint = suggest(str(name), known, "settings")
            raise ValueError(f"{kind.__name__} has no setting {name!r}. {hint}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
