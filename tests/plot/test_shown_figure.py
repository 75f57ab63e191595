"""Figures in notebooks."""

import io

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from PIL import Image

from cnnjax import plot
from cnnjax.data import from_arrays
from cnnjax.plot.shown_figure import png

HISTORY = {"epoch": [1, 2], "loss": [2.0, 1.0], "accuracy": [0.5, 0.75]}
IMAGES = np.zeros((2, 8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    "figure",
    [
        pytest.param(lambda: plot.curves(HISTORY), id="curves"),
        pytest.param(lambda: plot.image_grid(IMAGES), id="image_grid"),
        pytest.param(lambda: plot.contact_sheet(from_arrays(IMAGES, [0, 1])), id="contact_sheet"),
    ],
)
def test_a_figure_is_shown_as_one_png_of_its_size(figure):
    made = figure()
    assert isinstance(made, Figure)
    shown, _ = DisplayFormatter().format(made)
    assert set(shown) == {"text/plain", "image/png"}
    with Image.open(io.BytesIO(png(made))) as image:
        width, height = made.get_size_inches() * made.dpi
        assert image.size == (int(width), int(height))
