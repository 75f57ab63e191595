"""What devices can do at most, and what bounds a program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from cnnjax.config import PRECISIONS
from cnnjax.core.cost import cost_of
from cnnjax.core.peaks import PEAKS, Peak, bound, known_peak, measured_peak


@pytest.mark.parametrize("name", PEAKS)
def test_a_device_finds_its_own_figures(name: str) -> None:
    assert known_peak(name) is PEAKS[name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2"),
        ("NVIDIA H200 NVL", "NVIDIA H200 NVL"),
        ("NVIDIA L4", "NVIDIA L4"),
    ],
)
def test_the_longest_name_that_fits_counts(kind: str, name: str) -> None:
    assert known_peak(kind) is PEAKS[name]


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA L40S", "NVIDIA H200 MIG 1g.18gb", "TPU v5x"])
def test_another_device_is_unknown(kind: str) -> None:
    assert known_peak(kind) is None


def test_a_peak_knows_every_precision() -> None:
    for precision in PRECISIONS:
        assert PEAKS["NVIDIA H200"].of(precision) > 1e12
    assert PEAKS["Tesla T4"].of("bfloat16") is None


def test_the_roofline_has_a_ridge() -> None:
    peak = Peak(float32=100.0, tf32=None, bfloat16=None, bandwidth=10.0)
    below, above = bound(90.0, 10.0, peak, "float32"), bound(110.0, 10.0, peak, "float32")
    assert below is not None
    assert above is not None
    assert (below.by, below.seconds) == ("memory", 1.0)
    assert (above.by, above.seconds) == ("arithmetic", 1.1)
    assert bound(1.0, 1.0, peak, "tf32") is None


def test_a_peak_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnjax.core.peaks._MATRIX", {"cpu": 32})
    monkeypatch.setattr("cnnjax.core.peaks._COPIED", {"cpu": 1024})
    peak = measured_peak("bfloat16")
    assert peak.measured
    assert peak.float32 is None
    assert peak.bfloat16
    assert peak.bandwidth


def test_the_cost_of_a_convolution_is_that_by_hand() -> None:
    def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)

    arguments = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 5))
    cost = cost_of(jax.jit(conv).lower(*arguments))
    assert cost.flops == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert cost.moved >= 4 * (2 * 6 * 6 * 3 + 3 * 3 * 3 * 5 + 2 * 4 * 4 * 5)
    assert cost.memory >= cost.temporary
