"""The recipes that `cnnjax train` knows by name."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from cnnjax.recipes import shipped
from cnnjax.recipes.experiment import Recipe


def names() -> tuple[str, ...]:
    """Those of the files in `shipped`, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(shipped.__path__)))


def by_name(name: str) -> Recipe:
    """A recipe; its file is imported.

    Args:
        name: one of `names`.
    """
    recipe: Recipe = import_module(f"{shipped.__name__}.{name}").RECIPE
    return recipe


def described() -> dict[str, str]:
    """The recipes and what each trains, a line each."""
    modules = {name: import_module(f"{shipped.__name__}.{name}") for name in names()}
    return {name: (module.__doc__ or "").partition("\n")[0] for name, module in modules.items()}
