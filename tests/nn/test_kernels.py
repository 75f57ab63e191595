"""Classical kernels, against SciPy and against what calculus says."""

import numpy as np
import pytest
from scipy import ndimage, signal

from cnnjax.nn import KERNELS, apply_kernel

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (2, 13, 17, 3), dtype=np.uint8)


@pytest.mark.sample(3)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_responses_are_scipys(name, padding):
    found = np.asarray(apply_kernel(PIXELS, KERNELS[name], padding))
    for n in range(2):
        for c in range(3):
            expected = signal.correlate2d(
                PIXELS[n, :, :, c].astype(np.float64), KERNELS[name], mode=padding
            )
            np.testing.assert_allclose(found[n, :, :, c], expected, rtol=1e-6, atol=1e-4)
    assert found.dtype == np.float32


def test_the_kernels_are_those_of_the_books():
    assert KERNELS["laplacian"].tolist() == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    assert KERNELS["sharpen"].tolist() == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert KERNELS["sharpen_5x5"].shape == (5, 5)
    grey = PIXELS[..., 0].astype(np.float64)
    # SciPy convolves, so that its Sobel filter is the mirror image of a correlation's, twice.
    expected = ndimage.sobel(grey[0], axis=1)[1:-1, 1:-1]
    found = apply_kernel(PIXELS[:1, :, :, :1], KERNELS["sobel_x"])[0, :, :, 0]
    np.testing.assert_array_equal(found, expected)
    expected = ndimage.laplace(grey[0])[1:-1, 1:-1]
    found = apply_kernel(PIXELS[:1, :, :, :1], KERNELS["laplacian"])[0, :, :, 0]
    np.testing.assert_array_equal(found, expected)


def test_the_laplacian_is_the_sum_of_second_derivatives_and_sharpening_takes_it_away():
    second = np.zeros((3, 3))
    second[1] += KERNELS["second_derivative"][0]
    second[:, 1] += KERNELS["second_derivative"][0]
    np.testing.assert_array_equal(KERNELS["laplacian"], second)
    identity = np.zeros((3, 3))
    identity[1, 1] = 1
    np.testing.assert_array_equal(KERNELS["sharpen"], identity - KERNELS["laplacian"])


@pytest.mark.parametrize(
    ("name", "total"),
    [("sharpen", 1), ("sharpen_5x5", 1), ("laplacian", 0), ("sobel_x", 0), ("sobel_y", 0)],
)
def test_even_areas_stay_or_vanish(name, total):
    even = np.full((1, 7, 7, 1), 8.0)
    assert np.unique(apply_kernel(even, KERNELS[name])).tolist() == [8.0 * total]


def test_derivatives_of_a_parabola_are_exact():
    x = np.arange(9.0).reshape(1, 1, 9, 1)
    first = apply_kernel(x**2, KERNELS["first_derivative"]).ravel()
    np.testing.assert_array_equal(first, 2 * np.arange(1, 8))
    assert set(np.asarray(apply_kernel(x**2, KERNELS["second_derivative"])).ravel()) == {2.0}


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_the_laplacian_of_a_image_turned_by_quarters_is_the_turned_one_bitwise(turns):
    kernel = KERNELS["laplacian"]
    answer = np.asarray(apply_kernel(PIXELS, kernel))
    turned = np.asarray(apply_kernel(np.rot90(PIXELS, turns, axes=(1, 2)), kernel))
    np.testing.assert_array_equal(turned, np.rot90(answer, turns, axes=(1, 2)))
    sobel = np.asarray(apply_kernel(np.rot90(PIXELS, turns, axes=(1, 2)), KERNELS["sobel_x"]))
    straight = np.rot90(np.asarray(apply_kernel(PIXELS, KERNELS["sobel_x"])), turns, axes=(1, 2))
    assert (sobel != straight).mean() > 0.5  # which has a direction


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"images \[N, H, W, C\].*got images \[4, 4\]"):
        apply_kernel(np.zeros((4, 4)), KERNELS["laplacian"])
    with pytest.raises(ValueError, match="window of 5x5 does not fit"):
        apply_kernel(np.zeros((1, 4, 4, 1)), KERNELS["sharpen_5x5"])
    with pytest.raises(ValueError, match="read-only"):
        KERNELS["laplacian"][0, 0] = 1
