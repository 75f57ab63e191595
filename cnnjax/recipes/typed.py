"""Settings that are given as text, NAME=VALUE, as what their fields take."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from cnnjax.augment import Augment
from cnnjax.config import TrainingConfig, to_dict
from cnnjax.core.habits import TO_SETTINGS
from cnnjax.core.text import suggest

_WORDS = {"none": None, "true": True, "false": False}


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Texts by name.

    Args:
        texts: each NAME=VALUE.

    Raises:
        ValueError: for a text without "=", or a name that is given twice.

    >>> pairs(["epochs=3", "schedule=cosine"])
    {'epochs': '3', 'schedule': 'cosine'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"a setting is NAME=VALUE, e.g. epochs=3, got {text!r}")
        if name in found:
            raise ValueError(f"{name} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found


def value_of(text: str, kind: Any = Any) -> Any:
    """A value from its text: a Python literal, none, true or false, or the text itself.

    Args:
        text: of one setting.
        kind: the type of its field; of a tuple one item, or several between commas, will do, and
            PATTERN:NUMBER of pairs.

    >>> value_of("1e-3"), value_of("true"), value_of("cosine")
    (0.001, True, 'cosine')
    >>> value_of("0.1", float | tuple[float, float]), value_of("0.5,2", tuple[float, float] | None)
    (0.1, (0.5, 2))
    >>> value_of("8,", tuple[int, ...])
    (8,)
    >>> value_of("conv1,block5_*:2", tuple[str, ...])
    ('conv1', 'block5_*:2')
    >>> value_of("block5_*:0.1", tuple[tuple[str, float], ...])
    (('block5_*', 0.1),)
    """
    parts = [part for part in _alternatives(kind) if get_origin(part) is tuple]
    if str in _alternatives(kind) and not parts:  # a text, or none where that is one of its values
        return None if text.lower() == "none" and NoneType in get_args(kind) else text
    alone = "," not in text and len(parts) < len(_alternatives(kind))  # a value, or a tuple of some
    if not parts or alone or text.startswith(("(", "[")) or text.lower() in _WORDS:
        return _plain(text)
    item = get_args(parts[0])[0]
    texts = [part.strip() for part in text.removesuffix(",").split(",")] if text else []
    if get_origin(item) is tuple:
        halves = [part.rpartition(":") for part in texts]
        return tuple((p, _plain(number)) if p else number for p, _, number in halves)
    return tuple(texts) if item is str else tuple(map(_plain, texts))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union but None, or the one type."""
    union = get_origin(kind) in (Union, UnionType)
    return tuple(part for part in get_args(kind) if part is not NoneType) if union else (kind,)


def _plain(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def with_settings(training: TrainingConfig, given: Mapping[str, str]) -> TrainingConfig:
    """Settings with some replaced, as a command line names them.

    Args:
        training: what holds where nothing is given.
        given: text by name of a setting; `augment.NAME` is one of the augmentation.

    Raises:
        ValueError: for an unknown name (offers the nearest), or a value that is refused.

    >>> short = with_settings(TrainingConfig(), {"epochs": "3", "augment.horizontal_flip": "true"})
    >>> short.epochs, short.augment.horizontal_flip
    (3, True)
    """
    hints = get_type_hints(TrainingConfig)
    new: dict[str, Any] = {}
    parts: dict[str, str] = {}
    for name, text in given.items():
        group, dot, part = name.partition(".")
        if dot and group == "augment":
            parts[part] = text
        elif name in hints:
            new[name] = value_of(text, hints[name])
        else:
            hint = TO_SETTINGS.get(name) or suggest(name, hints, "settings")
            raise ValueError(f"there is no setting {name!r}. {hint[0].upper()}{hint[1:]}")
    if parts:
        new["augment"] = _augmentation(new.get("augment", training.augment), parts)
    return replace(training, **new)


def _augmentation(augment: Any, given: Mapping[str, str]) -> Augment:
    """An augmentation with some of its settings replaced."""
    if augment is not None and not isinstance(augment, Augment):
        raise ValueError(
            f"augment.{next(iter(given))} is a setting of an Augment, and this recipe's augment is "
            f"{augment!r}"
        )
    hints = get_type_hints(Augment)
    for name in given:
        if name not in hints:
            raise ValueError(f"augment has no setting {name!r}. {suggest(name, hints, 'settings')}")
    values = {name: value_of(text, hints[name]) for name, text in given.items()}
    return replace(augment or Augment(), **values)


def told(training: TrainingConfig, usual: TrainingConfig) -> dict[str, Any]:
    """The settings that differ from a recipe's, as JSON, for its record.

    >>> told(TrainingConfig(augment=Augment(zoom=0.1)), TrainingConfig(augment=Augment()))
    {'augment.zoom': 0.1}
    """
    now, then = to_dict(training), to_dict(usual)
    differing = {name: value for name, value in now.items() if value != then[name]}
    if isinstance(now["augment"], dict) and isinstance(then["augment"], dict):
        parts = differing.pop("augment", {}).items()
        differing |= {f"augment.{n}": value for n, value in parts if value != then["augment"][n]}
    return differing


def explained(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, in one line each.

    >>> explained(TrainingConfig)["epochs"]
    'passes over the training data, >= 1.'
    """
    arguments = re.split(r"\n\s*\n?    (?:Raises|Returns|References):", kind.__doc__ or "")[0]
    known = "|".join(field.name for field in fields(kind))
    entries = re.split(rf"\n        ((?:(?:{known})(?:, )?)+): ", arguments)
    texts = zip(entries[1::2], entries[2::2], strict=True)
    return {n: " ".join(text.split()) for names, text in texts for n in names.split(", ")}
