"""The command line of `cnnjax`: its verbs stand in files by theme, each with its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from cnnjax.cli import data, inside, machine, models, records
from cnnjax.cli.running import run_as_command
from cnnjax.core.terminal import plain_output
from cnnjax.core.text import plain


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the verb.

    Args:
        arguments: without the program's name; None takes those of this process.
    """
    with plain_output():
        options = _parsed(arguments)
        run_as_command(lambda: options.verb(options))


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse ends the list of files at the first option; what follows it are files too.
    if rest and (not hasattr(options, "files") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.files += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cnnjax",
        description="Research with convolutional networks in JAX. Trainings are started by "
        "python -m experiments.NAME.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for theme in (models, inside, data, records, machine):
        theme.add(verbs)
    return parser


class _Parser(argparse.ArgumentParser):
    """One whose options may be given once only; those of its verbs are of this class too."""

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        for name in (None, "store"):
            self.register("action", name, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        """End the process with one line, whatever was given."""
        super().error(plain(message, 2000))


class _StoreOnce(argparse.Action):
    """Stores a value; of an option that is given twice the first would be lost."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store it in the namespace, which remembers the options that were given."""
        given: list[str] = vars(namespace).setdefault("given", [])
        if option_string is not None and self.dest in given:
            raise argparse.ArgumentError(self, "given twice")
        given.append(self.dest)
        setattr(namespace, self.dest, values)
