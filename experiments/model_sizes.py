"""Parameters and operations of every registered model, for `cnnjax list`.

Command:   python -m experiments.model_sizes
Reported:  nothing; the list of models shows them.
Writes:    cnnjax/models/sizes.py, from the layer table of each model at its default size: shapes
           alone, nothing is run. To be called again where a model was added or changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cnnjax as cj
from cnnjax.cli import command
from cnnjax.core.storage import write_bytes
from cnnjax.models.listing import sizes

FILE = Path(cj.models.__file__).parent / "sizes.py"

_HEAD = '''"""Sizes of the models; written by `python -m experiments.model_sizes`."""

# {model: (parameters, floating-point operations for one example)} at the default size.
SIZES: dict[str, tuple[int, int]] = {
'''


@dataclass(frozen=True)
class Config:
    """Options: none."""


def main(config: Config) -> None:
    """Write the file."""
    lines = []
    for name in cj.models.BUILDERS:
        parameters, flops = sizes(name)
        lines.append(f'    "{name}": ({parameters:_}, {flops:_}),\n')
        print(lines[-1].strip(), flush=True)
    write_bytes(FILE, f"{_HEAD}{''.join(lines)}}}\n".encode())


if __name__ == "__main__":
    command(main, Config, "model_sizes")
