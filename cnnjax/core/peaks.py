"""What a device can do at most, and which of it bounds a program: the roofline."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.core.target import PRODUCTS

# Of a TPU's bfloat16 units: so many passes make a product of float32 numbers, or one that is as
# exact as TF32.
_PASSES = {"float32": 6, "tf32": 3}

_ROUNDS = 5
_MATRIX = {"cpu": 1024}  # rows of the product that is measured; of other devices _LARGE
_LARGE = 8192
_COPIED = {"cpu": 2**26}  # bytes
_LARGE_COPY = 2**30


@dataclass(frozen=True)
class Peak:
    """What one device can do at most.

    Args:
        float32, tf32, bfloat16: multiplications and additions a second in matrix products of that
            precision, dense; None where the device has no units for it, or its figure is unknown.
        bandwidth: bytes a second between the device and its own memory.
        measured: whether by `measured_peak`, not from the maker's data sheet.
    """

    float32: float | None
    tf32: float | None
    bfloat16: float | None
    bandwidth: float | None
    measured: bool = False

    def of(self, precision: str) -> float | None:
        """FLOP/s in a precision of `TrainingConfig`."""
        return {"float32": self.float32, "tf32": self.tf32, "bfloat16": self.bfloat16}[precision]


def _gpu(float32: float, tf32: float | None, bfloat16: float | None, gigabytes: float) -> Peak:
    """Of a data sheet in TFLOP/s, without sparsity, and GB/s."""
    return Peak(1e12 * float32, _tera(tf32), _tera(bfloat16), 1e9 * gigabytes)


def _tpu(bfloat16: float, gigabytes: float) -> Peak:
    """Of a data sheet likewise; the other precisions are so many passes of bfloat16."""
    rate = 1e12 * bfloat16
    return Peak(rate / _PASSES["float32"], rate / _PASSES["tf32"], rate, 1e9 * gigabytes)


def _tera(value: float | None) -> float | None:
    return None if value is None else 1e12 * value


# By the beginning of the device's name in JAX; data sheets of NVIDIA and Google Cloud. A device of
# TPU v3 is one of a chip's two cores.
PEAKS = {
    "NVIDIA H200": _gpu(67, 495, 989, 4800),
    "NVIDIA H200 NVL": _gpu(60, 418, 835, 4800),
    "NVIDIA H100 80GB HBM3": _gpu(67, 495, 989, 3350),
    "NVIDIA H100 NVL": _gpu(60, 418, 835, 3900),
    "NVIDIA H100 PCIe": _gpu(51, 378, 756, 2000),
    "NVIDIA A100-SXM4-40GB": _gpu(19.5, 156, 312, 1555),
    "NVIDIA A100-SXM4-80GB": _gpu(19.5, 156, 312, 2039),
    "NVIDIA A100-PCIE-40GB": _gpu(19.5, 156, 312, 1555),
    "NVIDIA A100 80GB PCIe": _gpu(19.5, 156, 312, 1935),
    "NVIDIA L4": _gpu(30.3, 60, 121, 300),
    "Tesla T4": _gpu(8.1, None, None, 320),
    "Tesla V100-SXM2": _gpu(15.7, None, None, 900),
    "Tesla V100-PCIE": _gpu(14, None, None, 900),
    "TPU v3": _tpu(61.5, 450),
    "TPU v4": _tpu(275, 1228),
    "TPU v5 lite": _tpu(197, 819),
    "TPU v5e": _tpu(197, 819),
    "TPU v5": _tpu(459, 2765),
    "TPU v5p": _tpu(459, 2765),
    "TPU v6 lite": _tpu(918, 1640),
    "TPU v6e": _tpu(918, 1640),
}


def known_peak(kind: str) -> Peak | None:
    """The peak of a device from its maker's data sheet.

    Args:
        kind: as `jax.devices()[0].device_kind` names it.

    Returns:
        None of a device that is not in `PEAKS`, and of a part of one (MIG).

    >>> known_peak("NVIDIA H200").bfloat16 / 1e12
    989.0
    >>> known_peak("NVIDIA L40S") is known_peak("NVIDIA H200 MIG 1g.18gb") is None
    True
    """
    if "MIG" in kind.split():
        return None
    fitting = [name for name in PEAKS if re.match(rf"{re.escape(name)}(?![A-Za-z0-9])", kind)]
    return PEAKS[max(fitting, key=len)] if fitting else None


def measured_peak(precision: str = "float32") -> Peak:
    """What a large matrix product and a copy reach on this machine's first device, now.

    Args:
        precision: of the product, as in `TrainingConfig`.

    Returns:
        A peak of that precision alone: the fastest of five.
    """
    backend = jax.default_backend()
    n, size = _MATRIX.get(backend, _LARGE), _COPIED.get(backend, _LARGE_COPY)
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    matrix, row = jnp.ones((n, n), dtype), jnp.ones(size // 4, jnp.float32)
    with jax.default_matmul_precision(PRODUCTS[precision]):
        product = _fastest(jax.jit(lambda a: a @ a), matrix)
    copy = _fastest(jax.jit(lambda a: a + 1.0), row)
    rates = {precision: 2 * n**3 / product}
    single, tf32, half = (rates.get(name) for name in ("float32", "tf32", "bfloat16"))
    return Peak(single, tf32, half, bandwidth=2 * size / copy, measured=True)


def _fastest(function: Callable[[Any], Any], argument: Any) -> float:
    """Seconds of the fastest call."""
    jax.block_until_ready(function(argument))  # compiles
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        jax.block_until_ready(function(argument))
        times.append(time.perf_counter() - began)
    return min(times)


@dataclass(frozen=True)
class Bound:
    """What a program takes at least, by the roofline model (Williams et al. 2009).

    Args:
        arithmetic: seconds for its floating-point operations at the peak.
        memory: seconds for its bytes at the bandwidth.
    """

    arithmetic: float
    memory: float

    @property
    def seconds(self) -> float:
        """The longer of both: `max(FLOP / peak, bytes / bandwidth)`."""
        return max(self.arithmetic, self.memory)

    @property
    def by(self) -> str:
        """Which of both it is."""
        return "arithmetic" if self.arithmetic >= self.memory else "memory"


def bound(flops: float, size: float, peak: Peak, precision: str) -> Bound | None:
    """The roofline bound of a program on one device.

    Args:
        flops: floating-point operations of the program.
        size: bytes that it reads and writes.
        peak: of the device.
        precision: of its matrix products, as in `TrainingConfig`.

    Returns:
        None where the device's peak or bandwidth is unknown.

    >>> limit = bound(989e9, 1e9, PEAKS["NVIDIA H200"], "bfloat16")
    >>> f"{1e3 * limit.seconds:.2f} ms, {limit.by}"
    '1.00 ms, arithmetic'
    """
    rate = peak.of(precision)
    if rate is None or peak.bandwidth is None:
        return None
    return Bound(flops / rate, size / peak.bandwidth)
