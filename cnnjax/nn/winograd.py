"""Winograd's minimal filtering for 3x3 kernels, F(2x2, 3x3).

Lavin & Gray 2016, Fast algorithms for convolutional neural networks, sec. 4.1:
`Y = A' [(G k G') * (B' d B)] A` for every tile d of 4x4 inputs, which yields 2x2 outputs with 16
products where the definition takes 36. Over all tiles and channels each of the 16 products is one
matrix product. The constants are 0, 1, -1 and 1/2, so that it rounds no worse than the direct sum
(measured on random layers); larger tiles would save more and round ten times worse.

It rounds relative to the whole tile, and an infinity spoils its tile: where exact zeros of a kernel
must hide what they cover (masked, causal convolutions), use `conv_engine("im2col")` or "lax".
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.nn.im2col import Pairs
from cnnjax.nn.trilinear import Trilinear

_OUT, _IN = 2, 4  # sizes of a tile
_B = np.array([[1, 0, 0, 0], [0, 1, -1, 1], [-1, 1, 1, 0], [0, 0, 0, -1]], np.float32)
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_A = np.array([[1, 0], [1, 1], [1, -1], [0, -1]], np.float32)

# Below so many operations in each of the 16 products, starting them costs more than they save.
_WORTHWHILE = 16e6


def possible(kernel_shape: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether a convolution has the form that this algorithm computes."""
    return tuple(kernel_shape[:2]) == (3, 3) and tuple(strides) == tuple(dilation) == (1, 1)


def worthwhile(x: Array, kernel: Array, pads: Pairs) -> bool:
    """Whether it is faster on CPUs than the direct ways (measured: benchmarks/conv_engines.py)."""
    if not all(isinstance(n, int) for n in x.shape):
        return False  # exported for any batch size: no size to judge by
    channels, filters = kernel.shape[2:]
    rows, columns = _tiles(x.shape, pads)
    tiles = x.shape[0] * rows * columns
    return (
        x.dtype == jnp.float32  # in half precision the transforms lose digits
        and min(channels, filters) >= 16
        and tiles >= max(channels, filters)  # else transforming the kernel costs too much
        and 2 * tiles * channels * filters >= _WORTHWHILE
    )


def winograd_conv(x: Array, kernel: Array, pads: Pairs) -> Array:
    """Convolution of stride 1 with a 3x3 kernel.

    Args:
        x: [N, H, W, C].
        kernel: [3, 3, C, F].
        pads: ((top, bottom), (left, right)).

    Returns:
        [N, H', W', F].
    """
    height, width = _output_size(x.shape, pads)
    shapes = (x.shape, kernel.shape, (x.shape[0], height, width, kernel.shape[3]))
    return Winograd(shapes, pads)(x, kernel)


@dataclass(frozen=True)
class Winograd(Trilinear):
    """The convolution and its two gradients, each by Winograd's products.

    Args:
        pads: ((top, bottom), (left, right)).
    """

    pads: Pairs

    def outputs(self, inputs: Array, kernel: Array) -> Array:
        """`A' [(G k G') * (B' d B)] A`."""
        return _products(_transformed_inputs(inputs, self.pads), kernel, inputs.shape, self.pads)

    def inputs(self, kernel: Array, outputs: Array) -> Array:
        """A convolution as well, with the kernel turned round."""
        (top, bottom), (left, right) = self.pads
        pads = ((2 - top, 2 - bottom), (2 - left, 2 - right))
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        return _products(_transformed_inputs(outputs, pads), turned, outputs.shape, pads)

    def kernel(self, inputs: Array, outputs: Array) -> Array:
        """`G' [sum over tiles of (B' d B) (A dY A')] G`; of `outputs`, XLA has B' d B already."""
        n, height, width, filters = outputs.shape
        rows, columns = -(-height // _OUT), -(-width // _OUT)
        edges = ((0, 0), (0, rows * _OUT - height), (0, columns * _OUT - width), (0, 0))
        tiles = jnp.pad(outputs, edges).reshape(n, rows, _OUT, columns, _OUT, filters)
        parts = [[tiles[:, :, i, :, j] for j in range(_OUT)] for i in range(_OUT)]
        pairs = zip(_transformed_inputs(inputs, self.pads), _transform(_A, parts), strict=True)
        products = [
            [_matrix(u).T @ _matrix(g) for u, g in zip(*pair, strict=True)] for pair in pairs
        ]
        return jnp.stack([jnp.stack(row) for row in _transform(_G.T, products)])


def _output_size(shape: Sequence[int], pads: Pairs) -> tuple[int, int]:
    height, width = (n + sum(pad) - 2 for n, pad in zip(shape[1:3], pads, strict=True))
    return height, width


def _tiles(shape: Sequence[int], pads: Pairs) -> tuple[int, int]:
    height, width = _output_size(shape, pads)
    return -(-height // _OUT), -(-width // _OUT)


def _transformed_inputs(x: Array, pads: Pairs) -> list[list[Array]]:
    """`B' d B` for every tile: 4 x 4 arrays [N, rows, columns, C]."""
    rows, columns = _tiles(x.shape, pads)
    (top, _), (left, _) = pads
    needed = rows * _OUT + 2, columns * _OUT + 2
    below, beside = needed[0] - x.shape[1] - top, needed[1] - x.shape[2] - left
    padded = lax.pad(
        x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, below, 0), (left, beside, 0), (0, 0, 0))
    )
    # Rows, then columns: slicing both at once is slower.
    down = _combinations(_B.T, [padded[:, i : i + rows * _OUT - 1 : _OUT] for i in range(_IN)])
    return [
        _combinations(_B.T, [line[:, :, j : j + columns * _OUT - 1 : _OUT] for j in range(_IN)])
        for line in down
    ]


def _products(inputs: list[list[Array]], kernel: Array, shape: Sequence[int], pads: Pairs) -> Array:
    """`A' [(G k G') * inputs] A`, put together to the output."""
    kernels = _transform(_G, [[kernel[i, j] for j in range(3)] for i in range(3)])
    n, rows, columns, _ = inputs[0][0].shape
    filters = kernel.shape[-1]
    products = [
        [(_matrix(u) @ k).reshape(n, rows, columns, filters) for u, k in zip(*pair, strict=True)]
        for pair in zip(inputs, kernels, strict=True)
    ]
    tiles = _transform(_A.T, products)
    joined = jnp.stack([jnp.stack(row, axis=3) for row in tiles], axis=2)
    height, width = _output_size(shape, pads)
    return joined.reshape(n, rows * _OUT, columns * _OUT, filters)[:, :height, :width]


def _transform(matrix: np.ndarray, parts: list[list[Array]]) -> list[list[Array]]:
    """`matrix @ parts @ matrix.T`, where the elements of `parts` are arrays of one shape."""
    down = [_combinations(matrix, column) for column in zip(*parts, strict=True)]
    return [_combinations(matrix, line) for line in zip(*down, strict=True)]


def _combinations(matrix: np.ndarray, arrays: Sequence[Array]) -> list[Array]:
    """`matrix @ arrays`, without the terms of weight zero."""
    sums = []
    for weights in matrix:
        terms = [
            array if weight == 1 else -array if weight == -1 else array * float(weight)
            for weight, array in zip(weights, arrays, strict=True)
            if weight != 0
        ]
        sums.append(functools.reduce(jnp.add, terms))
    return sums


def _matrix(tiles: Array) -> Array:
    return tiles.reshape(-1, tiles.shape[-1])
