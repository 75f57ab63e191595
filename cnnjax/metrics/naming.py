"""The metrics that a caller gives, and their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from cnnjax.metrics.metric import LOOP_NAMES, PARTS, Measure, Metric
from cnnjax.metrics.shipped import SHIPPED


def checked(given: Mapping[str, Measure] | None, taken: Iterable[str] = ()) -> dict[str, Measure]:
    """The metrics that a caller gave, by name.

    Args:
        given: metrics by name, or None.
        taken: the names of those of the task.

    Raises:
        ValueError: for what is no metric, or a name that means something else in a record.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(
            f"metrics must be a mapping of names to metrics, e.g. {{'f1': cj.metrics.f1()}}, got "
            f"{given!r}"
        )
    for name, measure in given.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z]\w*", name):
            raise ValueError(
                f"metrics: a name must be of letters, digits and '_', e.g. 'top5', got {name!r}"
            )
        if name in taken:
            raise ValueError(
                f"metrics: {name!r} is measured already, by the model's task: give yours another "
                "name"
            )
        if name in LOOP_NAMES or name.startswith(PARTS):
            raise ValueError(
                f"metrics: {name!r} means something else in a record, as do "
                f"{', '.join(LOOP_NAMES)} and all that begins with {' or '.join(PARTS)}: give the "
                "metric another name"
            )
        value: Any = measure
        if factory := next((k for k, made in SHIPPED.items() if made is value), None):
            raise ValueError(
                f"metrics: {name!r} is cj.metrics.{factory} itself: give cj.metrics.{factory}()"
            )
        if not callable(measure) and not isinstance(measure, Metric):
            raise ValueError(
                f"metrics: {name!r} must be a Metric, or a function (outputs, labels) -> [N], got "
                f"{measure!r}"
            )
    return dict(given)
