"""How alike two heatmaps are: by the order of their values, and by their structure."""

from __future__ import annotations

import numpy as np


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation: the correlation of the ranks, equal values sharing theirs.

    Args:
        first, second: of one shape, any floating values.

    Returns:
        In [-1, 1]; NaN where one of them is constant, which has no order.

    >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 8.0, 9.0])), 6)
    1.0
    """
    _check_shapes(first, second)
    a, b = _ranks(np.ravel(first)), _ranks(np.ravel(second))
    a, b = a - a.mean(), b - b.mean()
    below = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / below) if below > 0 else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values at the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray = (last - (counts + 1) / 2).astype(np.float64)
    return means[inverse]


def structural_similarity(
    first: np.ndarray, second: np.ndarray, data_range: float = 1.0, window: int = 7
) -> float:
    """SSIM (Wang et al. 2004), the mean over windows of equal weights.

    `(2 m_a m_b + c_1)(2 s_ab + c_2) / ((m_a^2 + m_b^2 + c_1)(s_a^2 + s_b^2 + c_2))` with the sample
    (co)variances of a window, `c_1 = (.01 L)^2`, `c_2 = (.03 L)^2`.

    Args:
        first, second: [H, W], of one shape.
        data_range: L, the distance from the smallest to the largest value possible.
        window: height and width, odd, at most that of the image.

    Returns:
        In [-1, 1]; 1 only for equal images.

    Raises:
        ValueError: for two shapes, or a window that is even or too large.
    """
    _check_shapes(first, second)
    if first.ndim != 2 or window % 2 == 0 or not 1 < window <= min(first.shape):
        raise ValueError(
            f"images must be [H, W] and window odd, in [3, {min(first.shape, default=0)}], got "
            f"shape {list(first.shape)} and window={window}"
        )
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    mean_a, mean_b = _window_means(a, window), _window_means(b, window)
    unbiased = window**2 / (window**2 - 1)
    var_a = unbiased * (_window_means(a * a, window) - mean_a**2)
    var_b = unbiased * (_window_means(b * b, window) - mean_b**2)
    cov = unbiased * (_window_means(a * b, window) - mean_a * mean_b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    below = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(np.mean(above / below))


def _window_means(image: np.ndarray, window: int) -> np.ndarray:
    """Means of all windows that lie inside, from two cumulative sums."""
    sums = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = (
        sums[window:, window:] - sums[:-window, window:]
        - sums[window:, :-window] + sums[:-window, :-window]
    )  # fmt: skip
    means: np.ndarray = inside / window**2
    return means


def _check_shapes(first: np.ndarray, second: np.ndarray) -> None:
    if np.shape(first) != np.shape(second):
        raise ValueError(
            f"the two must have one shape, got {list(np.shape(first))} and {list(np.shape(second))}"
        )
