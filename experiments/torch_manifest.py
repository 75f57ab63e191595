"""Names, shapes and types of the state dicts that torchvision and timm have for our models.

With them the tests know without PyTorch whether a family's table covers a library's files.

Command:   python -m experiments.torch_manifest, with the extra bench
Reported:  nothing; the tests read it.
Writes:    tests/models/pretrained/torch_manifest.json.gz, {source: {model: {array: [type, shape]}}}
           of every model that is named in a table; nothing is computed or downloaded.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.cli import command
from cnnjax.core.storage import write_bytes
from cnnjax.models import BUILDERS
from experiments._torch_peers import built

FILE = Path(__file__).parents[1] / "tests" / "models" / "pretrained" / "torch_manifest.json.gz"


@dataclass(frozen=True)
class Config:
    """Options: none."""


def main(config: Config) -> None:
    """Write the file."""
    found: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = {}
    for name, builder in BUILDERS.items():
        for table in builder.foreign:
            model = table.model or name
            arrays = _state_dict(model, table.source)
            found.setdefault(table.source, {})[model] = {
                key: (str(array.dtype).removeprefix("torch."), list(array.shape))
                for key, array in arrays.items()
            }
            print(f"{model} of {table.source}: {len(arrays)} arrays", flush=True)
    content = json.dumps(found, separators=(",", ":")).encode()
    write_bytes(FILE, gzip.compress(content, mtime=0))


def _state_dict(model: str, source: str) -> Any:
    """Of a net without memory for its arrays, where it can be built so."""
    import torch

    try:
        with torch.device("meta"):
            return built(model, source).state_dict()
    except NotImplementedError:  # it reads values while it is built
        return built(model, source).state_dict()


if __name__ == "__main__":
    command(main, Config, "torch_manifest")
