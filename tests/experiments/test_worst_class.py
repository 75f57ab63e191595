"""A loss, a metric and an optimiser of one's own: short, and worth it."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import cnnjax as cj
from experiments.research import worst_class


def test_the_idea_is_short() -> None:
    parts = (worst_class.adjusted, worst_class.found, worst_class.least)
    lines = [line.strip() for part in parts for line in inspect.getsource(part).splitlines()]
    code = [line for line in lines if line and not line.startswith(('"""', "return loss"))]
    assert len(code) <= 15


@pytest.mark.thorough
def test_the_least_recall_is_that_of_the_predictions(tmp_path: Path) -> None:
    options = worst_class.WorstClassOptions(epochs=2, out=str(tmp_path))
    data = worst_class.rare(options)
    assert data.test
    counts = np.bincount(np.asarray(data.train.labels))
    assert counts[:5].max() < counts[5:].min() / 3
    run = worst_class.main(options)["usual"][0]
    answers = np.asarray(cj.predict(run.model, np.asarray(data.test.inputs))).argmax(axis=1)
    labels = np.asarray(data.test.labels)
    recalls = [(answers[labels == k] == k).mean() for k in range(10)]
    assert np.isclose(run.metrics["test_worst"], min(recalls))
    assert run.best_epoch == 1 + run.history["val_worst"].argmax()
    assert (tmp_path / "recalls.png").stat().st_size > 1000
