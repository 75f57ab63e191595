"""A convolution as the dense layer that it is: one sparse matrix of shared weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax import Array

from cnnjax.nn.conv import Padding, as_pair, resolve_padding

# Entries of the largest matrix, 400 MB in float32: more is a mistake, a convolution is the better
# form there.
_MOST = 100_000_000


def conv_as_matrix(
    kernel: Array | np.ndarray,
    input_shape: Sequence[int],
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation_rate: int | tuple[int, int] = 1,
) -> np.ndarray:
    """The matrix M of a convolution: `conv2d(x).reshape(N, -1) = x.reshape(N, -1) @ M`.

    Column (i, j, f) holds the kernel of filter f at the places of its window and zeros elsewhere,

        M[(s i + d a - top, s j + d b - left, c), (i, j, f)] = k[a, b, c, f]

    so a convolution is a dense layer most of whose weights are zero and whose others are shared by
    all columns.

    Args:
        kernel: [kh, kw, C, F].
        input_shape: (H, W, C).
        strides, padding, dilation_rate: as in `conv2d`.

    Returns:
        [H W C, H' W' F] of the kernel's dtype.

    Raises:
        ValueError: if the shapes do not fit, or the matrix would be larger than 10^8 entries.

    >>> import numpy as np
    >>> kernel = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 2, 1, 1)
    >>> conv_as_matrix(kernel, (3, 3, 1)).T.astype(int)
    array([[1, 2, 0, 3, 4, 0, 0, 0, 0],
           [0, 1, 2, 0, 3, 4, 0, 0, 0],
           [0, 0, 0, 1, 2, 0, 3, 4, 0],
           [0, 0, 0, 0, 1, 2, 0, 3, 4]])
    """
    weights = np.asarray(kernel)
    shape = tuple(int(n) for n in input_shape)
    if weights.ndim != 4 or len(shape) != 3 or shape[2] != weights.shape[2]:
        raise ValueError(
            "conv_as_matrix needs a kernel [kh, kw, C, F] and input_shape (H, W, C), got kernel "
            f"{list(weights.shape)} and input_shape {input_shape!r}"
        )
    (height, width, channels), (kh, kw, _, filters) = shape, weights.shape
    step, apart = as_pair(strides, "strides"), as_pair(dilation_rate, "dilation_rate")
    (top, bottom), (left, right) = resolve_padding(padding, (height, width), (kh, kw), step, apart)
    rows = (height + top + bottom - apart[0] * (kh - 1) - 1) // step[0] + 1
    columns = (width + left + right - apart[1] * (kw - 1) - 1) // step[1] + 1
    entries = height * width * channels * rows * columns * filters
    if entries > _MOST:
        raise ValueError(
            f"the matrix of this convolution has {entries:,} entries, at most {_MOST:,} are built: "
            "take a smaller input_shape"
        )
    matrix = np.zeros((height, width, channels, rows, columns, filters), weights.dtype)
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    for a, b in np.ndindex(kh, kw):
        y, x = step[0] * i + apart[0] * a - top, step[1] * j + apart[1] * b - left
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # the padding has no column
        matrix[y[inside], x[inside], :, i[inside], j[inside], :] = weights[a, b]
    return matrix.reshape(height * width * channels, rows * columns * filters)
