"""One of several processes that never joined the others is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax as cj


def test_a_process_of_several_that_never_joined_is_refused(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    model = make()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    message = r"runs in one process of several that have not joined, as JAX_NUM_PROCESSES is 2"
    with pytest.raises(ValueError, match=f"^fit {message}"):
        cj.fit(model, squares, directory=tmp_path / "run")
    with pytest.raises(ValueError, match=f"^sweep {message}"):
        cj.sweep(make, squares, directory=tmp_path / "sweep")
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # as on a TPU pod
    with pytest.raises(ValueError, match=r"^fit .* as jax\.process_count\(\) is above 1"):
        cj.fit(model, squares, directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    # What each process may do for itself.
    assert cj.predict(model, squares[0][:2]).shape == (2, 3)
    assert cj.evaluate(model, squares)["loss"] > 0
