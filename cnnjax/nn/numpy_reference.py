"""Convolution from first principles: every backward pass derived by hand, in NumPy alone.

Once every window of an image has become the row of a matrix (`im2col`), a convolution is one
matrix product, and its backward pass is two more. This file is for reading, from top to bottom; it
agrees with `cnnjax.nn.conv2d`, `max_pool` and the others in values and gradients, and is slower.

Each layer is a function that returns `(outputs, backward)`, as `jax.vjp` does: `backward` takes the
gradient of a loss L with respect to the outputs, and returns those with respect to what went in.
Below, dZ is short for dL/dZ, which has the shape of Z. Arrays keep the dtype that they come in.

Images are [N, H, W, C] and kernels [kh, kw, C, F] (NHWC, HWIO), as everywhere in cnnjax. The
classic presentation has [N, C, H, W] and [F, C, kh, kw]; there an entry of a row is known by
(c, a, b) instead of (a, b, c), the kernel is reshaped *and transposed* to become [C kh kw, F], and
the product [N H' W', F] is transposed back to [N, F, H', W']. Here the kernel is the matrix, and
the product the images, by a mere reshape. The two are `x.transpose(0, 2, 3, 1)` and
`kernel.transpose(2, 3, 1, 0)` of each other and give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Pair = tuple[int, int]
Padding = int | tuple[Pair, Pair]
Backward = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def output_size(
    shape: tuple[int, ...], size: int | Pair, strides: int | Pair = 1, padding: Padding = 0
) -> Pair:
    """How many windows stand on an image: `H' = floor((H + top + bottom - kh) / s) + 1`, W' alike.

    Args:
        shape: [N, H, W, C].
        size: of a window, one or (kh, kw), each >= 1.
        strides: from one window to the next, one or (rows, columns), each >= 1.
        padding: pixels on every side, or ((top, bottom), (left, right)), each >= 0.

    Returns:
        (H', W').

    Raises:
        ValueError: for anything else, or a window larger than the padded image.

    >>> output_size((1, 28, 28, 1), 5), output_size((1, 28, 28, 1), 3, strides=2, padding=1)
    ((24, 24), (14, 14))
    """
    if len(shape) != 4:
        raise ValueError(f"images must be [N, H, W, C], got {list(shape)}")
    (kh, kw), (sh, sw) = _pair(size, "size"), _pair(strides, "strides")
    (top, bottom), (left, right) = _pads(padding)
    height, width = shape[1] + top + bottom, shape[2] + left + right
    if height < kh or width < kw:
        raise ValueError(
            f"a window of {kh}x{kw} does not fit into an image of {shape[1]}x{shape[2]} with "
            f"padding {padding!r}: use larger images, a smaller window or more padding"
        )
    return (height - kh) // sh + 1, (width - kw) // sw + 1


def im2col(
    x: np.ndarray,
    size: int | Pair,
    strides: int | Pair = 1,
    padding: Padding = 0,
    fill: float = 0.0,
) -> np.ndarray:
    """Every window of the images as the row of a matrix.

    `X[(n, i, j), (a, b, c)] = x[n, s i + a - top, s j + b - left, c]`

    A pixel appears as often as there are windows over it.

    Args:
        x: [N, H, W, C].
        size, strides, padding: as in `output_size`.
        fill: value of the padding.

    Returns:
        [N H' W', kh kw C].

    >>> im2col(np.arange(9).reshape(1, 3, 3, 1), 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    (kh, kw), (sh, sw) = _pair(size, "size"), _pair(strides, "strides")
    rows, columns = output_size(x.shape, size, strides, padding)
    padded = np.pad(x, ((0, 0), *_pads(padding), (0, 0)), constant_values=fill)
    matrix = np.empty((len(x), rows, columns, kh, kw, x.shape[3]), x.dtype)
    for a, b in np.ndindex(kh, kw):
        # Pixel (a, b) of window (i, j) is (s i + a, s j + b): for all windows together a slice.
        down, across = slice(a, a + sh * rows, sh), slice(b, b + sw * columns, sw)
        matrix[:, :, :, a, b] = padded[:, down, across]
    return matrix.reshape(len(x) * rows * columns, kh * kw * x.shape[3])


def col2im(
    matrix: np.ndarray,
    shape: tuple[int, ...],
    size: int | Pair,
    strides: int | Pair = 1,
    padding: Padding = 0,
) -> np.ndarray:
    """Add the rows of a matrix back to the places that `im2col` took them from.

    `im2col` copies, so it is linear; this is its transpose, `<im2col(x), M> = <x, col2im(M)>`, and
    hence its backward pass: a pixel collects the gradients of all its copies. It is no inverse:
    `col2im(im2col(x))` is x times the number of windows over each pixel.

    Args:
        matrix: [N H' W', kh kw C].
        shape: [N, H, W, C] of the images.
        size, strides, padding: as given to `im2col`.

    Returns:
        [N, H, W, C].

    Raises:
        ValueError: if the matrix is not one of such windows.

    >>> col2im(np.ones((4, 4)), (1, 3, 3, 1), 2)[0, :, :, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    (kh, kw), (sh, sw) = _pair(size, "size"), _pair(strides, "strides")
    rows, columns = output_size(shape, size, strides, padding)
    count, height, width, channels = shape
    if matrix.shape != (count * rows * columns, kh * kw * channels):
        raise ValueError(
            f"col2im needs a matrix {[count * rows * columns, kh * kw * channels]} for images "
            f"{list(shape)}, got {list(matrix.shape)}"
        )
    matrix = matrix.reshape(count, rows, columns, kh, kw, channels)
    (top, bottom), (left, right) = _pads(padding)
    padded = np.zeros((count, top + height + bottom, left + width + right, channels), matrix.dtype)
    for a, b in np.ndindex(kh, kw):
        down, across = slice(a, a + sh * rows, sh), slice(b, b + sw * columns, sw)
        padded[:, down, across] += matrix[:, :, :, a, b]
    return padded[:, top : top + height, left : left + width]


def conv2d(
    x: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    strides: int | Pair = 1,
    padding: Padding = 0,
) -> tuple[np.ndarray, Backward]:
    """Convolution as a matrix product (cross-correlation, as in Keras and PyTorch).

    With X = im2col(x) and the kernel as a matrix K [kh kw C, F]:

        Y = X K + 1 b,  that is,  Y[r, f] = sum_q X[r, q] K[q, f] + b[f]

    Every entry of K, b and X acts on L through the entries of Y that hold it, so by the chain rule

        dK[q, f] = sum_r X[r, q] dY[r, f]    dK = X' dY
        db[f]    = sum_r dY[r, f]            db = column sums of dY
        dX[r, q] = sum_f dY[r, f] K[q, f]    dX = dY K'

    (' transposes), and from X back to x leads the transpose of im2col: dx = col2im(dX).

    Args:
        x: [N, H, W, C], floating.
        kernel: [kh, kw, C, F].
        bias: [F].
        strides, padding: as in `output_size`.

    Returns:
        Outputs [N, H', W', F], and backward: dy -> (dx, dkernel, dbias).

    Raises:
        ValueError: if the shapes do not fit, or the kernel is larger than the padded images.

    >>> x, kernel = np.arange(9.0).reshape(1, 3, 3, 1), np.ones((2, 2, 1, 1))
    >>> y, backward = conv2d(x, kernel, np.zeros(1))
    >>> y.ravel().tolist()
    [8.0, 12.0, 20.0, 24.0]
    >>> dx, dkernel, dbias = backward(np.ones_like(y))
    >>> dx.ravel().tolist(), dkernel.ravel().tolist(), dbias.tolist()
    ([1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0], [8.0, 12.0, 20.0, 24.0], [4.0])
    """
    fits = x.ndim == 4 and kernel.ndim == 4 and x.shape[3] == kernel.shape[2]
    if not fits or bias.shape != kernel.shape[3:]:
        raise ValueError(
            "conv2d needs inputs [N, H, W, C], a kernel [kh, kw, C, F] and a bias [F], got inputs "
            f"{list(x.shape)}, kernel {list(kernel.shape)} and bias {list(bias.shape)}"
        )
    kh, kw, _, filters = kernel.shape
    out_shape = (len(x), *output_size(x.shape, (kh, kw), strides, padding), filters)
    rows = im2col(x, (kh, kw), strides, padding)
    matrix = kernel.reshape(-1, filters)

    def backward(dy: np.ndarray) -> tuple[np.ndarray, ...]:
        dy = dy.reshape(-1, filters)
        dkernel = (rows.T @ dy).reshape(kernel.shape)
        dx = col2im(dy @ matrix.T, x.shape, (kh, kw), strides, padding)
        return dx, dkernel, dy.sum(axis=0)

    return (rows @ matrix + bias).reshape(out_shape), backward


def max_pool(
    x: np.ndarray, size: int | Pair = 2, strides: int | Pair | None = None, padding: Padding = 0
) -> tuple[np.ndarray, Backward]:
    """Maximum over windows.

    A small change of an input that is not the largest of its window changes nothing, and one of the
    largest is passed on unchanged: the gradient goes, whole, to the place of the maximum. Of equal
    values the first one is it, row by row; NaN wins over all.

    Args:
        x: [N, H, W, C], floating.
        size, padding: as in `output_size`; padding never wins, so every window must hold a pixel.
        strides: None takes size.

    Returns:
        Outputs [N, H', W', C], and backward: dy -> (dx,).

    Raises:
        ValueError: if the window is larger than the padded images, one holds padding alone, or x
            is not floating.

    >>> y, backward = max_pool(np.array([[1.0, 7.0], [7.0, 5.0]]).reshape(1, 2, 2, 1))
    >>> y.item(), backward(np.ones_like(y))[0].ravel().tolist()
    (7.0, [0.0, 1.0, 0.0, 0.0])
    """
    strides = size if strides is None else strides
    if x.dtype.kind in "biu":
        raise ValueError(f"max_pool needs floating images, got {x.dtype}: x.astype(np.float32)")
    channels = x.shape[-1]
    windows = output_size(x.shape, size, strides, padding)
    pair = _pair(size, "size")
    for n, k, s, (before, _), count in zip(
        x.shape[1:3], pair, _pair(strides, "strides"), _pads(padding), windows, strict=True
    ):
        # The first window ends before the pixels, or the last one begins behind them.
        if min(n, k - before) <= 0 or (count - 1) * s - before >= n:
            raise ValueError(
                f"padding={padding!r} is too large: a window of {pair[0]}x{pair[1]} would hold "
                "padding alone, which has no maximum; use less than the size of a window"
            )
    out_shape = (len(x), *windows, channels)
    rows = im2col(x, size, strides, padding, fill=-np.inf)
    # [N H' W', kh kw, C]: one maximum a channel.
    rows = rows.reshape(len(rows), pair[0] * pair[1], channels)
    first = rows.argmax(axis=1, keepdims=True)
    y = np.take_along_axis(rows, first, axis=1)

    def backward(dy: np.ndarray) -> tuple[np.ndarray, ...]:
        drows = np.zeros(rows.shape, dy.dtype)
        np.put_along_axis(drows, first, dy.reshape(first.shape), axis=1)
        matrix = drows.reshape(len(rows), pair[0] * pair[1] * channels)
        return (col2im(matrix, x.shape, size, strides, padding),)

    return y.reshape(out_shape), backward


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Backward]:
    """Fully connected layer, `y = x K + b`: the convolution above whose rows are there already.

    So `dK = x' dy`, `db = column sums of dy` and `dx = dy K'`.

    Args:
        x: [N, D], floating. kernel: [D, U]. bias: [U].

    Returns:
        Outputs [N, U], and backward: dy -> (dx, dkernel, dbias).

    Raises:
        ValueError: if the shapes do not fit.
    """
    fits = x.ndim == 2 and kernel.ndim == 2 and x.shape[1] == kernel.shape[0]
    if not fits or bias.shape != kernel.shape[1:]:
        raise ValueError(
            "dense needs inputs [N, D], a kernel [D, U] and a bias [U], got inputs "
            f"{list(x.shape)}, kernel {list(kernel.shape)} and bias {list(bias.shape)}"
        )
    return x @ kernel + bias, lambda dy: (dy @ kernel.T, x.T @ dy, dy.sum(axis=0))


def relu(x: np.ndarray) -> tuple[np.ndarray, Backward]:
    """`max(x, 0)`, whose slope is 1 above zero and 0 below; at zero 0 is taken, as `jax.nn` does.

    Args:
        x: of any shape.

    Returns:
        Outputs of the same shape, and backward: dy -> (dx,).
    """
    return np.maximum(x, 0), lambda dy: (dy * (x > 0),)


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray
) -> tuple[float, Callable[[], tuple[np.ndarray, ...]]]:
    """Mean over the examples of `-log p[n, y[n]]` with `p[n, k] = exp z[n, k] / sum_m exp z[n, m]`.

    Since `log p[n, y] = z[n, y] - log sum_m exp z[n, m]`, whose second term has the derivative
    `exp z[n, k] / sum_m exp z[n, m] = p[n, k]`,

        dz[n, k] = (p[n, k] - [k = y[n]]) / N

    Args:
        logits: z [N, K], floating.
        labels: y, whole numbers [N] in [0, K).

    Returns:
        The loss L itself, and backward: () -> (dlogits,), since dL/dL is 1.

    Raises:
        ValueError: if the shapes do not fit, there are no examples, or a label is no whole number
            in [0, K).

    >>> loss, backward = softmax_cross_entropy(np.zeros((1, 4)), np.array([2]))
    >>> round(loss, 4), backward()[0].tolist()
    (1.3863, [[0.25, 0.25, -0.75, 0.25]])
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "softmax_cross_entropy needs logits [N, K] and labels [N], got logits "
            f"{list(logits.shape)} and labels {list(labels.shape)}"
        )
    count, classes = logits.shape
    if count == 0:
        raise ValueError(
            f"softmax_cross_entropy is a mean over examples, and logits {list(logits.shape)} hold "
            "none: give at least one"
        )
    whole = np.issubdtype(labels.dtype, np.integer)
    if not whole or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must be whole numbers in [0, {classes}), as there are {classes} logits, got "
            f"{labels.dtype} from {labels.min()} to {labels.max()}"
        )
    # Adding a number to all logits of an example changes nothing; so the largest exponent is 0.
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    examples = np.arange(count)

    def backward() -> tuple[np.ndarray, ...]:
        dlogits = np.exp(log_p)
        dlogits[examples, labels] -= 1
        return (dlogits / count,)

    return -float(log_p[examples, labels].mean()), backward


def numerical_gradient(
    f: Callable[[np.ndarray], float], x: np.ndarray, h: float = 1e-4
) -> np.ndarray:
    """The gradient of a function by central differences, an entry at a time.

    `(f(x + h e) - f(x - h e)) / 2h`, off by `h^2 / 6` times the third derivative, and by rounding
    of the order of `1e-16 |f| / h`.

    Args:
        f: array of x's shape -> number; smooth within h of x (ReLU and max pooling have kinks).
        x: float64, of any shape; it stays as it is.
        h: half the distance of the two places, > 0.

    Returns:
        float64 of x's shape.

    Raises:
        ValueError: if x is not float64, in whose place rounding would be most of the difference.

    >>> numerical_gradient(lambda x: float((x**3).sum()), np.array([1.0, 2.0])).round(6).tolist()
    [3.0, 12.0]
    """
    if x.dtype != np.float64:
        raise ValueError(f"numerical_gradient needs x in float64, got {x.dtype}")
    gradient = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += h
        behind[place] -= h
        gradient[place] = (f(ahead) - f(behind)) / (2 * h)
    return gradient


def _pair(value: int | Pair, name: str) -> Pair:
    """`2` or `(2, 2)` to `(2, 2)`."""
    pair = _whole_numbers(value, (2,), least=1)
    if pair is None:
        raise ValueError(f"{name} must be a whole number >= 1 or a pair of them, got {value!r}")
    return pair[0], pair[1]


def _pads(padding: Padding) -> tuple[Pair, Pair]:
    """`1` or `((1, 1), (1, 1))` to `((1, 1), (1, 1))`."""
    pads = _whole_numbers(padding, (2, 2), least=0)
    if pads is None:
        raise ValueError(
            f"padding must be pixels >= 0 or ((top, bottom), (left, right)), got {padding!r}"
        )
    (top, bottom), (left, right) = pads
    return (top, bottom), (left, right)


def _whole_numbers(value: Any, shape: tuple[int, ...], least: int) -> Any:
    """One whole number for all places of a shape, or one for each, as lists; None if it is not."""
    given = np.array(value, object)
    fits = given.shape in ((), shape) and all(
        isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= least
        for v in given.flat
    )
    return np.broadcast_to(given, shape).astype(int).tolist() if fits else None
