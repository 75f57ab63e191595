"""Images beside each other: what is shown where, with which titles; tiles."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cnnjax.plot import grids


def drawn(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file)
    return np.asarray(Image.open(file).convert("RGB"))


def shown(figure):
    return figure.axes[0].images[0].get_array()


@pytest.mark.parametrize(("count", "axes"), [(1, 1), (5, 5), (11, 11)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_grid_shows_every_image(count: int, axes: int, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 4, 5, channels), np.uint8)
    figure = grids.image_grid(images, [f"n{i}" for i in range(count)], columns=4)
    assert len(figure.axes) == axes
    assert [a.get_title() for a in figure.axes] == [f"n{i}" for i in range(count)]
    for shown, image in zip(figure.axes, images, strict=True):
        wanted = image[..., 0] if channels == 1 else image
        np.testing.assert_array_equal(shown.images[0].get_array(), wanted)
    rows = {round(a.get_subplotspec().rowspan.start) for a in figure.axes}
    assert len(rows) == -(-count // 4)


def test_grey_is_shown_from_black_to_white_whatever_the_image_holds() -> None:
    figure = grids.image_grid(np.full((1, 4, 4, 1), 100, np.uint8))
    assert figure.axes[0].images[0].get_clim() == (0, 255)


def test_floating_grey_runs_from_nought_to_one() -> None:
    figure = grids.image_grid([np.full((4, 4), 0.2)])
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_pixels_are_clipped_to_what_can_be_shown() -> None:
    values = np.array([-5.0, 0.0, 127.6, 300.0], np.float32)
    assert grids.as_pixels(values).tolist() == [0, 0, 127, 255]


def test_a_table_of_images_has_heads_and_labels() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    images = [image, image[..., 0] / 255] * 2
    figure = grids.image_grid(images, ["a", "b"], 2, labels=["x", "y"], title="$x_{$")
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes] == ["x", "", "y", ""]
    assert figure.get_suptitle() == "$x_{$"
    drawn(figure)


def test_augmented_copies_stand_beside_their_originals() -> None:
    originals = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1) * np.ones((1, 4, 4, 1), np.uint8)
    copies = np.stack([originals + 10, originals + 20, originals + 30], axis=1)
    figure = grids.augmentation(originals, copies)
    shown = [int(axes.images[0].get_array()[0, 0]) for axes in figure.axes]
    assert shown == [0, 10, 20, 30, 1, 11, 21, 31]
    places = [a.get_subplotspec() for a in figure.axes]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [
        (row, column) for row in range(2) for column in range(4)
    ]


def test_no_images_make_an_empty_figure() -> None:
    assert grids.image_grid(np.zeros((0, 4, 4, 1), np.uint8)).axes == []


def test_tiles_are_where_they_belong():
    image_list = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1) * np.ones((5, 2, 3), np.float32)
    canvas = grids.tiled(image_list, columns=2, margin=5)
    assert canvas.shape == (3 * 2 + 2 * 5, 2 * 3 + 5)
    assert (canvas[7:9, 8:] == 4).all()
    assert (canvas[2:7] == 0).all()
    assert (canvas[14:, 3:] == 0).all()
    # The grid of the book: 8x8 patterns of 64x64 with a margin of 5.
    colours = np.ones((64, 64, 64, 3), np.float32)
    assert grids.tiled(colours, columns=8, margin=5).shape == (547, 547, 3)


def test_the_image_of_maps_has_sixteen_in_a_row():
    maps = np.zeros((4, 6, 20), np.uint8)
    maps[:, :, 17] = 200
    figure = grids.feature_maps(maps, "conv   4 x 6 x 20")
    canvas = shown(figure)
    assert canvas.shape == (2 * 4 + 1, 16 * 6 + 15)
    assert (canvas[5:, 7:13] == 200).all()
    assert np.ma.getmaskarray(canvas)[4].all()  # the margin is left white
    assert figure.axes[0].images[0].get_cmap().name == "viridis"
    assert figure.axes[0].images[0].get_clim() == (0, 255)
    assert figure.axes[0].get_title() == "conv   4 x 6 x 20"
    # Raw values have a scale of their own.
    raw = grids.feature_maps(maps.astype(np.float32))
    assert len(raw.axes) == 2
    assert raw.axes[0].images[0].get_clim() == (0, 200)


def test_dead_patterns_are_crossed_out():
    figure = grids.pattern_grid(np.full((3, 4, 4, 3), 0.5, np.float32), columns=2, marked=[2])
    assert shown(figure).shape == (13, 13, 3)
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[0, 3], [0, 3]]
    assert {tuple(line.get_ydata()) for line in figure.axes[0].lines} == {(9, 12), (12, 9)}
    grey = grids.pattern_grid(np.zeros((3, 4, 4, 1), np.float32), columns=2)
    assert shown(grey).shape == (13, 13)


@pytest.mark.parametrize(
    ("images", "span"),
    [
        pytest.param(np.array([7, 9], np.uint8), (0, 255), id="bytes"),
        pytest.param(np.array([0.5, 254.0], np.float32), (0, 255), id="floating-pixels"),
        pytest.param(np.array([100, 4095], np.uint16), (100, 4095), id="16-bits"),
        pytest.param(np.array([-3, 5], np.int16), (-3, 5), id="16-bits-with-a-sign"),
        pytest.param(np.array([-1.0, 1.0], np.float32), (-1, 1), id="floating-numbers"),
    ],
)
def test_of_what_is_no_pixel_the_extremes_are_black_and_white(images, span) -> None:
    assert grids.span_of(images) == span
    ends = grids.as_pixels(np.array(span, images.dtype), grids.span_of(images))
    assert ends.tolist() == [0, 255]


def test_images_of_16_bits_and_their_augmented_copies_are_not_white() -> None:
    originals = np.linspace(0, 60000, 16).astype(np.uint16).reshape(1, 4, 4, 1)
    figure = grids.augmentation(originals, originals[:, None].astype(np.float32))
    original, copy = (axes.images[0].get_array() for axes in figure.axes)
    np.testing.assert_array_equal(original, copy)
    assert len(np.unique(original)) == 16
