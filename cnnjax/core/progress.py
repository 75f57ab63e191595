"""A bar on stderr while something takes long, if somebody sees it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from cnnjax.core.terminal import drawable, plain_output
from cnnjax.core.text import plain

# Moves a bar: so much is done, of so much (None: not known).
Move = Callable[[int, int | None], object]


@contextlib.contextmanager
def progress_bar(name: str, *, wanted: bool = True, of_bytes: bool = False) -> Iterator[Move]:
    """Show a bar that goes away at the end.

    Args:
        name: what is worked on.
        wanted: False shows none, nor does a stderr that is no terminal.
        of_bytes: count in bytes, shown as MB.

    Yields:
        What moves it: a function of what is done and the total, or None.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn() if of_bytes else MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(file=drawable(sys.stderr))
    # What is printed meanwhile goes by way of the bar, which obeys it.
    with Progress(*columns, console=console, transient=True) as bar, plain_output():
        task = bar.add_task(plain(name, 60), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
