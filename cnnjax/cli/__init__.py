"""The `cnnjax` command, whose verbs call public functions, and the experiments' command line."""

from cnnjax.cli.parser import command, main
from cnnjax.cli.running import run_as_command

__all__ = ["command", "main", "run_as_command"]
