"""What `TrainingConfig.remat` saves: memory of a training step, and operations that it adds.

The step is compiled and not run: memory is that of its temporary buffers, by XLA's own account,
operations are counted before XLA rewrites them.

Command:   python -m experiments.benchmarks.recomputing [--net resnet50 --batch 16]
           With libtpu (pip install libtpu, or TPU_LIBRARY_PATH) also `--platform tpu`, without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tyro

import cnnjax as cj
from cnnjax.config import REMAT
from cnnjax.core.cost import Cost, cost_of
from cnnjax.core.runtime import compiler_options
from cnnjax.core.table import table
from cnnjax.models.builder import build
from cnnjax.training import programs
from experiments.benchmarks.programs import tpu_devices

# The program is only counted, never run.
_QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    net: str | None = None
    """A name from `cnnjax list`; None takes resnet50 and mobilenet."""
    batch: int = 16
    """Images a step."""
    platform: Literal["cpu", "tpu"] = "cpu"
    """For which kind of device it is compiled."""
    precision: str = "float32"
    """As in `TrainingConfig`."""


def main(config: Config) -> None:
    """Compile and print a table."""
    lines: list[Sequence[object]] = [("net", "remat", "temporary MiB", "", "GFLOP", "")]
    for net in [config.net] if config.net else ["resnet50", "mobilenet"]:
        lines += rows(net, {remat: cost(net, remat, config) for remat in REMAT})
    print(f"batch {config.batch}, {config.precision}, compiled for a {config.platform}\n")
    print(table(lines, "<<>"))


def cost(net: str, remat: str, config: Config) -> Cost:
    """What a training step costs.

    Args:
        net: a name from `cnnjax list`.
        remat: as in `TrainingConfig`.
        config: of the benchmark.
    """
    batch = config.batch
    training = cj.TrainingConfig(batch_size=batch, remat=remat, precision=config.precision)
    work = programs.Work.of(cj.Model.abstract(*build(net)), training, batch)
    if config.platform == "tpu":
        devices = tpu_devices()
        if devices is None:
            raise SystemExit("libtpu is not installed: pip install libtpu, or set TPU_LIBRARY_PATH")
        return cost_of(programs.traced_step(work, "tpu", devices[:1]).lower())
    options = {**_QUICKLY, **(compiler_options(False, recomputed=remat != "none") or {})}
    return cost_of(programs.traced_step(work, "cpu").lower(), options)


def rows(net: str, costs: dict[str, Cost]) -> list[tuple[object, ...]]:
    """A row for each way, with its shares of the first one."""
    first = costs[REMAT[0]]
    return [
        (
            net,
            remat,
            f"{one.temporary / 2**20:,.0f}",
            f"{100 * one.temporary / first.temporary:.0f} %",
            f"{one.flops / 1e9:,.1f}",
            f"{100 * one.flops / first.flops:.0f} %",
        )
        for remat, one in costs.items()
    ]


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.recomputing", description=__doc__))
