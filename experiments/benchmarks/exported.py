"""Exported files of the nets: how far their outputs are from the models', how large they are.

Random weights, images as small as each net takes them, two at a time; every net by name whose
weights are below 500 MB, or one. The file is run by onnxruntime, or by `jax.export` without
cnnjax's engines, and its logits are compared with the model's; a difference of more than 1e-5 of
the largest is an error.

Command:   pip install -e ".[export]" && python -m experiments.benchmarks.exported [--only resnet50]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import tyro

import cnnjax as cj
from cnnjax.core.table import table
from cnnjax.core.text import suggest
from cnnjax.models import BUILDERS
from cnnjax.models.builder import build

_MOST = 500e6  # bytes of weights


@dataclass(frozen=True)
class Config:
    """Options."""

    only: str | None = None
    """A name from `cnnjax list`; None takes all."""
    format: Literal["onnx", "stablehlo"] | None = None
    """None takes both."""


def main(config: Config) -> None:
    """Export, and print a line a file."""
    if config.only is not None and config.only not in BUILDERS:
        raise ValueError(f"only={config.only!r}: {suggest(config.only, BUILDERS, 'models')}")
    formats: list[str] = [config.format] if config.format else ["onnx", "stablehlo"]
    rows = [("net", "images", *formats, "MiB", "s")]
    for name in [config.only] if config.only else BUILDERS:
        if row := measured(name, formats):
            rows.append(row)
            print("  ".join(row), flush=True)
    print("\n" + table(rows, "<<" + ">" * (len(formats) + 2)))


def measured(name: str, formats: list[str]) -> tuple[str, ...] | None:
    """Name, size of the images, difference of each format, MiB, seconds; None of large nets."""
    shape = BUILDERS[name].input_shape
    if len(shape) == 3 and shape[0] >= 128:  # the backbones
        side = max(BUILDERS[name].min_size, 32)
        shape = (side, side, shape[2])
    module, spec = build(name, input_shape=shape)
    leaves = jax.tree.leaves(cj.Model.abstract(module, spec).variables)
    if sum(leaf.size * 4 for leaf in leaves) > _MOST:
        return None
    began, model = time.perf_counter(), cj.create_model(name, input_shape=shape)
    with tempfile.TemporaryDirectory() as folder:
        files = [
            cj.export(model, Path(folder) / f"m.{one}", batch=2, logits=True) for one in formats
        ]
        size = files[0].path.stat().st_size / 2**20
    differences = [f"{file.difference:.1e}" for file in files]
    seconds = time.perf_counter() - began
    sizes = "x".join("any" if n is None else str(n) for n in shape)
    return name, sizes, *differences, f"{size:.1f}", f"{seconds:.0f}"


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.exported", description=__doc__))
