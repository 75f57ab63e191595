"""What is expected of accelerators, by hand."""

from __future__ import annotations

import pytest

from cnnjax.core.cost import Cost
from cnnjax.core.peaks import PEAKS
from experiments.benchmarks import recomputing, roofline


def test_rows_by_hand() -> None:
    cost = Cost(flops=989e9, moved=4.8e9, memory=1, temporary=1)  # one ms each at an H200's best
    single, tf32, half = roofline.rows("net", 100, cost)
    assert single[:4] == ("net, 100", "9.89", "48", "float32")
    assert single[4] == "6,800 a"  # 989 / 67 ms
    assert tf32[3:5] == ("tf32", "50,000 a")
    assert half[4] == "100,000 a"
    assert tf32[6] == half[6] == "-"  # a T4 has no units for them
    assert set(roofline.DEVICES.values()) <= set(PEAKS)


def test_a_net_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    cost = roofline.cost("mlp", 8)
    forward = 2 * 8 * (784 * 512 + 512 * 10)
    assert 2 * forward <= cost.flops <= 3.5 * forward
    roofline.main(roofline.Config(net="mlp", batch=8))
    out = capsys.readouterr().out
    assert "an expectation, not a measurement" in out
    assert out.count("tf32") == 1


def test_what_recomputing_saves(capsys: pytest.CaptureFixture[str]) -> None:
    costs = {
        "none": Cost(flops=1e9, moved=1.0, memory=1, temporary=100 * 2**20),
        "dots": Cost(flops=1.1e9, moved=1.0, memory=1, temporary=50 * 2**20),
    }
    assert recomputing.rows("net", costs)[1] == ("net", "dots", "50", "50 %", "1.1", "110 %")
    recomputing.main(recomputing.Config(net="mlp", batch=4))
    assert capsys.readouterr().out.count("mlp") == 3
