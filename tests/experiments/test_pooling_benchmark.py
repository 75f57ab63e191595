"""The benchmark of pooling: what it measures, and that both compute the same."""

import jax
import numpy as np
import pytest

from cnnjax.nn import AveragePooling2D, MaxPooling2D
from experiments.benchmarks import pooling
from experiments.benchmarks.pooling import Pool

pytestmark = pytest.mark.thorough

POOLS = [
    Pool("tiny", "tiles", (2, 6, 6, 16), MaxPooling2D(2)),
    Pool("tiny", "overlapping", (2, 7, 6, 3), MaxPooling2D(3, strides=2, padding="same")),
    Pool("tiny", "mean", (2, 6, 6, 3), AveragePooling2D(3, strides=1, padding="same")),
]


@pytest.mark.thorough
def test_poolings_of_the_nets() -> None:
    (stem,) = pooling.poolings("resnet50")
    assert (stem.name, stem.inputs) == ("pool1_pool", (4, 114, 114, 64))
    kinds = {type(pool.layer) for pool in pooling.poolings("inception_v3")}
    assert kinds == {MaxPooling2D, AveragePooling2D}
    with pytest.raises(ValueError, match="only must be one of lenet, mnist_convnet"):
        pooling.poolings("mobilenet")


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name)
def test_both_ways_compute_the_same(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(pool.inputs, np.float32)
    shape = jax.eval_shape(pooling.program(pool, "XLA", False), x).shape
    cotangent = rng.standard_normal(shape, np.float32)
    found = [pooling.program(pool, name, True)(x, cotangent) for name in ("cnnjax", "XLA")]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    measured = pooling.milliseconds(POOLS[0], training=True, rounds=2)
    assert {name: len(times) for name, times in measured.items()} == {"cnnjax": 2, "XLA": 2}
    assert min(min(times) for times in measured.values()) > 0

    times = {"cnnjax": [1.0, 2.0, 4.0], "XLA": [3.0, 5.0, 8.0]}
    monkeypatch.setattr(pooling, "milliseconds", lambda *_: times)
    pooling.report(POOLS[:1], rounds=3)
    head, forward, training = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "net layer inputs window pass cnnjax XLA XLA / cnnjax"
    for line, kind in ((forward, "forward"), (training, "gradient")):
        words = " ".join(line.split())
        assert words == f"tiny tiles 2x6x6x16 2x2 {kind} 2.00 5.00 2.50 (2.00 to 3.00)"
