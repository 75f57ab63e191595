"""Classical kernels: derivatives, edges, sharpening, as convolutions of an image."""

from __future__ import annotations

from types import MappingProxyType

import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.nn.conv import Padding, conv2d


def _kernel(rows: list[list[float]], divisor: float = 1.0) -> np.ndarray:
    kernel = np.array(rows, np.float32) / np.float32(divisor)
    kernel.setflags(write=False)
    return kernel


LAPLACIAN = _kernel([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
SHARPEN = _kernel([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
SHARPEN_5X5 = _kernel(
    [
        [-1, -1, -1, -1, -1],
        [-1, 2, 2, 2, -1],
        [-1, 2, 8, 2, -1],
        [-1, 2, 2, 2, -1],
        [-1, -1, -1, -1, -1],
    ],
    8,
)
SOBEL_X = _kernel([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
SOBEL_Y = _kernel([[-1, -2, -1], [0, 0, 0], [1, 2, 1]])
FIRST_DERIVATIVE = _kernel([[-1, 0, 1]], 2)
SECOND_DERIVATIVE = _kernel([[1, -2, 1]])

# By name. The Laplacian is the sum of the second derivatives along both axes; sharpening is the
# image less its Laplacian; both sharpening kernels sum to 1, so that even areas stay as they are.
# Sobel x answers to change from left to right, Sobel y to change from top to bottom.
KERNELS = MappingProxyType(
    {
        "laplacian": LAPLACIAN,
        "sharpen": SHARPEN,
        "sharpen_5x5": SHARPEN_5X5,
        "sobel_x": SOBEL_X,
        "sobel_y": SOBEL_Y,
        "first_derivative": FIRST_DERIVATIVE,
        "second_derivative": SECOND_DERIVATIVE,
    }
)


def apply_kernel(
    images: Array | np.ndarray, kernel: Array | np.ndarray, padding: Padding = "valid"
) -> Array:
    """Convolve every channel of images with one kernel (cross-correlation, as in `conv2d`).

    Pixels and kernels of whole numbers give exact sums (below 2^24), in whatever order they are
    added: a symmetric kernel's response to an image turned by 90 degrees is then bitwise the
    turned response.

    Args:
        images: [N, H, W, C], uint8 or floating.
        kernel: [kh, kw], e.g. one of `KERNELS`.
        padding: as in `conv2d`; "valid" by default, since zeros around an image are an edge.

    Returns:
        float32 [N, H', W', C].

    Raises:
        ValueError: for other shapes, or a kernel larger than the padded image.

    >>> import numpy as np
    >>> ramp = np.arange(5.0).reshape(1, 1, 5, 1)
    >>> apply_kernel(ramp**2, FIRST_DERIVATIVE).ravel().tolist()
    [2.0, 4.0, 6.0]
    >>> apply_kernel(ramp**2, SECOND_DERIVATIVE).ravel().tolist()
    [2.0, 2.0, 2.0]
    """
    batch, weights = jnp.asarray(images, jnp.float32), jnp.asarray(kernel, jnp.float32)
    if batch.ndim != 4 or weights.ndim != 2:
        raise ValueError(
            f"apply_kernel needs images [N, H, W, C] and a kernel [kh, kw], got images "
            f"{list(batch.shape)} and kernel {list(weights.shape)}"
        )
    n, height, width, channels = batch.shape
    # Channels become images of their own.
    planes = jnp.moveaxis(batch, 3, 1).reshape(n * channels, height, width, 1)
    # Winograd's transforms would round what is exact here.
    outputs = conv2d(planes, weights[:, :, None, None], padding=padding, engine="lax")
    rows, columns = outputs.shape[1:3]
    return jnp.moveaxis(outputs.reshape(n, channels, rows, columns), 1, 3)
