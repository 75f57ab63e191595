"""What `cnnjax train --help` says of recipes and settings, from their own documentation."""

from __future__ import annotations

import shutil
from dataclasses import fields
from textwrap import fill
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cnnjax.core.table import table
from cnnjax.core.text import qualified_name

_WIDEST, _INDENT = 100, "      "


def settings_help(name: str | None = None) -> str:
    """Every recipe and every setting with its value.

    Args:
        name: of the recipe whose values are shown; None, or of no recipe: `TrainingConfig`'s.
    """
    from cnnjax.augment import Augment
    from cnnjax.config import TrainingConfig
    from cnnjax.recipes import known
    from cnnjax.recipes.typed import explained

    recipe = known.by_name(name) if name in known.names() else None
    parts = [f"recipes:\n{table(known.described().items(), '<')}"]
    training: Any = TrainingConfig()
    if recipe and name:
        training = recipe.experiment(recipe.options()).training
        own = _own_options(recipe.options)
        if own:
            parts.append(f"options of {name}: {', '.join(own)}")
    whose = f"as {name} has them" if recipe else "with their defaults"
    parts.append(f"settings, NAME=VALUE, {whose}:")
    texts = explained(TrainingConfig)
    parts += [_entry(f.name, getattr(training, f.name), texts[f.name]) for f in fields(training)]
    augment = training.augment or Augment()
    parts.append("of the augmentation:")
    texts = explained(Augment)
    parts += [
        _entry(f"augment.{f.name}", getattr(augment, f.name), texts[f.name])
        for f in fields(augment)
    ]
    return "\n\n".join(parts)


def _entry(name: str, value: Any, text: str) -> str:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    shown = qualified_name(value) if callable(value) else value
    return f"  {name}={shown}\n" + fill(
        text, width, initial_indent="      ", subsequent_indent="      "
    )


def _own_options(kind: type) -> list[str]:
    """Those that a recipe has beside the common ones, with what they may be."""
    from cnnjax.recipes.experiment import RecipeOptions

    common = get_type_hints(RecipeOptions)
    shown = []
    for name, hint in get_type_hints(kind).items():
        if name in common:
            continue
        parts = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
        choices = "|".join(str(c) for part in parts for c in get_args(part))
        shown.append(f"{name}={choices or '...'}")
    return shown
