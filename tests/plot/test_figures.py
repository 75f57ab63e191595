"""Figures: their axes, lines and texts; and that they leave no trace outside themselves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from commands import python
from matplotlib.figure import Figure
from PIL import Image

from cnnjax.plot import figures

HISTORY = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "accuracy": [0.2, 0.5, 0.9]}
VALIDATED = {**HISTORY, "val_loss": [3.0, 2.5, 2.6], "val_accuracy": [0.1, 0.4, 0.6]}


def one_image(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file)
    return np.asarray(Image.open(file).convert("RGB"))


def test_smooth_by_hand() -> None:
    assert figures.smooth([1.0, 0.0, 0.0, 4.0], 0.5).tolist() == [1.0, 0.5, 0.25, 2.125]
    np.testing.assert_allclose(figures.smooth([10, 20], 0.8), [10, 12])


def test_smooth_with_factor_zero_changes_nothing_and_makes_a_copy() -> None:
    values = np.array([3, 1, 2])
    smoothed = figures.smooth(values, 0.0)
    assert smoothed.tolist() == [3.0, 1.0, 2.0]
    assert smoothed.dtype == np.float64
    assert not np.shares_memory(smoothed, values)
    figures.smooth(values, 0.9)
    assert values.tolist() == [3, 1, 2]


@pytest.mark.parametrize("values", [[], [7.0]])
def test_smooth_of_none_or_one(values: list[float]) -> None:
    assert figures.smooth(values).tolist() == values


@pytest.mark.parametrize("factor", [-0.1, 1.0, float("nan")])
def test_smooth_refuses_other_factors(factor: float) -> None:
    with pytest.raises(ValueError, match=r"factor must lie in \[0, 1\)"):
        figures.smooth([1.0], factor)


@pytest.mark.parametrize(("history", "names"), [(HISTORY, 1), (VALIDATED, 2)])
def test_curves_draw_loss_and_accuracy(history: dict, names: int) -> None:
    figure = figures.curves(history)
    loss, accuracy = figure.axes
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    for axes in (loss, accuracy):
        assert axes.get_xlabel() == "epoch"
        assert len(axes.lines) == 2 * names  # dots and a line for each
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["training", "validation"][:names]
    assert loss.lines[0].get_xdata().tolist() == [1, 2, 3]
    assert loss.lines[0].get_ydata().tolist() == [3.0, 2.0, 1.0]


def test_smoothing_leaves_the_dots_raw_and_says_so() -> None:
    figure = figures.curves(HISTORY, smoothing=0.5)
    dots, line = figure.axes[0].lines
    assert dots.get_ydata().tolist() == [3.0, 2.0, 1.0]
    assert line.get_ydata().tolist() == [3.0, 2.5, 1.75]
    assert "factor 0.5" in figure.get_suptitle()
    assert figures.curves(HISTORY).get_suptitle() == ""


def test_a_single_epoch_can_be_drawn() -> None:
    figure = figures.curves({"epoch": [1], "loss": [1.0], "accuracy": [0.5]})
    assert one_image(figure).std() > 0


def test_a_confusion_matrix_has_names_counts_and_shares() -> None:
    matrix = np.array([[8, 2], [0, 5]])
    (axes,) = figures.confusion_matrix(matrix, ("cat", "dog")).axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["cat", "dog"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    texts = {t.get_position(): t.get_text() for t in axes.texts}
    assert texts == {(0, 0): "8", (1, 0): "2", (1, 1): "5"}  # (column, row); zeros stay empty
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [0.0, 1.0]])


def test_names_of_classes_and_titles_are_no_formulas() -> None:
    names = ("$x_{$", "under $10$")
    one_image(figures.confusion_matrix(np.eye(2, dtype=int), names))


def test_a_class_without_examples_is_no_division_by_zero() -> None:
    with np.errstate(all="raise"):
        (axes,) = figures.confusion_matrix(np.array([[0, 0], [1, 3]]), ("a", "b")).axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[0, 0], [0.25, 0.75]])


def test_a_large_confusion_matrix_has_no_numbers() -> None:
    count = 40
    (axes,) = figures.confusion_matrix(
        np.eye(count, dtype=int), [f"class {i}" for i in range(count)]
    ).axes
    assert len(axes.texts) == 0
    assert len(axes.get_xticklabels()) == count


@pytest.mark.thorough
def test_figures_leave_no_global_state() -> None:
    script = """
import sys
import numpy as np
from cnnjax.plot import figures, grids
assert "matplotlib" not in sys.modules
import matplotlib
settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
before = settings()
figures.curves({"epoch": [1], "loss": [1.0], "accuracy": [1.0]}, 0.5)
figures.confusion_matrix(np.eye(2, dtype=int), ("a", "b"))
grids.image_grid(np.zeros((2, 4, 4, 3), np.uint8), ["a", "b"])
assert settings() == before
print("pyplot" if "matplotlib.pyplot" in sys.modules else "clean")
"""
    assert python("-c", script).stdout.strip() == "clean"


def test_every_metric_that_is_a_number_has_its_curves() -> None:
    more = {"f1": [0.1, 0.2, 0.3], "val_f1": [0.1, 0.1, 0.2], "recall": np.ones((3, 4))}
    figure = figures.curves({**HISTORY, **more})
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy", "f1"]
    assert len(figure.axes[2].lines) == 4
