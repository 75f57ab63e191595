"""The programs of a training as a TPU's compiler makes them, without a TPU: each hazard, mended.

Compiled ahead of time for a v5e: what a program reads and writes, its temporary memory and its
all-reduces are then known; how fast it runs is not. Each row is compiled twice, as it would be
without the mend and with it.

Command:   pip install libtpu && python -m experiments.benchmarks.programs [--only norm]
           (or TPU_LIBRARY_PATH=.../libtpu.so, of a copy that is not installed)
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

import jax
import tyro
from flax import linen
from jax import Array
from jax.experimental.compilation_cache import compilation_cache

import cnnjax as cj
from cnnjax.augment import Augment, affine
from cnnjax.core.table import table
from cnnjax.models.builder import build
from cnnjax.nn import BatchNormalization, Conv2D, Dense, norm
from cnnjax.training import programs, scans, shared

TOPOLOGY = "v5e:2x2x1"


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: Literal["layout", "norm", "augment", "precision"] | None = None
    """Which rows; None makes all of them."""


@dataclass(frozen=True)
class Compiled:
    """A program that a compiler has made.

    Args:
        bytes: read and written by all its operations, those of one step of a loop.
        temporary: bytes of memory beside arguments and results.
        all_reduces: sums over the devices.
        seconds: of a core, that compiling took.
    """

    bytes: float
    temporary: int
    all_reduces: int
    seconds: float


@dataclass(frozen=True)
class Case:
    """A program, and what makes of it the one without a mend.

    Args:
        traced: makes the program, for devices.
        devices: their number.
        before: inside of it there is no mend; None where nothing is compared.
    """

    traced: Callable[[Any], Any]
    devices: int = 1
    before: Callable[[], AbstractContextManager] | None = None


def main(config: Config) -> None:
    """Compile, and print a table."""
    devices = tpu_devices()
    if devices is None:
        raise SystemExit("libtpu is not installed: pip install libtpu, or set TPU_LIBRARY_PATH")
    rows: list[tuple[object, ...]] = [
        ("", "GB a step", "", "temporary MiB", "", "all-reduces", "", "CPU s to compile", ""),
        ("", "before", "after", *("before", "after") * 3),
    ]
    for group, cases in CASES.items():
        if config.only not in (None, group):
            continue
        for name, case in cases.items():
            rows.append((name, *_cells(case, devices)))
            print(rows[-1], flush=True)
    print(table(rows, rules=(2,)))


def tpu_devices() -> list[Any] | None:
    """The devices of a TPU that is not there, for compiling; None without libtpu."""
    if not os.environ.get("TPU_LIBRARY_PATH") and importlib.util.find_spec("libtpu") is None:
        return None
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # which asks a machine of the cloud
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no process takes a TPU for itself
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY)
    return list(topology.devices)


def compiled(traced: Any) -> Compiled:
    """What the compiler makes of a traced program."""
    lowered = traced.lower()
    with _compiling_anew():
        began = time.process_time()
        made = lowered.compile()
        seconds = time.process_time() - began
    sums = re.findall(r"= [^=]*? all-reduce(?:-start)?\(", made.as_text())
    return Compiled(
        made.cost_analysis()["bytes accessed"],
        made.memory_analysis().temp_size_in_bytes,
        len(sums),
        seconds,
    )


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Without the cache on disk, of whose programs none can be read for a device that is not there.

    JAX looks at the setting once, until its cache is reset.
    """
    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


class Stack(linen.Module):
    """Convolutions, each with a batch normalisation.

    Args:
        depth: their number.
    """

    depth: int = 4

    @linen.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Logits [N, 10] of [N, H, W, 64]."""
        for number in range(self.depth):
            x = Conv2D(64, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
            x = jax.nn.relu(BatchNormalization(name=f"norm{number}")(x, train))
        return Dense(10, name="logits")(x.mean((1, 2)))


def stack(depth: int = 4) -> cj.Model:
    """A model of `Stack`, whose first layer has as many channels as the others."""
    return cj.Model.from_module(Stack(depth), (28, 28, 64), preprocessing="none")


def step(model: Callable[[], cj.Model], batch_size: int, **settings: Any) -> Callable[[Any], Any]:
    """Traces one step."""
    return lambda devices: programs.traced_step(_work(model, batch_size, settings), "tpu", devices)


def scan(model: Callable[[], cj.Model], batch_size: int, **settings: Any) -> Callable[[Any], Any]:
    """Traces a hundred steps over 50,000 examples that stay on the device."""
    return lambda devices: programs.traced_scan(
        _work(model, batch_size, settings), "tpu", 100, devices
    )


def named(name: str) -> Callable[[], cj.Model]:
    """A built-in model, of which only shapes are made."""
    return lambda: cj.Model.abstract(*build(name))


def _work(model: Callable[[], cj.Model], batch_size: int, settings: Any) -> programs.Work:
    shared.forget()  # a step that is remembered was traced with, or without, the mend
    jax.clear_caches()
    config = cj.TrainingConfig(batch_size=batch_size, **settings)
    return programs.Work.of(model(), config, 50_000)


def _cells(case: Case, devices: list[Any]) -> list[str]:
    chosen, columns = devices[: case.devices], []
    for before in (case.before, contextlib.nullcontext):
        if before is None:
            columns.append(("-",) * 4)
            continue
        with before():
            made = compiled(case.traced(chosen))
        columns.append(
            (
                f"{made.bytes / 1e9:.2f}",
                f"{made.temporary / 2**20:.0f}",
                f"{made.all_reduces}",
                f"{made.seconds:.1f}",
            )
        )
    return [cell for pair in zip(*columns, strict=True) for cell in pair]


def whole_shapes() -> AbstractContextManager:
    """Data on the device as [N, H, W, C]."""
    return patch.object(scans, "flat", lambda arrays: arrays)


def two_passes() -> AbstractContextManager:
    """The variance of the differences from the mean."""
    return patch.object(norm, "_moments_in_one_pass", norm._moments)


def single_pixels() -> AbstractContextManager:
    """Shifts that look up every pixel."""
    return patch.object(affine, "target", SimpleNamespace(platform=lambda: "cpu"))


_SHIFTS = Augment(width_shift=3, height_shift=3, horizontal_flip=True)
_CIFAR = {"precision": "bfloat16"}
CASES: dict[str, dict[str, Case]] = {
    "layout": {
        "CIFAR deep, scan, batch 128": Case(
            scan(named("cifar_deep"), 128, **_CIFAR), 1, whole_shapes
        )
    },
    "norm": {
        "4 convolutions with BatchNorm, batch 128": Case(
            step(stack, 128, precision="bfloat16"), 1, two_passes
        ),
        "the same, batch 512 on 4 chips": Case(
            step(stack, 512, precision="bfloat16"), 4, two_passes
        ),
    },
    "augment": {
        "CIFAR deep, shifts and flips": Case(
            step(named("cifar_deep"), 128, augment=_SHIFTS, **_CIFAR), 1, single_pixels
        )
    },
    "precision": {
        f"1 convolution with BatchNorm, {precision}": Case(
            step(partial(stack, 1), 128, precision=precision)
        )
        for precision in ("bfloat16", "tf32", "float32")
    },
}


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.programs", description=__doc__))
