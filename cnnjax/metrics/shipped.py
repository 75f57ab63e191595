"""The shipped metrics by name, and the checks of their settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cnnjax.core.text import suggest
from cnnjax.metrics.metric import Metric

Factory = TypeVar("Factory", bound=Callable[..., Metric])

SHIPPED: dict[str, Callable[..., Metric]] = {}


def shipped(factory: Factory) -> Factory:
    """Note a function that makes a metric, by its name."""
    SHIPPED[factory.__name__] = factory
    return factory


def by_name(name: str, *settings: Any) -> Metric:
    """A shipped metric.

    Args:
        name: of the function that makes it.
        settings: its arguments.

    Raises:
        ValueError: for an unknown name, with the nearest ones, or a setting that it does not take.

    >>> by_name("top_k", 3).mode
    'max'
    """
    if name not in SHIPPED:
        raise ValueError(f"there is no metric {name!r}. {suggest(name, SHIPPED, 'metrics')}")
    try:
        return SHIPPED[name](*settings)
    except TypeError:
        raise ValueError(f"the metric {name!r} takes no {', '.join(map(repr, settings))}") from None


def check_average(average: str | None, *known: str | None) -> None:
    """Refuse an average that there is not."""
    if average not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(f"average must be one of {names}, got {average!r}")
