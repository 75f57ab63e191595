"""How a command runs: its settings, and which errors are a line instead of a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from cnnjax.core.terminal import plain_output
from cnnjax.core.text import plain

# As a shell says it of a process that the signal SIGPIPE ended.
_BROKEN_PIPE = 141

WRONG_ARGUMENTS = 2

# Of a line: longer than any path, shorter than what would fill a terminal's memory.
_LONGEST = 8192

PACKAGE = Path(__file__).parents[1]


def run_as_command(action: Callable[[], Any], own: Path = PACKAGE) -> None:
    """Run an action; an error that the user can mend becomes one line, anything else a traceback.

    CNNJAX_TRACEBACK=1 shows the traceback in any case. What is printed is shown, not obeyed.

    Args:
        action: what to run.
        own: a folder whose ValueErrors are written for the user, as the package's are.
    """
    with until_the_reader_leaves(), plain_output():
        try:
            action()
        except KeyboardInterrupt as error:
            stop(str(error) or "interrupted", 130, error)
        except BrokenPipeError:
            raise
        except Exception as error:
            line = _line_for(error, own)
            if line is None:
                raise
            stop(line, 1, error)


@contextlib.contextmanager
def until_the_reader_leaves() -> Iterator[None]:
    """End quietly where who reads the output has had enough of it, as head does."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout, sys.stderr)
        raise SystemExit(_BROKEN_PIPE) from None


@contextlib.contextmanager
def quiet_but_first() -> Iterator[None]:
    """Of several processes only the first one prints."""
    from cnnjax.core.processes import is_first

    with contextlib.ExitStack() as stack:
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        yield


def _line_for(error: Exception, own: Path) -> str | None:
    """What to say of an error; None of one that is a bug of ours, and needs its traceback."""
    from cnnjax.training import NonFiniteLoss

    text = str(error)
    if isinstance(error, OSError | NonFiniteLoss):
        return text
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return f"there is not enough memory: {text or 'no more was given'}"
    if isinstance(error, RuntimeError) and text.startswith("Unable to initialize backend"):
        return text
    if isinstance(error, ValueError):  # one that a library raised is a bug of ours
        frames = traceback.extract_tb(error.__traceback__)
        folders = Path(frames[-1].filename).resolve().parents if frames else ()
        return text if PACKAGE in folders or own in folders else None
    return None


def show(line: object) -> None:
    """One line of the output proper, whatever it holds."""
    print(plain(line, _LONGEST))


def say(line: object) -> None:
    """What is done meanwhile, beside the output proper; one line."""
    print(plain(line, _LONGEST), file=sys.stderr)


def stop(message: str, status: int, error: BaseException) -> NoReturn:
    """End the process with a line; with the error where CNNJAX_TRACEBACK is 1."""
    if os.environ.get("CNNJAX_TRACEBACK") == "1":
        raise error
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would say so once more at its end
        _silence(sys.stdout)
    try:
        say(f"error: {message}" if status in (1, WRONG_ARGUMENTS) else message)
    except OSError:
        _silence(sys.stderr)
    raise SystemExit(status)


def _silence(*streams: Any) -> None:
    """Have what is still to be written go nowhere."""
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):  # ValueError: one without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
