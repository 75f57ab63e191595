"""Parity of many families noted in one file, from which `parity_page` makes a page."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cnnjax.core.places import expanded
from cnnjax.core.storage import write_bytes
from cnnjax.models import BUILDERS
from experiments import _torch_peers, parity

# Largest relative difference of a training step beside PyTorch, in float64 but for the weights,
# which a file keeps in float32.
_EXACT = 1e-5

# What names of layers begin with, down to the block.
_BLOCK = re.compile(
    r"(?:.*?_)?stage_\d+_block_\d+|s\d+_b\d+|conv\d+_block\d+|block_?\d+[a-z]?|"
    r"conv_[dp]w_\d+|expanded_conv_?\d*|fire\d+|mixed\d+|[^_0-9]+\d*"
)


def record(config: parity.Config) -> None:
    """Compare the families with a peer, and note what came of it after each.

    Raises:
        SystemExit: of status 1 if one differs by more than the tolerance, or cannot be compared.
    """
    file = expanded(config.record) if config.record else None
    failed = []
    known = json.loads(file.read_text()) if file and file.is_file() and config.missing else {}
    names = [config.model] if config.model else _one_of_each_first(parity.families(config.peer))
    for name in names:
        if config.peer in known.get(name, {}):
            continue
        try:
            entry = _entry(name, config)
        except (ValueError, RuntimeError) as error:  # the other models are compared all the same
            failed.append(name)
            print(f"{name} beside {config.peer}: {str(error)[:600]}", flush=True)
            continue
        if not _within(entry, config):
            failed.append(name)
        print(f"{name} beside {config.peer}: {_line(entry)}", flush=True)
        if file is not None:
            _note(file, name, config.peer, entry)
    if failed:
        raise SystemExit(f"beyond the tolerance, or not compared: {', '.join(failed)}")


def _one_of_each_first(names: list[str]) -> list[str]:
    """The first model of each file of the zoo before the others."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(BUILDERS[name].module.__module__, name)
    return list(dict.fromkeys([*first.values(), *names]))


def _entry(name: str, config: parity.Config) -> dict[str, Any]:
    size = config.size or parity.odd_size(name)
    if config.peer == "keras":
        lines = parity.compare(parity.twins(name, size, config.format, config.seed), config.seed)
        pair = parity.twins(
            name, size, config.format, config.seed, include_top=False, pooling="avg"
        )
        training = parity.compare_training(pair, config.seed).worst()
    else:
        peers = _torch_peers.twins(name, config.peer, size, "pth", config.seed)
        lines = _torch_peers.compare(peers, config.seed)
        training = _torch_peers.compare_training(peers, config.seed)
    blocks: dict[str, float] = {}
    for line in lines:
        found = _BLOCK.match(line.layer)
        block = found[0] if found else line.layer
        blocks[block] = max(blocks.get(block, 0.0), line.relative)
    return {
        "size": list(size),
        "layers": len(lines),
        "blocks": {block: float(f"{value:.1e}") for block, value in blocks.items()},
        "training": {kind: float(f"{line.relative:.1e}") for kind, line in training.items()},
        "versions": {n: version(n) for n in ("jax", config.peer)},
    }


def _within(entry: dict[str, Any], config: parity.Config) -> bool:
    """Written so that NaN is not."""
    exact = parity.EXACT if config.peer == "keras" else _EXACT
    outputs = all(value <= config.tolerance for value in entry["blocks"].values())
    return outputs and all(value <= exact for value in entry["training"].values())


def _line(entry: dict[str, Any]) -> str:
    worst = max(entry["blocks"], key=entry["blocks"].get)
    steps = ", ".join(f"{kind} {value:.1e}" for kind, value in entry["training"].items())
    return f"{entry['layers']} layers, {entry['blocks'][worst]:.1e} in {worst}; training: {steps}"


def _note(file: Path, name: str, peer: str, entry: dict[str, Any]) -> None:
    """Into the file, in the registry's order; what models that are gone left is dropped."""
    content = json.loads(file.read_text()) if file.is_file() else {}
    content.setdefault(name, {})[peer] = entry
    ordered = {name: content[name] for name in BUILDERS if name in content}
    write_bytes(file, (json.dumps(ordered, indent=1) + "\n").encode())
