"""A task or inputs by their name, or of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnjax.core.text import suggest


def known_or_own(given: Any, kind: type[Any], ours: Mapping[str, Any], argument: str) -> Any:
    """What is given, or what is known by that name.

    Args:
        given: a name, or something of one's own.
        kind: class of what is wanted.
        ours: those that have a name.
        argument: what to call it in the message.

    Raises:
        ValueError: for an unknown name, or something of one's own with a name of ours.
    """
    if isinstance(given, kind):
        if ours.get(given.name, given) != given:
            raise ValueError(
                f"{argument} of your own needs a name of its own, {given.name!r} is one of cnnjax"
            )
        return given
    if not isinstance(given, str) or given not in ours:
        raise ValueError(
            f"{argument} must be one of {', '.join(ours)}, got {given!r}, or a cj.{kind.__name__} "
            f"of your own. {suggest(str(given), ours)}"
        )
    return ours[given]
