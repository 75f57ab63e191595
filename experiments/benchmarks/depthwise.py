"""Depthwise convolution: the sum over the taps against XLA's grouped convolution.

For every distinct depthwise convolution of a net: milliseconds of the forward pass, and of value
and gradients with respect to input and kernel (for a net's first layer to the kernel only). The two
alternate within each round; a figure is the median over the rounds, the ratio is taken within one.
`nn.depthwise_conv2d` takes the taps on CPUs and the grouped convolution on accelerators.

Command:   python -m experiments.benchmarks.depthwise [--only mobilenet] [--rounds 7]
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro

import cnnjax as cj
from cnnjax.core.runtime import visible_cores
from cnnjax.models.builder import build
from cnnjax.models.graph import trace
from cnnjax.nn import DepthwiseConv2D, SeparableConv2D, conv_engine, depthwise_conv2d
from cnnjax.nn.conv import as_pair
from experiments.benchmarks import peers
from experiments.benchmarks.conv_engines import Conv

# Batch and arguments of each net.
NETS: dict[str, tuple[int, dict[str, Any]]] = {
    "separable_convnet": (128, {}),
    "mobilenet": (8, {"input_shape": (128, 128, 3)}),
}

ENGINES = {"taps": "auto", "grouped": "lax"}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: str | None = None
    """Which net; None measures all."""
    rounds: int = 7
    """Alternations of the two."""


def main(config: Config) -> None:
    """Measure every depthwise convolution and print the table."""
    cj.configure_runtime()
    nets = [config.only] if config.only else list(NETS)
    print(f"ms, medians of {config.rounds}, {jax.default_backend()}, {visible_cores()} cores:")
    report([conv for net in nets for conv in convolutions(net)], config.rounds)


def convolutions(net: str) -> list[Conv]:
    """The distinct depthwise convolutions of a net, in the order of its layers."""
    if net not in NETS:
        raise ValueError(f"only must be one of {', '.join(NETS)}, got {net!r}")
    batch, arguments = NETS[net]
    distinct: dict[tuple, Conv] = {}
    for number, call in enumerate(trace(cj.Model.abstract(*build(net, **arguments)))):
        layer = call.module
        if isinstance(layer, DepthwiseConv2D | SeparableConv2D):
            shape = (batch, *call.input_shapes[0][1:])
            window = as_pair(layer.kernel_size, "kernel_size")
            kernel = (*window, shape[-1], layer.depth_multiplier)
            conv = Conv(net, call.name, shape, kernel, layer.strides, layer.padding, number == 0)
            distinct.setdefault((shape, kernel, layer.strides, layer.padding), conv)
    return list(distinct.values())


def report(convs: Iterable[Conv], rounds: int) -> None:
    """Print a line for each convolution and pass."""
    head = ("net", "layer", "inputs", "kernel", "pass")
    print(_line(head, (*ENGINES, "grouped / taps")))
    for conv in convs:
        for training in (False, True):
            times = milliseconds(conv, training, rounds)
            sizes = ("x".join(map(str, shape)) for shape in (conv.inputs, conv.kernel))
            kind = ("gradient of kernel" if conv.first else "gradients") if training else "forward"
            cells = [f"{statistics.median(found):.2f}" for found in times.values()]
            ratio = peers.spread(peers.ratios(times["grouped"], times["taps"]))
            print(_line((conv.net, conv.layer, *sizes, kind), (*cells, ratio)), flush=True)


def milliseconds(conv: Conv, training: bool, rounds: int) -> dict[str, list[float]]:
    """Times of both, a value a round."""
    rng = np.random.default_rng(0)
    shapes = [conv.inputs, conv.kernel]
    arrays = [jax.device_put(rng.standard_normal(shape, np.float32)) for shape in shapes]
    if training:
        outputs = jax.eval_shape(program(conv, "lax", training=False), *arrays)
        arrays.append(jax.device_put(rng.standard_normal(outputs.shape, np.float32)))
    programs = {name: program(conv, engine, training) for name, engine in ENGINES.items()}
    return peers.milliseconds(programs, arrays, rounds)


def program(conv: Conv, engine: str, training: bool) -> Any:
    """(inputs, kernel) -> outputs, or (inputs, kernel, cotangent) -> (outputs, gradients)."""

    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        with conv_engine(engine):
            return depthwise_conv2d(x, kernel, strides=conv.strides, padding=conv.padding)

    def gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        if conv.first:
            outputs, pullback = jax.vjp(lambda k: apply(x, k), kernel)
        else:
            outputs, pullback = jax.vjp(apply, x, kernel)
        return outputs, pullback(cotangent)

    return jax.jit(gradients if training else apply)


def _line(words: Iterable[str], cells: Iterable[str]) -> str:
    widths = (17, 11, 16, 10, 18)
    left = "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))
    right = zip(cells, (9, 9, 25), strict=True)
    return left + "".join(cell.rjust(width) for cell, width in right)


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.depthwise", description=__doc__))
