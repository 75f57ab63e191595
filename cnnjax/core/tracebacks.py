"""Short tracebacks in IPython and notebooks, where an error's sentence says it all."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

from cnnjax.core.describe import is_installed

_PACKAGE = Path(__file__).parents[1]
_KEPT = "_cnnjax_handlers_before"


def load_ipython_extension(shell: Any) -> None:
    """Show cnnjax's own one-sentence errors with the caller's code alone: `%load_ext cnnjax`.

    Errors of other code, and those of cnnjax that are not written for its users, are shown as
    before. `%tb` shows the whole traceback, `%unload_ext cnnjax` undoes it.

    Args:
        shell: IPython's.
    """
    setattr(shell, _KEPT, (shell.custom_exceptions, shell.CustomTB))
    shell.set_custom_exc((ValueError, *shell.custom_exceptions), _show)


def unload_ipython_extension(shell: Any) -> None:
    """Undo `load_ipython_extension`."""
    shell.custom_exceptions, shell.CustomTB = getattr(shell, _KEPT)


def shortened(error: BaseException, trace: types.TracebackType) -> types.TracebackType | None:
    """The frames of the caller's own code, and those before it; None of another's error.

    Args:
        error: that was raised.
        trace: its traceback.
    """
    frames = []
    here: types.TracebackType | None = trace
    while here is not None:
        frames.append(here)
        here = here.tb_next
    if not isinstance(error, ValueError) or _PACKAGE not in Path(_file(frames[-1])).parents:
        return None
    own = [not is_installed(_file(frame)) for frame in frames]
    if not any(own):
        return None
    short = None
    for number in reversed(range(len(frames))):
        if own[number] or number < own.index(True):
            at = frames[number]
            short = types.TracebackType(short, at.tb_frame, at.tb_lasti, at.tb_lineno)
    return short


def _file(trace: types.TracebackType) -> str:
    return trace.tb_frame.f_code.co_filename


def _show(
    shell: Any,
    kind: type[BaseException],
    error: BaseException,
    trace: types.TracebackType,
    tb_offset: int | None = None,
) -> None:
    """What IPython calls for an error in a cell."""
    others, handler = getattr(shell, _KEPT)
    short = shortened(error, trace)
    if short is None and isinstance(error, others):
        handler(kind, error, trace, tb_offset=tb_offset)
        return
    shell.showtraceback((kind, error, short or trace), tb_offset=tb_offset)
    sys.last_traceback = trace  # for %tb
