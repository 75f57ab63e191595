"""How cost grows: slopes by hand, and a measurement of two sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import cost
from experiments.benchmarks.cost import Growth


def test_the_slope_of_a_power() -> None:
    sizes = (1, 2, 4, 8)
    seconds = np.array([[0.001 * n for n in sizes], [0.002 * n**2 for n in sizes]])
    grown = Growth(sizes, seconds, memory=tuple(2**20 * n for n in sizes))
    assert grown.slopes == pytest.approx([1.0, 2.0])
    lines = cost.text({"batch": grown}).splitlines()
    assert lines[2].split() == ["batch", "1", "1.5", "1.0", "1.50", "(1.00", "to", "2.00)", "1.00"]


def test_two_sizes_are_measured_and_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cost, "NET", "mlp")
    monkeypatch.setattr(cost, "_AT_LEAST", 0.0)
    monkeypatch.setitem(cost.SIZES, "batch", (2, 4))
    cost.main(cost.Config(only="batch", rounds=2, out=str(tmp_path / "cost.png")))
    assert (tmp_path / "cost.png").stat().st_size > 1000
    assert "batch" in capsys.readouterr().out


def test_an_epoch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "NET", "mlp")
    monkeypatch.setattr(cost, "BATCH", 2)
    monkeypatch.setitem(cost.SIZES, "images", (4, 8))
    grown = cost.measure("images", 1)
    assert grown.seconds.shape == (1, 2)
    assert grown.memory is None
