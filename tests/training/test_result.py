"""What is shown of a run."""

import dataclasses

import numpy as np
import pytest

import cnnjax as cj


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (16, 4, 4, 1), dtype=np.uint8)
    data = cj.data.from_arrays(images, np.arange(16) % 2, ("cat", "dog"))
    names = ("cat", "dog")
    model = cj.create_model(
        "mlp", input_shape=(4, 4, 1), units=(3,), num_classes=2, label_names=names
    )
    splits = cj.data.Splits(data, test=data)
    return cj.fit(
        model, splits, cj.TrainingConfig(epochs=2, batch_size=8, monitor=None), verbose=False
    )


def test_a_run_is_one_line(run, tmp_path):
    test = run.metrics
    line = ", ".join(f"{name} {test[name]:.4g}" for name in test)
    assert set(test) == {"test_accuracy", "test_loss"}
    assert repr(run) == f"Run(mlp, best epoch 2 of 2, {line})"
    assert repr(dataclasses.replace(run, directory=tmp_path)).endswith(f"{tmp_path})")


def test_a_notebook_shows_its_metrics_and_its_curves_once(run):
    shown = run._repr_html_()
    assert shown.count("data:image/png;base64,") == 1
    assert f'<td style="text-align:right">{run.metrics["test_loss"]:.3g}</td>' in shown


def test_results_by_class_are_tables_with_the_class_names(run):
    metrics = {"test_f1": np.array([0.5, 0.25]), "test_confusion": np.array([[3, 1], [0, 4]])}
    metrics["test_bins"] = np.zeros(7)
    shown = dataclasses.replace(run, metrics=metrics)._repr_html_()
    assert shown.count("<table>") == 2  # of the classes, and of the bins
    assert ">cat<" in shown
    assert ">test f1<" in shown
    assert ">0.2500<" in shown
    assert shown.count("data:image/png;base64,") == 2  # the confusion matrix and the curves
    assert "f1" not in repr(dataclasses.replace(run, metrics=metrics))
