"""Pooling against XLA's own, as Flax takes it.

For every distinct pooling of a net: milliseconds of the forward pass, and of value and gradient.
The two alternate within each round; a figure is the median over the rounds, the ratio is taken
within one. `nn.max_pool` and `nn.average_pool` compare and add shifted slices on CPUs; XLA's
gradient of a maximum is select-and-scatter.

Command:   python -m experiments.benchmarks.pooling [--only resnet50] [--rounds 7]
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from flax import linen

import cnnjax as cj
from cnnjax.core.runtime import visible_cores
from cnnjax.models.builder import build
from cnnjax.models.graph import trace
from cnnjax.nn import AveragePooling2D, MaxPooling2D
from cnnjax.nn.conv import as_pair, resolve_padding
from experiments.benchmarks import peers

Layer = MaxPooling2D | AveragePooling2D

# Batch and arguments of each net.
NETS: dict[str, tuple[int, dict[str, Any]]] = {
    "lenet": (128, {}),
    "mnist_convnet": (64, {}),
    "cifar_deep": (128, {}),
    "separable_convnet": (128, {}),
    "vgg16": (4, {"input_shape": (150, 150, 3), "include_top": False}),
    "resnet50": (4, {}),
    "inception_v3": (4, {}),
    "xception": (4, {}),
}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: str | None = None
    """Which net; None measures all."""
    rounds: int = 7
    """Alternations of the two."""


@dataclass(frozen=True)
class Pool:
    """A pooling as a net applies it.

    Args:
        net: its name.
        name: of the first layer that applies it.
        inputs: [N, H, W, C].
        layer: the layer itself.
    """

    net: str
    name: str
    inputs: tuple[int, ...]
    layer: Layer


def main(config: Config) -> None:
    """Measure every pooling and print the table."""
    cj.configure_runtime()
    nets = [config.only] if config.only else list(NETS)
    print(f"ms, medians of {config.rounds}, {jax.default_backend()}, {visible_cores()} cores:")
    report([pool for net in nets for pool in poolings(net)], config.rounds)


def poolings(net: str) -> list[Pool]:
    """The distinct poolings of a net, in the order of its layers."""
    if net not in NETS:
        raise ValueError(f"only must be one of {', '.join(NETS)}, got {net!r}")
    batch, arguments = NETS[net]
    distinct: dict[tuple, Pool] = {}
    for call in trace(cj.Model.abstract(*build(net, **arguments))):
        layer = call.module
        if isinstance(layer, Layer):
            shape = (batch, *call.input_shapes[0][1:])
            key = (shape, type(layer), *_windows(layer), layer.padding)
            distinct.setdefault(key, Pool(net, call.name, shape, layer))
    return list(distinct.values())


def report(pools: Iterable[Pool], rounds: int) -> None:
    """Print a line for each pooling and pass."""
    head = ("net", "layer", "inputs", "window", "pass")
    print(_line(head, ("cnnjax", "XLA", "XLA / cnnjax")))
    for pool in pools:
        window = "x".join(map(str, _windows(pool.layer)[0]))
        sizes = ("x".join(map(str, pool.inputs)), window)
        for training in (False, True):
            times = milliseconds(pool, training, rounds)
            cells = [f"{statistics.median(found):.2f}" for found in times.values()]
            ratio = peers.spread(peers.ratios(times["XLA"], times["cnnjax"]))
            kind = "gradient" if training else "forward"
            print(_line((pool.net, pool.name, *sizes, kind), (*cells, ratio)), flush=True)


def milliseconds(pool: Pool, training: bool, rounds: int) -> dict[str, list[float]]:
    """Times of both, a value a round."""
    rng = np.random.default_rng(0)
    arrays = [jax.device_put(rng.standard_normal(pool.inputs, np.float32))]
    if training:
        shape = jax.eval_shape(program(pool, "XLA", training=False), *arrays).shape
        arrays.append(jax.device_put(rng.standard_normal(shape, np.float32)))
    programs = {name: program(pool, name, training) for name in ("cnnjax", "XLA")}
    return peers.milliseconds(programs, arrays, rounds)


def program(pool: Pool, name: str, training: bool) -> Callable[..., Any]:
    """Inputs -> outputs, or (inputs, cotangent) -> (outputs, gradient); of "cnnjax" or "XLA"."""
    apply = _flax(pool) if name == "XLA" else lambda x: pool.layer.apply({}, x)

    def gradient(x: jax.Array, cotangent: jax.Array) -> Any:
        outputs, pullback = jax.vjp(apply, x)
        return outputs, pullback(cotangent)

    return jax.jit(gradient if training else apply)


def _flax(pool: Pool) -> Callable[[jax.Array], jax.Array]:
    layer = pool.layer
    window, strides = _windows(layer)
    pads = resolve_padding(layer.padding, pool.inputs[1:3], window, strides)
    if isinstance(layer, MaxPooling2D):
        return lambda x: linen.max_pool(x, window, strides, pads)
    return lambda x: linen.avg_pool(x, window, strides, pads, count_include_pad=False)


def _windows(layer: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
    window = as_pair(layer.pool_size, "pool_size")
    return window, window if layer.strides is None else as_pair(layer.strides, "strides")


def _line(words: Iterable[str], cells: Iterable[str]) -> str:
    widths = (17, 20, 16, 7, 8)
    left = "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))
    right = zip(cells, (9, 9, 25), strict=True)
    return left + "".join(cell.rjust(width) for cell, width in right)


if __name__ == "__main__":
    main(tyro.cli(Config, prog="python -m experiments.benchmarks.pooling", description=__doc__))
