"""The page of parity, docs/parity.md, from the record that `experiments.parity` made.

Command:   python -m experiments.parity_page
Reported:  nothing; a table of differences.
Reads:     docs/records/parity.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.cli import command
from cnnjax.core.places import Place, expanded
from cnnjax.core.storage import write_bytes

_DOCS = Path(__file__).parents[1] / "docs"

_BEGIN = """# Parity of the backbones

Each model below was built in the library beside it, with random weights, biases and BatchNorm
statistics, saved by that library (Keras: `.weights.h5`; torchvision and timm: `torch.save` of the
state dict, `.pth`) and loaded by `cj.create_model(..., weights=FILE)`. The same random image of an
odd size went through both, in float32 at the highest precision. *Outputs* is the largest difference
of any compared layer (beside Keras all, beside PyTorch those with weights), relative to the largest
value of that layer's output. *Statistics* and *gradients* are those of one step in training mode in
float64, without dropout and stochastic depth; beside PyTorch the gradients are those of all
weights, and its running variance, which it keeps unbiased, is brought to ours by (n - 1) / n.

The averages of MobileNetV3 move by torchvision's momentum; timm's is ten times that, so that its
statistics after a step are others.

Made by `python -m experiments.parity --peer keras|torchvision|timm --record
docs/records/parity.json` on a CPU and written by `python -m experiments.parity_page`. Versions:
VERSIONS.

"""


@dataclass(frozen=True)
class Config:
    """Options of the page."""

    record: Place = str(_DOCS / "records" / "parity.json")
    """The record."""
    out: Place = str(_DOCS / "parity.md")
    """The page."""


def main(config: Config) -> None:
    """Write the page."""
    record = json.loads(expanded(config.record).read_text())
    versions = sorted(
        {
            f"{k} {v}"
            for peers in record.values()
            for e in peers.values()
            for k, v in e["versions"].items()
        }
    )
    parts = [_BEGIN.replace("VERSIONS", ", ".join(versions)), *_overview(record)]
    parts.append("\n## Largest relative difference of each block\n")
    for name, peers in record.items():
        parts += _blocks(name, peers)
    write_bytes(expanded(config.out), "".join(parts).encode())
    print(config.out)


def _overview(record: dict[str, Any]) -> list[str]:
    lines = ["| model | beside | input | layers | outputs | statistics | gradients |\n"]
    lines.append("|---|---|---|--:|--:|--:|--:|\n")
    for name, peers in record.items():
        for peer, entry in peers.items():
            size = "x".join(map(str, entry["size"]))
            training = entry["training"]
            gradients = [v for kind, v in training.items() if kind.startswith("gradient")]
            cells = [
                name,
                peer,
                size,
                str(entry["layers"]),
                f"{max(entry['blocks'].values()):.1e}",
                f"{training['statistics']:.1e}" if "statistics" in training else "",
                f"{max(gradients):.1e}" if gradients else "",
            ]
            lines.append(f"| {' | '.join(cells)} |\n")
    return lines


def _blocks(name: str, peers: dict[str, Any]) -> list[str]:
    blocks = list(dict.fromkeys(block for entry in peers.values() for block in entry["blocks"]))
    lines = [f"\n### {name}\n\n", f"| block | {' | '.join(peers)} |\n"]
    lines.append("|---|" + "--:|" * len(peers) + "\n")
    for block in blocks:
        values = [e["blocks"].get(block) for e in peers.values()]
        shown = " | ".join("" if value is None else f"{value:.1e}" for value in values)
        lines.append(f"| {block} | {shown} |\n")
    return lines


if __name__ == "__main__":
    command(main, Config, "parity_page")
