"""The convolution engines on the shapes of real nets: what `conv2d(engine="auto")` chooses from.

For every distinct convolution: milliseconds of the forward pass, and of value and gradients with
respect to input and kernel (for a net's first layer, whose input gradient nobody asks for, to the
kernel only). The engines alternate within each round; a figure is the median over the rounds.
In the table `*` marks the fastest engine, `a` the one that "auto" takes.

Command:   python -m experiments.benchmarks.conv_engines [--only vgg16] [--rounds 7]
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
from cnnjax.nn import Conv2D, conv2d, winograd
from cnnjax.nn.conv import Padding, as_pair, auto_engine, resolve_padding
from experiments.benchmarks import peers

# Batch and arguments of each net.
NETS: dict[str, tuple[int, dict[str, Any]]] = {
    "mnist_convnet": (64, {}),
    "lenet": (128, {}),
    "cifar_plain": (128, {}),
    "cifar_deep": (128, {}),
    "vgg16": (4, {"input_shape": (150, 150, 3), "include_top": False}),
    "resnet50": (4, {}),
    "inception_v3": (4, {}),
    "xception": (4, {}),
    "mobilenet": (8, {"input_shape": (128, 128, 3)}),
}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    only: str | None = None
    """Which net; None measures all."""
    rounds: int = 7
    """Alternations of the engines."""


@dataclass(frozen=True)
class Conv:
    """A convolution as a net applies it.

    Args:
        net: its name.
        layer: name of the first layer that applies it.
        inputs: [N, H, W, C].
        kernel: [kh, kw, C, F].
        strides, padding: as in `conv2d`.
        first: whether its inputs are the net's.
    """

    net: str
    layer: str
    inputs: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: int | tuple[int, int] = 1
    padding: Padding = "same"
    first: bool = False


def main(config: Config) -> None:
    """Measure every convolution and print the table."""
    cj.configure_runtime()
    nets = [config.only] if config.only else list(NETS)
    print(f"ms, medians of {config.rounds}, {jax.default_backend()}, {visible_cores()} cores:")
    report([conv for net in nets for conv in convolutions(net)], config.rounds)


def convolutions(net: str) -> list[Conv]:
    """The distinct convolutions of a net, in the order of its layers."""
    if net not in NETS:
        raise ValueError(f"only must be one of {', '.join(NETS)}, got {net!r}")
    batch, arguments = NETS[net]
    found: list[Conv] = []
    for call in trace(cj.Model.abstract(*build(net, **arguments))):
        layer = call.module
        if isinstance(layer, Conv2D):
            shape = (batch, *call.input_shapes[0][1:])
            kernel = (*as_pair(layer.kernel_size, "kernel_size"), shape[-1], layer.filters)
            first = not found
            found.append(Conv(net, call.name, shape, kernel, layer.strides, layer.padding, first))
    distinct: dict[tuple, Conv] = {}
    for conv in found:
        distinct.setdefault((conv.inputs, conv.kernel, conv.strides, conv.padding), conv)
    return list(distinct.values())


def report(convs: Iterable[Conv], rounds: int) -> None:
    """Print a line for each convolution and pass, and how often "auto" takes the fastest engine."""
    head = ("net", "layer", "inputs", "kernel", "padding", "pass")
    print(_line(head, ("lax  ", "im2col  ", "winograd  ")))
    losses = []
    for conv in convs:
        for training in (False, True):
            times = milliseconds(conv, training, rounds)
            fastest, taken = min(times, key=lambda engine: times[engine]), chosen(conv, training)
            losses.append(times[taken] / times[fastest])
            sizes = ("x".join(map(str, shape)) for shape in (conv.inputs, conv.kernel))
            kind = ("gradient of kernel" if conv.first else "gradients") if training else "forward"
            cells = [
                f"{ms:.2f}{'*' if name == fastest else ' '}{'a' if name == taken else ' '}"
                for name, ms in times.items()
            ]
            print(_line((conv.net, conv.layer, *sizes, str(conv.padding), kind), cells), flush=True)
    print(
        f'"auto" took the fastest engine in {losses.count(1.0)} of {len(losses)}; '
        f"at worst it took {max(losses):.2f} times as long"
    )


def milliseconds(conv: Conv, training: bool, rounds: int) -> dict[str, float]:
    """Median time of each engine that can compute the convolution."""
    rng = np.random.default_rng(0)
    arrays = [
        jax.device_put(rng.standard_normal(shape, np.float32))
        for shape in (conv.inputs, conv.kernel)
    ]
    programs = {engine: program(conv, engine, training) for engine in engines(conv)}
    if training:
        shape = jax.eval_shape(program(conv, "lax", training=False), *arrays).shape
        arrays.append(jax.device_put(rng.standard_normal(shape, np.float32)))
    times = peers.milliseconds(programs, arrays, rounds)
    return {engine: statistics.median(found) for engine, found in times.items()}


def program(conv: Conv, engine: str, training: bool) -> Any:
    """(inputs, kernel) -> outputs, or (inputs, kernel, cotangent) -> (outputs, gradients)."""

    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv2d(x, kernel, strides=conv.strides, padding=conv.padding, engine=engine)

    def gradients(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        if conv.first:
            outputs, pullback = jax.vjp(lambda k: apply(x, k), kernel)
        else:
            outputs, pullback = jax.vjp(apply, x, kernel)
        return outputs, pullback(cotangent)

    return jax.jit(gradients if training else apply)


def engines(conv: Conv) -> tuple[str, ...]:
    """Those that can compute it."""
    plain = winograd.possible(conv.kernel, as_pair(conv.strides, "strides"), (1, 1))
    return ("lax", "im2col", "winograd") if plain else ("lax", "im2col")


def chosen(conv: Conv, training: bool) -> str:
    """The engine that "auto" takes."""
    strides = as_pair(conv.strides, "strides")
    pads = resolve_padding(conv.padding, conv.inputs[1:3], conv.kernel[:2], strides)
    x: Any = jax.ShapeDtypeStruct(conv.inputs, np.float32)
    kernel: Any = jax.ShapeDtypeStruct(conv.kernel, np.float32)
    engine = auto_engine(x, kernel, strides, pads, (1, 1))
    if engine == "by differentiation":
        return "im2col" if training else "lax"
    return engine


def _line(words: Iterable[str], cells: Iterable[str]) -> str:
    widths = (13, 7, 14, 12, 7, 18)
    left = "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))
    return (left + "  " + "".join(cell.rjust(11) for cell in cells)).rstrip()


if __name__ == "__main__":
    main(
        tyro.cli(Config, prog="python -m experiments.benchmarks.conv_engines", description=__doc__)
    )
