"""What a verb of the command is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar


class Verb(ABC):
    """A verb of the command: a dataclass whose fields are its options, and whose `run` does it.

    Its name is that of its class in words: `DataInfo` is `cnnjax data info`. The first line of its
    docstring says what it does.
    """

    known: ClassVar[dict[str, type[Verb]]] = {}

    def __init_subclass__(cls) -> None:
        """Note it, by its name."""
        Verb.known[" ".join(re.findall("[A-Z][a-z]+", cls.__name__)).lower()] = cls

    @abstractmethod
    def run(self) -> None:
        """Do it."""
