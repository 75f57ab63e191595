"""Several processes are refused before anything is read, made or written."""

from __future__ import annotations

import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

import cnnjax as cj

Arrays = tuple[np.ndarray, np.ndarray]

TWO = """
import sys

import jax
import numpy as np

jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))
import cnnjax as cj

data = np.zeros((8, 12, 12, 1), np.uint8), np.zeros(8, np.int32)
model = cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
try:
    cj.fit(model, data, directory=sys.argv[3])
except ValueError as error:
    print(error)
"""


def test_fit_and_sweep_refuse_to_be_one_of_several_processes(
    squares: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = partial(cj.create_model, "mlp", input_shape=(12, 12, 1), num_classes=3, units=(4,))
    model = make()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    message = r"runs in a single process so far, and jax\.process_count\(\) is 2: start one"
    with pytest.raises(ValueError, match=f"^fit {message}"):
        cj.fit(model, squares, directory=tmp_path / "run")
    with pytest.raises(ValueError, match=f"^sweep {message}"):
        cj.sweep(make, squares, directory=tmp_path / "sweep")
    assert not list(tmp_path.iterdir())
    # What each process may do for itself.
    assert cj.predict(model, squares[0][:2]).shape == (2, 3)
    assert cj.evaluate(model, squares)["loss"] > 0


@pytest.mark.thorough
def test_two_real_processes_are_refused(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", TWO, port]
    started = [
        subprocess.Popen([*command, str(i), tmp_path / "run"], stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    for process in started:
        said, _ = process.communicate(timeout=120)
        assert "fit runs in a single process so far, and jax.process_count() is 2" in said
    assert not (tmp_path / "run").exists()
