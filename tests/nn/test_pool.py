"""Pooling against XLA's reduce_window, Keras and SciPy."""

import jax
import jax.export
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax import lax
from scipy import ndimage

from cnnjax.nn import AveragePooling2D, MaxPooling2D, average_pool, conv_engine, max_pool

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
RNG = np.random.default_rng(0)
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA's own elsewhere")
FEW_AND_MANY = pytest.mark.parametrize("channels", [1, 16])  # their gradients differ in kind


def distinct(*shape):
    """Numbers without ties, both signs."""
    values = RNG.permutation(np.arange(np.prod(shape))) - np.prod(shape) / 2
    return jnp.asarray(values.reshape(shape), jnp.float32)


def xla(x, window, strides, padding):
    pads = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    pads = pads.upper() if isinstance(pads, str) else pads
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), pads)


WINDOW = st.tuples(st.integers(1, 4), st.integers(1, 4))


@pytest.mark.thorough
@settings(SETTINGS, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=WINDOW,
    strides=st.none() | WINDOW,
    padding=st.sampled_from(["valid", "same", ((0, 1), (1, 0)), ((1, 1), (0, 0))]),
    channels=st.sampled_from([2, 16]),
)
def test_values_and_gradients_equal_reduce_windows(size, window, strides, padding, channels):
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    # A window that sees nothing but padding has no maximum.
    assume(
        padding == "same"
        or all(n + sum(p) >= w for n, p, w in zip(size, pads, window, strict=True))
    )
    assume(all(w > max(p) for w, p in zip(window, pads, strict=True)))
    x = distinct(2, *size, channels)

    @jax.jit
    def both(x):
        results = []
        for pool in (
            lambda x: max_pool(x, window, strides, padding),
            lambda x: xla(x, window, strides or window, padding),
        ):
            y, pullback = jax.vjp(pool, x)
            results.append((y, *pullback(jnp.cos(jnp.arange(y.size) * 1.0).reshape(y.shape))))
        return results

    (y, gradient), (expected, expected_gradient) = both(x)
    assert y.tolist() == expected.tolist()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.sample(1)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "strides"), [(2, None), (3, 2), ((2, 3), (3, 1)), (3, None)])
@pytest.mark.parametrize("size", [(7, 8), (6, 9)])
def test_the_layer_equals_keras(window, strides, padding, size):
    x = distinct(2, *size, 3)
    expected = keras.layers.MaxPooling2D(window, strides, padding)(x)
    layer = MaxPooling2D(window, strides, padding)
    assert not layer.init(jax.random.key(0), x)
    assert layer.apply({}, x).tolist() == np.asarray(expected).tolist()


def test_overlapping_windows_equal_scipys_maximum_filter():
    x = distinct(1, 8, 8, 1)
    filtered = ndimage.maximum_filter(np.asarray(x[0, ..., 0]), 3)[1:-1, 1:-1]
    assert max_pool(x, 3, 1)[0, ..., 0].tolist() == filtered.tolist()


@pytest.mark.sample(1)
@pytest.mark.parametrize("padding", ["same", ((1, 1), (1, 1))])
def test_padding_never_wins(padding):
    assert float(max_pool(jnp.full((1, 3, 3, 1), -7.0), 2, padding=padding).max()) == -7.0


@pytest.mark.sample(1)
@FEW_AND_MANY
def test_an_incomplete_tile_is_cut_off(channels):
    x = distinct(1, 5, 7, channels).at[:, 4:].set(1e6).at[:, :, 6:].set(1e6)
    pooled = max_pool(x, 2)
    assert pooled.shape == (1, 2, 3, channels)
    assert float(pooled.max()) < 1e6
    gradient = jax.grad(lambda x: max_pool(x, 2).sum())(x)
    assert not gradient[:, 4:].any()
    assert not gradient[:, :, 6:].any()


@pytest.mark.sample(2)
@pytest.mark.parametrize("strides", [None, 1])
@pytest.mark.parametrize("at", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_nan_wins_wherever_it_stands(strides, at):
    x = distinct(1, 4, 4, 1).at[0, *at, 0].set(jnp.nan)
    pooled = np.asarray(max_pool(x, 2, strides))[0, ..., 0]
    assert np.isnan(pooled[0, 0])
    assert not np.isnan(pooled[-1, -1])


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("window", "strides", "padding"),
    [
        (2, None, "valid"),
        (2, None, "same"),
        (3, None, ((1, 0), (0, 2))),
        (3, 2, "same"),
        (2, 1, "valid"),
        ((1, 2), (2, 3), "valid"),
        (1, 2, "valid"),
    ],
)
def test_nan_wins_in_large_inputs_too(window, strides, padding):
    # XLA's program for a CPU is another one there.
    x = RNG.standard_normal((4, 33, 33, 8), np.float32)
    bad = RNG.random(x.shape) < 0.02
    pooled = jax.jit(lambda x: max_pool(x, window, strides, padding))(np.where(bad, np.nan, x))
    expected = max_pool(jnp.asarray(bad, jnp.float32), window, strides, padding) > 0
    assert np.isnan(pooled).tolist() == expected.tolist()


@pytest.mark.thorough
@FEW_AND_MANY
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_tie_gives_its_gradient_to_the_first(dtype, channels):
    def gradient(strides, ones):
        pulled = jax.grad(lambda x: max_pool(x, 2, strides).astype(jnp.float32).sum())(ones)
        assert (pulled == pulled[..., :1]).all()
        return pulled[0, ..., 0].tolist()

    tiles = gradient(None, jnp.ones((1, 4, 4, channels), dtype))
    assert tiles == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert gradient(1, jnp.ones((1, 3, 3, channels), dtype)) == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("window", "strides"), [(2, None), ((3, 1), None), (3, 2), (2, 1), ((3, 5), (1, 3)), (2, 3)]
)
def test_derivatives_equal_those_of_accelerators(window, strides):
    # Forward, backward, and one over the other.
    x = distinct(2, 13, 14, 16) / 1000
    if strides is None:  # of overlapping windows XLA's tangent of a tie is not the first one's
        x = jnp.where(RNG.random(x.shape) < 0.02, jnp.nan, jnp.round(x))
    tangent = RNG.standard_normal(x.shape, np.float32)

    def results(x, tangent):
        def total(x):
            return jnp.nansum(jnp.sin(max_pool(x, window, strides)))

        forward = jax.jvp(lambda x: max_pool(x, window, strides), (x,), (tangent,))
        return *forward, *jax.jvp(jax.grad(total), (x,), (tangent,))

    ours = jax.jit(results)(x, tangent)
    with conv_engine("lax"):
        expected = jax.jit(results)(x, tangent)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.sample(2)
@on_cpu
@pytest.mark.parametrize(
    ("engine", "window", "strides", "scatters"),
    [
        ("auto", 2, None, False),
        ("auto", 3, 2, False),
        ("auto", 9, 1, True),  # too large to be unrolled
        ("auto", 9, 9, False),
        ("lax", 2, None, False),
        ("lax", 3, 2, True),
    ],
)
def test_where_xlas_own_pooling_runs(engine, window, strides, scatters):
    gradient = jax.grad(lambda x: max_pool(x, window, strides).sum())
    x = distinct(1, 12, 12, 1)
    with conv_engine(engine):
        text = jax.jit(gradient).lower(x).as_text()
        mean = jax.jit(lambda x: average_pool(x, window, strides)).lower(x).as_text()
    assert ("select_and_scatter" in text) is scatters
    assert ("reduce_window" in mean) is scatters


@on_cpu
@pytest.mark.parametrize(
    ("channels", "window", "strides", "own"),
    [(15, 2, 2, False), (16, 2, 2, True), (1, 3, 2, True), (1, 9, 9, True), (16, 9, 1, False)],
)
def test_where_the_gradient_goes_by_winners(channels, window, strides, own):
    jaxpr = jax.make_jaxpr(lambda x: max_pool(x, window, strides))(distinct(1, 12, 12, channels))
    assert ("custom_jvp_call" in str(jaxpr)) is own


@pytest.mark.sample(1)
@pytest.mark.parametrize(("window", "strides"), [(2, 2), (3, 2)])
@pytest.mark.thorough
def test_under_vmap_and_in_exports_for_any_batch(window, strides):
    def gradient(x):
        return jax.grad(lambda x: (max_pool(x, window, strides) ** 2).sum())(x)

    x = distinct(3, 2, 7, 8, 16)
    np.testing.assert_array_equal(jax.vmap(gradient)(x), jnp.stack([gradient(part) for part in x]))
    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, 7, 8, 16), jnp.float32)
    exported = jax.export.export(jax.jit(gradient))(shape)
    np.testing.assert_array_equal(exported.call(x[0]), gradient(x[0]))


@pytest.mark.sample(1)
@pytest.mark.parametrize("strides", [None, 1])
def test_bfloat16_stays_bfloat16(strides):
    x = distinct(1, 4, 4, 1)
    pooled = max_pool(x.astype(jnp.bfloat16), 2, strides)
    assert pooled.dtype == jnp.bfloat16
    assert pooled.tolist() == max_pool(x, 2, strides).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pool_size": 0}, "pool_size must be a whole number >= 1 or a pair of them, got 0"),
        ({"strides": (2, 0)}, r"strides must be .*, got \(2, 0\)"),
        ({"pool_size": 5}, "a window of 5x5 does not fit into an input of 4x4"),
        ({"padding": "reflect"}, "padding must be 'valid', 'same' or pairs.*got 'reflect'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.ones((1, 4, 4, 1)), **arguments)


@pytest.mark.sample(1)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("window", "strides"), [(2, None), (3, 2), ((2, 3), (3, 1)), (3, None)])
@pytest.mark.parametrize("size", [(7, 8), (6, 9)])
def test_average_pooling_equals_keras_in_values_and_gradients(window, strides, padding, size):
    x = jnp.asarray(RNG.standard_normal((2, *size, 3), np.float32))
    oracle = keras.layers.AveragePooling2D(window, strides, padding)
    layer = AveragePooling2D(window, strides, padding)
    assert not layer.init(jax.random.key(0), x)

    @jax.jit
    def both(x):
        results = []
        for pool in (lambda x: layer.apply({}, x), oracle):
            y, pullback = jax.vjp(pool, x)
            results.append((y, *pullback(jnp.cos(jnp.arange(y.size) * 1.0).reshape(y.shape))))
        return results

    for ours, expected in zip(*both(x), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_average_pooling_equals_scipys_uniform_filter():
    x = distinct(1, 8, 8, 1)
    filtered = ndimage.uniform_filter(np.float64(x[0, ..., 0]), 3)[1:-1, 1:-1]
    np.testing.assert_allclose(average_pool(x, 3, 1)[0, ..., 0], filtered, rtol=1e-5, atol=1e-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize(("window", "strides"), [(20, None), (20, 1)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_average_pooling_sums_in_float32(window, strides, dtype):
    x = jnp.full((1, 20, 20, 1), 200, dtype)
    pooled = average_pool(x, window, strides)
    assert (pooled.dtype, float(pooled[0, 0, 0, 0])) == (dtype, 200)


@pytest.mark.parametrize("pool", [max_pool, average_pool])
def test_pooling_of_whole_numbers_is_refused(pool):
    with pytest.raises(ValueError, match=f"{pool.__name__} needs floating inputs, got uint8"):
        pool(jnp.ones((1, 4, 4, 1), jnp.uint8))
