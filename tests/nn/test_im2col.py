"""The hand-written layers against XLA, jax.grad, numerical differentiation and a sum by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax import lax

import cnnjax as cj
from cnnjax.nn import numpy_reference as reference
from cnnjax.nn.numpy_reference import (
    col2im,
    conv2d,
    dense,
    im2col,
    max_pool,
    numerical_gradient,
    output_size,
    relu,
    softmax_cross_entropy,
)

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
RNG = np.random.default_rng(0)


def normal(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def distinct(*shape):
    """Numbers that are at least 1 apart, so that a small step swaps no two of them."""
    return RNG.permutation(np.arange(np.prod(shape)) - 7.5).reshape(shape)


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
CASES = st.fixed_dictionaries(
    {
        "shape": st.tuples(
            st.integers(1, 2), st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)
        ),
        "size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "strides": PAIR,
        "padding": st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    }
)


def fits(case):
    return all(
        n + sum(pads) >= k
        for n, pads, k in zip(case["shape"][1:3], case["padding"], case["size"], strict=True)
    )


def geometry(case):
    return case["size"], case["strides"], case["padding"]


def xla(x, kernel, strides, padding):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


# im2col and col2im


@settings(SETTINGS, max_examples=25)
@given(CASES)
def test_rows_are_the_windows(case):
    assume(fits(case))
    x, (kh, kw), (sh, sw), pads = normal(*case["shape"]), *geometry(case)
    rows, columns = output_size(x.shape, *geometry(case))
    matrix = im2col(x, *geometry(case), fill=9.0)
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=9.0)
    expected = [
        padded[n, sh * i : sh * i + kh, sw * j : sw * j + kw].ravel()
        for n in range(len(x))
        for i in range(rows)
        for j in range(columns)
    ]
    np.testing.assert_array_equal(matrix, expected)


@settings(SETTINGS, max_examples=25)
@given(CASES)
def test_col2im_is_the_adjoint_of_im2col(case):
    assume(fits(case))
    x = normal(*case["shape"])
    matrix = im2col(x, *geometry(case))
    other = normal(*matrix.shape)
    back = col2im(other, x.shape, *geometry(case))
    assert back.shape == x.shape
    assert np.vdot(matrix, other) == pytest.approx(np.vdot(x, back), abs=1e-12 * matrix.size)


def test_windows_that_tile_are_put_back_as_they_were():
    x = normal(2, 6, 4, 3)
    np.testing.assert_array_equal(col2im(im2col(x, (3, 2), (3, 2)), x.shape, (3, 2), (3, 2)), x)


# Convolution


@settings(SETTINGS, max_examples=12)
@given(CASES, st.integers(1, 3))
def test_convolution_equals_xla_and_jax_grad(case, filters):
    assume(fits(case))
    size, strides, padding = geometry(case)
    x, bias = normal(*case["shape"]), normal(filters)
    kernel = normal(*size, x.shape[3], filters)
    y, backward = conv2d(x, kernel, bias, strides, padding)
    dy = normal(*y.shape)

    @jax.jit
    def both(x, kernel, bias, dy):
        y, pullback = jax.vjp(
            lambda x, k, b: xla(x, k, strides, padding) + b.reshape(1, 1, 1, -1), x, kernel, bias
        )
        return y, pullback(dy)

    with jax.enable_x64(True):
        expected, gradients = both(x, kernel, bias, dy)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(backward(dy), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@settings(SETTINGS, max_examples=10)
@given(CASES, st.integers(1, 2))
def test_convolution_equals_numerical_differentiation(case, filters):
    assume(fits(case))
    size, strides, padding = geometry(case)
    arrays = [normal(*case["shape"]), normal(*size, case["shape"][3], filters), normal(filters)]
    y, backward = conv2d(*arrays, strides, padding)
    dy = normal(*y.shape)
    for i, gradient in enumerate(backward(dy)):

        def loss(value, i=i):
            changed = [*arrays[:i], value, *arrays[i + 1 :]]
            return float((conv2d(*changed, strides, padding)[0] * dy).sum())

        np.testing.assert_allclose(
            gradient, numerical_gradient(loss, arrays[i]), rtol=1e-7, atol=1e-8
        )


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_one_padding_for_all_sides_and_one_stride_equal_the_layer_that_trains(strides, padding):
    x, kernel = normal(2, 8, 9, 3, dtype=np.float32), normal(3, 3, 3, 4, dtype=np.float32)
    y, _ = conv2d(x, kernel, np.zeros(4, np.float32), strides, padding)
    pads = ((padding, padding), (padding, padding))
    expected = cj.nn.conv2d(jnp.asarray(x), jnp.asarray(kernel), strides=strides, padding=pads)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


# Max pooling


@pytest.mark.thorough
@settings(SETTINGS, max_examples=16)
@given(CASES, st.booleans())
def test_pooling_equals_the_layer_that_trains_ties_included(case, tied):
    # A window that sees nothing but padding has no maximum.
    assume(all(k > max(p) for k, p in zip(case["size"], case["padding"], strict=True)))
    assume(fits(case))
    size, strides, padding = geometry(case)
    # Of three different values most windows hold one twice.
    x = RNG.integers(0, 3, case["shape"]) * 1.0 if tied else distinct(*case["shape"])
    x = x.astype(np.float32)
    y, backward = max_pool(x, size, strides, padding)
    dy = normal(*y.shape, dtype=np.float32)

    @jax.jit
    def both(x, dy):
        y, pullback = jax.vjp(lambda x: cj.nn.max_pool(x, size, strides, padding), x)
        return y, *pullback(dy)

    expected, gradient = both(x, dy)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(backward(dy)[0], gradient, rtol=1e-5, atol=1e-6)


@settings(SETTINGS, max_examples=10)
@given(CASES)
def test_pooling_equals_numerical_differentiation(case):
    assume(all(k > max(p) for k, p in zip(case["size"], case["padding"], strict=True)))
    assume(fits(case))
    x = distinct(*case["shape"])
    y, backward = max_pool(x, *geometry(case))
    dy = normal(*y.shape)
    numerical = numerical_gradient(lambda x: float((max_pool(x, *geometry(case))[0] * dy).sum()), x)
    np.testing.assert_allclose(backward(dy)[0], numerical, atol=1e-8)


def test_a_tie_gives_its_gradient_to_the_first():
    y, backward = max_pool(np.ones((1, 4, 4, 1)))
    gradient = backward(np.ones_like(y))[0][0, ..., 0]
    assert gradient.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_padding_never_wins_and_nan_always_does():
    assert max_pool(np.full((1, 3, 3, 1), -7.0), 2, padding=1)[0].max() == -7.0
    x = np.ones((1, 2, 2, 1))
    x[0, 1, 0, 0] = np.nan
    assert np.isnan(max_pool(x)[0]).all()


def test_padding_as_large_as_the_window_is_taken_where_no_window_holds_it_alone():
    # One window of a row, and the padding below is in none.
    x = np.full((1, 1, 1, 1), -7.0)
    assert max_pool(x, 1, strides=5, padding=((0, 1), (0, 0)))[0].item() == -7


# Sizes and batches


def test_numpys_whole_numbers_are_taken():
    n, x = np.int64, normal(2, 6, 6, 3)
    expected = im2col(x, 2, 2, 1)
    for size, strides, padding in (
        (n(2), np.uint8(2), n(1)),
        ((n(2), 2), [2, n(2)], np.ones((2, 2), int)),
        ([2, 2], (2, 2), [(1, n(1)), [n(1), 1]]),
    ):
        np.testing.assert_array_equal(im2col(x, size, strides, padding), expected)
        np.testing.assert_array_equal(
            col2im(expected, x.shape, size, strides, padding), col2im(expected, x.shape, 2, 2, 1)
        )


def test_an_empty_batch_has_empty_outputs_and_gradients():
    x = np.zeros((0, 5, 4, 3))
    y, backward = conv2d(x, K, B, padding=1)
    assert y.shape == (0, 5, 4, 2)
    dx, dkernel, dbias = backward(y)
    assert dx.shape == x.shape
    assert (dkernel.tolist(), dbias.tolist()) == (np.zeros_like(K).tolist(), [0, 0])
    y, backward = max_pool(x, 2, padding=1)
    assert y.shape == (0, 3, 3, 3)
    assert backward(y)[0].shape == x.shape


# Dense layer, ReLU, loss


def test_dense_equals_jax_grad():
    x, kernel, bias = normal(5, 4), normal(4, 3), normal(3)
    y, backward = dense(x, kernel, bias)
    dy = normal(*y.shape)
    with jax.enable_x64(True):
        expected, pullback = jax.vjp(lambda x, k, b: x @ k + b.reshape(1, -1), x, kernel, bias)
        gradients = pullback(jnp.asarray(dy))
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    for ours, theirs in zip(backward(dy), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_relu_equals_jax_at_zero_too():
    x = np.array([-2.0, 0.0, 3.0], np.float32)
    y, backward = relu(x)
    expected, pullback = jax.vjp(jax.nn.relu, jnp.asarray(x))
    dy = np.array([5.0, 6.0, 7.0], np.float32)
    assert y.tolist() == expected.tolist() == [0, 0, 3]
    assert backward(dy)[0].tolist() == pullback(dy)[0].tolist() == [0, 0, 7]


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_the_loss_equals_jax_grad_for_large_logits_too(size):
    logits, labels = size * normal(6, 5), RNG.integers(0, 5, 6)
    loss, backward = softmax_cross_entropy(logits, labels)
    with jax.enable_x64(True):
        expected, gradient = jax.jit(
            jax.value_and_grad(lambda z: cj.metrics.softmax_cross_entropy(z, labels).mean())
        )(logits)
    assert loss == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(backward()[0], gradient, rtol=1e-10, atol=1e-14)


def test_the_loss_equals_numerical_differentiation():
    logits, labels = normal(4, 3), np.array([2, 0, 0, 1])
    _, backward = softmax_cross_entropy(logits, labels)
    numerical = numerical_gradient(lambda z: softmax_cross_entropy(z, labels)[0], logits)
    np.testing.assert_allclose(backward()[0], numerical, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_follows_the_input(dtype):
    x, kernel, bias = normal(2, 6, 6, 1, dtype=dtype), normal(3, 3, 1, 2, dtype=dtype), np.zeros(2)
    y, conv_backward = conv2d(x, kernel, bias.astype(dtype))
    positive, relu_backward = relu(y)
    pooled, pool_backward = max_pool(positive)
    matrix = normal(8, 3, dtype=dtype)
    logits, dense_backward = dense(pooled.reshape(2, 8), matrix, np.zeros(3, dtype))
    _, loss_backward = softmax_cross_entropy(logits, np.array([0, 2]))
    gradients = dense_backward(*loss_backward())
    (dpositive,) = pool_backward(gradients[0].reshape(pooled.shape))
    gradients += conv_backward(*relu_backward(dpositive))
    assert {a.dtype for a in (y, positive, pooled, logits, *gradients)} == {np.dtype(dtype)}


# Numerical differentiation


def test_central_differences_are_exact_for_a_parabola_and_leave_x_alone():
    x = normal(2, 3)
    before = x.copy()
    found = numerical_gradient(lambda x: float((3 * x**2 - x).sum()), x, h=0.5)
    np.testing.assert_allclose(found, 6 * x - 1, rtol=1e-12)
    np.testing.assert_array_equal(x, before)


def test_their_error_falls_with_the_square_of_h():
    errors = [
        abs(numerical_gradient(lambda x: float(np.exp(x).sum()), np.zeros(1), h).item() - 1)
        for h in (1e-1, 1e-2)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.01)
    assert errors[0] == pytest.approx(0.1**2 / 6, rel=0.01)


# What is refused

X, K, B = np.ones((2, 5, 4, 3)), np.ones((3, 3, 3, 2)), np.ones(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: conv2d(X, np.ones((6, 3, 3, 2)), B),
            "a window of 6x3 does not fit into an image of 5x4 with padding 0: use larger",
        ),
        (lambda: max_pool(X, 7, padding=1), "a window of 7x7 does not fit .* padding 1"),
        (
            lambda: conv2d(X, np.ones((3, 3, 1, 2)), B),
            r"inputs \[2, 5, 4, 3\], kernel \[3, 3, 1, 2\] and bias \[2\]",
        ),
        (lambda: conv2d(X, K, np.ones(3)), r"kernel \[3, 3, 3, 2\] and bias \[3\]"),
        (lambda: conv2d(X[0], K, B), r"conv2d needs inputs \[N, H, W, C\].* \[5, 4, 3\]"),
        (lambda: im2col(X[0], 2), r"images must be \[N, H, W, C\], got \[5, 4, 3\]"),
        (lambda: conv2d(X, K, B, strides=0), "strides must be a whole number >= 1 .* got 0"),
        (lambda: max_pool(X, (2, 2, 2)), r"size must be .* a pair of them, got \(2, 2, 2\)"),
        (lambda: im2col(X, 2.0), r"size must be a whole number >= 1 .* got 2\.0"),
        (lambda: im2col(X, True), "size must be a whole number >= 1 .* got True"),
        (lambda: im2col(X, None), "size must be a whole number >= 1 .* got None"),
        (lambda: im2col(X, (2, True)), r"size must be .* got \(2, True\)"),
        (lambda: im2col(X, 2, (1, (2, 2))), r"strides must be .* got \(1, \(2, 2\)\)"),
        (lambda: conv2d(X, K, B, padding=True), "padding must be pixels >= 0 .*got True"),
        (lambda: conv2d(X, K, B, padding=(1, (1, 1))), r"padding must be .*got \(1, \(1, 1"),
        (lambda: conv2d(X, K, B, padding=((1, 0.5), (1, 1))), r"padding must be .*got \(\(1, 0\.5"),
        (lambda: conv2d(X, K, B, padding=-1), "padding must be pixels >= 0 .*got -1"),
        (
            lambda: max_pool(X, 2, 2, 2),
            "padding=2 is too large: a window of 2x2 would hold padding alone, which has no max",
        ),
        (
            lambda: max_pool(X, (1, 3), 1, ((0, 0), (0, 3))),
            r"padding=\(\(0, 0\), \(0, 3\)\) is too large: a window of 1x3",
        ),
        (lambda: max_pool(X[:, :0], 2, padding=1), "padding=1 is too large: a window of 2x2"),
        (
            lambda: max_pool(np.ones((1, 4, 4, 1), np.uint8)),
            r"max_pool needs floating images, got uint8: x\.astype\(np\.float32\)",
        ),
        (
            lambda: conv2d(X, K, B, padding="same"),
            r"padding must be .*\(left, right\)\), got 'same",
        ),
        (
            lambda: col2im(np.ones((3, 4)), (1, 3, 3, 1), 2),
            r"needs a matrix \[4, 4\] for images \[1, 3, 3, 1\], got \[3, 4\]",
        ),
        (lambda: dense(np.ones((2, 3)), np.ones((4, 5)), np.ones(5)), r"kernel \[4, 5\] and bias"),
        (
            lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0, 3])),
            r"labels must be whole numbers in \[0, 3\).* got int64 from 0 to 3",
        ),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([-1, 0])), "from -1 to 0"),
        (lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([0.0, 1])), "got float64 from"),
        (
            lambda: softmax_cross_entropy(np.ones((0, 3)), np.array([], int)),
            r"a mean over examples, and logits \[0, 3\] hold none: give at least one",
        ),
        (
            lambda: softmax_cross_entropy(np.ones((2, 3)), np.array([1])),
            r"logits \[2, 3\] and labels \[1\]",
        ),
        (
            lambda: numerical_gradient(np.sum, np.ones(2, np.float32)),
            "numerical_gradient needs x in float64, got float32",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_file_needs_numpy_alone():
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    names = {n.names[0].name for n in ast.walk(tree) if isinstance(n, ast.Import)}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names == {"__future__", "collections.abc", "numpy", "typing"}
