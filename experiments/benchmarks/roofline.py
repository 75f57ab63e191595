"""What to expect of an accelerator: operations and bytes of a step against its peaks.

No measurement: of each net's training step, as it is traced for a GPU and compiled, XLA counts the
floating-point operations (before it rewrites them) and the bytes that its operations read and
write in float32 (after it has fused them, by its compiler for CPUs; those for accelerators fuse
more, so that a bound by memory may be exceeded). The step takes `max(FLOP / peak, bytes /
bandwidth)` (Williams et al. 2009), with the peaks of the makers' data sheets. In TF32 the bytes are
the same, in bfloat16 half. Steps of less than some tenths of a millisecond are bound by neither,
but by starting their operations.

Command:   python -m experiments.benchmarks.roofline [--net resnet50 --batch 128]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

import cnnjax as cj
from cnnjax.core.cost import Cost, cost_of
from cnnjax.core.peaks import PEAKS, Peak, bound
from cnnjax.core.table import table
from cnnjax.models.builder import build
from cnnjax.training import programs

# Net: images a step.
NETS = {
    "mnist_convnet": 64,
    "cifar_deep": 128,
    "cats_convnet": 20,
    "mobilenet": 128,
    "resnet50": 128,
}
DEVICES = {
    "H200": "NVIDIA H200",
    "A100 80 GB": "NVIDIA A100-SXM4-80GB",
    "T4": "Tesla T4",
    "TPU v5e": "TPU v5e",
}
# Bytes beside those of float32.
_SIZES = {"float32": 1.0, "tf32": 1.0, "bfloat16": 0.5}
# The program is only counted, never run.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Config:
    """Options of the table."""

    net: str | None = None
    """A name from `cnnjax list`; None takes five."""
    batch: int | None = None
    """Images a step; default: that of the net's benchmark."""


def main(config: Config) -> None:
    """Count and print a table."""
    lines: list[Sequence[object]] = [
        ("net, batch", "GFLOP", "MB", "precision", *(name for name in DEVICES)),
        ("", "an image", "an image", "", *("images/s",) * len(DEVICES)),
    ]
    rules = []
    for net in [config.net] if config.net else NETS:
        batch = config.batch or NETS.get(net, 128)
        rules.append(len(lines))
        lines += rows(net, batch, cost(net, batch))
    print("Bound by arithmetic (a) or memory (m); an expectation, not a measurement.\n")
    print(table(lines, "<>><>", rules))


def cost(net: str, batch: int) -> Cost:
    """What a training step costs in float32.

    Args:
        net: a name from `cnnjax list`.
        batch: images a step.
    """
    model = cj.Model.abstract(*build(net))
    work = programs.Work.of(model, cj.TrainingConfig(batch_size=batch), batch)
    return cost_of(programs.traced_step(work, "gpu").lower(), _QUICKLY)


def rows(net: str, batch: int, cost: Cost) -> list[tuple[object, ...]]:
    """A row for each precision: of the step, and of each device.

    Args:
        net, batch: what `cost` is of.
        cost: of a step.
    """
    found: list[tuple[object, ...]] = []
    for precision, size in _SIZES.items():
        of_step: tuple[Any, ...] = ("", "", "")
        if not found:
            each = (cost.flops / batch / 1e9, cost.moved / batch / 1e6)
            of_step = (f"{net}, {batch}", *(f"{_digits(value, 3):,.6g}" for value in each))
        cells = (_cell(cost, size, batch, PEAKS[device], precision) for device in DEVICES.values())
        found.append((*of_step, precision, *cells))
    return found


def _cell(cost: Cost, size: float, batch: int, peak: Peak, precision: str) -> str:
    limit = bound(cost.flops, size * cost.moved, peak, precision)
    # Two digits are more than an expectation has.
    return "-" if limit is None else f"{_digits(batch / limit.seconds, 2):,.0f} {limit.by[0]}"


def _digits(value: float, count: int) -> float:
    return float(f"{value:.{count}g}")


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.roofline", description=__doc__))
