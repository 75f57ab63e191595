"""What the benchmarks share: who takes part, measurements in turn, ratios within a round."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# What `alternate` calls after each round, with its number and values.
Show = Callable[[int, dict[str, float]], None]

# glibc's allocator told to keep its memory and to take it in large pages, as
# `cj.configure_runtime` tells it from within.
TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

# Where a process that is started finds the experiments.
_CHECKOUT = Path(__file__).resolve().parents[2]

_AT_LEAST = 0.05  # seconds of one measurement of `milliseconds`: shorter ones are the clock's


@dataclass(frozen=True)
class Peer:
    """A library and the environment it runs in.

    Args:
        worker: "cnnjax", "keras" or "torch", as in `twins.WORKERS`.
        environment: variables beside those of this process.
    """

    worker: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Measured:
    """What one process did.

    Args:
        rates: images/s of each epoch.
        seconds: from the start of the process to the end of its training.
        peak_mib: its largest resident memory.
    """

    rates: tuple[float, ...]
    seconds: float
    peak_mib: float


def others() -> dict[str, Peer]:
    """Keras and PyTorch by the name they are shown with, where they are installed."""
    found: dict[str, Peer] = {}
    if importlib.util.find_spec("keras"):
        # On a GPU JAX would compute in TF32, which cnnjax does not.
        precise = {"JAX_DEFAULT_MATMUL_PRECISION": "float32"}
        found["keras"] = Peer("keras", {"KERAS_BACKEND": "jax", **precise})
    if importlib.util.find_spec("torch"):
        found |= {"torch": Peer("torch", {}), "torch, tuned allocator": Peer("torch", TUNED)}
    return found


def device() -> str:
    """What JAX computes on, in words.

    Asked in a process of its own: one that has used a GPU keeps most of its memory.
    """
    code = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    backend, _, kind = output.stdout.strip().partition(" ")
    return f"{os.cpu_count()} cores" if backend == "cpu" else kind


def train(
    peer: Peer, model: str, examples: int, epochs: int, environment: Mapping[str, str] | None = None
) -> Measured:
    """Train in a process of its own.

    Args:
        peer: who.
        model: a name of `twins.SETTINGS`.
        examples: number of random images.
        epochs: passes over them.
        environment: further variables.

    Raises:
        RuntimeError: with the end of its error output, if the process fails.
    """
    arguments = (peer.worker, model, examples, epochs)
    return _measured(peer, f"twins.measure_here{arguments!r}", environment)


def infer(
    peer: Peer, model: str, batch: int, batches: int, environment: Mapping[str, str] | None = None
) -> Measured:
    """Predict in a process of its own.

    Args:
        peer: who.
        model: "vgg16", "resnet50" or "mobilenet".
        batch: images at once.
        batches: after the first one, which is not in the rates.
        environment: further variables.

    Raises:
        RuntimeError: with the end of its error output, if the process fails.
    """
    arguments = (peer.worker, model, batch, batches)
    return _measured(peer, f"backbones.measure_here{arguments!r}", environment)


def sequences(peer: Peer, net: str, steps: int, epochs: int) -> Measured:
    """Train a net of texts in a process of its own.

    Args:
        peer: who.
        net: a name of `sequences.NETS`.
        steps: of an epoch.
        epochs: how many.

    Raises:
        RuntimeError: with the end of its error output, if the process fails.
    """
    arguments = (peer.worker, net, steps, epochs)
    return _measured(peer, f"sequences.measure_here{arguments!r}", None)


def families(
    peer: Peer, part: str, arguments: tuple[Any, ...], python: str = sys.executable
) -> Measured:
    """Predict or train with a newer backbone in a process of its own.

    Args:
        peer: who.
        part: "predict" or "train".
        arguments: net and numbers, as `families.predict_here` and `train_here` take them.
        python: the interpreter.

    Raises:
        RuntimeError: with the end of its error output, if the process fails.
    """
    call = f"families.{part}_here{(peer.worker, *arguments)!r}"
    return _measured(peer, call, None, python)


def explain(worker: str, count: int, calls: int) -> Measured:
    """Explain in a process of its own.

    Args:
        worker: a name of `explainers.WORKERS`; one of Keras runs on its JAX backend, one that ends
            in "tuned allocator" with `TUNED`.
        count: images or filters at once.
        calls: after the first one, which is not in the rates.

    Raises:
        RuntimeError: with the end of its error output, if the process fails.
    """
    tuned = TUNED if worker.endswith("tuned allocator") else {}
    peer = Peer(worker, {"KERAS_BACKEND": "jax", **tuned})
    return _measured(peer, f"explainers.measure_here{(worker, count, calls)!r}", None)


def _measured(
    peer: Peer, call: str, environment: Mapping[str, str] | None, python: str = sys.executable
) -> Measured:
    """Run a function of a module of the benchmarks in a new process."""
    code = f"from experiments.benchmarks import {call.partition('.')[0]}; {call}"
    variables = {**os.environ, **peer.environment, **(environment or {})}
    command = [python, "-c", code]
    began = time.time()  # the one clock that both processes read
    result = subprocess.run(
        command, env=variables, cwd=_CHECKOUT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    found = json.loads(result.stdout.strip().splitlines()[-1])
    return Measured(tuple(found["rates"]), found["ended"] - began, found["peak_mib"])


def alternate(
    names: Sequence[str],
    rounds: int,
    measure: Callable[[str, int], T],
    show: Callable[[int, dict[str, T]], None] | None = None,
) -> dict[str, list[T]]:
    """Measure all in turn, round after round, since the speed of a shared machine drifts.

    Args:
        names: of what is measured.
        rounds: how often each.
        measure: (name, number of the round from 0) -> value.
        show: called after each round with its number and values.

    Returns:
        The values of each name, in the order of the rounds.
    """
    values: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            values[name].append(measure(name, number))
        if show:
            show(number, {name: found[-1] for name, found in values.items()})
    return values


def milliseconds(
    programs: Mapping[str, Callable[..., Any]], arguments: Sequence[Any], rounds: int
) -> dict[str, list[float]]:
    """Times of programs in this process, alternately.

    Args:
        programs: by name; called once to compile, then so often that a measurement lasts .05 s.
        arguments: of all of them.
        rounds: measurements of each.

    Returns:
        The times of each name, in the order of the rounds.
    """
    import jax

    def seconds(name: str, repeats: int) -> float:
        began = time.perf_counter()
        for _ in range(repeats):
            jax.block_until_ready(programs[name](*arguments))
        return (time.perf_counter() - began) / repeats

    repeats = {}
    for name, program in programs.items():
        jax.block_until_ready(program(*arguments))  # compiles
        repeats[name] = 1 + int(_AT_LEAST / seconds(name, 1))
    return alternate(list(programs), rounds, lambda name, _: 1e3 * seconds(name, repeats[name]))


def ratios(values: Sequence[float], by: Sequence[float]) -> list[float]:
    """`values / by`, each within its round."""
    return [a / b for a, b in zip(values, by, strict=True)]


def spread(values: Sequence[float]) -> str:
    """Median and range: "1.06 (0.98 to 1.10)"."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
