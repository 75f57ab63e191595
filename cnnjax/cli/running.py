"""How a command runs: its settings, and which errors are a line instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# As a shell says it of a process that the signal SIGPIPE ended.
_BROKEN_PIPE = 141

_PACKAGE = Path(__file__).parents[1]


def command(main: Callable[[Any], Any], kind: type, name: str) -> None:
    """Run an experiment's `main` from the command line, with options from its dataclass.

    Args:
        main: takes the parsed options.
        kind: their dataclass; its docstrings are the help.
        name: of the module in experiments/.
    """
    import tyro

    from cnnjax.runtime import configure_runtime

    module = sys.modules[main.__module__]
    options: Any = tyro.cli(kind, prog=f"python -m experiments.{name}", description=module.__doc__)
    own = Path(module.__file__).resolve().parent if module.__file__ else _PACKAGE
    run_as_command(lambda: (configure_runtime(), main(options)), own)


def run_as_command(action: Callable[[], Any], own: Path = _PACKAGE) -> None:
    """Run an action; an error that the user can mend becomes one line, anything else a traceback.

    CNNJAX_TRACEBACK=1 shows the traceback in any case.

    Args:
        action: what to run.
        own: a folder whose ValueErrors are written for the user, as the package's are.
    """
    from cnnjax.training import NonFiniteLoss

    try:
        action()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        _stop(str(error) or "interrupted", 130, error)
    except BrokenPipeError:  # who reads the output has had enough of it, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_BROKEN_PIPE) from None
    except (OSError, NonFiniteLoss) as error:
        _stop(str(error), 1, error)
    except ValueError as error:
        # One that a library raised is a bug of ours, and needs its traceback.
        frames = traceback.extract_tb(error.__traceback__)
        folders = Path(frames[-1].filename).resolve().parents if frames else ()
        ours = _PACKAGE in folders or own in folders
        if not ours:
            raise
        _stop(str(error), 1, error)


def say(line: str) -> None:
    """What is done meanwhile, beside the output proper."""
    print(line, file=sys.stderr)


def _stop(message: str, status: int, error: BaseException) -> NoReturn:
    if os.environ.get("CNNJAX_TRACEBACK") == "1":
        raise error
    print(f"error: {message}" if status == 1 else message, file=sys.stderr)
    raise SystemExit(status)
