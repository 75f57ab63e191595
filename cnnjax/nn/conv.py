"""Convolution: one interface; the engine is chosen by device, shape and differentiation."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import jax
import numpy as np
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero

from cnnjax.core import target
from cnnjax.nn import winograd
from cnnjax.nn.im2col import Pairs, im2col_conv

Padding = str | Sequence[tuple[int, int]]

ENGINES = ("auto", "lax", "plain", "im2col", "winograd")

# Below so many columns a matrix product is slower than XLA's convolution.
_FEW_TAPS = 16

# A user context takes part in jit's cache key, so that a function traced under one
# engine is never reused under another.
_engine_context = jax.make_user_context(default_value="auto")


@contextmanager
def conv_engine(engine: str) -> Iterator[None]:
    """Choose the convolution engine for everything traced inside the `with` block.

    Args:
        engine: "auto" (the default everywhere: on accelerators `lax`; on the CPU `winograd` for
            3x3 kernels of stride 1 where it pays, else `lax` for values and `im2col` under
            differentiation), "lax", "plain", "im2col" or "winograd". All of them have derivatives
            of every order, forward and backward. Under "lax" depthwise convolution and pooling,
            too, are those of accelerators; "plain" is "lax" with each pooling as one operation, for
            programs that are exported.

    Raises:
        ValueError: if the engine is unknown.

    >>> import jax, jax.numpy as jnp
    >>> from cnnjax.nn import conv2d, conv_engine
    >>> with conv_engine("lax"):
    ...     program = jax.make_jaxpr(conv2d)(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))
    >>> [equation.primitive.name for equation in program.eqns]
    ['conv_general_dilated']
    """
    _check_engine(engine)
    with _engine_context(engine):
        yield


def current_conv_engine() -> str:
    """The engine that `conv_engine` has set."""
    return str(_engine_context.value)


def as_on_accelerators() -> bool:
    """Whether XLA's own operations are taken: on accelerators, under "lax" and under "plain"."""
    return target.platform() != "cpu" or current_conv_engine() in ("lax", "plain")


def as_exported() -> bool:
    """Whether each layer is to be one operation that other runtimes know: under "plain"."""
    return current_conv_engine() == "plain"


def conv2d(
    inputs: Array,
    kernel: Array,
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation_rate: int | tuple[int, int] = 1,
    engine: str | None = None,
) -> Array:
    """2-D convolution (cross-correlation, as in Keras and PyTorch), NHWC.

    `y[n, i, j, f] = sum_{a, b, c} x[n, s i + d a, s j + d b, c] k[a, b, c, f]` on the padded x.

    Args:
        inputs: [N, H, W, C], floating.
        kernel: [kh, kw, C, F], of the inputs' dtype.
        strides: one step or (rows, columns), each >= 1.
        padding: "valid", "same" (TensorFlow's rule: the odd pixel goes to the bottom and right), or
            ((top, bottom), (left, right)).
        dilation_rate: distance between kernel taps, one or (rows, columns), each >= 1.
        engine: one of `conv_engine`; None takes the one set there. On CPUs the gradient of
            "im2col" is several times faster than XLA's, while "lax" is the faster forward pass of
            the two; "winograd" has fewer operations than either.

    Returns:
        [N, H', W', F] with H' = floor((H + pad - d (kh - 1) - 1) / s) + 1.

    Raises:
        ValueError: if shapes do not fit, the kernel is larger than the padded inputs, or it is not
            one for the engine.
    """
    strides, dilation = as_pair(strides, "strides"), as_pair(dilation_rate, "dilation_rate")
    if inputs.ndim != 4 or kernel.ndim != 4 or inputs.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"conv2d needs inputs [N, H, W, C] and a kernel [kh, kw, C, F], got inputs "
            f"{list(inputs.shape)} and kernel {list(kernel.shape)}"
        )
    pads = resolve_padding(padding, inputs.shape[1:3], kernel.shape[:2], strides, dilation)
    engine = _check_engine(engine or _engine_context.value)
    if engine == "winograd" and not winograd.possible(kernel.shape, strides, dilation):
        raise ValueError(
            "engine='winograd' needs a 3x3 kernel, strides 1 and dilation_rate 1, got "
            f"{kernel.shape[0]}x{kernel.shape[1]}, {strides} and {dilation}"
        )
    if engine == "auto":
        engine = auto_engine(inputs, kernel, strides, pads, dilation)
    match engine:
        case "winograd":
            return winograd.winograd_conv(inputs, kernel, pads)
        case "im2col":
            return im2col_conv(inputs, kernel, strides, pads, dilation)
        case "by differentiation":
            return _conv_by_differentiation(inputs, kernel, strides, pads, dilation)
    return _lax_conv(inputs, kernel, strides, pads, dilation)


def auto_engine(inputs: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple) -> str:
    """What "auto" takes: "lax", "winograd", "im2col" or "by differentiation".

    The last one is lax for values, and im2col for values whose gradient is asked for.
    """
    if target.platform() != "cpu":
        return "lax"
    if winograd.possible(kernel.shape, strides, dilation) and winograd.worthwhile(
        inputs, kernel, pads
    ):
        return "winograd"
    size = inputs.shape[1:3]
    known = all(isinstance(n, int) for n in size)  # and no symbols of an export
    if known and all(n < k for n, k in zip(size, kernel.shape[:2], strict=True)):
        return "im2col"  # of maps smaller than the kernel XLA's own takes up to 70 times as long
    return "by differentiation"


def as_pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """`2` or `(2, 2)` to `(2, 2)`, each checked to be a whole number >= 1."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int) and v >= 1 for v in pair):
        raise ValueError(f"{name} must be a whole number >= 1 or a pair of them, got {value!r}")
    return pair


def resolve_padding(
    padding: Padding,
    size: Sequence[int],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> Pairs:
    """Padding as ((top, bottom), (left, right)), checked to leave at least one output pixel.

    Args:
        padding: "valid", "same" or explicit pairs.
        size: (H, W) of the inputs.
        kernel_size: (kh, kw); strides, dilation: likewise pairs.

    Raises:
        ValueError: for an unknown padding, or a window larger than the padded inputs.

    >>> resolve_padding("same", (224, 224), (3, 3), (2, 2))
    ((0, 1), (0, 1))
    """
    extent = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if isinstance(padding, str):
        mode = padding.lower()
        if mode not in ("valid", "same"):
            raise ValueError(
                f"padding must be 'valid', 'same' or pairs of numbers, got {padding!r}"
            )
        if mode == "valid":
            totals = [0, 0]
        else:
            totals = [
                max((-(-n // s) - 1) * s + e - n, 0)
                for n, s, e in zip(size, strides, extent, strict=True)
            ]
        (top, bottom), (left, right) = ((t // 2, t - t // 2) for t in totals)
    else:
        (top, bottom), (left, right) = padding
        if min(top, bottom, left, right) < 0:
            raise ValueError(f"padding must not be negative, got {padding!r}")
    pads = ((top, bottom), (left, right))
    for n, (low, high), e in zip(size, pads, extent, strict=True):
        if n + low + high < e:
            raise ValueError(
                f"a window of {extent[0]}x{extent[1]} does not fit into an input of "
                f"{size[0]}x{size[1]} with padding {padding!r}: use a larger input, a smaller "
                f"kernel or padding='same'"
            )
    return pads


def padded_first(x: Array, pads: Pairs, value: float = 0.0) -> tuple[Array, Pairs]:
    """Inputs, and the padding that is left to XLA, which takes no symbols of an export there.

    Args:
        x: [N, H, W, C].
        pads: of H and W.
        value: of the padding.
    """
    if all(isinstance(n, int | np.integer) for pair in pads for n in pair):
        return x, pads
    config = ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0))
    return lax.pad(x, np.array(value, x.dtype), config), ((0, 0), (0, 0))


def _lax_conv(x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple) -> Array:
    x, pads = padded_first(x, pads)
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def _conv_by_differentiation(
    x: Array, kernel: Array, strides: tuple, pads: Pairs, dilation: tuple
) -> Array:
    return _lax_conv(x, kernel, strides, pads, dilation)


@functools.partial(_conv_by_differentiation.defjvp, symbolic_zeros=True)
def _differentiated(
    strides: tuple, pads: Pairs, dilation: tuple, primals: tuple, tangents: tuple
) -> tuple[Array, Array]:
    # Only of what is differentiated: of the first layer's inputs nobody asks for a gradient.
    moving = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]

    def convolve(*moved: Array) -> Array:
        x, kernel = (dict(zip(moving, moved, strict=True)).get(i, primals[i]) for i in range(2))
        return im2col_conv(x, kernel, strides, pads, dilation)

    outputs, tangent = jax.jvp(
        convolve, [primals[i] for i in moving], [tangents[i] for i in moving]
    )
    x, kernel = primals
    if kernel.shape[0] * kernel.shape[1] * kernel.shape[2] < _FEW_TAPS:
        # The product itself is then not used, and XLA leaves it out.
        outputs = _lax_conv(x, kernel, strides, pads, dilation)
    return outputs, tangent


def _check_engine(engine: str) -> str:
    if engine not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    return engine
