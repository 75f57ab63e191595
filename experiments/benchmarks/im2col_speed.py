"""The hand-written NumPy convolution beside the JAX engines: what it costs to be readable.

Milliseconds of a convolution's value and its gradients with respect to inputs and kernel, on the
layer of simple_convnet and on two others. All three do the same work in float32; NumPy also adds a
bias and sums up its gradient. They alternate within each round; a figure is the median over the
rounds, a ratio the median and range of those within a round. Where other processes run, the threads
of OpenBLAS wait for each other, and NumPy takes many times as long; OPENBLAS_NUM_THREADS=1 then
gives its time on one core.

Command:   python -m experiments.benchmarks.im2col_speed [--rounds 7]
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro

import cnnjax as cj
from cnnjax.core.runtime import visible_cores
from cnnjax.nn import numpy_reference
from cnnjax.nn.conv import as_pair, resolve_padding
from experiments.benchmarks import peers
from experiments.benchmarks.conv_engines import Conv, program

CONVS = (
    Conv("simple_convnet", "conv1", (100, 28, 28, 1), (5, 5, 1, 30), padding="valid"),
    Conv("mnist_convnet", "conv2", (64, 13, 13, 32), (3, 3, 32, 64), padding="valid"),
    Conv("strided", "conv", (32, 32, 32, 16), (3, 3, 16, 32), strides=2, padding="same"),
)


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    rounds: int = 7
    """Alternations of the three."""


def main(config: Config) -> None:
    """Measure every convolution and print the table."""
    cj.configure_runtime()
    print(f"ms, medians of {config.rounds}, {jax.default_backend()}, {visible_cores()} cores:")
    for conv in CONVS:
        report(conv, config.rounds)


def report(conv: Conv, rounds: int) -> None:
    """Print the times of a convolution, and how many times as long NumPy takes."""
    times = milliseconds(conv, rounds)
    inputs, kernel = ("x".join(map(str, shape)) for shape in (conv.inputs, conv.kernel))
    print(f"\n{conv.net} {conv.layer}: inputs {inputs}, kernel {kernel}, strides {conv.strides}")
    for name, values in times.items():
        line = f"{name:10}{statistics.median(values):9.2f}"
        if name != "NumPy":
            line += f"   NumPy / {name}: {peers.spread(peers.ratios(times['NumPy'], values))}"
        print(line, flush=True)


def milliseconds(conv: Conv, rounds: int) -> dict[str, list[float]]:
    """{"NumPy", "im2col", "lax": the time in each round}."""
    given = arrays(conv)
    device = [jax.device_put(array) for array in given]
    calls: dict[str, Callable[[], Any]] = {"NumPy": lambda: by_hand(conv, *given)}
    for engine in ("im2col", "lax"):
        calls[engine] = functools.partial(program(conv, engine, training=True), *device)
    return peers.milliseconds(calls, (), rounds)


def arrays(conv: Conv) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random inputs, kernel and gradient of the outputs, float32."""
    rng = np.random.default_rng(0)
    inputs, kernel = (rng.standard_normal(s, np.float32) for s in (conv.inputs, conv.kernel))
    shape = jax.eval_shape(program(conv, "lax", training=False), inputs, kernel).shape
    return inputs, kernel, rng.standard_normal(shape, np.float32)


def by_hand(
    conv: Conv, inputs: np.ndarray, kernel: np.ndarray, cotangent: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Outputs, and gradients of inputs, kernel and bias, by `nn.im2col`."""
    strides = as_pair(conv.strides, "strides")
    pads = resolve_padding(conv.padding, conv.inputs[1:3], conv.kernel[:2], strides)
    bias = np.zeros(kernel.shape[3], kernel.dtype)
    outputs, backward = numpy_reference.conv2d(inputs, kernel, bias, strides, pads)
    return outputs, backward(cotangent)


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.im2col_speed", description=__doc__)
    )
