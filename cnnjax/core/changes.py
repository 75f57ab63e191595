"""What differs between two descriptions of `cnnjax.core.describe`, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What a resumed run may be told to go on without: see `TrainingConfig`.
CHANGEABLE = (
    "module", "loss", "optimizer", "schedule", "augment", "sampler", "objective", "metrics", "code",
    "step",
)  # fmt: skip

_KINDS = ("class", "function", "partial")

# What a function or class has got from around it: named by its own name, wherever it hangs.
_AROUND = frozenset(("closure", "uses", "defaults"))
_UNNAMED = frozenset(("fields", "keywords", "partial"))


@dataclass(frozen=True)
class Difference:
    """Where two descriptions differ.

    Args:
        text: for people.
        given: whether a value that somebody gave is another one; else it lies in code, or in what
            code refers to, where it need not change what is computed.
        code: whether it is code itself.
    """

    text: str
    given: bool
    code: bool = False


def differences(then: Any, now: Any, *, same_versions: bool = True) -> list[Difference]:
    """What differs between two descriptions, each once.

    Args:
        then, now: what `describe` returned.
        same_versions: whether Python and the packages are the same; where not, compiled code and
            the insides of packages cannot be compared.

    >>> [d.text for d in differences({"rate": 0.5}, {"rate": 0.2})]
    ['rate=0.5 then, 0.2 now']
    """
    return list(dict.fromkeys(_compare(then, now, _Place(same_versions=same_versions))))


def kind_of(description: Any) -> str:
    """The name of the class or function that was described; "" of another value."""
    if not isinstance(description, Mapping):
        return ""
    name = next((description[key] for key in _KINDS if key in description), "")
    return kind_of(name) if isinstance(name, Mapping) else str(name)


@dataclass(frozen=True)
class _Place:
    """Where in a description: its path, the function or class there, and what counts there."""

    path: str = ""
    owner: str = ""
    given: bool = True
    library: bool = False
    same_versions: bool = True

    @property
    def comparable(self) -> bool:
        """Whether a part that is missing means anything."""
        return self.same_versions or not self.library


def _compare(then: Any, now: Any, place: _Place) -> list[Difference]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        if kind_of(then) != kind_of(now):
            return [_changed(then, now, place)] if place.comparable else []
        return _mappings(then, now, _inside(now, place))
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = enumerate(zip(then, now, strict=True))
        found = []
        for i, (before, after) in pairs:
            found += _compare(before, after, dataclasses.replace(place, path=f"{place.path}[{i}]"))
        return found
    mixed = type(then) is not type(now) or isinstance(now, list)
    if then == now or (mixed and not place.comparable):
        return []
    return [_changed(then, now, place)]


def _inside(description: Mapping, place: _Place) -> _Place:
    if not kind_of(description):
        return place
    library = "library" in description or (place.library and "code" not in description)
    return dataclasses.replace(place, owner=kind_of(description), library=library)


def _mappings(then: Mapping, now: Mapping, place: _Place) -> list[Difference]:
    found: list[Difference] = []
    described = bool(kind_of(now))
    for key in dict.fromkeys([*then, *now]):
        below = _below(place, key, described)
        if key in then and key in now:
            if described and key == "code":
                if place.same_versions and then[key] != now[key]:
                    found.append(Difference(f"the code of {place.owner}", False, code=True))
            elif not (described and key == "module"):
                found += _compare(then[key], now[key], below)
        elif place.comparable and not described:
            # A setting that a class has got since, or has lost: what it does decides, not its name.
            change = _changed(then.get(key, "none"), now.get(key, "none"), below)
            found.append(dataclasses.replace(change, given=False, code=True))
    return found


def _below(place: _Place, key: str, described: bool) -> _Place:
    if described and key in _AROUND:
        return dataclasses.replace(place, path="", given=False)
    if described and key in _UNNAMED:
        return place
    return dataclasses.replace(place, path=f"{place.path}.{key}" if place.path else str(key))


def _changed(then: Any, now: Any, place: _Place) -> Difference:
    text = f"{_said(then)} then, {_said(now)} now"
    return Difference(f"{place.path}={text}" if place.path else text, place.given)


def _said(value: Any) -> str:
    text = kind_of(value) or str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
