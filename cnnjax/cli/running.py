"""How a command runs: its settings, and which errors are a line instead of a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

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
    run_as_command(lambda: (configure_runtime(), main(options)))


def run_as_command(action: Callable[[], Any]) -> None:
    """Run an action; an error that the user can mend becomes one line, anything else a traceback.

    CNNJAX_TRACEBACK=1 shows the traceback in any case.
    """
    from cnnjax.training import NonFiniteLoss

    try:
        action()
    except KeyboardInterrupt as error:
        _stop(str(error) or "interrupted", 130, error)
    except (OSError, NonFiniteLoss) as error:
        _stop(str(error), 1, error)
    except ValueError as error:
        # One that a library raised is a bug of ours, and needs its traceback.
        frames = traceback.extract_tb(error.__traceback__)
        ours = bool(frames) and _PACKAGE in Path(frames[-1].filename).parents
        if not ours:
            raise
        _stop(str(error), 1, error)


def _stop(message: str, status: int, error: BaseException) -> NoReturn:
    if os.environ.get("CNNJAX_TRACEBACK") == "1":
        raise error
    print(f"error: {message}" if status == 1 else message, file=sys.stderr)
    raise SystemExit(status)
