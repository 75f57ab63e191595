"""Evaluation of data that stay on the device, against that of batches from the host."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import cnnjax as cj
from cnnjax.data import Loader, from_arrays
from cnnjax.training import evaluation, make_eval_step
from cnnjax.training.devices import Devices
from cnnjax.training.evaluation import ResidentEvaluation, evaluate_step

Arrays = tuple[np.ndarray, np.ndarray]


def model() -> cj.Model:
    return cj.create_model("mlp", input_shape=(12, 12, 1), num_classes=3, units=(8,))


@pytest.mark.parametrize("most", [1, 300, 2**20])  # a step, some steps or all of them at a time
def test_data_on_the_device_are_measured_as_those_of_the_host(
    squares: Arrays, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "_MOST_BYTES", most)
    net, data = model(), from_arrays(squares[0][:91], squares[1][:91])
    metrics = {"matrix": cj.metrics.confusion_matrix(), "f1": cj.metrics.f1()}
    measures = {**net.spec.task.metrics, **metrics}
    step, loader = make_eval_step(net, metrics=metrics), Loader(data, 8)
    resident = ResidentEvaluation(step, loader, measures, Devices(1), None)(net.variables)
    fed = evaluate_step(jax.jit(step), net.variables, loader, measures)
    assert set(resident) == set(fed)
    for name, value in fed.items():
        np.testing.assert_allclose(resident[name], value, rtol=1e-6, err_msg=name)


def test_a_training_on_an_accelerator_validates_on_data_that_stay_there(
    squares: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cj.data.Splits(from_arrays(*squares)).with_validation(0.25)
    config = cj.TrainingConfig(epochs=2, batch_size=8, steps_per_dispatch=1)

    def losses() -> list[float]:
        return cj.fit(model(), data, config, verbose=False).history["val_loss"].tolist()

    usual = losses()
    calls = []
    call = ResidentEvaluation.__call__
    monkeypatch.setattr(
        ResidentEvaluation, "__call__", lambda *args: calls.append(1) or call(*args)
    )
    assert losses() == usual
    assert not calls
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(losses(), usual, rtol=1e-5)
    assert len(calls) == 2
