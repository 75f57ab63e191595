"""Depthwise and separable convolution against XLA's grouped convolution and Keras."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax.nn import (
    DepthwiseConv2D,
    SeparableConv2D,
    conv_engine,
    depthwise_conv2d,
    he_uniform,
    lecun_uniform_depthwise,
    separable,
)

# A failing example is not made smaller, since every try would compile a program.
SETTINGS = settings(deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape, np.float32))


def xla(x, kernel, strides, padding, dilation):
    kh, kw, channels, multiplier = kernel.shape
    return lax.conv_general_dilated(
        x,
        kernel.reshape(kh, kw, 1, channels * multiplier),
        strides,
        padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.thorough
@settings(SETTINGS, max_examples=25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=PAIR,
    dilation=PAIR,
    padding=st.sampled_from(["valid", "same", ((0, 1), (0, 1)), ((2, 0), (1, 3))]),
    channels=st.integers(1, 3),
    multiplier=st.integers(1, 3),
)
def test_values_and_gradients_equal_xlas(
    size, kernel_size, strides, dilation, padding, channels, multiplier
):
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    extent = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    fits = (n + sum(p) >= e for n, p, e in zip(size, pads, extent, strict=True))
    assume(padding == "same" or all(fits))
    x, kernel = normal(2, *size, channels), normal(*kernel_size, channels, multiplier)

    @jax.jit
    def both(x, kernel):
        results = []
        for convolve in (
            lambda x, k: depthwise_conv2d(
                x, k, strides=strides, padding=padding, dilation_rate=dilation
            ),
            lambda x, k: xla(x, k, strides, padding, dilation),
        ):
            y, pullback = jax.vjp(convolve, x, kernel)
            cotangent = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
            results.append((y, *pullback(cotangent)))
        return results

    ours, theirs = both(x, kernel)
    for value, reference in zip(ours, theirs, strict=True):
        assert value.shape == reference.shape
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.sample(1)
@pytest.mark.parametrize("count", [1, 2, 3, 12, 31, 48])
@pytest.mark.parametrize(
    ("strides", "padding", "dilation", "multiplier"),
    [
        ((1, 1), "valid", (1, 1), 1),
        ((2, 1), "same", (1, 1), 2),
        ((1, 1), ((2, 0), (1, 3)), (1, 2), 1),
    ],
)
def test_kernel_gradients_of_many_products(count, strides, padding, dilation, multiplier):
    """Large enough a cotangent for sums over a few images at a time, whatever their number."""
    height = 1 + separable._FEW_PRODUCTS // (count * 20 * 8)
    x = jnp.asarray(RNG.random((count, 2 * height, 22, 8)), jnp.float32)
    kernel = normal(3, 2, 8, multiplier)

    @jax.jit
    def both(x, kernel):
        y, pullback = jax.vjp(
            lambda k: depthwise_conv2d(
                x, k, strides=strides, padding=padding, dilation_rate=dilation
            ),
            kernel,
        )
        cotangent = 1 + jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        _, reference = jax.vjp(lambda k: xla(x, k, strides, padding, dilation), kernel)
        return y.size, pullback(cotangent)[0], reference(cotangent)[0]

    size, ours, theirs = both(x, kernel)
    assert size >= separable._FEW_PRODUCTS
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def kernel_gradient(x, kernel):
    y, pullback = jax.vjp(lambda k: depthwise_conv2d(x, k), kernel)
    return pullback(jnp.ones_like(y))[0]


def test_devices_and_exports_get_a_plain_sum(monkeypatch):
    """A loop over images would gather those of all devices; an export has no number of them."""
    x, kernel = jnp.ones((32, 40, 40, 16)), jnp.ones((3, 3, 16, 1))
    assert "stablehlo.while" in jax.jit(kernel_gradient).lower(x, kernel).as_text()
    (count,) = jax.export.symbolic_shape("n")
    symbolic = jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype)
    exported = jax.export.export(jax.jit(kernel_gradient))(symbolic, kernel)
    np.testing.assert_allclose(exported.call(x, kernel), 32 * 38 * 38)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    # A function of its own: JAX keeps what it has traced.
    lowered = jax.jit(functools.partial(kernel_gradient)).lower(x, kernel)
    assert "stablehlo.while" not in lowered.as_text()


@pytest.mark.thorough
def test_half_precision_sums_kernel_gradients_in_single():
    x = jnp.ones((32, 40, 40, 16), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 16, 1), jnp.bfloat16)
    y, pullback = jax.vjp(lambda k: depthwise_conv2d(x, k), kernel)
    assert y.size >= separable._FEW_PRODUCTS
    (gradient,) = pullback(jnp.ones_like(y))
    assert gradient.dtype == jnp.bfloat16
    # In half precision a sum of ones would stop at 256.
    np.testing.assert_allclose(gradient.astype(jnp.float32), 32 * 38 * 38, rtol=0.005)


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "padding": "same", "depth_multiplier": 2},
        {"kernel_size": 3, "strides": 2, "padding": "same", "use_bias": False},
        {"kernel_size": 3, "dilation_rate": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
def test_layers_equal_keras(kind, arguments):
    arguments = dict(arguments)
    ours = {"DepthwiseConv2D": DepthwiseConv2D, "SeparableConv2D": SeparableConv2D}[kind]
    filters = {"filters": 5} if kind == "SeparableConv2D" else {}
    layer = getattr(keras.layers, kind)(**filters, **arguments)
    x = normal(2, 7, 9, 3)
    layer.build(x.shape)
    for variable in layer.weights:
        variable.assign(RNG.normal(size=variable.shape))
    params = {v.name: jnp.asarray(v.numpy()) for v in layer.weights}
    fresh = ours(**filters, **arguments).init(jax.random.key(0), x)["params"]
    assert {k: v.shape for k, v in fresh.items()} == {k: v.shape for k, v in params.items()}
    y = ours(**filters, **arguments).apply({"params": params}, x)
    np.testing.assert_allclose(y, layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.thorough
def test_the_kernels_start_as_keras_starts_them():
    """Glorot's bound of a depthwise kernel counts all channels as inputs, as Keras does."""
    kernel = DepthwiseConv2D(3).init(jax.random.key(0), normal(1, 8, 8, 64))["params"]["kernel"]
    bound = np.sqrt(6 / (9 * 64 + 9 * 1))
    assert np.abs(kernel).max() == pytest.approx(bound, rel=0.05)
    theirs = keras.initializers.GlorotUniform(seed=0)((3, 3, 64, 1))
    assert np.abs(theirs).max() == pytest.approx(bound, rel=0.05)


@pytest.mark.thorough
def test_initial_values_of_choice():
    """He's bound is Keras'; that of a depthwise kernel keeps the variance of what comes in."""
    sharp = np.asarray(he_uniform(jax.random.key(0), (3, 3, 16, 32)))
    theirs = np.asarray(keras.initializers.HeUniform(seed=0)((3, 3, 16, 32)))
    assert np.abs(sharp).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)
    layer = SeparableConv2D(
        256, 3, depthwise_initializer=lecun_uniform_depthwise, pointwise_initializer=he_uniform
    )
    x = normal(4, 12, 12, 128)
    params = layer.init(jax.random.key(1), x)["params"]
    middle = depthwise_conv2d(x, params["depthwise_kernel"])
    assert float(jnp.std(middle)) == pytest.approx(float(jnp.std(x)), rel=0.05)
    # ReLU halves the power, for which He's kernels are larger by sqrt(2).
    assert float(jnp.std(layer.apply({"params": params}, x))) == pytest.approx(np.sqrt(2), rel=0.1)


def test_the_engine_of_xla_can_be_asked_for():
    x, kernel = normal(1, 6, 6, 2), normal(3, 3, 2, 1)

    def program(x):
        return str(jax.make_jaxpr(lambda x: depthwise_conv2d(x, kernel))(x))

    with conv_engine("lax"):
        assert "conv_general_dilated" in program(x)
    if jax.default_backend() == "cpu":
        assert "conv_general_dilated" not in program(x)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"inputs \[1, 6, 6, 2\] and kernel \[3, 3, 3, 1\]"):
        depthwise_conv2d(normal(1, 6, 6, 2), normal(3, 3, 3, 1))
    with pytest.raises(ValueError, match="does not fit"):
        depthwise_conv2d(normal(1, 2, 2, 2), normal(3, 3, 2, 1))
