"""The command line of `cnnjax`: its verbs stand in files by theme, each with its options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cnnjax.cli import data, inside, machine, models, records
from cnnjax.cli.running import run_as_command


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the verb.

    Args:
        arguments: without the program's name; None takes those of this process.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse ends the list of files at the first option; what follows it are files too.
    if rest and (not hasattr(options, "files") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.files += rest
    run_as_command(lambda: options.verb(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnjax",
        description="Research with convolutional networks in JAX. Trainings are started by "
        "python -m experiments.NAME.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for theme in (models, inside, data, records, machine):
        theme.add(verbs)
    return parser
