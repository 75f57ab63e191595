"""Eight simulated devices see the same batches as one, and end where one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import python

# Trains in a process of its own: the number of devices is fixed when JAX starts.
CHILD = """
import json, signal, sys
import numpy as np
import cnnjax as cj
from commands import after_every_dispatch
from modules import Convnet

data_file, directory, settings, stop_after = sys.argv[1:]
with np.load(data_file) as file:
    data = cj.data.Splits(cj.data.from_arrays(file["x"], file["y"])).with_validation(0.25)
config = cj.config.from_dict(cj.TrainingConfig, json.loads(settings))
count = 0
def hook(done):
    global count
    count += 1
    if count == int(stop_after):
        signal.raise_signal(signal.SIGINT)
after_every_dispatch(hook)
model = cj.Model.from_module(Convnet(), (12, 12, 1))
try:
    run = cj.fit(model, data, config, directory=directory, verbose=False)
except cj.training.Interrupted:
    raise SystemExit(3)
assert all(len(leaf.devices()) == 1 for leaf in __import__("jax").tree.leaves(run.model.variables))
np.savez(directory + ".npz", **cj.core.trees.flatten(run.model.variables))
print(json.dumps({"hash": run.parameter_hash, **run.metrics}))
"""

# Dropout, BatchNorm, augmentation and averaging must all see the whole batch.
SETTINGS = {
    "epochs": 2,
    "batch_size": 24,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "average": 0.9,
    "augment": {"width_shift": 1, "horizontal_flip": True},
}


def train(
    squares: tuple[np.ndarray, np.ndarray],
    directory: Path,
    devices: int,
    stop_after: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    data = directory.parent / "squares.npz"
    np.savez(data, x=squares[0], y=squares[1])
    done = python(
        "-c", CHILD, data, directory, json.dumps({**SETTINGS, **changes}), str(stop_after),
        status=3 if stop_after else 0,
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
    )  # fmt: skip
    return json.loads(done.stdout) if not stop_after else {}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="loop"),
        pytest.param({"steps_per_dispatch": 2}, id="scan", marks=pytest.mark.slow),
        pytest.param({"frozen": ["conv"]}, id="frozen", marks=pytest.mark.slow),
    ],
)
@pytest.mark.thorough
def test_eight_devices_equal_one_to_rounding(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path, changes: dict[str, Any]
) -> None:
    one = train(squares, tmp_path / "one", 1, **changes)
    eight = train(squares, tmp_path / "eight", 8, **changes)
    assert eight["val_loss"] == pytest.approx(one["val_loss"], rel=1e-5)
    with np.load(tmp_path / "one.npz") as a, np.load(tmp_path / "eight.npz") as b:
        for name in a:
            np.testing.assert_allclose(b[name], a[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_on_eight_devices_an_interrupted_run_ends_in_the_same_bits(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    through = train(squares, tmp_path / "through", 8)
    train(squares, tmp_path / "run", 8, stop_after=4)
    assert train(squares, tmp_path / "run", 8, resume=True) == through


@pytest.mark.thorough
def test_a_batch_that_does_not_divide_uses_fewer_devices(
    squares: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    code = (
        "from cnnjax.training.devices import Devices; "
        "print([Devices.for_batches_of(n).count for n in (1, 7, 20, 64)])"
    )
    flags = "--xla_force_host_platform_device_count=8"
    assert python("-c", code, XLA_FLAGS=flags).stdout == "[1, 7, 5, 8]\n"
