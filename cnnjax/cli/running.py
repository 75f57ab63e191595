"""How a command runs: its settings, and which errors are a line instead of a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cnnjax.core.places import expanded
from cnnjax.core.terminal import plain_output
from cnnjax.core.text import plain

# As a shell says it of a process that the signal SIGPIPE ended.
_BROKEN_PIPE = 141

_WRONG_ARGUMENTS = 2

# Of a line: longer than any path, shorter than what would fill a terminal's memory.
_LONGEST = 8192

_PACKAGE = Path(__file__).parents[1]


def command(main: Callable[[Any], Any], kind: type, name: str) -> None:
    """Run an experiment's `main` from the command line, with options from its dataclass.

    Args:
        main: takes the parsed options.
        kind: their dataclass; its docstrings are the help.
        name: of the module in experiments/.
    """
    from cnnjax.core.runtime import configure_runtime

    module = sys.modules[main.__module__]
    options = _parsed(kind, name, module.__doc__)
    own = Path(module.__file__).resolve().parent if module.__file__ else _PACKAGE
    run_as_command(lambda: (configure_runtime(), main(options)), own)


def _parsed(kind: type, name: str, description: str | None) -> Any:
    """The options of an experiment; wrong ones end the process."""
    import tyro

    arguments = sys.argv[1:]
    coloured = any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    harmless = all(map(str.isprintable, arguments))
    plainly = contextlib.nullcontext() if coloured and harmless else plain_output()
    with _until_the_reader_leaves(), plainly:
        options: Any = tyro.cli(kind, prog=f"python -m experiments.{name}", description=description)
    try:
        _check_once(arguments)
        for option, value in vars(options).items():
            if isinstance(value, str) and value[:1] in ("", "~"):
                _check_text(option, value)
    except ValueError as error:
        _stop(str(error), _WRONG_ARGUMENTS, error)
    return options


def _check_once(arguments: Sequence[str]) -> None:
    """Of an option that is given twice the first value would be lost."""
    names = [a.partition("=")[0].replace("_", "-") for a in arguments if a.startswith("--")]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{plain(name)} is given twice")


def _check_text(option: str, value: str) -> None:
    try:
        expanded(value)
    except ValueError as error:
        raise ValueError(f"--{option.replace('_', '-')}: {error}") from None


def run_as_command(action: Callable[[], Any], own: Path = _PACKAGE) -> None:
    """Run an action; an error that the user can mend becomes one line, anything else a traceback.

    CNNJAX_TRACEBACK=1 shows the traceback in any case. What is printed is shown, not obeyed.

    Args:
        action: what to run.
        own: a folder whose ValueErrors are written for the user, as the package's are.
    """
    with _until_the_reader_leaves(), plain_output():
        try:
            action()
        except KeyboardInterrupt as error:
            _stop(str(error) or "interrupted", 130, error)
        except BrokenPipeError:
            raise
        except Exception as error:
            line = _line_for(error, own)
            if line is None:
                raise
            _stop(line, 1, error)


@contextlib.contextmanager
def _until_the_reader_leaves() -> Iterator[None]:
    """End quietly where who reads the output has had enough of it, as head does."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout, sys.stderr)
        raise SystemExit(_BROKEN_PIPE) from None


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
        return text if _PACKAGE in folders or own in folders else None
    return None


def show(line: object) -> None:
    """One line of the output proper, whatever it holds."""
    print(plain(line, _LONGEST))


def print_table(names: Sequence[object], rows: Sequence[str]) -> None:
    """A line for each name, with what is said of it in a column of its own."""
    shown = [plain(name, _LONGEST) for name in names]
    width = max(map(len, shown), default=0)
    for name, row in zip(shown, rows, strict=True):
        print(f"{name:{width}}  {plain(row, _LONGEST)}")


def say(line: object) -> None:
    """What is done meanwhile, beside the output proper; one line."""
    print(plain(line, _LONGEST), file=sys.stderr)


def _stop(message: str, status: int, error: BaseException) -> NoReturn:
    if os.environ.get("CNNJAX_TRACEBACK") == "1":
        raise error
    try:
        sys.stdout.flush()
    except OSError:  # the interpreter would say so once more at its end
        _silence(sys.stdout)
    try:
        say(f"error: {message}" if status in (1, _WRONG_ARGUMENTS) else message)
    except OSError:
        _silence(sys.stderr)
    raise SystemExit(status)


def _silence(*streams: Any) -> None:
    """Have what is still to be written go nowhere."""
    for stream in streams:
        with contextlib.suppress(OSError, ValueError):  # ValueError: one without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
