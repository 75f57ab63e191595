"""What a verb of the command is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

# What people come for, in the order in which `cnnjax` lists its verbs.
TRAIN, MODELS, INSIDE = "Train and measure", "Models and what they predict", "Look inside"
DATA, RECORDS, MACHINE = "Data", "Runs and records", "This machine"
TASKS = (TRAIN, MODELS, INSIDE, DATA, RECORDS, MACHINE)


class Verb(ABC):
    """A verb of the command: a dataclass whose fields are its options, and whose `run` does it.

    Its name is that of its class in words: `DataInfo` is `cnnjax data info`. The first line of its
    docstring says what it does.
    """

    known: ClassVar[dict[str, type[Verb]]] = {}
    task: ClassVar[str] = MODELS

    def __init_subclass__(cls, task: str = MODELS) -> None:
        """Note it, by its name.

        Args:
            task: one of TASKS, below which it is listed.
        """
        cls.task = task
        Verb.known[" ".join(re.findall("[A-Z][a-z]+", cls.__name__)).lower()] = cls

    @abstractmethod
    def run(self) -> None:
        """Do it."""

    @classmethod
    def instead_of(cls, option: str) -> str:
        """A sentence on what an unknown option is here; "" where nothing but its name is known.

        Args:
            option: as it was given, with its dashes.
        """
        return ""

    @classmethod
    def more_help(cls, arguments: Sequence[str]) -> str:
        """What --help says below the options.

        Args:
            arguments: that are given beside it.
        """
        return ""
