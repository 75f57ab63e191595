"""Command lines: those of `cnnjax`, whose verbs are dataclasses, and those of experiments."""

from __future__ import annotations

import contextlib
import io
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from importlib import import_module
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, TypeVar, cast, get_args, get_type_hints

from cnnjax.cli import verbs
from cnnjax.cli.running import (
    PACKAGE,
    WRONG_ARGUMENTS,
    quiet_but_first,
    run_as_command,
    show,
    stop,
    until_the_reader_leaves,
)
from cnnjax.cli.verb import TASKS, Verb
from cnnjax.core.places import PLACE, expanded
from cnnjax.core.table import table
from cnnjax.core.terminal import plain_output
from cnnjax.core.text import plain, suggest

Options = TypeVar("Options")

# Characters of an error that quotes an argument.
_LONGEST = 2000

# Defaults, as tyro writes them, of options that are not given.
_NOTHING = ("", "None", "none", "False", "[]", "()")

_BEGIN = """cnnjax: research with convolutional networks in JAX.

  cnnjax train quickstart    a first model, in under a minute, of data that needs no files
  cnnjax VERB --help         what a verb does, and what it can be told
  cnnjax --version"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb of the command `cnnjax`.

    Args:
        arguments: without the program's name; None takes those of this process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    with plain_output():
        if given == ["--version"]:
            return run_as_command(lambda: show(version("cnnjax")))
        known = _verbs()
        name = next((w for n in (2, 1) if (w := " ".join(given[:n])) in known), None)
        if name is None:
            return run_as_command(lambda: _overview(given, known))
        verb = parse(known[name], given[len(name.split()) :], f"cnnjax {name}")
        return run_as_command(verb.run)


def command(main: Callable[[Any], Any], kind: type, name: str) -> None:
    """Run an experiment's `main` from the command line, with options from its dataclass.

    Args:
        main: takes the parsed options.
        kind: their dataclass; its docstrings are the help. A `distributed` among them is for
            `configure_runtime`.
        name: of the module in experiments/.
    """
    from cnnjax.core.runtime import configure_runtime

    module = sys.modules[main.__module__]
    options: Any = parse(kind, sys.argv[1:], f"python -m experiments.{name}", module.__doc__)
    own = Path(module.__file__).resolve().parent if module.__file__ else PACKAGE

    def run() -> None:
        configure_runtime(distributed=getattr(options, "distributed", False))
        with quiet_but_first():
            main(options)

    run_as_command(run, own)


def parse(
    kind: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> Options:
    """The options of a command; wrong ones end the process with one line.

    Args:
        kind: their dataclass.
        arguments: without the program's name.
        program: what its usage begins with.
        description: in its help, instead of the dataclass's docstring.
    """
    coloured = any(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))
    harmless = all(map(str.isprintable, arguments))
    plainly = contextlib.nullcontext() if coloured and harmless else plain_output()
    try:
        with until_the_reader_leaves(), plainly:
            options, rest = _parsed(kind, arguments, program, description)
        _check_once(kind, arguments)
        return cast(Options, _completed(options, rest))
    except ValueError as error:
        stop(f"{plain(error, _LONGEST)} ({program} --help)", WRONG_ARGUMENTS, error)


def _verbs() -> dict[str, type[Verb]]:
    """Those of the files of a folder, by their names and in the order of these."""
    for module in pkgutil.iter_modules(verbs.__path__, f"{verbs.__name__}."):
        import_module(module.name)
    return dict(sorted(Verb.known.items()))


def _overview(given: Sequence[str], known: Mapping[str, type[Verb]]) -> None:
    """Print the verbs, all or those of a group; an error if what is given names none."""
    group = next((f"{w} " for w in given[:1] if any(n.startswith(f"{w} ") for n in known)), "")
    names = [name for name in known if name.startswith(group)]
    usage = f"usage: cnnjax {group}[-h] VERB ..."
    asked = given[bool(group) :][:1]
    if not asked or asked[0] in ("-h", "--help"):
        print(f"{usage}\n")
        print(_listed(names, known) if group else _by_task(names, known))
        return
    unknown = plain(f"{group}{asked[0]}", _LONGEST)
    message = f"there is no verb {unknown!r}. {suggest(unknown, names, 'verbs')}"
    stop(f"{message} ({usage})", WRONG_ARGUMENTS, ValueError(message))


def _by_task(names: Sequence[str], known: Mapping[str, type[Verb]]) -> str:
    """All verbs, below what people come for."""
    width = max(map(len, names))
    parts = [_BEGIN]
    for task in TASKS:
        lines = _listed([name for name in names if known[name].task == task], known, width)
        parts.append(f"{task}\n{indent(lines, '  ')}")
    return "\n\n".join(parts)


def _listed(names: Sequence[str], known: Mapping[str, type[Verb]], width: int = 0) -> str:
    """Verbs and what they do, a line each."""
    lines = [(n.ljust(width), (known[n].__doc__ or "").partition("\n")[0]) for n in names]
    return table(lines, "<")


def _parsed(
    kind: type, arguments: Sequence[str], program: str, description: str | None
) -> tuple[Any, list[str]]:
    """Options, and the arguments that tyro does not know.

    Raises:
        ValueError: for what cannot be parsed, in one sentence.
    """
    import tyro

    printed = io.StringIO()
    if issubclass(kind, Verb):
        _without_empty_defaults(kind)
    of_verbs = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                kind,
                prog=program,
                description=description,
                args=list(arguments),
                return_unknown_args=True,
                config=of_verbs if issubclass(kind, Verb) else (),
            )
    except SystemExit as end:
        if not end.code:
            more = kind.more_help(arguments) if issubclass(kind, Verb) else ""
            print(f"{more}\n" if more else "", end="")
            raise
        raise ValueError(_sentence(printed.getvalue())) from None


def _without_empty_defaults(kind: type) -> None:
    """Have the help of a verb leave out defaults that say nothing; its texts say what holds."""
    from tyro.conf import UseAppendAction, arg

    hint = arg(help_behavior_hint=lambda label: "" if label in _NOTHING else f"(default: {label})")
    hints = get_type_hints(kind, include_extras=True)
    kind.__annotations__ = {
        name: given if _has(given, UseAppendAction) else Annotated[given, hint]
        for name, given in hints.items()
    }


def _sentence(box: str) -> str:
    """What the first part of a box says that tyro draws round an error."""
    shown = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = re.findall(r"^[│|] (.*?) *[│|]$", shown, re.MULTILINE)
    if not lines:  # an output of few characters gets no box, but a heading above a line
        lines = [line.strip() for line in shown.splitlines()][2:]
    first = takewhile(lambda line: not re.fullmatch("[─-]{8,}", line), lines)
    text = " ".join(" ".join(first).partition("Got errors")[0].split()).rstrip(".")
    text = re.sub(r"(?<=Expected one of )\((.*)\)", _choices, text).replace(" (required)", "")
    return text or box.strip()


def _choices(listed: re.Match) -> str:
    """The names in a tuple that tyro prints, sorted, as their order in it is another each time."""
    return ", ".join(sorted(set(re.findall(r"'([^']*)'", listed[1])) - {"None"}))


def _check_once(kind: type, arguments: Sequence[str]) -> None:
    """Of an option that is given twice the first value would be lost."""
    from tyro.conf import UseAppendAction

    repeated = [o for o, hint in _options(kind).items() if _has(hint, UseAppendAction)]
    names = [a.partition("=")[0].replace("_", "-") for a in arguments if a.startswith("--")]
    for number, name in enumerate(names):
        if name in names[:number] and name not in repeated:
            raise ValueError(f"{plain(name)} is given twice")


def _options(kind: type) -> dict[str, Any]:
    """The options of a dataclass, each with the type of its field."""
    hints = get_type_hints(kind, include_extras=True)
    return {f"--{field.name.replace('_', '-')}": hints[field.name] for field in fields(kind)}


def _mentions(hint: Any, marker: Any) -> bool:
    """Whether a type, or one that it is made of, has a marker."""
    return hint == marker or any(_mentions(part, marker) for part in get_args(hint))


def _has(hint: Any, marker: Any) -> bool:
    """Whether a type has a marker of tyro's."""
    return _mentions(hint, get_args(marker[int])[1])


def _completed(options: Any, rest: Sequence[str]) -> Any:
    """Options with all of the files that they end with, and with ~ replaced in paths."""
    from tyro.conf import Positional

    needed = [f.name for f in fields(options) if f.default is MISSING is f.default_factory]
    hints = get_type_hints(type(options), include_extras=True)
    files = [
        f.name
        for f in fields(options)
        if isinstance(getattr(options, f.name), tuple)
        and (f.name in needed or _has(hints[f.name], Positional))
    ]
    unknown = next((text for text in rest if text.startswith("-") or not files), None)
    if unknown is not None:
        hint = f". {_instead_of(unknown, options)}" if unknown.startswith("-") else ""
        raise ValueError(f"Unrecognized {plain(unknown, _LONGEST)}{hint}")
    # What follows an option after the first of the files are files too.
    changed: dict[str, Any] = {name: _with_more(options, name, rest) for name in files}
    for name in files:
        if name in needed and not changed[name]:
            raise ValueError(f"{name}: at least one is needed")
    for option, hint in _options(type(options)).items():
        name = option.removeprefix("--").replace("-", "_")
        shown = name if _has(hint, Positional) else option
        value = changed.get(name, getattr(options, name))
        if _mentions(hint, PLACE):
            changed[name] = _expanded(shown, value)
        elif not isinstance(options, Verb):  # an experiment's text may be a path, unmarked
            _expanded(shown, value)
    return replace(options, **changed)


def _instead_of(unknown: str, options: Any) -> str:
    """A sentence on what an unknown option is here, or which are like it."""
    from tyro.conf import Positional

    if isinstance(options, Verb) and (known := options.instead_of(unknown)):
        return known
    hints = _options(type(options))
    return suggest(unknown, [o for o in hints if not _has(hints[o], Positional)], "options")


def _with_more(options: Any, name: str, rest: Sequence[str]) -> tuple[str, ...]:
    """The files of a field and those that follow an option; a default is replaced."""
    default = next(f.default for f in fields(options) if f.name == name)
    value = getattr(options, name)
    return (*rest,) if rest and value == default else (*value, *rest)


def _expanded(option: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_expanded(option, text) for text in value)
    if not isinstance(value, str) or value[:1] not in ("", "~"):
        return value
    try:
        return str(expanded(value))
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
