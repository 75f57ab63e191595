"""A convolution as a matrix: equal to the convolution, sparse, with shared weights."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scipy import signal

from cnnjax.nn import conv2d, conv_as_matrix

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(SETTINGS, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=PAIRS,
    channels=PAIRS,
    strides=PAIRS,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.one_of(
        st.sampled_from(["valid", "same"]),
        st.tuples(*(st.tuples(st.integers(0, 2), st.integers(0, 2)),) * 2),
    ),
)
def test_the_product_is_the_convolution(size, kernel, channels, strides, dilation, padding):
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    fits = (
        n + sum(p) > d * (k - 1) for n, p, d, k in zip(size, pads, dilation, kernel, strict=True)
    )
    assume(padding == "same" or all(fits))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *size, channels[0]), np.float32)
    k = rng.standard_normal((*kernel, *channels), np.float32)
    options = {"strides": strides, "padding": padding, "dilation_rate": dilation}
    expected = np.asarray(conv2d(jnp.asarray(x), jnp.asarray(k), engine="lax", **options))
    matrix = conv_as_matrix(k, x.shape[1:], **options)
    assert matrix.shape == (x[0].size, expected[0].size)
    np.testing.assert_allclose(
        x.reshape(2, -1) @ matrix, expected.reshape(2, -1), rtol=1e-5, atol=2e-6
    )


def test_the_product_is_scipys_convolution():
    rng = np.random.default_rng(1)
    x, k = rng.standard_normal((7, 5)), rng.standard_normal((3, 2))
    matrix = conv_as_matrix(k[:, :, None, None], (7, 5, 1))
    assert matrix.dtype == np.float64
    expected = signal.correlate2d(x, k, mode="valid")
    np.testing.assert_allclose(x.ravel() @ matrix, expected.ravel(), atol=1e-14)


def test_a_3x3_image_under_a_2x2_kernel_is_a_sparse_layer_of_shared_weights():
    kernel = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32).reshape(2, 2, 1, 1)
    matrix = conv_as_matrix(kernel, (3, 3, 1))
    assert matrix.shape == (9, 4)
    assert (matrix != 0).sum() == 16
    for column in matrix.T:  # each output has every weight once
        assert sorted(column[column != 0]) == [1, 2, 3, 4]


def test_the_transposed_matrix_is_the_gradient():
    import jax

    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 5, 5, 2), np.float32)
    k = rng.standard_normal((3, 3, 2, 3), np.float32)
    y, pullback = jax.vjp(lambda a: conv2d(a, jnp.asarray(k), padding="same"), jnp.asarray(x))
    g = rng.standard_normal(y.shape, np.float32)
    expected = np.asarray(pullback(jnp.asarray(g))[0]).ravel()
    matrix = conv_as_matrix(k, (5, 5, 2), padding="same")
    np.testing.assert_allclose(matrix @ g.ravel(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "shape", "options", "message"),
    [
        ((2, 2), (3, 3, 1), {}, r"got kernel \[2, 2\]"),
        ((2, 2, 3, 1), (3, 3, 1), {}, r"got kernel \[2, 2, 3, 1\] and input_shape \(3, 3, 1\)"),
        ((4, 4, 1, 1), (3, 3, 1), {}, "window of 4x4 does not fit"),
        ((2, 2, 1, 1), (3, 3, 1), {"strides": 0}, "strides must be"),
        ((3, 3, 3, 64), (224, 224, 3), {}, "entries, at most 100,000,000"),
    ],
)
def test_what_is_no_small_convolution_is_refused(kernel, shape, options, message):
    with pytest.raises(ValueError, match=message):
        conv_as_matrix(np.zeros(kernel, np.float32), shape, **options)
