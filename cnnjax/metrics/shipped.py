"""The shipped metrics by name, and the checks of their settings."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from cnnjax.core.text import suggest
from cnnjax.metrics.metric import Metric, With

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


def as_call(measure: Any) -> str | None:
    """The call that makes a shipped metric; None for another one, and for a function.

    >>> as_call(by_name("top_k", 3)), as_call(by_name("top_k")), as_call(print)
    ('top_k(k=3)', 'top_k()', None)
    """
    if not isinstance(measure, Metric):
        return None
    parts = (measure.init, measure.update, measure.compute)
    settings = {k: v for part in parts if isinstance(part, With) for k, v in part.settings}
    for name, factory in SHIPPED.items():
        known = inspect.signature(factory).parameters
        given = {k: v for k, v in settings.items() if k in known and v != known[k].default}
        try:
            same = factory(**given) == measure
        except (TypeError, ValueError):  # the settings are those of another metric
            continue
        if same:
            return f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
    return None


def from_call(text: Any) -> Metric | None:
    """The metric that `as_call` gave a text of; None for any other text.

    Args:
        text: from a record, which may hold anything; nothing but a shipped metric is made of it.

    >>> from_call("top_k(k=3)") == by_name("top_k", 3), from_call("exit()")
    (True, None)
    """
    try:
        call: Any = ast.parse(str(text), mode="eval").body
        settings = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        return None if call.args else SHIPPED[call.func.id](**settings)
    except (SyntaxError, AttributeError, KeyError, TypeError, ValueError):
        return None


def check_average(average: str | None, *known: str | None) -> None:
    """Refuse an average that there is not."""
    if average not in known:
        names = ", ".join(map(repr, known))
        raise ValueError(f"average must be one of {names}, got {average!r}")
